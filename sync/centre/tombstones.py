"""Tombstones and recent writes, and when they may be forgotten: causal stability.

A write is stable once every region has acknowledged the publication that contained it, and whatever it wrote before
that has been merged. From then on no write can be concurrent to it, so it need not be compared any more; a delete that
is stable has reached everybody, so nothing older can come back, and the tombstone goes. (Baquero et al., "Making
Operation-based CRDTs Operation-based", DAIS 2014, calls this causal stability.)
"""

from collections import deque
from collections.abc import Iterable

from thalweg.sync.centre.known_regions import KnownRegion

Dots = tuple[tuple[str, int], ...]  # (actor, sequence)

NEVER = -1


def stable_position(regions: Iterable[KnownRegion]) -> int:
    """Return the publication up to which every region has acknowledged; NEVER while there is no region to ask.

    A region that has left still holds things back while an update of it is parked.
    """
    return min((known.acked for known in regions if known.holds_back), default=NEVER)


class Unstable:
    """What was published and is not known to have reached everybody, oldest publication first."""

    __slots__ = ("_published", "_waiting")

    def __init__(self) -> None:
        self._published: deque[tuple[int, str, Dots]] = deque()
        self._waiting: dict[str, Dots] = {}  # in no publication yet

    def add(self, key: str, dots: Dots) -> None:
        """Note writes of a key that go out with the next publication."""
        self._waiting[key] = self._waiting.get(key, ()) + dots

    def published(self, position: int) -> None:
        """Note that everything added since the last call is published up to this position."""
        self._published.extend((position, key, dots) for key, dots in self._waiting.items())
        self._waiting.clear()

    def keys(self) -> list[str]:
        """Return what waits, each key as often as it was published."""
        return [*(key for _, key, _ in self._published), *self._waiting]

    def clear(self) -> None:
        """Wait for nothing any more."""
        self._published.clear()
        self._waiting.clear()

    def settled(self, stable: int) -> list[tuple[str, Dots]]:
        """Take out what every region has."""
        result = []
        while self._published and self._published[0][0] <= stable:
            _, key, dots = self._published.popleft()
            result.append((key, dots))
        return result

    def __len__(self) -> int:
        """Return how many publications of keys wait."""
        return len(self._published) + len(self._waiting)
