"""Whose a region is: of several agents that host one region, the last to claim it; the others end.

Agents of a region do not know of each other, but all of them write to its status topic, and the topic has one order.
An agent's first heartbeat is its *claim*. It reads its own words back, and with them everybody else's:

1. What lies before its claim tells whether its file goes on where the region stopped. It does if the last to speak was
   this very file, and reported nothing that the file does not know; a file without reports goes on where nobody else
   has ever spoken. Otherwise (the file is new, was put back from a copy, or another agent was there) what the file
   holds is given up, and of the assignments it takes what comes from now on: what came before has been acted on, or
   the place job finds it missing in the inventory.
2. A claim behind its own is a younger agent's. The older one gives up what it holds, and ends.
3. It starts tasks only for `LEASE_MS` after it *sent* a heartbeat that it has read back, before any younger claim. A
   younger agent begins only that long after its claim was read back, unless the older one said goodbye. So there is
   no moment at which both start something, however long one of them was suspended or cut off: the older one's last
   such heartbeat lies before the younger one's claim.

Time is a clock that never steps.
"""

from collections.abc import Callable
from collections.abc import Set as AbstractSet
from typing import Final

from msgspec import Struct

from thalweg.scheduling.ids import RegionId, TaskId
from thalweg.streams.broker.errors import StreamError
from thalweg.streams.contract.messages import MessageStamp, StatusEvent

LEASE_MS: Final = 5_000
"""Five heartbeats: one that is late does not keep tasks from starting, and a new host waits for no longer."""

OF_OTHERS: Final = frozenset({"notice"})
"""Reports that a cloud, or a person, makes beside a region's agent: they tell nothing of who hosts it."""

Numbered = tuple[int, int]
"""Epoch and sequence of a stamp."""


class SupersededError(StreamError):
    """Another agent hosts the region now."""

    def __init__(self, region: RegionId, agent_id: str) -> None:
        super().__init__(
            f"agent {agent_id} has begun to host region {region} after this one, which has given its tasks back and "
            "ends. One agent hosts a region: stop the other one first if this one is to stay"
        )


class Said(Struct, frozen=True):
    """What of a report tells who speaks; the rest of it, which may be long, is not read."""

    type: str
    task_id: TaskId | None = None
    agent_id: str = ""
    claim: bool = False
    stamp: MessageStamp | None = None


class Tenure:
    """One region's, as one start of an agent sees it."""

    def __init__(
        self,
        region: RegionId,
        *,
        own_ids: AbstractSet[str],
        newest: Numbered | None,
        same_file: bool,
        steady: Callable[[], int],
    ) -> None:
        """Begin to listen.

        Args:
            region: which.
            own_ids: of all starts of agents on this file, this one included; may grow.
            newest: of the last report that this file has made; None where it has made none.
            same_file: whether it is the very file of the last start, and not a copy of it elsewhere.
            steady: milliseconds, on a clock that never steps.
        """
        self.region = region
        self.superseded_by = ""
        self.claimed = False
        """Whether the claim was read back."""
        self._own_ids = own_ids
        self._newest = newest
        self._same_file = same_file
        self._steady = steady
        self._sent: dict[Numbered, int] = {}
        self._spoken = False
        self._heard_before: set[str] = set()
        """Agents that spoke before this one's claim: a claim of theirs that comes again is no younger agent's."""
        self._last: Said | None = None
        self._unknown_report = False
        self._held_until = 0
        self._begins_at = 0

    def sending(self, status: StatusEvent) -> None:
        """Note a heartbeat of this agent, before it is published."""
        if status.stamp is not None:
            self._sent[status.stamp.ms, status.stamp.counter] = self._steady()

    def hear(self, status: Said) -> None:
        """Take what was read in the region's status topic, in its order."""
        if status.type in OF_OTHERS:
            return
        stamp = status.stamp
        sent = None if stamp is None else self._sent.get((stamp.ms, stamp.counter))
        if status.task_id is None and sent is not None and status.agent_id in self._own_ids:
            self._sent = {key: at for key, at in self._sent.items() if at > sent}
            self._held_until = sent + LEASE_MS
            if not self.claimed:
                self.claimed = True
                self._begins_at = self._steady() + (LEASE_MS if self._may_be_alive() else 0)
        elif self.claimed:
            if status.claim and status.agent_id not in self._own_ids | self._heard_before:
                self.superseded_by = status.agent_id
            elif status.type == "goodbye" and self._last is not None and status.agent_id == self._last.agent_id:
                self._begins_at = min(self._begins_at, self._steady())
        else:
            self._spoken = True
            if status.task_id is None:
                self._last = status
                self._heard_before.add(status.agent_id)
            elif stamp is not None and (self._newest is None or (stamp.epoch, stamp.seq) > self._newest):
                self._unknown_report = True

    def goes_on(self) -> bool:
        """Say whether the file goes on where the region stopped. To be asked once the claim was read back."""
        if not self._spoken:
            return True  # nobody has ever spoken here, or so long ago that nothing of it is kept
        last = self._last
        if self._unknown_report or last is None or last.agent_id not in self._own_ids:
            return False
        if self._newest is None:  # no start on this file has ever taken anything
            return self._heard_before <= self._own_ids
        return self._same_file or last.type == "goodbye"

    def has_begun(self) -> bool:
        """Say whether nobody who was here before may start anything any more."""
        return self.claimed and self._steady() >= self._begins_at

    def may_start(self) -> bool:
        """Say whether tasks may be started now."""
        return self.has_begun() and not self.superseded_by and self._steady() < self._held_until

    def _may_be_alive(self) -> bool:
        """Say whether another agent may still be there; one on this very file is not, because it held the file."""
        last = self._last
        if last is None or last.type == "goodbye":
            return False
        return not (self._same_file and last.agent_id in self._own_ids)
