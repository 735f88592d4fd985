"""The fence of whoever acts on assignments: at-least-once delivery in, exactly-once effect out.

An event moves a task forward along (epoch, step): assigned, revoked, finished are the steps within an epoch. The fence
keeps, per region and task, the furthest point it has seen, and admits an event only if it lies beyond. Whatever is
repeated, late or replayed changes nothing and is counted.

Why the effect is exactly once:

1. *One transaction.* The furthest point, the consumer's next offset and whatever the owner writes about the task (its
   own tables, through `connection`) commit together or not at all. After kill -9 the consumer resumes at the stored
   offset, so each record is either fully in or read again as if for the first time.
2. *Repetitions.* A record published twice carries the same (epoch, step), which is not beyond itself. An overtaken
   record carries a smaller one. Neither is admitted, whatever the order or the number of deliveries.
3. *Forgetting.* The point of a task that is over is dropped once events decided `keep_ms` later have been read, and
   the newest `decided_at` dropped that way is kept as the horizon. An event of an unknown task at or before the horizon
   is refused: it may belong to a dropped point. A repetition carries its original's `decided_at`, so (2) still holds.
   News is not lost by this: an event read that long after younger ones was delayed by `keep_ms` on its way from the
   ledger, and the place job, which does not find the task in the region's inventory, assigns it anew with the next
   epoch and a new `decided_at`. Time here is the events' own, never this machine's: a region that was away for a week
   reads a week's events with the horizon where it left it.

4. *Another's past.* A file that is new, or was put back from a copy, has not seen what whoever was here before acted
   on. `pass_over` says up to where that goes; what lies there is admitted as over, so that it is known when it comes
   again behind that point, and the point is kept with the rest: a crash within it changes nothing.

SQLite in WAL mode, `synchronous=FULL`: a commit is on disk when it returns, power loss included.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final, Literal
from urllib.parse import quote

from thalweg.scheduling.ids import RegionId, TaskId
from thalweg.streams.broker.errors import FenceError, StoreFullError
from thalweg.streams.contract.messages import AssignmentEvent
from thalweg.sync.watched_sqlite import FaultKind, FileFault, Told, WatchedFile, open_file

FORMAT: Final = 1

# Longer than any batch of the place job can hang between its ledger and the topic and still be published; an hour at
# 1,000 assignments a second is 3.6 million rows, some 300 MB.
KEEP_MS: Final = 3_600_000

_STEP: Final = {"assign": 0, "revoke": 1}
_FINISHED: Final = 2
_IF_DAMAGED: Final = (
    "Move the file away and start again: the place job compares the region's inventory with the ledger and assigns "
    "what is missing with the next epoch."
)

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS fence_owner (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS fence_points (
    region TEXT NOT NULL, task_id TEXT NOT NULL, epoch INTEGER NOT NULL, step INTEGER NOT NULL,
    decided_at INTEGER NOT NULL, PRIMARY KEY (region, task_id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS fence_positions (
    topic TEXT NOT NULL, partition INTEGER NOT NULL, next_offset INTEGER NOT NULL, topic_id TEXT NOT NULL,
    PRIMARY KEY (topic, partition)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS fence_regions (
    region TEXT PRIMARY KEY, accepted INTEGER NOT NULL DEFAULT 0, repeated INTEGER NOT NULL DEFAULT 0,
    older INTEGER NOT NULL DEFAULT 0, newest INTEGER NOT NULL DEFAULT 0, horizon INTEGER NOT NULL DEFAULT -1
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS fence_over ON fence_points (region, decided_at) WHERE step > 0;
"""
_SCHEMA_SINCE: Final = """
CREATE TABLE IF NOT EXISTS fence_passed_over (
    topic TEXT NOT NULL, partition INTEGER NOT NULL, before_offset INTEGER NOT NULL, topic_id TEXT NOT NULL,
    PRIMARY KEY (topic, partition)
) WITHOUT ROWID;
"""

_ADVANCE: Final = """
INSERT INTO fence_points (region, task_id, epoch, step, decided_at) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (region, task_id) DO UPDATE SET
    epoch = excluded.epoch, step = excluded.step, decided_at = max(decided_at, excluded.decided_at)
"""


class FenceVerdict(StrEnum):
    """What the fence says about an event."""

    ACCEPTED = "accepted"
    REPEATED = "repeated"
    OLDER = "older"


@dataclass(frozen=True, slots=True, kw_only=True)
class FenceCounts:
    """Events of one region by verdict, since the fence was made; their sum is the number of events read."""

    accepted: int = 0
    repeated: int = 0
    older: int = 0

    @property
    def ignored(self) -> int:
        """Events that changed nothing."""
        return self.repeated + self.older


def open_to_read(path: Path) -> WatchedFile:
    """Open a fence's file to read it, whoever writes to it meanwhile.

    Raises:
        FenceError: it cannot be read, or is damaged; also later, when something damaged is met.
    """
    return open_file(f"file:{quote(str(path))}?mode=ro", _told_of(path), uri=True, timeout=10)


def _told_of(path: Path) -> Told:
    def told(fault: FileFault) -> FenceError | StoreFullError:
        if fault.kind is FaultKind.FULL:
            return StoreFullError(path, fault.seen)
        return FenceError(path, fault.seen, fault.remedy(_IF_DAMAGED))

    return told


class Fence:
    """Furthest point per task, durable. One writer; other processes may read the file while it runs."""

    def __init__(self, path: Path | None, *, keep_ms: int = KEEP_MS) -> None:
        """Open or make the file.

        Args:
            path: None keeps everything in memory: no protection across restarts.
            keep_ms: how much younger events must have been read before a task that is over is forgotten.

        Raises:
            FenceError: the file is not a fence, is damaged, or was written by a later version. So says, then and
                later, whatever is asked of `connection`.
            StoreFullError: the disk does not take it.
        """
        self._path = path
        self._keep_ms = keep_ms
        self.connection: WatchedFile = open_file(
            path or ":memory:", _told_of(self.path), isolation_level=None, timeout=10
        )
        try:
            self._set_up()
        except BaseException:
            self.connection.close()
            raise
        self._passed_over: dict[tuple[str, int, str], int] = {
            (topic, partition, topic_id): before
            for topic, partition, before, topic_id in self.connection.execute("SELECT * FROM fence_passed_over")
        }

    def _set_up(self) -> None:
        self.connection.execute("PRAGMA journal_mode = WAL")
        self.connection.execute("PRAGMA synchronous = FULL")
        found = self.connection.execute("PRAGMA user_version").fetchone()[0]
        if found not in (0, FORMAT):
            raise self._error(
                f"it has format {found}, known is {FORMAT}: a later version of Thalweg wrote it, or it is damaged",
                f"Start that version. {_IF_DAMAGED}",
            )
        self.connection.check_pages()
        if found != FORMAT:  # new, or its making was cut off; from then on a table that is missing was lost
            self.connection.executescript(_SCHEMA)
        self.connection.executescript(_SCHEMA_SINCE)
        self.connection.check_tables(_SCHEMA + _SCHEMA_SINCE)
        self.connection.execute(f"PRAGMA user_version = {FORMAT}")

    def _error(self, seen: str, remedy: str) -> FenceError:
        return FenceError(self.path, seen, remedy)

    @property
    def path(self) -> Path:
        """The file."""
        return self._path or Path(":memory:")

    def bind(self, owner: dict[str, str]) -> None:
        """Tie the fence to what it fences (cluster id, topic prefix) at first use; later, check that it is the same.

        Epochs of another installation count something else: with them every new assignment might look old.

        Raises:
            FenceError: the file belongs to another installation.
        """
        with self.transaction():
            for name, value in owner.items():
                self.connection.execute("INSERT OR IGNORE INTO fence_owner VALUES (?, ?)", (name, value))
                found = self.connection.execute("SELECT value FROM fence_owner WHERE name = ?", (name,)).fetchone()[0]
                if found != value:
                    raise self._error(
                        f"it belongs to {name} {found!r}, here {name} is {value!r}",
                        "Give this installation a state folder of its own, or move the old one away.",
                    )

    @contextmanager
    def transaction(self) -> Iterator[WatchedFile]:
        """Everything inside commits together, or not at all if an exception leaves the block.

        Raises:
            StoreFullError: the disk does not take it.
            FenceError: the file is damaged.
        """
        try:
            self.connection.execute("BEGIN IMMEDIATE")
            yield self.connection
            self.connection.execute("COMMIT")
        except BaseException:
            if self.connection.in_transaction:  # a full disk may have ended it
                with suppress(FenceError, StoreFullError):
                    self.connection.execute("ROLLBACK")
            raise

    def admit(self, event: AssignmentEvent) -> FenceVerdict:
        """Judge one event and remember it; inside `transaction`, together with what the owner does about it."""
        region, step = event.region, _STEP[event.type]
        self.connection.execute("INSERT OR IGNORE INTO fence_regions (region) VALUES (?)", (region,))
        verdict = self._verdict(event, step)
        self.connection.execute(
            f"UPDATE fence_regions SET {verdict} = {verdict} + 1, newest = max(newest, ?) WHERE region = ?",
            (event.decided_at, region),
        )
        return verdict

    def _verdict(self, event: AssignmentEvent, step: int) -> FenceVerdict:
        key = (event.region, event.task_id)
        known = self.connection.execute(
            "SELECT epoch, step FROM fence_points WHERE region = ? AND task_id = ?", key
        ).fetchone()
        if known is None:
            (horizon,) = self.connection.execute(
                "SELECT horizon FROM fence_regions WHERE region = ?", (event.region,)
            ).fetchone()
            if event.decided_at <= horizon:
                return FenceVerdict.OLDER
        elif (event.epoch, step) == tuple(known):
            return FenceVerdict.REPEATED
        elif (event.epoch, step) < tuple(known):
            return FenceVerdict.OLDER
        self.connection.execute(_ADVANCE, (*key, event.epoch, step, event.decided_at))
        return FenceVerdict.ACCEPTED

    def finish(self, region: RegionId, task_id: TaskId, epoch: int) -> None:
        """Note that a task ended by itself in this epoch: neither it nor its revocation is acted on again."""
        self.connection.execute(
            "UPDATE fence_points SET step = ? WHERE region = ? AND task_id = ? AND epoch = ?",
            (_FINISHED, region, task_id, epoch),
        )

    def pass_over(self, topic: str, partition: int, before_offset: int, topic_id: str = "") -> None:
        """Take what lies before an offset for acted on, by whoever was here before; inside a transaction."""
        self.connection.execute(
            "INSERT OR REPLACE INTO fence_passed_over VALUES (?, ?, ?, ?)", (topic, partition, before_offset, topic_id)
        )
        self._passed_over[topic, partition, topic_id] = before_offset

    def is_passed_over(self, topic: str, partition: int, offset: int, topic_id: str = "") -> bool:
        """Tell whether a record counts as acted on; its event is for `admit_as_over`."""
        return offset < self._passed_over.get((topic, partition, topic_id), 0)

    def admit_as_over(self, event: AssignmentEvent) -> None:
        """Remember an event that somebody else has acted on: it and its repetitions are nothing to act on."""
        if self.admit(event) is FenceVerdict.ACCEPTED:
            self.finish(event.region, event.task_id, event.epoch)

    def forget(self) -> int:
        """Drop the points of tasks that are long over, move the horizon, and return how many were dropped."""
        dropped = 0
        for region, newest in self.connection.execute("SELECT region, newest FROM fence_regions").fetchall():
            limit = newest - self._keep_ms
            (last,) = self.connection.execute(
                "SELECT max(decided_at) FROM fence_points WHERE region = ? AND step > 0 AND decided_at < ?",
                (region, limit),
            ).fetchone()
            if last is None:
                continue
            dropped += self.connection.execute(
                "DELETE FROM fence_points WHERE region = ? AND step > 0 AND decided_at < ?", (region, limit)
            ).rowcount
            self.connection.execute(
                "UPDATE fence_regions SET horizon = max(horizon, ?) WHERE region = ?", (last, region)
            )
        return dropped

    def move_on(self, topic: str, partition: int, next_offset: int, topic_id: str = "") -> None:
        """Remember where to read next; inside the transaction that admitted what lies before."""
        self.connection.execute(
            "INSERT INTO fence_positions VALUES (?, ?, ?, ?) ON CONFLICT (topic, partition) DO UPDATE SET "
            "next_offset = excluded.next_offset, topic_id = excluded.topic_id",
            (topic, partition, next_offset, topic_id),
        )

    def next_offset(self, topic: str, partition: int, topic_id: str = "") -> int:
        """Where to read next: 0 at first, and 0 again for a topic that was deleted and made anew under its name."""
        row = self.connection.execute(
            "SELECT next_offset, topic_id FROM fence_positions WHERE topic = ? AND partition = ?", (topic, partition)
        ).fetchone()
        return row[0] if row is not None and row[1] == topic_id else 0

    def read_to(self, topic: str, topic_id: str = "") -> list[int]:
        """Where to read next in each partition, by number, as `next_offset`; partitions beyond the list: 0."""
        found = dict(
            self.connection.execute(
                "SELECT partition, next_offset FROM fence_positions WHERE topic = ? AND topic_id = ?", (topic, topic_id)
            )
        )
        return [found.get(partition, 0) for partition in range(max(found, default=-1) + 1)]

    def counts(self, region: RegionId) -> FenceCounts:
        """Events of one region by verdict."""
        row = self.connection.execute(
            "SELECT accepted, repeated, older FROM fence_regions WHERE region = ?", (region,)
        ).fetchone()
        return FenceCounts(accepted=row[0], repeated=row[1], older=row[2]) if row else FenceCounts()

    def point(self, region: RegionId, task_id: TaskId) -> tuple[int, Literal["assigned", "revoked", "finished"]] | None:
        """Furthest epoch and step seen of a task; None if it was never seen, or is forgotten."""
        row = self.connection.execute(
            "SELECT epoch, step FROM fence_points WHERE region = ? AND task_id = ?", (region, task_id)
        ).fetchone()
        if row is None:
            return None
        steps: tuple[Literal["assigned", "revoked", "finished"], ...] = ("assigned", "revoked", "finished")
        return row[0], steps[row[1]]

    def close(self) -> None:
        """Close the file."""
        self.connection.close()
