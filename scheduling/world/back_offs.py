"""Who is not tried for now: regions that refuse, for everybody, and for a task the regions that gave it back.

All of it follows from the ledger's rows and the moment, so a restart knows the same.
"""

from heapq import heappop, heappush
from typing import Final, NamedTuple

from thalweg.scheduling.world.refusals import MOST_MS, Refusals

NEVER: Final = Refusals()
_WHENEVER_MS: Final = 2**62


class BackOff(NamedTuple):
    """The end of one back-off."""

    until_ms: int
    region: str
    task_id: str
    """"" where the region is closed to everybody."""


class BackOffs:
    """See the module's words."""

    def __init__(self) -> None:
        self.refusing: dict[str, Refusals] = {}
        """Regions that gave back what they were assigned without ever accepting it, since they last accepted."""
        self.closed: set[str] = set()
        """Regions that take nothing until their back-off ends."""
        self._ends: list[BackOff] = []  # heap

    def bar(self, task_id: str, region: str, until_ms: int) -> None:
        """Keep one task from a region until then."""
        heappush(self._ends, BackOff(until_ms, region, task_id))

    def note_refusal(self, region: str, assigned_ms: int, now_ms: int) -> bool:
        """Count what a region gave back without ever accepting it; whether it opened or closed by that.

        The first may be the task's fault: other tasks go on there until another refusal follows.
        """
        refusals = self.refusing.setdefault(region, Refusals())
        if not refusals.note(assigned_ms, now_ms, free=1):
            return False
        if refusals.count == 1:
            return self._open(region)
        self.closed.add(region)
        heappush(self._ends, BackOff(refusals.until_ms, region, ""))
        return True

    def note_acceptance(self, region: str) -> bool:
        """Forget refusals of a region that accepted; whether it opened by that."""
        return self.refusing.pop(region, None) is not None and self._open(region)

    def ended(self, now_ms: int) -> list[BackOff]:
        """Take out the back-offs that are over by now, in their order; all of them where the clock was set back."""
        over: list[BackOff] = []
        while self._ends and self._ends[0].until_ms <= now_ms:
            over.append(heappop(self._ends))
        if self._ends and self._ends[0].until_ms - now_ms > 2 * MOST_MS:
            # No back-off is as long as that.
            over += [end._replace(until_ms=_WHENEVER_MS) for end in self._ends]
            self._ends.clear()
        return over

    def reopen(self, end: BackOff) -> bool:
        """Open a region whose back-off ended, unless a later one goes on; whether it opened."""
        return self.refusing.get(end.region, NEVER).until_ms <= end.until_ms and self._open(end.region)

    def _open(self, region: str) -> bool:
        was_closed = region in self.closed
        self.closed.discard(region)
        return was_closed
