"""What one ledger row does to one task: the rules by which `tasks` and `placements` follow from `decisions`.

- A task exists from its `submitted` row until it ends: `cancelled`, `failed` with a reason that starts with
  `scheduling.world.tasks.GAVE_UP`, or all copies `succeeded`. `refused` rows change nothing; `repaired` rows spend an
  epoch.
- A copy is placed by `assigned` and released by `revoked`, `preempted`, `lost`, `evicted` and `failed`. A row about a
  copy that is older (by epoch) than its placement is ignored: it speaks of a placement that is gone.
- A task is as far as its least advanced copy that has not succeeded: waiting, then assigned, then running. A copy that
  succeeded keeps its placement, in state `succeeded`, until the whole task has ended. What counts is how many have
  succeeded, not which: an update to no more replicas than that ends the task.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from thalweg.scheduling.world.tasks import GAVE_UP, Change, TaskState
from thalweg.sync.ledger.transitions import RELEASING


class LedgerRow(NamedTuple):
    """The columns of a `decisions` row that a fold reads; times in microseconds since 1970."""

    decided_us: int
    task_id: str
    copy: int
    epoch: int
    transition: str
    attempt: int | None
    region: str | None
    pool_id: str | None
    plan_id: str | None
    cost_usd_per_hour: float | None
    reason: str | None
    tenant: str | None
    priority: int | None
    request: str | None


@dataclass(slots=True, kw_only=True)
class Placement:
    """Where one copy of a task is."""

    epoch: int
    state: str
    region: str | None
    pool_id: str | None
    nodes: bytes | None
    """Packed by the fold; never looked into here."""
    plan_id: str | None
    cost_usd_per_hour: float | None
    assigned_us: int
    changed_us: int


@dataclass(slots=True, kw_only=True)
class Task:
    """One task, as its rows so far have made it."""

    task_id: str
    submitted_us: int
    changed_us: int
    request: str | None = None
    replicas: int = 1
    tenant: str | None = None
    priority: int | None = None
    epoch: int = 0
    attempt: int | None = None
    reason: str | None = None
    copies: dict[int, Placement] = field(default_factory=dict)
    """Placed or succeeded copies; a copy that waits has no entry."""
    ended: TaskState | None = None
    """Set by `cancelled` and by giving up, whatever the copies do."""

    def state(self) -> TaskState:
        """Tell how far the task is."""
        if self.ended is not None:
            return self.ended
        if sum(placement.state == Change.SUCCEEDED for placement in self.copies.values()) >= self.replicas:
            return TaskState.SUCCEEDED
        if len(self.copies) < self.replicas:
            return TaskState.WAITING
        unfinished = {placement.state for placement in self.copies.values()} - {Change.SUCCEEDED}
        return TaskState.RUNNING if unfinished == {Change.RUNNING} else TaskState.ASSIGNED

    def cost_usd_per_hour(self) -> float:
        """What the task costs an hour now: its copies that are placed and have not succeeded."""
        if self.ended is not None:
            return 0.0
        return sum(c.cost_usd_per_hour or 0.0 for c in self.copies.values() if c.state != Change.SUCCEEDED)

    def obey(self, row: LedgerRow, nodes: bytes | None) -> bool:
        """Take one row; False when it changes nothing because it is refused or speaks of what is gone."""
        placement = self.copies.get(row.copy)
        match row.transition:
            case Change.SUBMITTED | Change.UPDATED:
                self.tenant, self.priority, self.request = row.tenant, row.priority, row.request
                self.replicas = replicas_of(row.request)
            case Change.CANCELLED:
                self.ended = TaskState.CANCELLED
            case Change.REFUSED:
                return False
            case Change.REPAIRED:
                self.epoch = max(self.epoch, row.epoch)
                return True
            case _ if placement is not None and row.epoch < placement.epoch:
                return False
            case Change.ASSIGNED:
                self.copies[row.copy] = _placed(row, nodes)
            case Change.ACCEPTED | Change.RUNNING | Change.SUCCEEDED:
                if placement is None:
                    if row.transition != Change.SUCCEEDED:
                        return False
                    # Released (its region was silent), yet it ran to its end: nothing is placed, but the copy is done.
                    placement = self.copies[row.copy] = _placed(row, None)
                placement.state, placement.changed_us = row.transition, row.decided_us
            case Change.WAITING:
                if self.state() != TaskState.WAITING:
                    return False
            case transition if transition in RELEASING:
                self.copies.pop(row.copy, None)
                if transition == Change.FAILED and (row.reason or "").startswith(GAVE_UP):
                    self.ended = TaskState.FAILED
            case unknown:
                raise ValueError(f"ledger row of task {row.task_id!r}: transition {unknown!r} is none of {_WORDS}")
        self.epoch = max(self.epoch, row.epoch)
        if row.attempt is not None:
            self.attempt = max(self.attempt or 0, row.attempt)
        self.reason = row.reason
        self.changed_us = row.decided_us
        return True


_WORDS = ", ".join(Change)


def _placed(row: LedgerRow, nodes: bytes | None) -> Placement:
    return Placement(
        epoch=row.epoch,
        state=row.transition,
        region=row.region,
        pool_id=row.pool_id,
        nodes=nodes,
        plan_id=row.plan_id,
        cost_usd_per_hour=row.cost_usd_per_hour,
        assigned_us=row.decided_us,
        changed_us=row.decided_us,
    )


class _RequestShape(msgspec.Struct):
    replicas: int = 1


_decoder = msgspec.json.Decoder(_RequestShape)


def replicas_of(request: str | None) -> int:
    """Read how many copies a request asks for; the ledger only holds requests that were checked before."""
    return _decoder.decode(request).replicas if request else 1
