"""What is told of transitions: regions of each that has an id, who waits of each end; the same whenever made again."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from thalweg.scheduling.ids import TaskId
from thalweg.scheduling.world.tasks import Change, Transition
from thalweg.scheduling.world.world import World
from thalweg.streams.broker.publish import OutgoingRecord
from thalweg.streams.placement.assignments import event_record
from thalweg.streams.placement.ends import end_record


@dataclass(frozen=True, slots=True, kw_only=True)
class Events:
    """Makes the records of the assignment topics and of the results."""

    world: World
    prefix: str

    def of(
        self, transitions: Sequence[Transition], event_ids: Iterable[str | None]
    ) -> tuple[list[OutgoingRecord], list[OutgoingRecord]]:
        """Make what regions are told, of transitions that have an id, and what is told of the tasks that are over."""
        events = [
            event_record(row, event_id, self._request_text(row.task_id), self.prefix)
            for row, event_id in zip(transitions, event_ids, strict=True)
            if event_id is not None and not (row.change is Change.ASSIGNED and self._has_ended(row.task_id))
        ]
        return events, [end_record(row, self.prefix) for row in transitions if row.ends]

    def _has_ended(self, task_id: TaskId) -> bool:
        """Tell whether a task is over: nothing of it is begun any more, and its request is no longer kept."""
        return task_id not in self.world.tasks

    def _request_text(self, task_id: TaskId) -> str:
        task = self.world.tasks.get(task_id)
        return "" if task is None else task.request
