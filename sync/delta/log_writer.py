"""Append to a table whose commit people wait for, and merge its small files beside the stream.

The ledger is committed in front of every assignment. Files that the same writer appended are compacted in another
thread: the bulk of that work holds no lock, only the commit that swaps the files does.
"""

import threading
from collections.abc import Callable, Mapping
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import Transaction
from deltalake.transaction import AddAction, RemoveAction

from thalweg.sync.clock import system_clock
from thalweg.sync.delta.appender import Appender
from thalweg.sync.delta.compaction import Rewrite, merge_once_more
from thalweg.sync.delta.contracts import TableContract
from thalweg.sync.delta.data_files import folder_of
from thalweg.sync.delta.pending import Pending
from thalweg.sync.delta.store import RearrangedError

# Rows of the files to be compacted are kept, up to so many (some 300 MB of ledger): reading a thousand small files
# again takes seconds of processor time, which the micro-batches feel.
MOST_HELD_ROWS: Final = 1_000_000


class LogWriter:
    """The only writer of one unpartitioned table: one thread appends, another may compact."""

    def __init__(self, contract: TableContract, warehouse: str) -> None:
        """Open the table, or create it by its contract.

        Args:
            contract: the table's.
            warehouse: folder or URI.
        """
        self._table = Appender(contract, warehouse)
        self._lock = threading.Lock()
        self._small: list[tuple[AddAction, pa.Table | None]] = []
        self._held_rows = 0

    @property
    def uri(self) -> str:
        """Where the table lies."""
        return self._table.uri

    @property
    def pending(self) -> Pending:
        """Files written and not committed."""
        return self._table.pending

    @property
    def version(self) -> int:
        """The last version of the table that this writer has seen."""
        return self._table.version

    def append(self, rows: pa.Table, transactions: Mapping[str, int]) -> int:
        """Add rows as one commit at exactly the next version, behind housekeeping of others; return that version.

        Args:
            rows: with the table's schema.
            transactions: application id → version, recorded with the commit.

        Raises:
            AnotherWriterError: another writer has changed or claimed the table.
            OSError: the disk does not take it; nothing was committed.
        """
        files = self._table.write(rows, system_clock()) if rows.num_rows else []
        with self._lock:
            self._table.commit(files, *(Transaction(name, version) for name, version in transactions.items()))
            for file in files:
                held = rows if self._held_rows + rows.num_rows <= MOST_HELD_ROWS else None
                self._held_rows += held.num_rows if held is not None else 0
                self._small.append((file, held))
            return self._table.version

    def refresh(self) -> None:
        """Read what is committed; needed after a commit whose outcome is unknown.

        Raises:
            AnotherWriterError: by somebody else.
        """
        with self._lock:
            self._table.refresh()

    def check(self) -> None:
        """Look whether this is still the only writer.

        Raises:
            AnotherWriterError: somebody else changed the table since this process read it.
        """
        with self._lock:
            self._table.check()

    def compact(self, at_least: int) -> int:
        """Replace the small files added so far by one, if there are enough; return how many were replaced.

        Readers of older versions find the old files until they are swept.
        """
        with self._lock:
            small = list(self._small)
        if len(small) < at_least:
            return 0
        now_ms = system_clock()
        rows = [held if held is not None else self._read(file) for file, held in small]
        (merged,) = self._table.write(pa.concat_tables(rows), now_ms)
        merged.data_change = False
        removed = [RemoveAction(file.path, False, now_ms, file.size, {}) for file, _ in small]
        with self._lock:
            try:
                self._table.commit([*removed, merged], purpose="optimize")
            except RearrangedError as error:
                # Somebody else has merged some of them: what is left is merged next time.
                self._small = [(file, held) for file, held in self._small if file.path not in error.paths]
                self._table.abandon([merged])
                return 0
            self._small = self._small[len(small) :]
            self._held_rows = sum(held.num_rows for _, held in self._small if held is not None)
        return len(small)

    def merge_once_more(self, pause: Callable[[], bool]) -> int:
        """Merge what compaction has made where there is much of it; return how many files were replaced.

        Args:
            pause: called every few milliseconds; True means stop, and nothing is left behind.
        """
        with self._lock:
            fresh = {file.path for file, _ in self._small}

        def swap(made: Rewrite) -> None:
            with self._lock:
                self._table.commit(made.actions, purpose="optimize")

        return merge_once_more(self._table, fresh, system_clock(), pause, swap)

    def _read(self, file: AddAction) -> pa.Table:
        filesystem, folder = folder_of(self._table.uri)
        # Not read_table: for a file of a few hundred rows its plan costs more than the reading.
        with pq.ParquetFile(f"{folder}/{file.path}", filesystem=filesystem) as opened:
            return opened.read(use_threads=False)
