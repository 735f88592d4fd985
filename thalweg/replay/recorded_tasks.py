"""Lives of tasks, told from the ledger's rows: when each was asked for, where its copies stayed, how it ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from thalweg.scheduling.ids import RegionId
from thalweg.scheduling.replay.replay import Ending
from thalweg.scheduling.world.lifecycle import begins, state_of, step_of
from thalweg.scheduling.world.tasks import TERMINAL, Change, CopyState, TaskSpec, TaskState, Transition

_ENDINGS: Final = {
    Change.SUCCEEDED: Ending.FINISHED,
    **dict.fromkeys((Change.FAILED, Change.EVICTED, Change.LOST), Ending.LOST),
}
"""How a stay ends; by any other change it is stopped: to be placed again, or to change its size or place."""


@dataclass(slots=True, kw_only=True)
class RecordedStay:
    """One copy in one region, from its assignment on."""

    row: Transition
    state: CopyState = CopyState.ASSIGNED
    running_ms: int | None = None
    ended_ms: int | None = None
    ending: Ending = Ending.FINISHED
    past: bool = False
    """It was over when the replay begins."""
    runs_at_begin: bool = False

    @property
    def region(self) -> RegionId:
        """Where it was."""
        assert self.row.region is not None
        return self.row.region

    @property
    def succeeded(self) -> bool:
        """Whether it ran to its end."""
        return self.ended_ms is not None and self.ending is Ending.FINISHED


@dataclass(slots=True, kw_only=True)
class RecordedTask:
    """One task from one request to its end; an update that changes its needs ends it and begins another."""

    job_id: str
    spec: TaskSpec
    arrive_ms: int
    cancel_ms: int | None = None
    ended: TaskState | None = None
    done: set[int] = field(default_factory=set)
    """Copies that have succeeded."""
    open: dict[int, RecordedStay] = field(default_factory=dict)  # by copy
    stays: list[RecordedStay] = field(default_factory=list)

    @property
    def state(self) -> TaskState:
        """How far the task is."""
        return state_of(self.ended, self.spec.replicas, len(self.done), [stay.state for stay in self.open.values()])

    def state_of_copy(self, index: int) -> CopyState:
        """Tell how far a copy is."""
        if index in self.open:
            return self.open[index].state
        return CopyState.SUCCEEDED if index in self.done else CopyState.WAITING

    @property
    def run_s(self) -> float:
        """The longest observed run of a copy that succeeded, else the expected one."""
        observed = [
            (stay.ended_ms - (stay.running_ms or stay.row.decided_ms)) / 1_000
            for stay in self.stays
            if stay.succeeded and stay.ended_ms is not None
        ]
        return max(observed, default=self.spec.expected_s)

    def stayed_s(self, stay: RecordedStay, now_ms: int) -> float:
        """How long a copy stayed; one that is still there is taken to stay for its run time, and until now at least."""
        if stay.ended_ms is not None:
            return (stay.ended_ms - stay.row.decided_ms) / 1_000
        return max(self.run_s, (now_ms - stay.row.decided_ms) / 1_000)

    def would_stay_s(self, stay: RecordedStay) -> float:
        """How long a copy would have stayed if nothing had stopped it."""
        if stay.succeeded and stay.ended_ms is not None:
            return (stay.ended_ms - stay.row.decided_ms) / 1_000
        return self.run_s


def recorded_tasks(before: Sequence[Transition], after: Sequence[Transition]) -> list[RecordedTask]:
    """Tell lives from the ledger's rows, in the order of their requests.

    Args:
        before: rows up to where the replay begins: an update among them only changes what the task asks for.
        after: the rows from there on.
    """
    told = _Told()
    for row in before:
        told.follow(row, begun=False)
    for life in told.lives:
        for stay in life.stays:
            stay.past = stay.ended_ms is not None
            stay.runs_at_begin = not stay.past
    for row in after:
        told.follow(row, begun=True)
    return told.lives


class _Told:
    """What the rows so far have told."""

    def __init__(self) -> None:
        self.lives: list[RecordedTask] = []
        self.current: dict[str, RecordedTask] = {}
        self._lives_of: dict[str, int] = {}

    def follow(self, row: Transition, *, begun: bool) -> None:
        """Hear the next row."""
        life = self.current.get(row.task_id)
        if row.spec is not None and begins(row.change, None if life is None else life.state):
            self._begin(row.task_id if life is None else self._next_id(row.task_id), row)
        elif life is not None:
            self._go_on(life, row, begun=begun)

    def _go_on(self, life: RecordedTask, row: Transition, *, begun: bool) -> None:
        stay = life.open.get(row.copy)
        step = step_of(
            row.change,
            row.epoch,
            row.reason,
            task=life.state,
            copy=life.state_of_copy(row.copy),
            placed_epoch=0 if stay is None else stay.row.epoch,
        )
        if not step.obeyed:
            return
        if step.frees:
            self._end(life, row.copy, row.decided_ms, _ENDINGS.get(row.change, Ending.STOPPED))
        if step.places:
            life.open[row.copy] = RecordedStay(row=row)
            life.stays.append(life.open[row.copy])
        elif step.becomes is CopyState.SUCCEEDED:
            life.done.add(row.copy)
        elif step.accepted and stay is not None:
            stay.state = step.becomes
            if step.becomes is CopyState.RUNNING:
                stay.running_ms = stay.running_ms or row.decided_ms
        if step.asks and row.spec is not None and row.spec != life.spec:
            life = self._ask_anew(life, row, row.spec, begun=begun)
        life.ended = step.ends
        if life.state in TERMINAL:
            for copy in list(life.open):
                self._end(life, copy, row.decided_ms, Ending.STOPPED)
        if step.ends is TaskState.CANCELLED:
            self._cancel(life, row.decided_ms)

    def _ask_anew(self, life: RecordedTask, row: Transition, spec: TaskSpec, *, begun: bool) -> RecordedTask:
        if not begun:
            life.spec = spec
            return life
        self._cancel(life, row.decided_ms)
        self._begin(self._next_id(row.task_id), row)
        # Copies that have succeeded count for what the task asks for now; one that nobody revoked stays where it is.
        anew = self.current[row.task_id]
        anew.done, anew.open = life.done, life.open
        return anew

    def _next_id(self, task_id: str) -> str:
        self._lives_of[task_id] = self._lives_of.get(task_id, 1) + 1
        return f"{task_id}#{self._lives_of[task_id]}"

    def _begin(self, job_id: str, row: Transition) -> None:
        assert row.spec is not None
        arrive_ms = row.decided_ms if row.topic_timestamp_ms is None else min(row.topic_timestamp_ms, row.decided_ms)
        life = self.current[row.task_id] = RecordedTask(job_id=job_id, spec=row.spec, arrive_ms=arrive_ms)
        self.lives.append(life)

    def _end(self, life: RecordedTask, copy: int, at_ms: int, ending: Ending) -> None:
        stay = life.open.pop(copy)
        stay.ended_ms, stay.ending = at_ms, ending

    def _cancel(self, life: RecordedTask, now_ms: int) -> None:
        """End a life. Its copies were revoked in the same batch, which is no stop by the planner."""
        life.cancel_ms = now_ms
        for stay in life.stays:
            if stay.ending is Ending.STOPPED and stay.ended_ms == now_ms:
                stay.ending = Ending.CANCELLED
