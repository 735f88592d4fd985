"""What was asked for lately: how many workers of which shape, and the pools that they may use.

Packing values what a node has left by what may come to it. That is the stream of requests, not of tries: whoever is
tried again and again because nothing holds it would count for many, and whoever is too large to be tried for none.
"""

from collections.abc import Collection, Sequence
from typing import Final

from thalweg.scheduling.pack.nodes import Need
from thalweg.scheduling.pack.popularity import Popularity

Shape = tuple[Need, frozenset[int]]
"""One worker, and the pools that it may use."""
LONG_AGO: Final = 1 << 16
"""After so many requests all counts are halved: what was asked for before them fades."""
MOST_SHAPES: Final = 1 << 10
"""The rarer half is forgotten beyond so many; it would hardly be drawn."""


class SeenShapes:
    """Counts them; `asked` is how many requests there ever were."""

    def __init__(self) -> None:
        """Begin with none."""
        self.asked = 0
        self._counts: dict[Shape, float] = {}
        self._halved_at = LONG_AGO

    def count(self, shapes: Sequence[tuple[Shape, int]], requests: int = 1) -> None:
        """Count requests that are alike.

        Args:
            shapes: of one of them, with the workers of each.
            requests: how many.
        """
        self.asked += requests
        for shape, workers in shapes:
            self._counts[shape] = self._counts.get(shape, 0.0) + workers * requests
        if len(self._counts) > MOST_SHAPES:
            by_count = sorted(self._counts.items(), key=lambda item: -item[1])
            self._counts = dict(by_count[: MOST_SHAPES // 2])
        if self.asked >= self._halved_at:
            self._counts = {shape: count / 2 for shape, count in self._counts.items()}
            self._halved_at = self.asked + LONG_AGO

    def clear(self) -> None:
        """Forget the shapes: pools are named otherwise now."""
        self._counts.clear()

    def within(self, pools: Collection[int]) -> Popularity:
        """Tell what may come to some pools."""
        here = frozenset(pools)
        found: dict[Shape, float] = {}
        for (need, allowed), count in self._counts.items():
            if open_here := allowed & here:
                found[need, open_here] = found.get((need, open_here), 0.0) + count
        return found
