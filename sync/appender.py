"""The one writer's hold on an append-only table: batches by application transaction, compaction without a pause.

On a local disk a commit is one JSON file, linked into the log under the next version's name: the protocol's
put-if-absent, in a millisecond. (`deltalake` replans the table for each commit: 5 ms at first and a millisecond more
for every commit since the last checkpoint.) On an object store `deltalake` makes the commit.
"""

import json
import os
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, PostCommitHookProperties, Transaction
from deltalake.exceptions import CommitFailedError
from deltalake.transaction import AddAction, RemoveAction

from sync.data_files import write_files
from sync.delta_store import AnotherWriterError, open_or_create
from sync.tables import TableContract

# Commits that add and remove no rows: housekeeping by somebody else does not make another writer.
_HOUSEKEEPING: Final = frozenset({"VACUUM START", "VACUUM END"})
# A checkpoint or a sweep of old log files inside a commit would be a pause of the stream; `sync.upkeep` does both
# beside it.
_NO_HOOKS: Final = PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False)


class _VersionTakenError(Exception):
    """The next version exists already."""


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
        self.bounded = tuple(bounded)
        table = open_or_create(contract, warehouse)
        self.uri = table.table_uri.removeprefix("file://").rstrip("/")
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

        Args:
            files: added and removed.
            transaction: recorded with the commit.
            purpose: recorded with the commit, for people who read the log.

        Raises:
            AnotherWriterError: somebody else changed the table since this process read it.
            OSError: the disk does not take it; nothing was committed.
        """
        try:
            self._commit(files, transaction, purpose)
        except _VersionTakenError as error:
            seen = self.version
            table = DeltaTable(self.uri)
            news = table.history(table.version() - seen)
            if not news or any(commit.get("operation") not in _HOUSEKEEPING for commit in news):
                raise AnotherWriterError(self.contract.name, seen) from error
            self.version = table.version()
            self._commit(files, transaction, purpose)
        if transaction is not None:
            self._done[transaction.app_id] = transaction.version

    def _commit(self, files: Sequence[AddAction | RemoveAction], transaction: Transaction | None, purpose: str) -> None:
        if "://" in self.uri:
            self._commit_remotely(files, transaction, purpose)
        else:
            self._commit_locally(files, transaction, purpose)
        self.version += 1

    def _commit_locally(
        self, files: Sequence[AddAction | RemoveAction], transaction: Transaction | None, purpose: str
    ) -> None:
        now_ms = time.time_ns() // 1_000_000
        information = {
            "timestamp": now_ms,
            "operation": "WRITE" if purpose == "append" else purpose.upper(),
            "operationParameters": {},
            "engineInfo": "thalweg",
        }
        lines: list[dict[str, Any]] = [{"commitInfo": information}]
        if transaction is not None:
            mark = {"appId": transaction.app_id, "version": transaction.version, "lastUpdated": now_ms}
            lines.append({"txn": mark})
        lines += [_entry(file) for file in files]
        log = Path(self.uri) / "_delta_log"
        draft = log / f".{uuid.uuid4().hex}.tmp"
        try:
            draft.write_text("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines), "utf-8")
            # A hard link appears whole or not at all, and never over an existing name.
            os.link(draft, log / f"{self.version + 1:020d}.json")
        except FileExistsError:
            raise _VersionTakenError from None
        finally:
            draft.unlink(missing_ok=True)

    def _commit_remotely(
        self, files: Sequence[AddAction | RemoveAction], transaction: Transaction | None, purpose: str
    ) -> None:
        table = DeltaTable(self.uri)
        if table.version() != self.version:
            raise _VersionTakenError
        try:
            table.create_write_transaction(
                list(files),
                "append",
                table.schema(),
                partition_by=list(self.contract.partition_by),
                commit_properties=CommitProperties(
                    app_transactions=[transaction] if transaction else [],
                    max_commit_retries=0,
                    custom_metadata={"purpose": purpose},
                ),
                post_commithook_properties=_NO_HOOKS,
            )
        except CommitFailedError as error:
            raise _VersionTakenError from error


def _entry(file: AddAction | RemoveAction) -> dict[str, Any]:
    """Write an action as the Delta protocol does ("Add File and Remove File")."""
    if isinstance(file, AddAction):
        return {
            "add": {
                "path": file.path,
                "partitionValues": dict(file.partition_values),
                "size": file.size,
                "modificationTime": file.modification_time,
                "dataChange": file.data_change,
                "stats": file.stats,
            }
        }
    return {
        "remove": {
            "path": file.path,
            "deletionTimestamp": file.deletion_timestamp,
            "dataChange": file.data_change,
            "extendedFileMetadata": True,
            "partitionValues": dict(file.partition_values or {}),
            "size": file.size,
        }
    }
