"""Runs that have ended: what `results` has of them, and what of the ledger is not in it yet.

`results` is a fold that follows the ledger by a second or so. A task that starts after others is placed by the ledger:
it may run before the fold has what its parents gave. So what the ledger has beyond the fold is read, too.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError

from thalweg.query.sql.engine_thread import beside
from thalweg.query.sql.query import TableReader, quote
from thalweg.sync.delta.store import table_uri
from thalweg.sync.ledger.fold_marks import FOLD_BATCH, FOLD_DRIVER
from thalweg.sync.ledger.run_outcome import RUN_ENDS, read_outcome, text_of

_MILLISECOND: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedRun:
    """A run that has ended."""

    copy: int
    epoch: int
    attempt: int | None
    region: str | None
    state: str
    cause: str | None
    exit_code: int | None
    metrics: dict[str, float]
    result: dict[str, Any] | None
    log: str | None
    artefacts: dict[str, str]
    started_at: datetime | None
    ended_at: datetime
    reason: str | None
    ends: bool = False
    """Whether the task was over with it."""


def ended_runs(
    reader: TableReader, warehouse: str, condition: str, until: datetime | None
) -> dict[str, list[EndedRun]]:
    """Give the runs that have ended by task, the newest last.

    Args:
        reader: of the tables of now.
        warehouse: that it reads.
        condition: on `task_id`, in SQL.
        until: what ended later is left out; None leaves out nothing.
    """
    # The mark first: what is folded meanwhile is read twice then, and never not at all.
    mark = _folded_to(warehouse)
    found: dict[tuple[object, ...], tuple[str, EndedRun]] = {}
    for task_id, run in (*_folded(reader, condition, until), *_not_folded(reader, condition, until, mark)):
        found[task_id, run.copy, run.epoch, run.state, run.ended_at] = (task_id, run)
    by_task: dict[str, list[EndedRun]] = {}
    for task_id, run in sorted(found.values(), key=lambda one: (one[1].ended_at, one[1].epoch, one[1].copy)):
        by_task.setdefault(task_id, []).append(run)
    return by_task


@dataclass(frozen=True, slots=True)
class _Mark:
    """The last batch of the ledger that `results` has."""

    driver_epoch: int
    batch_id: int


_NO_ROW: Final = _Mark(-1, -1)


def _folded_to(warehouse: str) -> _Mark | None:
    """Say up to where `results` is; None where it does not say so, as those of older versions."""
    try:
        table = beside(lambda: DeltaTable(table_uri(warehouse, "results")))
    except TableNotFoundError:
        return _NO_ROW
    driver, batch = table.transaction_version(FOLD_DRIVER), table.transaction_version(FOLD_BATCH)
    return None if driver is None or batch is None else _Mark(driver, batch)


def _folded(reader: TableReader, condition: str, until: datetime | None) -> Iterator[tuple[str, EndedRun]]:
    columns = ", ".join(EndedRun.__dataclass_fields__)
    for row in reader.dicts(f"SELECT task_id, {columns} FROM results WHERE {condition}{_before('ended_at', until)}"):
        read = {name: json.loads(row[name]) if row[name] else None for name in ("metrics", "result", "artefacts")}
        yield (
            row.pop("task_id"),
            EndedRun(
                **{
                    **row,
                    **read,
                    "metrics": read["metrics"] or {},
                    "artefacts": read["artefacts"] or {},
                    "ends": bool(row["ends"]),
                }
            ),
        )


def _not_folded(
    reader: TableReader, condition: str, until: datetime | None, mark: _Mark | None
) -> Iterator[tuple[str, EndedRun]]:
    if mark is None:
        return
    driver, batch = mark.driver_epoch, mark.batch_id
    # By the columns whose bounds every file has: of a ledger of years the last files are read.
    rows = reader.dicts(
        "SELECT task_id, copy, epoch, attempt, region, transition, cause, outcome, decided_at, reason, ends"
        f" FROM decisions WHERE (driver_epoch > {driver} OR (driver_epoch = {driver} AND batch_id > {batch}))"
        f" AND {condition} AND transition IN ({', '.join(map(quote, sorted(RUN_ENDS)))}){_before('decided_at', until)}"
    )
    for row in rows:
        left = read_outcome(row["outcome"])
        yield (
            row["task_id"],
            EndedRun(
                copy=row["copy"],
                epoch=row["epoch"],
                attempt=row["attempt"],
                region=row["region"],
                state=row["transition"],
                cause=row["cause"],
                exit_code=left.exit_code,
                metrics=json.loads(text_of(left.metrics) or "{}"),
                result=json.loads(text_of(left.result) or "null"),
                log=left.log,
                artefacts=json.loads(text_of(left.artefacts) or "{}"),
                started_at=_moment(left.started_ms),
                ended_at=row["decided_at"],
                reason=row["reason"],
                ends=bool(row["ends"]),
            ),
        )


def _moment(ms: int | None) -> datetime | None:
    return None if ms is None else datetime.fromtimestamp(ms / _MILLISECOND, UTC)


def _before(column: str, until: datetime | None) -> str:
    return "" if until is None else f" AND {column} <= TIMESTAMP {quote(until.isoformat())}"
