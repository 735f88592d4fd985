"""What regions are told: one event for each transition that has an id, the same whenever it is made again."""

from collections.abc import Iterable
from dataclasses import dataclass

from thalweg.scheduling.ids import TaskId
from thalweg.scheduling.world.tasks import Change, Transition
from thalweg.scheduling.world.world import World
from thalweg.streams.broker.publish import OutgoingRecord
from thalweg.streams.placement.assignments import event_record


@dataclass(frozen=True, slots=True, kw_only=True)
class Events:
    """Makes the records of the assignment topics."""

    world: World
    prefix: str

    def of(self, transitions: Iterable[Transition], event_ids: Iterable[str | None]) -> list[OutgoingRecord]:
        """Make the events of transitions; one without an id has none."""
        return [
            event_record(row, event_id, self._request_text(row.task_id), self.prefix)
            for row, event_id in zip(transitions, event_ids, strict=True)
            if event_id is not None and not (row.change is Change.ASSIGNED and self._has_ended(row.task_id))
        ]

    def _has_ended(self, task_id: TaskId) -> bool:
        """Tell whether a task is over: nothing of it is begun any more, and its request is no longer kept."""
        return task_id not in self.world.tasks

    def _request_text(self, task_id: TaskId) -> str:
        task = self.world.tasks.get(task_id)
        return "" if task is None else task.request
