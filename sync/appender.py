"""The one writer's hold on a table: files and the commits that make them part of it, each at exactly the next version.

Batches are known by their application transactions; compaction is prepared beside the writer and committed here.
"""

from collections.abc import Sequence
from typing import Final

import pyarrow as pa
from deltalake import DeltaTable, Transaction
from deltalake.transaction import AddAction, RemoveAction

from sync.commits import Entry, VersionTakenError, commit_for, is_taken
from sync.data_files import write_files
from sync.delta_store import AnotherWriterError, address_of, open_or_create
from sync.tables import TableContract

# Commits that add and remove no rows: housekeeping by somebody else does not make another writer.
_HOUSEKEEPING: Final = frozenset({"VACUUM START", "VACUUM END"})


class Appender:
    """Writes one table, each commit at exactly the version after the last one seen. For one thread."""

    def __init__(self, contract: TableContract, warehouse: str, bounded: Sequence[str]) -> None:
        """Open the table, or create it by its contract.

        Args:
            contract: the table's.
            warehouse: folder or URI.
            bounded: columns whose bounds let readers skip files.
        """
        self.contract = contract
        self.bounded = tuple(bounded)
        table = open_or_create(contract, warehouse)
        self.uri = address_of(table)
        self.version = table.version()
        self._done: dict[str, int] = {}

    def has_committed(self, transaction: Transaction) -> bool:
        """Tell whether this application transaction, or a later one, is in the table."""
        if transaction.app_id not in self._done:
            last = DeltaTable(self.uri).transaction_version(transaction.app_id)
            self._done[transaction.app_id] = -1 if last is None else last
        return self._done[transaction.app_id] >= transaction.version

    def refresh(self) -> None:
        """Read what is committed; needed after a commit whose outcome is unknown."""
        self.version = DeltaTable(self.uri).version()
        self._done.clear()

    def write(self, rows: pa.Table, now_ms: int) -> list[AddAction]:
        """Write files for rows; `commit` makes them part of the table. Any thread may.

        Raises:
            OSError: the disk does not take them; nothing is left behind.
        """
        return write_files(self.uri, rows, self.contract.partition_by, self.bounded, now_ms)

    def commit(
        self, files: Sequence[AddAction | RemoveAction], *transactions: Transaction, purpose: str = "append"
    ) -> None:
        """Make files part of the table, at exactly the next version.

        Args:
            files: added and removed.
            transactions: recorded with the commit.
            purpose: recorded with the commit, for people who read the log.

        Raises:
            AnotherWriterError: somebody else changed the table since this process read it.
            OSError: the disk does not take it; nothing was committed.
        """
        entry = Entry(files=files, transactions=transactions, purpose=purpose, partition_by=self.contract.partition_by)
        try:
            self._commit(entry)
        except VersionTakenError as error:
            self._pass_housekeeping(error)
            self._commit(entry)
        self._done.update((mark.app_id, mark.version) for mark in transactions)

    def check(self) -> None:
        """Look whether somebody else has written to the table.

        Raises:
            AnotherWriterError: somebody else changed the table since this process read it.
        """
        if is_taken(self.uri, self.version + 1):
            self._pass_housekeeping(None)

    def _pass_housekeeping(self, cause: Exception | None) -> None:
        seen = self.version
        table = DeltaTable(self.uri)
        news = table.history(table.version() - seen)
        if not news or any(commit.get("operation") not in _HOUSEKEEPING for commit in news):
            raise AnotherWriterError(self.contract.name, seen) from cause
        self.version = table.version()

    def _commit(self, entry: Entry) -> None:
        commit_for(self.uri)(self.uri, self.version + 1, entry)
        self.version += 1
