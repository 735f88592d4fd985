"""Tasks that ended long ago: moved from `tasks` to `tasks_archive`, so that what people look at stays small.

They are put there first, and then taken away. Each move has a time, which both tables keep; killed in between, the next
start sees that `tasks` does not know of the last move, and takes away what it moved.
"""

from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from thalweg.scheduling.world.tasks import TERMINAL
from thalweg.sync.delta.contracts import TASKS, TASKS_ARCHIVE
from thalweg.sync.delta.keyed_table import KeyedTable

ENDED: Final = ("state", tuple(str(state) for state in TERMINAL))
"""Column and values of rows of `tasks` that will never change again."""

_MOVED: Final = "thalweg-archived"
"""Application id under which both tables keep the time of the last move."""

_MOMENT: Final = pa.timestamp("us", "UTC")


class TaskArchive:
    """See the module's words. For one thread."""

    def __init__(self, warehouse: str, tasks: KeyedTable, after_s: int) -> None:
        """Open the archive to write it anew; `resume` goes on with it.

        Args:
            warehouse: where it lies.
            tasks: from which tasks are moved.
            after_s: how long after its end a task is moved; 0 never.
        """
        self.table = KeyedTable(TASKS_ARCHIVE, warehouse, settled_by=ENDED)
        self._tasks = tasks
        self._after_us = after_s * 1_000_000

    def move(self, now_ms: int) -> int:
        """Move what ended long enough ago, file by file; return how many tasks that were."""
        if not self._after_us:
            return 0
        old = self._tasks.settled_before("changed_at", now_ms * 1_000 - self._after_us)
        if not old:
            return 0
        rows = pa.concat_tables([rows for _, rows in old])
        self._put(rows, now_ms)
        self._tasks.drop([file for file, _ in old], now_ms, {_MOVED: now_ms})
        return int(rows.num_rows)

    def take_back(self, begun_again: pa.Table, now_ms: int) -> None:
        """Take tasks away that have begun again.

        Before `tasks` has them: killed in between, the next start does so once more.
        """
        if begun_again.num_rows and not self.table.is_empty:
            empty = TASKS_ARCHIVE.schema.empty_table()
            never = pa.array([], pa.bool_())
            self.table.write(empty, empty, never, now_ms, unsettled=begun_again)

    def resume(self, now_ms: int) -> None:
        """Go on with what the archive holds, and finish a move that was cut off."""
        self.table.resume()
        moved_ms = self.table.transaction(_MOVED)
        if moved_ms is None or moved_ms == self._tasks.transaction(_MOVED):
            return
        at = pa.scalar(moved_ms * 1_000, pa.int64()).cast(_MOMENT)
        moved = self.table.find("archived_at", at, "task_id")
        self._tasks.drop(self._tasks.settled_among("task_id", moved), now_ms, {_MOVED: moved_ms})

    def begin_anew(self, ended: pa.Table, now_ms: int) -> pa.Table:
        """Write the archive anew from all tasks that have ended; return those that are not in it."""
        if not self._after_us:
            if self.table.is_empty:
                return ended
            old = pa.array([False] * ended.num_rows, pa.bool_())  # what an earlier setting has moved comes back
        else:
            cutoff = pa.scalar(now_ms * 1_000 - self._after_us, pa.int64()).cast(_MOMENT)
            old = pc.less(ended.column("changed_at"), cutoff)
        self._put(ended.filter(old), now_ms)
        return ended.filter(pc.invert(old))

    def _put(self, tasks: pa.Table, now_ms: int) -> None:
        at = pa.array([now_ms * 1_000] * tasks.num_rows, pa.int64()).cast(_MOMENT)
        rows = pa.table([*tasks.select(TASKS.schema.names).columns, at], schema=TASKS_ARCHIVE.schema)
        always = pa.array([True] * rows.num_rows, pa.bool_())
        self.table.write(rows, TASKS_ARCHIVE.schema.empty_table(), always, now_ms, {_MOVED: now_ms})
