"""A task as the tables know it: its state, its runs that have ended with what they gave, and those that are placed."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from thalweg.query.reports.array_size import elements_asked
from thalweg.query.reports.ended_runs import EndedRun, ended_runs
from thalweg.query.reports.newest_rows import known_rows, newest_rows
from thalweg.query.sql.as_of import AsOf, Version
from thalweg.query.sql.query import TableReader, quote
from thalweg.query.sql.sql_statement import QueryRefusedError

ENDED: Final = frozenset({"succeeded", "failed", "cancelled"})
_PLACED: Final = ("assigned", "accepted", "running")
_INDEX: Final = re.compile(r"\[(\d+)\]$")


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedRun:
    """A copy of a task that a region was given."""

    copy: int
    epoch: int
    region: str
    state: str
    changed_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRuns:
    """A task and its runs."""

    task_id: str
    state: str
    reason: str | None
    placed: tuple[PlacedRun, ...]
    """By copy."""
    ended: tuple[EndedRun, ...]
    """The newest last."""
    is_array: bool = False
    """Whether it stands for elements, and never runs itself."""

    @property
    def has_ended(self) -> bool:
        """Whether nothing of it will run any more, unless it is asked for again."""
        return self.state in ENDED

    @property
    def newest(self) -> EndedRun | None:
        """The run that ended last."""
        return self.ended[-1] if self.ended else None

    @property
    def index(self) -> int | None:
        """Which element of an array it is."""
        found = _INDEX.search(self.task_id)
        return int(found.group(1)) if found else None


def task_runs(task_id: str, warehouse: str, as_of: AsOf | None = None) -> TaskRuns | None:
    """Read a task and its runs; None if no such task is known.

    Raises:
        WarehouseUnreadableError: the tables cannot be read.
    """
    return next(iter(_read(f"task_id = {quote(task_id)}", warehouse, as_of)), None)


def element_runs(array_id: str, warehouse: str, as_of: AsOf | None = None) -> list[TaskRuns]:
    """Read the elements of an array and their runs, by their index. Raises as `task_runs`."""
    elements = _read(f"starts_with(task_id, {quote(array_id + '[')})", warehouse, as_of)
    # An id may end in an index without being an element: of `a[1]`, which is an array, `a` is none.
    own = [one for one in elements if one.task_id == f"{array_id}[{one.index}]"]
    return sorted(own, key=lambda one: one.index or 0)


def _read(condition: str, warehouse: str, as_of: AsOf | None) -> list[TaskRuns]:
    if isinstance(as_of, Version):
        raise QueryRefusedError(f"--as-of {as_of.number} is a version of one table; give a time")
    with TableReader(warehouse, as_of) as reader, TableReader(warehouse) as now:
        placed = _placed(reader, condition)
        # Of the past, the reader folds the ledger itself.
        states = newest_rows(now, warehouse, condition) if as_of is None else known_rows(reader, condition)
        ended = ended_runs(now, warehouse, condition, as_of)
    return [
        _task(task_id, states.get(task_id), placed.get(task_id, []), ended.get(task_id, []))
        for task_id in dict.fromkeys((*states, *ended))
    ]


def _placed(reader: TableReader, condition: str) -> dict[str, list[PlacedRun]]:
    columns = "task_id, copy, epoch, region, state, changed_at"
    by_task: dict[str, list[PlacedRun]] = {}
    for row in reader.dicts(f"SELECT {columns} FROM placements WHERE {condition} ORDER BY copy"):
        if row["state"] in _PLACED and row["region"]:
            by_task.setdefault(row.pop("task_id"), []).append(PlacedRun(**row))
    return by_task


def _task(
    task_id: str, known: dict[str, Any] | None, placed: Iterable[PlacedRun], ended: Sequence[EndedRun]
) -> TaskRuns:
    """Put together what is known of a task; its end may be in the ledger before `tasks` has it."""
    over = next((run for run in reversed(ended) if run.ends), None)
    is_newer = over is not None and (known is None or over.ended_at > known["changed_at"])
    state, reason = (known["state"], known["reason"]) if known is not None else ("waiting", None)
    if over is not None and is_newer:
        state, reason = over.state, over.reason
    return TaskRuns(
        task_id=task_id,
        state=state,
        reason=reason,
        placed=() if is_newer else tuple(placed),
        ended=tuple(ended),
        is_array=known is not None and elements_asked(known["request"]) is not None and _INDEX.search(task_id) is None,
    )
