"""What a region can have known when it made an inventory.

An inventory is compared with the ledger as it was told to the region then, not as it is when the inventory is read: in
a backlog the two lie minutes apart. The job notes at which sounding (`liveness.hearing`) it last published something
about a task to a region. The region says with its inventory how far it had read its assignments; if that reaches the
ends of a sounding that began later, it had been told. A producer that does not say so is given the time to accept
instead, on the hearing clock, from the sounding before the publication to the one before the inventory.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from thalweg.scheduling.ids import TaskId
from thalweg.scheduling.liveness.hearing import Hearing, RecordPosition, covers

_BEFORE: Final = (0, 0)
_NOT_YET: Final = 2**62
"""Later than every sounding: what is decided and not told yet, no inventory can speak of."""


class Knew(Protocol):
    """Whether a region knew all it was told of a task, for so long."""

    def __call__(self, task_id: TaskId, *, for_ms: int) -> bool:
        """Tell it of one task."""


@dataclass(slots=True)
class Told:
    """When regions were last told of tasks: (sounding begun, hearing time); what is long ago is forgotten."""

    hearing: Hearing
    accept_timeout_ms: int
    _told: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)

    def decided(self, topic: str, task_id: TaskId) -> None:
        """Note that something was decided about a task of which its region is yet to be told."""
        self._keep(topic, task_id, _NOT_YET)

    def note(self, topic: str, task_id: TaskId) -> None:
        """Note that an event about a task was published to a region's topic of assignments, and acknowledged."""
        self._keep(topic, task_id, self.hearing.latest)

    def _keep(self, topic: str, task_id: TaskId, number: int) -> None:
        self._forget()  # here too: not every producer sends inventories
        self._told.pop((topic, task_id), None)  # so that the dictionary's order is that of the notes
        self._told[topic, task_id] = (number, self.hearing.now_ms)

    def knew(self, topic: str, inventory: RecordPosition, read_to: Sequence[int] | None) -> Knew:
        """Return what tells of a task whether a region, when it made an inventory, knew all it was told of it.

        It is asked with the time the region must have had since, on the hearing clock.

        Args:
            topic: the region's topic of assignments.
            inventory: where the inventory was read.
            read_to: how far the region had read the topic, the next offset of each partition; None where it does not
                say.
        """
        self._forget()
        made = None if self.hearing.is_past(inventory) else self.hearing.made_after(inventory)

        def knew(task_id: TaskId, *, for_ms: int) -> bool:
            number, told_ms = self._told.get((topic, task_id), _BEFORE)
            if made is None or made.at_ms - told_ms < for_ms:
                return False
            if read_to is None:
                return made.number > number
            later = self.hearing.first_after(number)
            return later is not None and covers(read_to, later.ends.get(topic, {}))

        return knew

    def _forget(self) -> None:
        """Drop what every inventory that is still judged was made long after."""
        oldest = self.hearing.oldest
        while self._told:
            key, (number, at_ms) = next(iter(self._told.items()))
            if number >= oldest.number or oldest.at_ms - at_ms < self.accept_timeout_ms:
                return
            del self._told[key]
