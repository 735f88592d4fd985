"""What ledger rows make of one task, as the rows of `tasks` and `placements` say it.

What a row does is told by `scheduling.world.lifecycle`. A copy that succeeded keeps its placement, in state
`succeeded`, until the whole task has ended.
"""

from dataclasses import dataclass, field
from typing import Final, NamedTuple

from thalweg.scheduling.ids import PoolId, RegionId, TaskId
from thalweg.scheduling.world.lifecycle import HELD, state_of, step_of
from thalweg.scheduling.world.tasks import Change, CopyState, TaskState
from thalweg.sync.ledger.request_size import size_of


class LedgerRow(NamedTuple):
    """The columns of a `decisions` row that a fold reads; times in microseconds since 1970."""

    decided_us: int
    task_id: TaskId
    copy: int
    epoch: int
    transition: str
    attempt: int | None
    region: RegionId | None
    pool_id: PoolId | None
    plan_id: str | None
    cost_usd_per_hour: float | None
    reason: str | None
    tenant: str | None
    priority: int | None
    request: str | None
    name: str | None
    cause: str | None
    outcome: str | None
    ends: bool | None


@dataclass(slots=True, kw_only=True)
class Placement:
    """Where one copy of a task is."""

    epoch: int
    state: CopyState
    region: RegionId | None
    pool_id: PoolId | None
    nodes: bytes | None
    """Packed by the fold; never looked into here."""
    plan_id: str | None
    cost_usd_per_hour: float | None
    assigned_us: int
    changed_us: int


@dataclass(slots=True, kw_only=True)
class TaskHistory:
    """One task, as its rows so far have made it."""

    task_id: TaskId
    submitted_us: int
    changed_us: int
    request: str | None = None
    replicas: int = 1
    gpus: float = 0.0
    """Of all its copies."""
    given_usd_per_hour: float | None = None
    """What its request says that an hour's delay of it costs."""
    is_array: bool = False
    tenant: str | None = None
    name: str | None = None
    priority: int | None = None
    epoch: int = 0
    attempt: int | None = None
    reason: str | None = None
    held: bool = False
    """Its request is not to be placed until it is released."""
    copies: dict[int, Placement] = field(default_factory=dict)
    """Placed or succeeded copies; a copy that waits has no entry."""
    ended: TaskState | None = None
    """Set by `cancelled` and by giving up, whatever the copies do."""

    def state(self) -> TaskState:
        """Tell how far the task is."""
        held = [placement.state for placement in self.copies.values() if placement.state in HELD]
        return state_of(self.ended, self.replicas, len(self.copies) - len(held), held)

    def cost_usd_per_hour(self) -> float:
        """What the task costs an hour now: its copies that are placed and have not succeeded."""
        if self.ended is not None:
            return 0.0
        return sum(c.cost_usd_per_hour or 0.0 for c in self.copies.values() if c.state in HELD)

    def begin(self, row: LedgerRow) -> None:
        """Take what the row that begins the task asks for."""
        self._ask(row)
        self._note(row)

    def follow(self, row: LedgerRow, nodes: bytes | None) -> bool:
        """Do what one row says; whether that changed anything."""
        placement = self.copies.get(row.copy)
        change = change_named(row)
        step = step_of(
            change,
            row.epoch,
            row.reason,
            task=self.state(),
            copy=CopyState.WAITING if placement is None else placement.state,
            placed_epoch=0 if placement is None else placement.epoch,
        )
        spent = self.epoch
        if step.spends_epoch:
            self.epoch = max(self.epoch, row.epoch)
        if not step.obeyed:
            return self.epoch > spent
        if step.asks:
            self._ask(row)
        if step.holds is not None:
            self.held = step.holds
        if step.places or (placement is None and step.becomes is CopyState.SUCCEEDED):
            # Nothing is placed of a copy that was released and ran to its end all the same, but it is done.
            self.copies[row.copy] = _placed(row, step.becomes, nodes)
        elif placement is not None and step.becomes is CopyState.WAITING:
            del self.copies[row.copy]
        elif placement is not None and change in (Change.ACCEPTED, Change.RUNNING, Change.SUCCEEDED):
            placement.state, placement.changed_us = step.becomes, row.decided_us
        self.ended = step.ends or self.ended
        self._note(row)
        return True

    def measure(self) -> None:
        """Read from its request how large it is."""
        size = size_of(self.request)
        self.replicas, self.gpus, self.is_array = size.replicas, size.gpus(), size.array is not None
        self.given_usd_per_hour = size.value_usd_per_hour

    def _ask(self, row: LedgerRow) -> None:
        self.tenant, self.priority, self.request, self.name = row.tenant, row.priority, row.request, row.name
        self.measure()

    def _note(self, row: LedgerRow) -> None:
        if row.attempt is not None:
            self.attempt = max(self.attempt or 0, row.attempt)
        self.epoch = max(self.epoch, row.epoch)
        self.reason = row.reason
        self.changed_us = row.decided_us


_CHANGES: Final = {change.value: change for change in Change}


def change_named(row: LedgerRow) -> Change:
    """Read what a row says happened.

    Raises:
        ValueError: it is none of the ledger's words.
    """
    change = _CHANGES.get(row.transition)
    if change is None:
        known = ", ".join(_CHANGES)
        raise ValueError(f"ledger row of task {row.task_id!r}: transition {row.transition!r} is none of {known}")
    return change


def _placed(row: LedgerRow, state: CopyState, nodes: bytes | None) -> Placement:
    return Placement(
        epoch=row.epoch,
        state=state,
        region=row.region,
        pool_id=row.pool_id,
        nodes=nodes,
        plan_id=row.plan_id,
        cost_usd_per_hour=row.cost_usd_per_hour,
        assigned_us=row.decided_us,
        changed_us=row.decided_us,
    )
