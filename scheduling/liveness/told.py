"""What a region can have known when it made an inventory.

An inventory is compared with the ledger as it was told to the region then, not as it is when the inventory is read: in
a backlog the two lie minutes apart. The job notes at which sounding (`liveness.hearing`) it last published something
about a task to a region. The region says with its inventory how far it had read its assignments; if that reaches the
ends of a sounding that began later, it had been told. A producer that does not say so is given the time to accept
instead, on the hearing clock, from the sounding before the publication to the one before the inventory.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from thalweg.scheduling.liveness.hearing import Hearing, Position, covers

_BEFORE: Final = (0, 0)


@dataclass(slots=True)
class Told:
    """When regions were last told of tasks: (sounding begun, hearing time); what is long ago is forgotten."""

    hearing: Hearing
    accept_timeout_ms: int
    _told: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)

    def note(self, topic: str, task_id: str) -> None:
        """Note that an event about a task was published to a region's topic of assignments, and acknowledged."""
        self._told.pop((topic, task_id), None)  # so that the dictionary's order is that of the notes
        self._told[topic, task_id] = (self.hearing.latest, self.hearing.now_ms)

    def knew(self, topic: str, inventory: Position, read_to: Sequence[int] | None) -> Callable[[str], bool]:
        """Return what tells of a task whether a region, when it made an inventory, knew all it was told of it.

        Args:
            topic: the region's topic of assignments.
            inventory: where the inventory was read.
            read_to: how far the region had read the topic, the next offset of each partition; None where it does not
                say.
        """
        self._forget()
        made = None if self.hearing.is_past(inventory) else self.hearing.made_after(inventory)
        if made is None:
            return lambda _: False
        made_ms = made.at_ms

        def knew(task_id: str) -> bool:
            number, told_ms = self._told.get((topic, task_id), _BEFORE)
            if made_ms - told_ms < self.accept_timeout_ms:
                return False
            if read_to is None:
                return True
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
