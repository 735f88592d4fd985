"""Who is not tried for now: for everybody, regions that refuse or come and go; for a task, those that gave it back.

All of it follows from the ledger's rows and the moment, so a restart knows the same.
"""

from collections.abc import Iterable
from heapq import heapify, heappop, heappush
from typing import Final, NamedTuple

from thalweg.scheduling.counted import counted
from thalweg.scheduling.ids import RegionId, TaskId
from thalweg.scheduling.passed import has_passed
from thalweg.scheduling.world.refusals import FIRST_MS, MOST_MS, Refusals, back_off_ms, in_words

NEVER: Final = Refusals()

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
    began_ms: int = 0
    """0 where that is not known: an older snapshot does not say."""

    def is_astray(self, now_ms: int) -> bool:
        """Tell whether it began before the clock was set back, so that its end is nothing to wait for."""
        length_ms = self.until_ms - self.began_ms if self.began_ms else MOST_MS
        return self.until_ms > now_ms and has_passed(self.until_ms - length_ms, now_ms, length_ms)


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
        self._latest_ms = 0
        """When the last of them began."""

    def bar(self, task_id: TaskId, region: RegionId, until_ms: int, now_ms: int) -> None:
        """Keep one task from a region until then."""
        self._begin(BackOff(until_ms, region, task_id, now_ms))

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
        self._begin(BackOff(refusals.until_ms, region, TaskId(""), now_ms))
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
        self._begin(BackOff(flaps.until_ms, region, TaskId(""), now_ms))
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
        return f"region {region} was lost {counted(flaps.count, 'time')} lately, and is used again in {again_s:.0f} s"

    def ended(self, now_ms: int) -> list[BackOff]:
        """Take out the back-offs that are over by now, in their order, and those that the clock was set back behind."""
        over: list[BackOff] = []
        while self.ends and self.ends[0].until_ms <= now_ms:
            over.append(heappop(self.ends))
        if self._latest_ms > now_ms or (self.ends and self.ends[0].until_ms - now_ms > 2 * MOST_MS):
            kept = [end for end in self.ends if not end.is_astray(now_ms)]
            over += sorted(set(self.ends).difference(kept))
            self.restore(kept)
        return over

    def restore(self, ends: Iterable[BackOff]) -> None:
        """Let these be the back-offs that go on."""
        self.ends = list(ends)
        heapify(self.ends)
        self._latest_ms = max((end.began_ms for end in self.ends), default=0)

    def _begin(self, end: BackOff) -> None:
        heappush(self.ends, end)
        self._latest_ms = max(self._latest_ms, end.began_ms)

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
