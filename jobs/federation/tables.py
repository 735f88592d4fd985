"""`rounds`, `participants` and `model_versions`: folds of the ledger, written beside it a few times a second at most.

They are derived: a start folds the whole ledger and writes them anew, so nothing here needs to survive.
"""

from collections.abc import Mapping
from typing import Final

import pyarrow as pa

from thalweg.jobs.federation.books import LearningBooks, Rows
from thalweg.sync.delta.contracts import MODEL_VERSIONS, PARTICIPANTS, ROUNDS, TableContract
from thalweg.sync.delta.keyed_table import KeyedTable
from thalweg.sync.delta.upkeep import Upkeep

CONTRACTS: Final[Mapping[str, TableContract]] = {
    "rounds": ROUNDS,
    "participants": PARTICIPANTS,
    "versions": MODEL_VERSIONS,
}
WRITE_EVERY_MS: Final = 500
"""Between two writes of the tables: people look at them, and each write is three commits."""


class FederationTables:
    """The one writer of the three."""

    def __init__(self, warehouse: str, books: LearningBooks) -> None:
        """Open them to be written anew.

        Args:
            warehouse: folder or URI.
            books: what they are to hold.
        """
        self._books = books
        self._tables = {name: KeyedTable(contract, warehouse) for name, contract in CONTRACTS.items()}
        self._upkeep = [Upkeep(table.uri) for table in self._tables.values()]
        self._written_ms = -WRITE_EVERY_MS

    def write_if_due(self, now_ms: int, *, idle: bool) -> None:
        """Write what has changed, if nothing else is to be done or it is long enough ago.

        Raises:
            AnotherWriterError: somebody else writes them.
            OSError: the disk does not take it; the same is written the next time.
        """
        if not any(self._books.changed.values()) or (not idle and now_ms - self._written_ms < WRITE_EVERY_MS):
            return
        held: Mapping[str, Rows] = {
            "rounds": self._books.rounds,
            "participants": self._books.participants,
            "versions": self._books.versions,
        }
        for name, table in self._tables.items():
            keys = sorted(self._books.changed[name])
            if not keys:
                continue
            schema = CONTRACTS[name].schema
            rows = pa.Table.from_pylist([held[name][key] for key in keys], schema=schema)
            nothing = schema.empty_table().select(list(CONTRACTS[name].key))
            table.write(rows, nothing, pa.array([False] * rows.num_rows), now_ms)
            self._books.changed[name].clear()
        self._written_ms = now_ms

    def tidy(self, now_ms: int) -> None:
        """Merge small files, keep the logs short, sweep what was replaced."""
        for table, upkeep in zip(self._tables.values(), self._upkeep, strict=True):
            table.compact(now_ms)
            upkeep.checkpoint()
            upkeep.sweep(table.pending)
