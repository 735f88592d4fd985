"""Lives of tasks, told from the ledger's rows: when each was asked for, where its copies stayed, how it ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from thalweg.scheduling.replay.replay import Ending
from thalweg.scheduling.world.tasks import Change, TaskSpec, Transition

_LOST: Final = (Change.FAILED, Change.EVICTED, Change.LOST)
_STILL: Final = (Change.ACCEPTED, Change.RUNNING, Change.WAITING, Change.REPAIRED, Change.REFUSED)


@dataclass(slots=True, kw_only=True)
class RecordedStay:
    """One copy in one region, from its assignment on."""

    row: Transition
    running_ms: int | None = None
    ended_ms: int | None = None
    ending: Ending = Ending.FINISHED
    past: bool = False
    """It was over when the replay begins."""
    runs_at_begin: bool = False

    @property
    def region(self) -> str:
        """Where it was."""
        assert self.row.region is not None
        return self.row.region

    @property
    def succeeded(self) -> bool:
        """Whether it ran to its end."""
        return self.ended_ms is not None and self.ending is Ending.FINISHED


@dataclass(slots=True, kw_only=True)
class Life:
    """One task from one request to its end; an update that changes its needs ends it and begins another."""

    job_id: str
    spec: TaskSpec
    arrive_ms: int
    cancel_ms: int | None = None
    open: dict[int, RecordedStay] = field(default_factory=dict)  # by copy
    stays: list[RecordedStay] = field(default_factory=list)

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


def lives_of(before: Sequence[Transition], after: Sequence[Transition]) -> list[Life]:
    """Tell lives from the ledger's rows, in the order of their requests.

    Args:
        before: rows up to where the replay begins: an update among them only changes what the task asks for.
        after: the rows from there on.
    """
    told = _Told()
    for row in before:
        told.take(row, begun=False)
    for life in told.lives:
        for stay in life.stays:
            stay.past = stay.ended_ms is not None
            stay.runs_at_begin = not stay.past
    for row in after:
        told.take(row, begun=True)
    return told.lives


class _Told:
    """What the rows so far have told."""

    def __init__(self) -> None:
        self.lives: list[Life] = []
        self.current: dict[str, Life] = {}
        self._updates: dict[str, int] = {}

    def take(self, row: Transition, *, begun: bool) -> None:
        """Take the next row."""
        life = self.current.get(row.task_id)
        if row.change is Change.SUBMITTED and row.spec is not None and life is None:
            self._begin(row.task_id, row)
        elif life is None:
            return
        elif row.change is Change.UPDATED and row.spec is not None and row.spec != life.spec:
            if begun:
                self._cancel(life, row.decided_ms)
                self._updates[row.task_id] = self._updates.get(row.task_id, 1) + 1
                self._begin(f"{row.task_id}#{self._updates[row.task_id]}", row)
            else:
                life.spec = row.spec
        elif row.change is Change.CANCELLED:
            self._cancel(life, row.decided_ms)
        elif row.change is Change.ASSIGNED and row.region is not None:
            self._end(life, row, Ending.STOPPED)  # a copy that changes its size or place
            life.open[row.copy] = RecordedStay(row=row)
            life.stays.append(life.open[row.copy])
        elif row.change is Change.RUNNING and row.copy in life.open:
            life.open[row.copy].running_ms = life.open[row.copy].running_ms or row.decided_ms
        elif row.change is Change.SUCCEEDED:
            self._end(life, row, Ending.FINISHED)
        elif row.change in _LOST:
            self._end(life, row, Ending.LOST)
        elif row.change not in _STILL:
            self._end(life, row, Ending.STOPPED)  # revoked, to be placed again

    def _begin(self, job_id: str, row: Transition) -> None:
        assert row.spec is not None
        arrive_ms = row.decided_ms if row.topic_timestamp_ms is None else min(row.topic_timestamp_ms, row.decided_ms)
        life = self.current[row.task_id] = Life(job_id=job_id, spec=row.spec, arrive_ms=arrive_ms)
        self.lives.append(life)

    def _end(self, life: Life, row: Transition, ending: Ending) -> None:
        stay = life.open.pop(row.copy, None)
        if stay is not None:
            stay.ended_ms, stay.ending = row.decided_ms, ending

    def _cancel(self, life: Life, now_ms: int) -> None:
        """End a life. Its copies were revoked in the same batch, which is no stop by the planner."""
        life.cancel_ms = now_ms
        for stay in life.stays:
            if stay.ending is Ending.STOPPED and stay.ended_ms == now_ms:
                stay.ending = Ending.CANCELLED
