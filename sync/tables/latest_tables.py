"""`nodes`, `links` and `prices`: the latest sample per key, kept in memory and written beside the stream.

The tables are folds of `telemetry` and may be behind it, never ahead. The last commit of a turn records the telemetry
version that all three have folded, so that a start after a crash reads exactly what they have not seen. The fold gives
the same rows in any order and after any repetition; so should two processes ever write at once, each folds in what the
other has written.
"""

import logging
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import DeltaTable, Transaction
from deltalake.exceptions import DeltaError, TableNotFoundError
from deltalake.transaction import RemoveAction

from thalweg.sync.clock import system_clock
from thalweg.sync.delta.appender import Appender
from thalweg.sync.delta.contracts import LINKS, NODES, PRICES, TELEMETRY, TableContract
from thalweg.sync.delta.data_files import folder_of
from thalweg.sync.delta.store import AnotherWriterError, RearrangedError, address_of, table_uri
from thalweg.sync.delta.upkeep import Upkeep
from thalweg.sync.tables.latest import latest

log = logging.getLogger("thalweg.latest")

KINDS: Final[Mapping[str, TableContract]] = {"node": NODES, "link": LINKS, "price": PRICES}
"""The table of each kind of sample."""

# Application transaction of the three tables: its version is the version of `telemetry` that is folded in.
FOLDED: Final = "thalweg.telemetry"


def by_kind(samples: pa.Table) -> dict[str, pa.Table]:
    """Give the samples of each kind, as rows of its table; kinds without samples are left out.

    Args:
        samples: rows of `telemetry`.
    """
    found = {kind: samples.filter(pc.equal(samples["kind"], kind)) for kind in KINDS}
    return {kind: _conform(rows, KINDS[kind]) for kind, rows in found.items() if rows.num_rows}


@dataclass(slots=True)
class _Fold:
    """One table's state: what it holds, and what it will hold next."""

    contract: TableContract
    table: Appender
    rows: pa.Table
    files: tuple[RemoveAction, ...]
    """What the next commit replaces."""
    waiting: list[pa.Table] = field(default_factory=list)


class LatestTables:
    """The three tables' writer. `offer` is cheap and made for the stream; `write` belongs to a thread beside it."""

    def __init__(self, warehouse: str) -> None:
        """Read the tables, and from `telemetry` what they have not folded yet."""
        self._lock = threading.Lock()  # guards `waiting` and `_offered`
        self._warehouse = warehouse
        self._offered = 0
        self._folds: dict[str, _Fold] = {}
        for kind, contract in KINDS.items():
            table = Appender(contract, warehouse)
            self._folds[kind] = _Fold(contract, table, _stored(table), _files_of(table))
        self._upkeep = {kind: Upkeep(fold.table.uri) for kind, fold in self._folds.items()}
        for samples in self._missed(warehouse):
            for kind, rows in by_kind(samples).items():
                fold = self._folds[kind]
                # Folded at once, so that a long absence costs memory for the keys and not for the samples.
                fold.waiting = [latest([*fold.waiting, rows], fold.contract.key)]

    def offer(self, samples: Mapping[str, pa.Table], telemetry_version: int) -> None:
        """Hand over samples that the history holds.

        Args:
            samples: by kind, as `by_kind` gives them.
            telemetry_version: version that holds them, and everything before.
        """
        with self._lock:
            for kind, rows in samples.items():
                self._folds[kind].waiting.append(rows)
            self._offered = max(self._offered, telemetry_version)

    def write(self) -> int:
        """Fold what is waiting and commit each table that changed; returns the number of commits.

        Whatever fails, nothing is lost: rows leave the waiting list only once they are committed.
        """
        with self._lock:
            offered = self._offered
            taken = {kind: list(fold.waiting) for kind, fold in self._folds.items() if fold.waiting}
        news: list[tuple[_Fold, pa.Table]] = []
        for kind, waiting in taken.items():
            fold = self._folds[kind]
            rows = latest([fold.rows, *waiting], fold.contract.key)
            if not rows.equals(fold.rows):
                news.append((fold, rows))
        for number, (fold, rows) in enumerate(news, start=1):
            # Only the last commit says how far all three are: a crash between two of them is caught up at the start.
            fold.rows = self._overwrite(fold, rows, offered if number == len(news) else None)
        with self._lock:
            for kind, waiting in taken.items():
                del self._folds[kind].waiting[: len(waiting)]
        return len(news)

    def tidy(self) -> None:
        """Keep the tables' logs short and sweep what was replaced; any thread may."""
        for kind, upkeep in self._upkeep.items():
            upkeep.checkpoint()
            upkeep.sweep(self._folds[kind].table.pending)

    def _overwrite(self, fold: _Fold, rows: pa.Table, folded_version: int | None) -> pa.Table:
        """Commit a table's rows and return them."""
        try:
            _commit(fold, rows, folded_version)
        except RearrangedError:
            fold.files = _files_of(fold.table)
            _commit(fold, rows, folded_version)
        except AnotherWriterError:
            # A process that does not know yet that it was replaced: what it wrote is folded in.
            fold.table = Appender(fold.contract, self._warehouse)
            fold.files = _files_of(fold.table)
            rows = latest([rows, _stored(fold.table)], fold.contract.key)
            _commit(fold, rows, folded_version)
        return rows

    def rows(self, contract: TableContract) -> pa.Table:
        """A table's rows as last written."""
        return next(fold.rows for fold in self._folds.values() if fold.contract is contract)

    def _missed(self, warehouse: str) -> Iterator[pa.Table]:
        """Rows of `telemetry` that a table has not folded: those of the files that came since, file by file."""
        try:
            history = DeltaTable(table_uri(warehouse, TELEMETRY.name))
        except TableNotFoundError:
            return
        self._offered = history.version()
        folded = max(DeltaTable(fold.table.uri).transaction_version(FOLDED) or 0 for fold in self._folds.values())
        if folded >= history.version():
            return
        files = set(_paths(history)) - _paths_at(history, folded)
        log.info("reading %d files of telemetry that nodes, links and prices have not seen", len(files))
        filesystem, folder = folder_of(address_of(history))
        for path in sorted(files):
            yield pq.read_table(f"{folder}/{path}", filesystem=filesystem, partitioning=None)


def _paths(table: DeltaTable) -> list[str]:
    paths: list[str] = pa.table(table.get_add_actions())["path"].to_pylist()
    return paths


def _paths_at(table: DeltaTable, version: int) -> set[str]:
    try:
        return set(_paths(DeltaTable(address_of(table), version=version)))
    except DeltaError:  # the log no longer reaches back: read everything, which only takes longer
        return set()


def _commit(fold: _Fold, rows: pa.Table, folded_version: int | None) -> None:
    now_ms = system_clock()
    added = fold.table.write(rows, now_ms)
    transactions = [] if folded_version is None else [Transaction(FOLDED, folded_version)]
    try:
        fold.table.commit([*fold.files, *added], *transactions)
    except (RearrangedError, AnotherWriterError):
        fold.table.abandon(added)
        raise
    fold.files = tuple(RemoveAction(file.path, True, now_ms, file.size, {}) for file in added)


def _files_of(table: Appender) -> tuple[RemoveAction, ...]:
    now_ms = system_clock()
    files = pa.table(DeltaTable(table.uri, version=table.version).get_add_actions()).to_pylist()
    return tuple(RemoveAction(file["path"], True, now_ms, file["size_bytes"], {}) for file in files)


def _stored(table: Appender) -> pa.Table:
    return _conform(DeltaTable(table.uri, version=table.version).to_pyarrow_table(), table.contract)


def _conform(rows: pa.Table, contract: TableContract) -> pa.Table:
    return rows.select(contract.schema.names).cast(contract.schema)
