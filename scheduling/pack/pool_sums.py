"""Sums over the nodes of each pool, brought up to date node by node.

Every plan asks how much is free in each pool and how many workers of each need fit there. A fleet may have a hundred
thousand nodes, of which a few hundred change from one plan to the next: `Nodes.version` tells which. Only these are
looked at again, and since all amounts are integers, adding what has changed gives what adding everything up would.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Hashable

    from thalweg.scheduling.arrays import IntArray
    from thalweg.scheduling.pack.nodes import Nodes

MOST_FIGURES: Final = 128
"""Figures kept, those asked for last: each takes a number for every node. A plan of more needs adds up anew."""


class Figure(Protocol):
    """Amounts that can be said of each node by itself: of what it has, what is free there, and whether it is ready."""

    def __hash__(self) -> int:
        """Equal figures say the same of every node."""

    def __eq__(self, other: object, /) -> bool:
        """See `__hash__`."""

    def of(self, nodes: Nodes, rows: IntArray | slice) -> IntArray:
        """Say it of these rows: [rows, amounts]."""


class _Tally:
    """One figure of every node, and its sums."""

    __slots__ = ("changes", "sums", "values")

    def __init__(self) -> None:
        self.changes = -1
        """Up to which change it is known; -1 begins anew."""
        self.values: IntArray
        self.sums: IntArray

    def add_up(self, nodes: Nodes, figure: Figure) -> None:
        """Look at every node."""
        self.values = np.array(figure.of(nodes, slice(None)), np.int64)
        self.sums = np.zeros((len(nodes.pools), self.values.shape[1]), np.int64)
        for amount, column in enumerate(self.values.T):
            # Doubles count exactly up to 2^53: GPU-milli of a hundred million nodes of many devices.
            self.sums[:, amount] = np.bincount(nodes.pool, column, len(nodes.pools)).astype(np.int64)

    def look_again(self, nodes: Nodes, figure: Figure, rows: IntArray) -> None:
        """Look at these nodes."""
        now = figure.of(nodes, rows)
        np.add.at(self.sums, nodes.pool[rows], now - self.values[rows])
        self.values[rows] = now


class PoolSums:
    """Of one `Nodes`; the sums follow whatever is done with it."""

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes
        self._tallies: dict[Hashable, _Tally] = {}
        self._layout = -1
        self._clock = -1
        self._changes = 0
        self._seen = np.zeros(0, np.int64)  # version of each row when changes were looked for last
        self._changed = np.zeros(0, np.int64)  # by row, the number of its last change

    def of(self, figure: Figure) -> IntArray:
        """Add a figure up: [P, amounts], the caller's own."""
        nodes = self._nodes
        self._look_for_changes()
        tally = self._tallies.pop(figure, None)
        if tally is None:
            tally = _Tally()
            if len(self._tallies) >= MOST_FIGURES:
                del self._tallies[next(iter(self._tallies))]
        self._tallies[figure] = tally  # the last one: those in front are the ones that nobody asks for
        if tally.changes < 0:
            tally.add_up(nodes, figure)
        elif tally.changes < self._changes:
            tally.look_again(nodes, figure, np.flatnonzero(self._changed > tally.changes))
        tally.changes = self._changes
        return tally.sums.copy()

    def _look_for_changes(self) -> None:
        nodes = self._nodes
        if self._layout != nodes.layout:  # other nodes, or other pools of them
            self._tallies.clear()
            self._layout, self._clock, self._changes = nodes.layout, nodes.clock, 0
            self._seen, self._changed = nodes.version.copy(), np.zeros(len(nodes), np.int64)
        elif self._clock != nodes.clock:
            rows = np.flatnonzero(nodes.version != self._seen)
            self._clock = nodes.clock
            self._changes += 1
            self._changed[rows] = self._changes
            self._seen[rows] = nodes.version[rows]
