"""Keep a table's files and log small, beside its writer: checkpoints, old log entries, files that nothing refers to.

None of this commits, so it is safe while another process or thread writes the table. What must commit, compaction and
retention, is prepared here as actions and committed by the table's one writer (`sync.delta.appender`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from deltalake import DeltaTable
from deltalake.transaction import RemoveAction

from thalweg.sync.delta.compaction import SmallFile
from thalweg.sync.delta.contracts import REPLACED_KEPT, TableContract
from thalweg.sync.delta.data_files import folder_of
from thalweg.sync.delta.durable import sync_log
from thalweg.sync.delta.pending import Pending

# A reader replays the JSON entries since the last checkpoint: this many take a few milliseconds.
ENTRIES_PER_CHECKPOINT: Final = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """What was done."""

    checkpoint_version: int | None
    removed_files: int


class Upkeep:
    """Looks after one table from outside its writer."""

    def __init__(self, table_uri: str) -> None:
        """Look at a table that exists.

        Args:
            table_uri: its address.
        """
        self._uri = table_uri.removeprefix("file://").rstrip("/")
        self._checkpointed: int | None = None

    def checkpoint(self) -> int | None:
        """Write a checkpoint when enough was committed since ours, and drop expired log entries; return its version."""
        table = DeltaTable(self._uri)
        version = table.version()
        if self._checkpointed is not None and version - self._checkpointed < ENTRIES_PER_CHECKPOINT:
            return None
        table.create_checkpoint()
        if "://" not in self._uri:
            sync_log(Path(self._uri))  # before the entries that it stands for are deleted
        table.cleanup_metadata()
        self._checkpointed = version
        return version

    def sweep(self, pending: Pending | None = None) -> int:
        """Delete the files that no version within the table's retention refers to; return how many there were.

        The list is Delta's own vacuum, asked only to tell: its run would commit two entries and so get in the way of
        the table's writer. It goes by the files' age; what waits for its commit is spared whatever its age, and kept
        young for those who sweep from another process.

        Args:
            pending: files that the table's writer has not committed yet, where that is this process.
        """
        spared: frozenset[str] = frozenset()
        if pending is not None:
            pending.keep_young()
            # Before the table is read: what is committed meanwhile is spared still, what was before is in the table.
            spared = pending.paths()
        table = DeltaTable(self._uri)
        kept = table.metadata().configuration.get(REPLACED_KEPT)
        unused = table.vacuum(retention_hours=int(kept) if kept else None, dry_run=True, full=True)
        filesystem, folder = folder_of(self._uri)
        removed = 0
        for path in sorted(set(unused) - spared):
            try:
                filesystem.delete_file(f"{folder}/{path}")
                removed += 1
            except FileNotFoundError:
                continue  # swept by somebody else meanwhile
        return removed


def expired(files: Sequence[SmallFile], contract: TableContract, now_ms: int) -> tuple[RemoveAction, ...]:
    """Choose the files whose rows are all older than the table's retention. Pure.

    Args:
        files: of the table's current version.
        contract: with the retention and the column by which rows grow old; without them nothing expires. A file
            without bounds for it is kept.
        now_ms: the time.
    """
    if contract.retention_days is None or contract.ages_by is None:
        return ()
    limit = datetime.fromtimestamp(now_ms / 1000, UTC) - timedelta(days=contract.retention_days)
    return tuple(
        RemoveAction(file.path, True, now_ms, file.size_bytes, dict(file.partition_values))
        for file in files
        if _is_before(
            dict(file.partition_values).get(contract.ages_by) or file.bounds.highest.get(contract.ages_by), limit
        )
    )


def _is_before(newest: Any, limit: datetime) -> bool:
    if newest is None:
        return False
    if isinstance(newest, str):  # a partition's day
        return date.fromisoformat(newest) < limit.date()
    return bool(newest < limit)
