"""Parking: updates stamped ahead of time wait until the centre's clock allows them.

A parked update has arrived, so it is no gap; it is not merged, so it can neither win nor push anybody's clock.
"""

import heapq
from collections.abc import Iterable

from sync.entries import Update
from sync.stamps import Admission, FutureLimits, admission


class Parking:
    """The parked updates, by the moment each may be merged."""

    __slots__ = ("_waiting", "limits")

    def __init__(self, limits: FutureLimits, parked: Iterable[Update] = ()) -> None:
        self.limits = limits
        self._waiting: list[tuple[int, str, int, Update]] = []
        for update in parked:
            self._park(update)

    def judge(self, update: Update, now_ms: int) -> Admission:
        """Judge an update by its stamp, and keep it if it has to wait."""
        verdict = admission(update.stamp.ms, now_ms, self.limits)
        if verdict is Admission.PARK:
            self._park(update)
        return verdict

    def due(self, now_ms: int) -> list[Update]:
        """Take out what may be merged now, oldest stamp first."""
        result = []
        while self._waiting and self._waiting[0][0] <= now_ms + self.limits.park_ms:
            result.append(heapq.heappop(self._waiting)[3])
        return result

    def __len__(self) -> int:
        """Return how many wait."""
        return len(self._waiting)

    def _park(self, update: Update) -> None:
        # The actor and its sequence make entries unequal, so that updates themselves are never compared.
        heapq.heappush(self._waiting, (update.stamp.ms, update.stamp.actor, update.stamp.seq, update))
