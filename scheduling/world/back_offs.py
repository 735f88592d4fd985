"""Who is not tried for now: for everybody, regions that refuse or come and go; for a task, those that gave it back.

All of it follows from the ledger's rows and the moment, so a restart knows the same.
"""

from heapq import heappop, heappush
from typing import Final, NamedTuple

from thalweg.scheduling.ids import RegionId, TaskId
from thalweg.scheduling.world.refusals import FIRST_MS, MOST_MS, Refusals, back_off_ms, in_words

NEVER: Final = Refusals()
_WHENEVER_MS: Final = 2**62

FLAP_MS: Final = 60_000
"""How long a region takes nothing new after its second loss; after each further one twice as long, up to MOST_MS."""
STEADY_MS: Final = 3_600_000
"""A region that was not lost for so long is steady: counting begins again."""


class BackOff(NamedTuple):
    """The end of one back-off."""

    until_ms: int
    region: RegionId
    task_id: TaskId
    """"" where the region is closed to everybody."""


class BackOffs:
    """See the module's words."""

    def __init__(self) -> None:
        self.refusing: dict[RegionId, Refusals] = {}
        """Regions that gave back what they were assigned without ever accepting it, since they last accepted."""
        self.closed: set[RegionId] = set()
        """Regions that take nothing until their back-off ends."""
        self.flapping: dict[RegionId, Refusals] = {}
        """Regions that were lost with tasks in them, and how often lately."""
        self.damped: set[RegionId] = set()
        """Of these, the ones that take nothing for a while though they may be back."""
        self.ends: list[BackOff] = []
        """A heap."""

    def bar(self, task_id: TaskId, region: RegionId, until_ms: int) -> None:
        """Keep one task from a region until then."""
        heappush(self.ends, BackOff(until_ms, region, task_id))

    def note_refusal(self, region: RegionId, assigned_ms: int, now_ms: int) -> bool:
        """Count what a region gave back without ever accepting it; whether it opened or closed by that.

        The first may be the task's fault: other tasks go on there until another refusal follows.
        """
        refusals = self.refusing.setdefault(region, Refusals())
        if not refusals.note(assigned_ms, now_ms, free=1):
            return False
        if refusals.count == 1:
            return self._open(region)
        self.closed.add(region)
        heappush(self.ends, BackOff(refusals.until_ms, region, TaskId("")))
        return True

    def note_acceptance(self, region: RegionId) -> bool:
        """Forget refusals of a region that accepted; whether it opened by that."""
        return self.refusing.pop(region, None) is not None and self._open(region)

    def note_loss(self, region: RegionId, now_ms: int) -> bool:
        """Count that a region fell silent with tasks in it; whether it takes nothing for a while by that.

        What was moved out of a region costs a start elsewhere. One that comes back and falls silent again would have
        it paid each time.
        """
        flaps = self.flapping.setdefault(region, Refusals())
        if flaps.last_ms == now_ms:
            return False  # another task of the same loss
        steady = now_ms - flaps.last_ms > STEADY_MS
        flaps.count = 1 if steady else flaps.count + 1
        flaps.last_ms = now_ms
        flaps.until_ms = now_ms + min(back_off_ms(flaps.count - 1) * FLAP_MS // FIRST_MS, MOST_MS)
        if flaps.count == 1:
            return False
        self.damped.add(region)
        heappush(self.ends, BackOff(flaps.until_ms, region, TaskId("")))
        return True

    def keeps_out(self, region: RegionId) -> bool:
        """Tell whether a region takes nothing new for now, though it is heard."""
        return region in self.closed or region in self.damped

    def in_words(self, region: RegionId, now_ms: int) -> str:
        """Say why a region takes nothing new for now."""
        if region in self.closed:
            return in_words(region, self.refusing[region], now_ms)
        flaps = self.flapping[region]
        again_s = max(flaps.until_ms - now_ms, 0) / 1000
        return f"region {region} was lost {flaps.count} times lately, and is used again in {again_s:.0f} s"

    def ended(self, now_ms: int) -> list[BackOff]:
        """Take out the back-offs that are over by now, in their order; all of them where the clock was set back."""
        over: list[BackOff] = []
        while self.ends and self.ends[0].until_ms <= now_ms:
            over.append(heappop(self.ends))
        if self.ends and self.ends[0].until_ms - now_ms > 2 * MOST_MS:
            # No back-off is as long as that.
            over += [end._replace(until_ms=_WHENEVER_MS) for end in self.ends]
            self.ends.clear()
        return over

    def reopen(self, end: BackOff) -> bool:
        """Open a region whose back-off ended, unless a later one goes on; whether it opened."""
        was_damped = end.region in self.damped and self.flapping[end.region].until_ms <= end.until_ms
        if was_damped:
            self.damped.discard(end.region)
        over = self.refusing.get(end.region, NEVER).until_ms <= end.until_ms
        return (over and self._open(end.region)) or was_damped

    def _open(self, region: RegionId) -> bool:
        was_closed = region in self.closed
        self.closed.discard(region)
        return was_closed
