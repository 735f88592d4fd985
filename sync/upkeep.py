"""Keep a table's files and log small, beside its writer: checkpoints, old log entries, files that nothing refers to.

None of this commits, so it is safe while another process or thread writes the table. What must commit, compaction and
retention, is prepared here as actions and committed by the table's one writer (`sync.appender`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

from deltalake import DeltaTable
from deltalake.transaction import RemoveAction

from sync.compaction import SmallFile
from sync.data_files import folder_of
from sync.tables import TableContract

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
        self._uri = table_uri
        self._checkpointed: int | None = None

    def checkpoint(self) -> int | None:
        """Write a checkpoint when enough was committed since ours, and drop expired log entries; return its version."""
        table = DeltaTable(self._uri)
        version = table.version()
        if self._checkpointed is not None and version - self._checkpointed < ENTRIES_PER_CHECKPOINT:
            return None
        table.create_checkpoint()
        table.cleanup_metadata()
        self._checkpointed = version
        return version

    def sweep(self) -> int:
        """Delete the files that no version within the table's retention refers to; return how many there were.

        The list is Delta's own vacuum, asked only to tell: its run would commit two entries and so get in the way of
        the table's writer.
        """
        table = DeltaTable(self._uri)
        unused = table.vacuum(dry_run=True, full=True)
        filesystem, folder = folder_of(self._uri)
        removed = 0
        for path in unused:
            try:
                filesystem.delete_file(f"{folder}/{path}")
                removed += 1
            except FileNotFoundError:
                continue  # swept by somebody else meanwhile
        return removed


def expired(
    files: Sequence[SmallFile], contract: TableContract, time_column: str, now_ms: int
) -> tuple[RemoveAction, ...]:
    """Choose the files whose rows are all older than the table's retention. Pure.

    Args:
        files: of the table's current version.
        contract: with the retention; without one nothing expires.
        time_column: partition or column with bounds; a file without bounds for it is kept.
        now_ms: the time.
    """
    if contract.retention_days is None:
        return ()
    limit = datetime.fromtimestamp(now_ms / 1000, UTC) - timedelta(days=contract.retention_days)
    return tuple(
        RemoveAction(file.path, True, now_ms, file.size_bytes, dict(file.partition_values))
        for file in files
        if _is_before(dict(file.partition_values).get(time_column) or file.bounds.highest.get(time_column), limit)
    )


def _is_before(newest: Any, limit: datetime) -> bool:
    if newest is None:
        return False
    if isinstance(newest, str):  # a partition's day
        return date.fromisoformat(newest) < limit.date()
    return bool(newest < limit)
