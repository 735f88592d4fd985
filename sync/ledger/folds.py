"""Fold ledger rows into the rows of `tasks` and `placements`: in one go, or as the ledger grows.

Both tables are derived. `LedgerFold` holds the live tasks in memory, takes new `decisions` rows and gives back only the
rows that changed. Folding the ledger from its first row gives the same tables as folding it piece by piece, wherever
the pieces are cut, so the tables may be thrown away at any time. The rules are those of `scheduling.world.lifecycle`; a
task that has ended is forgotten, and a later `submitted` row of the same id starts it anew.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import msgspec
import numpy as np
import pyarrow as pa

from thalweg.scheduling.ids import TaskId
from thalweg.scheduling.world.lifecycle import LIVE, begins
from thalweg.scheduling.world.tasks import Change, CopyState
from thalweg.scheduling.world.value import MIDDLE_PRIORITY, value_usd_per_hour
from thalweg.sync.delta.contracts import DECISIONS, PLACEMENTS, TASKS
from thalweg.sync.delta.data_files import conformed
from thalweg.sync.ledger.reading import Position as Position
from thalweg.sync.ledger.results import RunEnd, results_table
from thalweg.sync.ledger.run_outcome import RUN_ENDS
from thalweg.sync.ledger.task_history import LedgerRow, Placement, TaskHistory, change_named

_ROWS_BETWEEN_RESTS: Final = 128
_MOMENT: Final = TASKS.schema.field("changed_at").type


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldChanges:
    """What a piece of the ledger changed."""

    tasks: pa.Table
    """Rows of `tasks` to insert or to replace, one per task."""
    placements: pa.Table
    """Rows of `placements` to insert or to replace, one per (task_id, copy)."""
    released: pa.Table
    """(task_id, copy) of rows to delete from `placements`; some may never have been written."""
    results: pa.Table
    """New rows of `results`."""
    begun_again: pa.Table
    """(task_id) of tasks that had ended before the piece, or in it, and have begun again."""


class LedgerFold:
    """The live tasks and their placements after the ledger rows seen so far. Does no IO and reads no clock."""

    def __init__(self) -> None:
        self._live: dict[TaskId, TaskHistory] = {}
        self.position: Position | None = None
        """Last row folded; None before the first. Rows up to here are skipped when they come again."""
        self._results_to: Position | None = None

    def __len__(self) -> int:
        """Count the live tasks."""
        return len(self._live)

    @classmethod
    def restore(
        cls, tasks: pa.Table, placements: pa.Table, position: Position | None, results_to: Position | None = None
    ) -> Self:
        """Continue from the two tables as they were written when the fold stood at `position`.

        Args:
            tasks: rows of `tasks`, at least the live ones.
            placements: rows of `placements`.
            position: see above.
            results_to: up to where `results` has its rows: they are not given again.
        """
        fold = cls()
        fold.position, fold._results_to = position, results_to
        for row in _rows(tasks):
            if row["state"] in LIVE:
                task = fold._live[row["task_id"]] = TaskHistory(
                    task_id=row["task_id"],
                    submitted_us=row["submitted_at"],
                    changed_us=row["changed_at"],
                    request=row["request"],
                    tenant=row["tenant"],
                    name=row["name"],
                    priority=row["priority"],
                    epoch=row["epoch"],
                    attempt=row["attempt"],
                    reason=row["reason"],
                    held=bool(row["held"]),
                )
                task.measure()
        for row in _rows(placements):
            if placed := fold._live.get(row["task_id"]):
                placed.copies[row["copy"]] = Placement(
                    epoch=row["epoch"],
                    state=CopyState(row["state"]),
                    region=row["region"],
                    pool_id=row["pool_id"],
                    nodes=_pack(row["nodes"]),
                    plan_id=row["plan_id"],
                    cost_usd_per_hour=row["cost_usd_per_hour"],
                    assigned_us=row["assigned_at"],
                    changed_us=row["changed_at"],
                )
        return fold

    def fold(self, rows: pa.Table, rest: Callable[[], None] = lambda: None) -> FoldChanges:
        """Fold `decisions` rows and return what changed.

        Args:
            rows: in any order within the piece; pieces come in the ledger's order.
            rest: called every few milliseconds.

        Raises:
            ValueError: a row's transition is unknown.
        """
        touched: dict[TaskId, TaskHistory] = {}
        touched_copies: dict[tuple[TaskId, int], None] = {}
        ended: list[RunEnd] = []
        again: dict[TaskId, None] = {}
        positions = list(map(Position, *(_values(rows, name) for name in Position._fields)))
        facts = list(map(LedgerRow, *(_values(rows, _SOURCE.get(name, name)) for name in LedgerRow._fields)))
        nodes = _nodes_of_assigned(rows)
        for count, index in enumerate(sorted(range(len(positions)), key=positions.__getitem__)):
            if count % _ROWS_BETWEEN_RESTS == 0:
                rest()
            if self.position is not None and positions[index] <= self.position:
                continue
            self.position = positions[index]
            row = facts[index]
            task = self._live.get(row.task_id)
            if task is None:
                if not begins(change_named(row), None):
                    continue
                task = TaskHistory(task_id=row.task_id, submitted_us=row.decided_us, changed_us=row.decided_us)
                task.begin(row)
                self._live[row.task_id] = task
                if row.epoch:  # who begins for the first time has spent none
                    again[row.task_id] = None
            elif not task.follow(row, nodes.get(index)):
                continue
            if row.transition in RUN_ENDS and (self._results_to is None or positions[index] > self._results_to):
                ended.append(RunEnd(row, task.name, task.tenant))
            touched[row.task_id] = task
            touched_copies[row.task_id, row.copy] = None
            if task.state() not in LIVE:
                touched_copies.update(((row.task_id, copy), None) for copy in task.copies)
                del self._live[row.task_id]
        return self._changes(touched, touched_copies, ended, again)

    def all_live(self) -> FoldChanges:
        """Give every live task and placement, as if all had changed."""
        copies = [(task.task_id, copy) for task in self._live.values() for copy in task.copies]
        return self._changes(self._live, copies, (), ())

    def _changes(
        self,
        tasks: dict[TaskId, TaskHistory],
        copies: Iterable[tuple[TaskId, int]],
        ended: Sequence[RunEnd],
        again: Iterable[TaskId],
    ) -> FoldChanges:
        placed: list[tuple[TaskId, int, Placement]] = []
        released: list[tuple[TaskId, int]] = []
        for task_id, copy in copies:
            live = self._live.get(task_id)
            placement = live.copies.get(copy) if live else None
            if placement:
                placed.append((task_id, copy, placement))
            else:
                released.append((task_id, copy))
        return FoldChanges(
            tasks=_tasks_table(list(tasks.values())),
            placements=_placements_table(placed),
            released=pa.table(
                [
                    pa.array([key[0] for key in released], pa.string()),
                    pa.array([key[1] for key in released], pa.int32()),
                ],
                names=["task_id", "copy"],
            ),
            results=results_table(ended),
            begun_again=pa.table([pa.array(again, pa.string())], names=["task_id"]),
        )


def fold_ledger(rows: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Fold a whole ledger, or the part of it up to a moment, into the `tasks` and `placements` of that moment."""
    changes = LedgerFold().fold(rows)
    return changes.tasks, changes.placements


_SOURCE: Final = {"decided_us": "decided_at"}

LEDGER_COLUMNS: Final = (*Position._fields, *(_SOURCE.get(name, name) for name in LedgerRow._fields), "nodes")
"""The columns of `decisions` that a fold needs."""


def of_any_version(rows: pa.Table) -> pa.Table:
    """Give rows of a ledger the types that a fold reads; columns that an older version of it lacks are null."""
    return conformed(rows, pa.schema([DECISIONS.schema.field(column) for column in LEDGER_COLUMNS]))


def _values(rows: pa.Table, name: str) -> list[Any]:
    return _plain(rows.column(name)).to_pylist()  # type: ignore[no-any-return]


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    # Microseconds as integers: a datetime object each costs more than the rest of the row.
    return column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column


def _rows(table: pa.Table) -> list[dict[str, Any]]:
    return pa.table([_plain(column) for column in table.columns], names=table.column_names).to_pylist()  # type: ignore[no-any-return]


# A hundred thousand placements with lists of dictionaries would cost the garbage collector pauses of 0.3 s; bytes are
# invisible to it.
_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder().decode


def _nodes_of_assigned(rows: pa.Table) -> dict[int, bytes]:
    """Row index to nodes, for assigned rows alone: nested values are by far the dearest to convert."""
    found: dict[int, bytes] = {}
    first = 0
    # Batch by batch: taking from a column of many chunks would join them, and its texts may not fit into one array.
    for batch in rows.select(["transition", "nodes"]).to_batches():
        transitions = batch.column("transition").to_pylist()
        indices = [index for index, transition in enumerate(transitions) if transition == Change.ASSIGNED]
        nodes = batch.column("nodes").take(pa.array(indices, pa.int64())).to_pylist()
        found |= {first + index: _pack(listed) for index, listed in zip(indices, nodes, strict=True)}
        first += batch.num_rows
    return found


def _times(microseconds: list[int]) -> pa.Array:
    return pa.array(microseconds, pa.int64()).cast(_MOMENT)


def _tasks_table(tasks: Sequence[TaskHistory]) -> pa.Table:
    columns = {
        "task_id": [task.task_id for task in tasks],
        "state": [task.state().value for task in tasks],
        "epoch": [task.epoch for task in tasks],
        "attempt": [task.attempt for task in tasks],
        "regions": [  # an array ends as if it had a copy, and has been nowhere
            [place for copy in sorted(task.copies) if (place := task.copies[copy].region) is not None] for task in tasks
        ],
        "tenant": [task.tenant for task in tasks],
        "priority": [task.priority for task in tasks],
        "reason": [task.reason for task in tasks],
        "cost_usd_per_hour": [task.cost_usd_per_hour() for task in tasks],
        "submitted_at": _times([task.submitted_us for task in tasks]),
        "changed_at": _times([task.changed_us for task in tasks]),
        "request": [task.request for task in tasks],
        "name": [task.name for task in tasks],
        "held": [task.held and task.state() in LIVE for task in tasks],  # what has ended could not be released
        "value_usd_per_hour": _values_of(tasks),
    }
    return pa.table(columns, schema=TASKS.schema)


def _values_of(tasks: Sequence[TaskHistory]) -> pa.Array:
    """What an hour's delay of each task costs, deadlines aside; null of an array: its elements are what waits."""
    priority = np.array([MIDDLE_PRIORITY if task.priority is None else task.priority for task in tasks], np.int64)
    gpus = np.array([task.gpus for task in tasks], np.float64)
    given = np.array([task.given_usd_per_hour for task in tasks], np.float64)  # None is NaN
    values = value_usd_per_hour(priority, gpus, given)
    return pa.array(values, pa.float64(), mask=np.array([task.is_array for task in tasks], bool))


def _placements_table(placed: Sequence[tuple[TaskId, int, Placement]]) -> pa.Table:
    columns = {
        "task_id": [task_id for task_id, _, _ in placed],
        "copy": [copy for _, copy, _ in placed],
        "epoch": [placement.epoch for *_, placement in placed],
        "state": [placement.state.value for *_, placement in placed],
        "region": [placement.region for *_, placement in placed],
        "pool_id": [placement.pool_id for *_, placement in placed],
        "nodes": [None if placement.nodes is None else _unpack(placement.nodes) for *_, placement in placed],
        "plan_id": [placement.plan_id for *_, placement in placed],
        "cost_usd_per_hour": [placement.cost_usd_per_hour for *_, placement in placed],
        "assigned_at": _times([placement.assigned_us for *_, placement in placed]),
        "changed_at": _times([placement.changed_us for *_, placement in placed]),
    }
    return pa.table(columns, schema=PLACEMENTS.schema)
