"""One commit to a Delta table: its log's next entry, made only if nobody made it before.

On a local disk the entry is one JSON file, linked into the log under the next version's name: the protocol's
put-if-absent, in a millisecond. (`deltalake` replans the table for each commit: 5 ms at first and a millisecond more
for every commit since the last checkpoint.) On an object store `deltalake` makes it, by a table that the writer keeps
open. (Delta transaction log protocol,
sections "Delta Log Entries", "Add File and Remove File", "In-Commit Timestamps".)
"""

import json
import os
import re
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from deltalake import CommitProperties, DeltaTable, PostCommitHookProperties, Transaction
from deltalake.exceptions import CommitFailedError, DeltaError
from deltalake.transaction import AddAction, RemoveAction

from thalweg.sync.clock import system_clock
from thalweg.sync.delta.data_files import folder_of
from thalweg.sync.delta.durable import sync_folder, sync_together
from thalweg.sync.delta.log_news import read_entry

ENGINE: Final = "thalweg"

# A checkpoint or a sweep of old log files inside a commit would be a pause of the stream; `sync.delta.upkeep` does both
# beside it.
_NO_HOOKS: Final = PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False)


class VersionTakenError(Exception):
    """The version exists already, or did once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What a commit says."""

    files: Sequence[AddAction | RemoveAction]
    transactions: Sequence[Transaction]
    purpose: str
    """For people who read the log: "append" is a write, anything else its own operation."""
    partition_by: Sequence[str]
    stamped: bool = False
    """Whether the table wants in-commit timestamps."""
    commit_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    """By this a writer knows its own commit when it did not hear how it went."""


Commit = Callable[[str, int, Entry], None]
"""Makes an entry a table's version; raises VersionTakenError, or OSError where the store does not take it."""


def commit_for(uri: str) -> Commit:
    """Choose how a writer's commits to a table are made; each writer asks once."""
    return RemoteCommits() if "://" in uri else commit_locally


def is_taken(uri: str, version: int) -> bool:
    """Tell whether a version's entry is in the log."""
    filesystem, folder = folder_of(uri)
    path = f"{folder}/_delta_log/{version:020d}.json"
    if "://" not in uri:
        return Path(path).exists()
    try:
        # Asks for its length. Its information would be looked for twice where it is not there: as a folder, too.
        filesystem.open_input_file(path).close()
    except FileNotFoundError:
        return False
    return True


_ROWS: Final = re.compile(r'"numRecords":\s*(\d+)')


def _measured(files: Sequence[AddAction | RemoveAction]) -> dict[str, str]:
    """What `DESCRIBE HISTORY` shows of a commit: its files and bytes, and its rows where every file tells them."""
    added = [file for file in files if isinstance(file, AddAction)]
    measured = {
        "numFiles": str(len(added)),
        "numOutputBytes": str(sum(file.size for file in added)),
        "numRemovedFiles": str(len(files) - len(added)),
    }
    rows = [_ROWS.search(file.stats or "") for file in added]
    if all(rows):
        measured["numOutputRows"] = str(sum(int(found[1]) for found in rows if found))
    return measured


def commit_locally(uri: str, version: int, entry: Entry) -> None:
    """Link the entry into the log; it is on the disk when this returns."""
    now_ms = system_clock()
    information = {
        "timestamp": now_ms,
        "operation": "WRITE" if entry.purpose == "append" else entry.purpose.upper(),
        "operationParameters": {},
        "operationMetrics": _measured(entry.files),
        "engineInfo": ENGINE,
        "txnId": entry.commit_id,
    }
    if entry.stamped:
        information = {"inCommitTimestamp": max(now_ms, _stamp_of(uri, version - 1) + 1), **information}
    lines: list[dict[str, Any]] = [{"commitInfo": information}]
    lines += [
        {"txn": {"appId": mark.app_id, "version": mark.version, "lastUpdated": now_ms}} for mark in entry.transactions
    ]
    lines += [_action(file) for file in entry.files]
    log = Path(uri) / "_delta_log"
    draft, name = log / f".{uuid.uuid4().hex}.tmp", log / f"{version:020d}.json"
    try:
        draft.write_text("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines), "utf-8")
        # All that the entry names, and the entry, before its name.
        added = [Path(uri) / file.path for file in entry.files if isinstance(file, AddAction)]
        sync_together([draft, *added])
        # A hard link appears whole or not at all, and never over an existing name.
        os.link(draft, name)
    except FileExistsError:
        raise VersionTakenError from None
    finally:
        draft.unlink(missing_ok=True)
    _refuse_a_hole(uri, log, version, name)
    sync_folder(log)


def _refuse_a_hole(uri: str, log: Path, version: int, name: Path) -> None:
    """Take the entry back if the log has moved on so far that the version was made, and cleaned away, long ago."""
    if (log / f"{version - 1:020d}.json").exists() or DeltaTable(uri).version() == version:
        return
    name.unlink()
    raise VersionTakenError


def _stamp_of(uri: str, version: int) -> int:
    for action in read_entry(uri, version) or ():
        if "commitInfo" in action:
            return int(action["commitInfo"].get("inCommitTimestamp", 0))
    return 0


class RemoteCommits:
    """Lets `deltalake` make the entries, by a table that goes along with them: opening it reads the whole log.

    For one writer and one thread: whose version comes next is told by the table that is held.
    """

    def __init__(self) -> None:
        """Begin with none; the first commit opens it."""
        self._table: DeltaTable | None = None

    def __call__(self, uri: str, version: int, entry: Entry) -> None:
        """Make the entry. What the table asks for is what it asked for a version before: none later is passed over."""
        table = self._brought_to(uri, version - 1)
        try:
            table.create_write_transaction(
                list(entry.files),
                "append",
                table.schema(),
                partition_by=list(entry.partition_by),
                commit_properties=CommitProperties(
                    app_transactions=list(entry.transactions),
                    max_commit_retries=0,
                    custom_metadata={"purpose": entry.purpose, "commit_id": entry.commit_id},
                ),
                post_commithook_properties=_NO_HOOKS,
            )
        except CommitFailedError as error:
            raise VersionTakenError from error

    def _brought_to(self, uri: str, version: int) -> DeltaTable:
        """Give the table at a version.

        Raises:
            VersionTakenError: it is further than that.
        """
        table, self._table = self._table, None  # what fails below leaves nothing behind that is half read
        if table is not None and table.version() < version:
            try:
                table.update_incremental()
            except DeltaError:  # entries in between are cleaned away
                table = None
        if table is None:
            table = DeltaTable(uri)
        self._table = table
        if table.version() != version:
            raise VersionTakenError
        return table


def _action(file: AddAction | RemoveAction) -> dict[str, Any]:
    if isinstance(file, AddAction):
        added = {
            "path": file.path,
            "partitionValues": dict(file.partition_values),
            "size": file.size,
            "modificationTime": file.modification_time,
            "dataChange": file.data_change,
        }
        return {"add": {**added, "stats": file.stats} if file.stats else added}
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
