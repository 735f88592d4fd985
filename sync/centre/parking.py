"""Parking: updates stamped ahead of time wait until the centre's clock allows them.

A parked update has arrived, so it is no gap; it is not merged, so it can neither win nor push anybody's clock.
"""

import heapq
from collections.abc import Iterable

from thalweg.sync.protocol.entries import PlainWrite, Update
from thalweg.sync.protocol.stamps import Admission, FutureLimits, admission


class Parking:
    """The parked messages, by the moment each may be merged."""

    __slots__ = ("_waiting", "limits")

    def __init__(self, limits: FutureLimits, parked: Iterable[Update | PlainWrite] = ()) -> None:
        self.limits = limits
        self._waiting: list[tuple[int, str, int, Update | PlainWrite]] = []
        for message in parked:
            self._park(message)

    def judge(self, message: Update | PlainWrite, now_ms: int) -> Admission:
        """Judge a message by its stamp, and keep it if it has to wait."""
        verdict = admission(message.stamp.ms, now_ms, self.limits)
        if verdict is Admission.PARK:
            self._park(message)
        return verdict

    def due(self, now_ms: int) -> list[Update | PlainWrite]:
        """Take out what may be merged now, oldest stamp first."""
        result = []
        while self._waiting and self._waiting[0][0] <= now_ms + self.limits.park_ms:
            result.append(heapq.heappop(self._waiting)[3])
        return result

    def __len__(self) -> int:
        """Return how many wait."""
        return len(self._waiting)

    def _park(self, message: Update | PlainWrite) -> None:
        # The actor and its sequence make entries unequal, so that messages themselves are never compared.
        heapq.heappush(self._waiting, (message.stamp.ms, message.stamp.actor, message.stamp.seq, message))
