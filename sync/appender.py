"""The one writer's hold on an append-only table: batches by application transaction, compaction without a pause."""

from collections.abc import Sequence
from typing import Final

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, PostCommitHookProperties, Transaction
from deltalake.exceptions import CommitFailedError
from deltalake.transaction import AddAction, RemoveAction

from sync.data_files import write_files
from sync.delta_store import AnotherWriterError, open_or_create
from sync.tables import TableContract

# Commits that add and remove no rows: housekeeping by `jobs/maintain` does not make another writer.
_HOUSEKEEPING: Final = frozenset({"VACUUM START", "VACUUM END"})
# A checkpoint or a sweep of old log files inside a commit would be a pause of the stream; `sync.compaction` does both
# beside it.
_NO_HOOKS: Final = PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False)


class Appender:
    """Appends to one table, each commit at exactly the version after the last one seen. For one thread."""

    def __init__(self, contract: TableContract, warehouse: str, bounded: Sequence[str]) -> None:
        """Open the table, or create it by its contract.

        Args:
            contract: the table's.
            warehouse: folder or URI.
            bounded: columns whose bounds let readers skip files.
        """
        self.contract = contract
        self._table = open_or_create(contract, warehouse)
        self.bounded = tuple(bounded)
        self._schema = self._table.schema()
        self.uri = self._table.table_uri.removeprefix("file://")

    @property
    def version(self) -> int:
        """Version of the last commit seen."""
        return self._table.version()

    def has_committed(self, transaction: Transaction) -> bool:
        """Tell whether this application transaction, or a later one, is in the table."""
        last = self._table.transaction_version(transaction.app_id)
        return last is not None and last >= transaction.version

    def refresh(self) -> None:
        """Read what was committed since; needed after a commit whose outcome is unknown."""
        self._table.update_incremental()

    def write(self, rows: pa.Table, now_ms: int) -> list[AddAction]:
        """Write files for rows; `commit` makes them part of the table.

        Raises:
            OSError: the disk does not take them; nothing is left behind.
        """
        return write_files(self.uri, rows, self.contract.partition_by, self.bounded, now_ms)

    def commit(
        self,
        files: Sequence[AddAction | RemoveAction],
        transaction: Transaction | None = None,
        *,
        purpose: str = "append",
    ) -> None:
        """Make files part of the table, at exactly the next version.

        Raises:
            AnotherWriterError: somebody else changed the table since this process read it.
        """
        try:
            self._commit(files, transaction, purpose)
        except CommitFailedError as error:
            seen = self.version
            self._table.update_incremental()
            news = self._table.history(self.version - seen) if self.version > seen else []
            if not news or any(commit.get("operation") not in _HOUSEKEEPING for commit in news):
                raise AnotherWriterError(self.contract.name, seen) from error
            self._commit(files, transaction, purpose)

    def _commit(self, files: Sequence[AddAction | RemoveAction], transaction: Transaction | None, purpose: str) -> None:
        self._table.create_write_transaction(
            list(files),
            "append",
            self._schema,
            partition_by=list(self.contract.partition_by),
            commit_properties=CommitProperties(
                app_transactions=[transaction] if transaction else [],
                max_commit_retries=0,
                custom_metadata={"purpose": purpose},
            ),
            post_commithook_properties=_NO_HOOKS,
        )
        self._table.update_incremental()

    def table(self) -> DeltaTable:
        """The table as last seen, for reading in the same thread."""
        return self._table
