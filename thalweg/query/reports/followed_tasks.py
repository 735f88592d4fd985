"""All tasks as they are now, to the ledger's last commit: the tables once, and from there on the ledger's new rows.

The tables follow the ledger within seconds; who looks on should see a change within one. So what the tables hold is
loaded, with the mark that says up to which batch they are folded, and the rows behind it go through the same fold
(`sync.ledger.folds`) that writes the tables. Nothing is written. Where the ledger is not the one that was followed any
more, everything is loaded anew.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError

from thalweg.query.reports.task_index import READ_COLUMNS, TaskIndex
from thalweg.scheduling.world.lifecycle import LIVE
from thalweg.sync.delta.contracts import DECISIONS, PLACEMENTS, TASKS
from thalweg.sync.delta.data_files import conformed
from thalweg.sync.delta.engine import UnreadableTableError, select, select_batches
from thalweg.sync.delta.store import table_uri
from thalweg.sync.ledger.fold_marks import FOLD_BATCH, FOLD_DRIVER
from thalweg.sync.ledger.folds import LedgerFold, Position
from thalweg.sync.ledger.reading import LedgerVersion, position_of_last

log = logging.getLogger(__name__)

_LAST_ROW: Final = 2**31
_AT_ONCE: Final = 10_000
_LOOKS_AFRESH: Final = 25
"""Every so many looks it is seen whether it is still the same ledger: every five seconds by itself."""
_LOOKS: Final = 8
"""Versions of `tasks` that are looked at for the one that `placements` is of: they are committed in turn."""
_TOLD: Final = (
    "task_id",
    "transition",
    "copy",
    "epoch",
    "region",
    "reason",
    "tenant",
    "decided_at",
    "cost_usd_per_hour",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerEvent:
    """One row of the ledger, told."""

    position: Position
    task_id: str
    transition: str
    copy: int
    epoch: int
    region: str | None
    reason: str | None
    tenant: str | None
    decided_at: datetime
    cost_usd_per_hour: float | None


class FollowedTasks:
    """See the module's words. One thread calls `step`; any may ask the columns."""

    def __init__(self, warehouse: str) -> None:
        """Prepare; the first `step` loads."""
        self._warehouse = warehouse
        self._ledger: DeltaTable | None = None
        self._seen_version = -1
        self.ledger_id: str | None = None
        """What the followed ledger is known by; None before there is one."""
        self._looks = 0
        self._fold = LedgerFold()
        self._position: Position | None = None
        self.columns = TaskIndex()

    @property
    def position(self) -> Position | None:
        """Of the last row that is in the columns; None of none."""
        return self._position

    def step(self) -> list[LedgerEvent]:
        """Take in what the ledger has got since; the first time, everything, of which nothing is told.

        Raises:
            DeltaError, UnreadableTableError: the tables cannot be read now; another step may.
        """
        if self._ledger is None:
            self._load()
            return []
        self._looks += 1
        if self._looks % _LOOKS_AFRESH == 0 and self._is_replaced():
            log.warning("the ledger at %s is another one now; everything is read anew", self._warehouse)
            self._load()
            return []
        self._ledger.update_incremental()
        if self._ledger.version() == self._seen_version:
            return []
        ledger = LedgerVersion(self._ledger)
        pieces = list(ledger.all_rows()) if self._position is None else [ledger.rows_after(self._position)]
        self._seen_version = ledger.version
        if not pieces:
            return []  # opened, and nothing has happened yet
        rows = pa.concat_tables(pieces)
        if not rows.num_rows:
            return []
        self._position = _taken(rows, self._fold, self.columns)
        return list(events_of(rows))

    def _is_replaced(self) -> bool:
        """Look whether another ledger lies there, or this one as it was earlier; one opened long ago sees neither."""
        table = DeltaTable(table_uri(self._warehouse, DECISIONS.name))
        return LedgerVersion(table).ledger_id != self.ledger_id or table.version() < self._seen_version

    def archived_share(self) -> float:
        """Tell which share of the tasks here the table does not have any more, because they were archived.

        Raises:
            DeltaError: the table cannot be read now.
        """
        try:
            listed = LedgerVersion(DeltaTable(table_uri(self._warehouse, TASKS.name))).count()
        except TableNotFoundError:
            return 0.0
        return max(0.0, 1 - listed / max(len(self.columns), 1))

    def load_anew(self) -> list[LedgerEvent] | None:
        """Load everything once more: tasks that were archived meanwhile leave the memory. Raises as `step`.

        Returns:
            What the ledger has got since the last step; None where it is another ledger.
        """
        followed, before = self.ledger_id, self._position
        self._load()
        if followed != self.ledger_id or before is None or self._position is None:
            return None
        return _all_events(self._warehouse, before, self._position)

    def _load(self) -> None:
        """Load the tables and what the ledger has beyond them; changes nothing where that fails."""
        try:
            ledger = DeltaTable(table_uri(self._warehouse, DECISIONS.name))
        except TableNotFoundError:
            return
        fold, columns, position = LedgerFold(), TaskIndex(), None
        if (folded := self._folded()) is not None:
            try:
                fold, position = _restored(*folded, columns), folded[-1]
            except UnreadableTableError as error:
                log.warning("%s; the whole ledger is read instead", error)
                columns = TaskIndex()
        version = LedgerVersion(ledger)
        pieces = version.all_rows() if position is None else iter([version.rows_after(position)])
        for rows in pieces:
            if rows.num_rows:
                position = _taken(rows, fold, columns)
        columns.settle()
        self._fold, self._position, self.columns = fold, position, columns
        self._ledger, self.ledger_id, self._seen_version = ledger, version.ledger_id, version.version

    def _folded(self) -> tuple[DeltaTable, DeltaTable, Position] | None:
        """Open the two tables as folds of the same rows; None where there are none that say so."""
        try:
            placements = DeltaTable(table_uri(self._warehouse, PLACEMENTS.name))
            tasks = DeltaTable(table_uri(self._warehouse, TASKS.name))
        except TableNotFoundError:
            return None
        position = _mark(placements)
        if position is None:
            return None
        for version in range(tasks.version(), max(tasks.version() - _LOOKS, -1), -1):
            if version != tasks.version():
                try:
                    tasks.load_as_version(version)
                except DeltaError:
                    return None
            if _mark(tasks) == position:
                return tasks, placements, position
        return None


def _taken(rows: pa.Table, fold: LedgerFold, columns: TaskIndex) -> Position:
    """Put rows of the ledger, which are in order, into the columns; give the last one's position."""
    changes = fold.fold(rows)
    if changes.tasks.num_rows:
        columns.put(changes.tasks)
    return position_of_last(rows)


def events_of(rows: pa.Table) -> Iterator[LedgerEvent]:
    """Tell rows of the ledger, which are in order."""
    positions = zip(*(rows.column(name).to_pylist() for name in Position._fields), strict=True)
    told = zip(*(rows.column(name).to_pylist() for name in _TOLD), strict=True)
    for position, values in zip(positions, told, strict=True):
        yield LedgerEvent(position=Position(*position), **dict(zip(_TOLD, values, strict=True)))


def events_after(warehouse: str, position: Position, limit: int) -> list[LedgerEvent]:
    """Read at most so many rows of the ledger that lie behind a position, and tell them."""
    table = DeltaTable(table_uri(warehouse, DECISIONS.name))
    epoch, batch, row = position
    statement = (
        f"SELECT {', '.join((*Position._fields, *_TOLD))} FROM ledger WHERE driver_epoch > {epoch} OR (driver_epoch ="
        f" {epoch} AND batch_id > {batch}) OR (driver_epoch = {epoch} AND batch_id = {batch} AND row > {row})"
        f" ORDER BY driver_epoch, batch_id, row LIMIT {limit}"
    )
    return list(events_of(select(table, "ledger", statement)))


def _all_events(warehouse: str, after: Position, until: Position) -> list[LedgerEvent]:
    found: list[LedgerEvent] = []
    while after < until and (events := events_after(warehouse, after, _AT_ONCE)):
        found += [event for event in events if event.position <= until]
        after = events[-1].position
    return found


def _restored(tasks: DeltaTable, placements: DeltaTable, position: Position, columns: TaskIndex) -> LedgerFold:
    """Fill the columns, and make the fold go on with those that live."""
    live: list[pa.Table] = []
    known = {field.name for field in tasks.schema().fields}
    listed = ", ".join(name for name in READ_COLUMNS if name in known)
    schema = pa.schema([TASKS.schema.field(name) for name in READ_COLUMNS])
    # Batch by batch: requests are long, and of a million of them nothing is kept but their sizes.
    for batch in select_batches(tasks, "tasks", f"SELECT {listed} FROM tasks"):
        rows = conformed(batch, schema)
        columns.put(rows)
        living = rows.filter(pc.is_in(rows.column("state"), value_set=pa.array(list(map(str, LIVE)))))
        if living.num_rows:
            live.append(_without_words(living))
    placed = select(placements, "placements", "SELECT * FROM placements")
    of_live = pa.concat_tables(live) if live else schema.empty_table()
    return LedgerFold.restore(of_live, conformed(placed, PLACEMENTS.schema), position)


class _Kept(msgspec.Struct, omit_defaults=True):
    """What is kept of a request: the fold and the columns want its size (`sync.ledger.request_size`)."""

    workers: msgspec.Raw = msgspec.Raw()
    per_worker: msgspec.Raw = msgspec.Raw()
    replicas: msgspec.Raw = msgspec.Raw()
    kind: msgspec.Raw = msgspec.Raw()
    subtasks: msgspec.Raw = msgspec.Raw()
    value_usd_per_hour: msgspec.Raw = msgspec.Raw()
    array: msgspec.Raw = msgspec.Raw()


_KEPT: Final = msgspec.json.Decoder(_Kept)


def _without_words(tasks: pa.Table) -> pa.Table:
    """Shorten requests to what is read of them: those that ask for the same share one text."""
    shared: dict[bytes, str] = {}
    texts = []
    for request in tasks.column("request").to_pylist():
        short = msgspec.json.encode(_KEPT.decode(request or "{}"))
        texts.append(shared.setdefault(short, short.decode()))
    place = tasks.schema.get_field_index("request")
    return tasks.set_column(place, tasks.schema.field(place), pa.array(texts, tasks.schema.field(place).type))


def _mark(table: DeltaTable) -> Position | None:
    driver, batch = table.transaction_version(FOLD_DRIVER), table.transaction_version(FOLD_BATCH)
    return None if driver is None or batch is None else Position(driver, batch, _LAST_ROW)
