"""`nodes`, `links` and `prices`: the latest sample per key, kept in memory and written beside the stream.

The tables are folds of `telemetry` and may be behind it, never ahead. Each commit records the telemetry version it has
folded, so that a start after a crash reads exactly what the tables have not seen.
"""

import logging
import threading
from dataclasses import dataclass, field
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import TableNotFoundError

from sync.data_files import folder_of
from sync.delta_store import open_or_create, table_uri
from sync.latest import latest
from sync.tables import LINKS, NODES, PRICES, TELEMETRY, TableContract

LOG = logging.getLogger(__name__)

_KINDS: Final = {"node": NODES, "link": LINKS, "price": PRICES}
# Application transaction of the three tables: its version is the version of `telemetry` that is folded in.
_FOLDED: Final = "thalweg.telemetry"


@dataclass(slots=True)
class _Fold:
    """One table's state: what it holds, and what it will hold next."""

    contract: TableContract
    table: DeltaTable
    rows: pa.Table
    waiting: list[pa.Table] = field(default_factory=list)


class LatestTables:
    """The three tables' writer. `offer` is cheap and may be called from the stream; `write` belongs to another thread."""

    def __init__(self, warehouse: str) -> None:
        """Read the tables, and from `telemetry` what they have not folded yet."""
        self._warehouse = warehouse
        self._lock = threading.Lock()  # guards `waiting` and `_offered`
        self._offered = 0
        self._folds = {}
        for kind, contract in _KINDS.items():
            table = open_or_create(contract, warehouse)
            self._folds[kind] = _Fold(contract, table, _conform(table.to_pyarrow_table(), contract))
        self._catch_up()

    def offer(self, samples: pa.Table, telemetry_version: int) -> None:
        """Hand over samples that the history holds.

        Args:
            samples: rows of `telemetry`.
            telemetry_version: version that holds them, and everything before.
        """
        with self._lock:
            for kind, fold in self._folds.items():
                of_kind = samples.filter(pc.equal(samples["kind"], kind))
                if of_kind.num_rows:
                    fold.waiting.append(_conform(of_kind, fold.contract))
            self._offered = max(self._offered, telemetry_version)

    def write(self) -> int:
        """Fold what is waiting and commit each table that changed; returns the number of commits.

        Whatever fails, nothing is lost: rows leave the waiting list only once they are committed.
        """
        commits = 0
        for fold in self._folds.values():
            with self._lock:
                taken, folded_version = len(fold.waiting), self._offered
                waiting = fold.waiting[:taken]
            if not waiting:
                continue
            rows = latest([fold.rows, *waiting], fold.contract.key)
            if not rows.equals(fold.rows):
                write_deltalake(
                    fold.table,
                    rows,
                    mode="overwrite",
                    commit_properties=CommitProperties(
                        app_transactions=[Transaction(_FOLDED, folded_version)], max_commit_retries=0
                    ),
                )
                fold.rows = rows
                commits += 1
            with self._lock:
                del fold.waiting[:taken]
        return commits

    def rows(self, contract: TableContract) -> pa.Table:
        """A table's rows as last written."""
        return next(fold.rows for fold in self._folds.values() if fold.contract is contract)

    def _catch_up(self) -> None:
        try:
            history = DeltaTable(table_uri(self._warehouse, TELEMETRY.name))
        except TableNotFoundError:
            return
        folded = [fold.table.transaction_version(_FOLDED) for fold in self._folds.values()]
        self._offered = history.version()
        known = min((version for version in folded if version is not None), default=0)
        if known >= history.version():
            return
        filesystem, folder = folder_of(history.table_uri.removeprefix("file://"))
        new = set(_paths(history))
        if known:
            new -= set(_paths(DeltaTable(history.table_uri, version=known)))
        for path in sorted(new):
            rows = pq.read_table(f"{folder}/{path}", filesystem=filesystem, partitioning=None)
            for kind, fold in self._folds.items():
                of_kind = rows.filter(pc.equal(rows["kind"], kind))
                if of_kind.num_rows:
                    # Folded at once, so that a long absence costs memory for the keys and not for the samples.
                    waiting = [*fold.waiting, _conform(of_kind, fold.contract)]
                    fold.waiting = [latest(waiting, fold.contract.key)]


def _paths(table: DeltaTable) -> list[str]:
    paths: list[str] = pa.table(table.get_add_actions(flatten=True))["path"].to_pylist()
    return paths


def _conform(rows: pa.Table, contract: TableContract) -> pa.Table:
    return rows.select(contract.schema.names).cast(contract.schema)
