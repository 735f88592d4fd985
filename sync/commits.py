"""One commit to a Delta table: its log's next entry, made only if nobody made it before.

On a local disk the entry is one JSON file, linked into the log under the next version's name: the protocol's
put-if-absent, in a millisecond. (`deltalake` replans the table for each commit: 5 ms at first and a millisecond more
for every commit since the last checkpoint.) On an object store `deltalake` makes it. (Delta transaction log protocol,
sections "Delta Log Entries", "Add File and Remove File".)
"""

import json
import os
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from deltalake import CommitProperties, DeltaTable, PostCommitHookProperties, Transaction
from deltalake.exceptions import CommitFailedError
from deltalake.transaction import AddAction, RemoveAction

ENGINE: Final = "thalweg"

# A checkpoint or a sweep of old log files inside a commit would be a pause of the stream; `sync.upkeep` does both
# beside it.
_NO_HOOKS: Final = PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False)


class VersionTakenError(Exception):
    """The version exists already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What a commit says."""

    files: Sequence[AddAction | RemoveAction]
    transactions: Sequence[Transaction]
    purpose: str
    """For people who read the log: "append" is a write, anything else its own operation."""
    partition_by: Sequence[str]


Commit = Callable[[str, int, Entry], None]
"""Makes an entry a table's version; raises VersionTakenError, or OSError where the store does not take it."""


def commit_for(uri: str) -> Commit:
    """Choose how a table's commits are made."""
    return commit_remotely if "://" in uri else commit_locally


def is_taken(uri: str, version: int) -> bool:
    """Tell whether a version of a table exists."""
    if "://" in uri:
        return DeltaTable(uri).version() >= version
    return (Path(uri) / "_delta_log" / f"{version:020d}.json").exists()


def commit_locally(uri: str, version: int, entry: Entry) -> None:
    """Link the entry into the log."""
    now_ms = time.time_ns() // 1_000_000
    information = {
        "timestamp": now_ms,
        "operation": "WRITE" if entry.purpose == "append" else entry.purpose.upper(),
        "operationParameters": {},
        "engineInfo": ENGINE,
    }
    lines: list[dict[str, Any]] = [{"commitInfo": information}]
    lines += [
        {"txn": {"appId": mark.app_id, "version": mark.version, "lastUpdated": now_ms}} for mark in entry.transactions
    ]
    lines += [_action(file) for file in entry.files]
    log = Path(uri) / "_delta_log"
    draft = log / f".{uuid.uuid4().hex}.tmp"
    try:
        draft.write_text("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines), "utf-8")
        # A hard link appears whole or not at all, and never over an existing name.
        os.link(draft, log / f"{version:020d}.json")
    except FileExistsError:
        raise VersionTakenError from None
    finally:
        draft.unlink(missing_ok=True)


def commit_remotely(uri: str, version: int, entry: Entry) -> None:
    """Let `deltalake` make the entry."""
    table = DeltaTable(uri)
    if table.version() + 1 != version:
        raise VersionTakenError
    try:
        table.create_write_transaction(
            list(entry.files),
            "append",
            table.schema(),
            partition_by=list(entry.partition_by),
            commit_properties=CommitProperties(
                app_transactions=list(entry.transactions),
                max_commit_retries=0,
                custom_metadata={"purpose": entry.purpose},
            ),
            post_commithook_properties=_NO_HOOKS,
        )
    except CommitFailedError as error:
        raise VersionTakenError from error


def _action(file: AddAction | RemoveAction) -> dict[str, Any]:
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
