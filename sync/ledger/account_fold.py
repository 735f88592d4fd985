"""Fold ledger rows into what tasks have cost: an entry for each stretch of holding or waiting, cut at midnight (UTC).

A copy holds its GPUs from its assignment until it has succeeded or is released, and costs by the hour what was planned
for it. A task waits while a copy that it asks for is placed nowhere, whatever keeps it; an array waits by its
elements. An entry is made when a stretch ends, and never changes. Folding the ledger piece by piece gives the same
entries as folding it in one go.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import pyarrow as pa

from thalweg.scheduling.ids import RegionId, TaskId
from thalweg.scheduling.world.lifecycle import HELD, LIVE, begins
from thalweg.scheduling.world.tasks import Change, TaskState
from thalweg.sync.delta.contracts import ACCOUNT
from thalweg.sync.ledger.asked_data import moved_gb, stands_for_array
from thalweg.sync.ledger.reading import Position
from thalweg.sync.ledger.task_history import LedgerRow, Placement, TaskHistory, change_named

DAY_US: Final = 86_400_000_000
HOUR_US: Final = 3_600_000_000
_MILLI: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountEntry:
    """A stretch of a day; fields are the table's columns, times in microseconds since 1970, `day` in days since."""

    day: int
    kind: str
    """`held` or `waited`."""
    task_id: TaskId
    tenant: str | None
    region: RegionId | None
    copy: int | None
    epoch: int | None
    began_at: int
    ended_at: int
    hours: float
    gpu_hours: float
    usd: float
    egress_gb: float
    egress_usd: float
    driver_epoch: int
    """Of the row that ended the stretch, as are the two below."""
    batch_id: int
    row: int


@dataclass(frozen=True, slots=True)
class _Terms:
    """What an assignment takes and costs once."""

    gpus: float
    egress_gb: float
    egress_usd: float


@dataclass(slots=True)
class _Open:
    """A live task with the stretches that have begun and not ended."""

    history: TaskHistory
    waits_since_us: int | None
    terms: dict[int, _Terms] = field(default_factory=dict)
    """By the copy's index."""


class AccountFold:
    """The stretches that have not ended after the rows seen so far. Does no IO and reads no clock."""

    def __init__(self) -> None:
        self._live: dict[TaskId, _Open] = {}
        self.position: Position | None = None
        """Last row folded; None before the first. Rows up to here are skipped when they come again."""

    def fold(self, rows: pa.Table) -> list[AccountEntry]:
        """Fold `decisions` rows, in any order within the piece, and return the entries of what they end."""
        entries: list[AccountEntry] = []
        positions = list(map(Position, *(_values(rows, name) for name in Position._fields)))
        facts = list(map(LedgerRow, *(_values(rows, _SOURCE.get(name, name)) for name in LedgerRow._fields)))
        gpus, egress_usd = _gpus_of(rows), _values(rows, "egress_usd")
        for index in sorted(range(len(positions)), key=positions.__getitem__):
            if self.position is not None and positions[index] <= self.position:
                continue
            self.position = positions[index]
            entries += self._follow(facts[index], gpus.get(index, 0.0), egress_usd[index] or 0.0)
        return entries

    def _follow(self, row: LedgerRow, gpus: float, egress_usd: float) -> Iterator[AccountEntry]:
        change = change_named(row)
        known = self._live.get(row.task_id)
        if known is None:
            if begins(change, None):
                history = TaskHistory(task_id=row.task_id, submitted_us=row.decided_us, changed_us=row.decided_us)
                history.begin(row)
                self._live[row.task_id] = _Open(history, None if _is_array(history) else row.decided_us)
            return
        history = known.history
        held = {index: copy for index, copy in history.copies.items() if copy.state in HELD}
        if not history.follow(row, None):
            return
        state = history.state()
        for index, copy in held.items():
            # A row that assigns anew puts another placement there; one that ends the task ends all of them.
            if history.copies.get(index) is not copy or copy.state not in HELD or state not in LIVE:
                yield from self._held(history, index, copy, known.terms.pop(index), row)
        if change is Change.ASSIGNED:
            known.terms[row.copy] = _Terms(gpus, moved_gb(history.request, row.region, egress_usd), egress_usd)
        if known.waits_since_us is not None and state is not TaskState.WAITING:
            yield from self._waited(history, known.waits_since_us, row)
            known.waits_since_us = None
        elif known.waits_since_us is None and state is TaskState.WAITING and not _is_array(history):
            known.waits_since_us = row.decided_us
        if state not in LIVE:
            del self._live[row.task_id]

    def _held(
        self, history: TaskHistory, index: int, copy: Placement, terms: _Terms, row: LedgerRow
    ) -> Iterator[AccountEntry]:
        assert self.position is not None
        for number, (day, began_us, ended_us) in enumerate(days_of(copy.assigned_us, row.decided_us)):
            hours = (ended_us - began_us) / HOUR_US
            yield AccountEntry(
                day=day,
                kind="held",
                task_id=history.task_id,
                tenant=history.tenant,
                region=copy.region,
                copy=index,
                epoch=copy.epoch,
                began_at=began_us,
                ended_at=ended_us,
                hours=hours,
                gpu_hours=hours * terms.gpus,
                usd=hours * (copy.cost_usd_per_hour or 0.0),
                egress_gb=0.0 if number else terms.egress_gb,
                egress_usd=0.0 if number else terms.egress_usd,
                **self.position._asdict(),
            )

    def _waited(self, history: TaskHistory, since_us: int, row: LedgerRow) -> Iterator[AccountEntry]:
        assert self.position is not None
        for day, began_us, ended_us in days_of(since_us, row.decided_us):
            yield AccountEntry(
                day=day,
                kind="waited",
                task_id=history.task_id,
                tenant=history.tenant,
                region=None,
                copy=None,
                epoch=None,
                began_at=began_us,
                ended_at=ended_us,
                hours=(ended_us - began_us) / HOUR_US,
                gpu_hours=0.0,
                usd=0.0,
                egress_gb=0.0,
                egress_usd=0.0,
                **self.position._asdict(),
            )


def days_of(began_us: int, ended_us: int) -> Iterator[tuple[int, int, int]]:
    """Cut a stretch at midnight (UTC): (day since 1970, begin, end) of each part; a moment is one part of no length."""
    ended_us = max(began_us, ended_us)  # a clock that was set back makes nobody's bill negative
    day, last = began_us // DAY_US, max(ended_us - 1, began_us) // DAY_US
    while day < last:
        yield day, began_us, (day + 1) * DAY_US
        day += 1
        began_us = day * DAY_US
    yield day, began_us, ended_us


def entries_table(entries: list[AccountEntry]) -> pa.Table:
    """Give entries as rows of the table `account`."""
    names = ACCOUNT.schema.names
    columns = {name: [getattr(entry, name) for entry in entries] for name in names}
    types = {"day": pa.int32(), "began_at": pa.int64(), "ended_at": pa.int64()}
    return pa.table(
        [
            pa.array(columns[name], types.get(name, ACCOUNT.schema.field(name).type)).cast(
                ACCOUNT.schema.field(name).type
            )
            for name in names
        ],
        schema=ACCOUNT.schema,
    )


def _is_array(history: TaskHistory) -> bool:
    return stands_for_array(history.request, history.task_id)


_SOURCE: Final = {"decided_us": "decided_at"}


def _values(rows: pa.Table, name: str) -> list[Any]:
    column = rows.column(name)
    # Microseconds as integers: a datetime object each costs more than the rest of the row.
    return (column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column).to_pylist()  # type: ignore[no-any-return]


def _gpus_of(rows: pa.Table) -> dict[int, float]:
    """Row index to GPUs, for assigned rows alone: nested values are by far the dearest to convert."""
    found: dict[int, float] = {}
    first = 0
    for batch in rows.select(["transition", "nodes"]).to_batches():
        transitions = batch.column("transition").to_pylist()
        indices = [index for index, transition in enumerate(transitions) if transition == Change.ASSIGNED]
        nodes = batch.column("nodes").take(pa.array(indices, pa.int64())).to_pylist()
        for index, listed in zip(indices, nodes, strict=True):
            found[first + index] = sum((node["gpus"] or 0) + (node["gpu_milli"] or 0) / _MILLI for node in listed or ())
        first += batch.num_rows
    return found
