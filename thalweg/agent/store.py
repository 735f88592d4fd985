"""What an agent keeps on disk beside its fence: tasks it holds, reports not yet acknowledged, its regions' clocks.

All of it lies in the fence's file and changes in the fence's transactions: an assignment is admitted, held and reported
in one commit. Reports wait in an outbox until the broker has acknowledged them, so that a task's end is never lost
between the commit and the broker; after a crash some are sent again, with the same ids.
"""

import fcntl
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

import msgspec

from thalweg.scheduling.ids import RegionId, TaskId
from thalweg.streams.broker.errors import FenceError, StoreFullError
from thalweg.streams.broker.publish import OutgoingRecord, outgoing
from thalweg.streams.contract.decode import Message, UndecodableError, decoded
from thalweg.streams.contract.envelope import Envelope, content_id
from thalweg.streams.contract.messages import AssignmentEvent, HeldTask, MessageStamp, StatusEvent
from thalweg.streams.contract.topics import STATUS
from thalweg.streams.placement.fence import KEEP_MS, Fence
from thalweg.sync.protocol.stamps import DEFAULT_LIMITS, Hlc, tick

FILE_NAME: Final = "agent.sqlite"
STARTS_KEPT: Final = 100
"""Ids of agents that have run on a file: of those before, nothing is in the topics any more."""

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS agent_held (
    region TEXT NOT NULL, task_id TEXT NOT NULL, epoch INTEGER NOT NULL, state TEXT NOT NULL, event BLOB NOT NULL,
    started_ms INTEGER, pid INTEGER, PRIMARY KEY (region, task_id, epoch)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS agent_outbox (number INTEGER PRIMARY KEY AUTOINCREMENT, status BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS agent_clocks (
    region TEXT PRIMARY KEY, ms INTEGER NOT NULL, counter INTEGER NOT NULL, epoch INTEGER NOT NULL, seq INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS agent_runs (
    region TEXT NOT NULL, task_id TEXT NOT NULL, epoch INTEGER NOT NULL, started_ms INTEGER NOT NULL,
    ended_ms INTEGER, outcome TEXT, PRIMARY KEY (region, task_id, epoch)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS agent_starts (number INTEGER PRIMARY KEY AUTOINCREMENT, agent_id TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS agent_place (id INTEGER PRIMARY KEY CHECK (id = 1), place TEXT NOT NULL);
"""

_ENCODER: Final = msgspec.json.Encoder()
_STATUS: Final = msgspec.json.Decoder(StatusEvent)
_EVENT: Final = msgspec.json.Decoder(AssignmentEvent)


class HeldState(StrEnum):
    """How far a held task is."""

    ACCEPTED = "accepted"
    STARTING = "starting"
    """Committed before its process is made: found at start without one, it may have run and is not run again."""
    RUNNING = "running"
    STOPPING = "stopping"


@dataclass(slots=True, kw_only=True)
class HeldAssignment:
    """One task that a region holds in one epoch."""

    event: AssignmentEvent
    state: HeldState = HeldState.ACCEPTED
    started_ms: int | None = None
    pid: int | None = None

    @property
    def key(self) -> tuple[RegionId, TaskId, int]:
        """Region, task and epoch: what runs at most once."""
        return (self.event.region, self.event.task_id, self.event.epoch)


class AgentStore:
    """One agent's file. Another agent on the same folder is refused."""

    def __init__(self, folder: Path) -> None:
        """Open or make the folder.

        Raises:
            FenceError: another agent uses the folder, or the file in it cannot be used. The latter is said later, too,
                when something damaged is met.
            StoreFullError: the disk takes nothing.
        """
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = (folder / "agent.lock").open("ab")
        except OSError as error:
            raise StoreFullError(folder, error.strerror or str(error)) from error
        try:
            # The kernel lets it go when this process dies, however it dies.
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            raise FenceError(
                folder / FILE_NAME, "another agent uses this folder", "Stop it first, or name another with --state."
            ) from None
        try:
            self.fence = Fence(folder / FILE_NAME)
        except BaseException:
            self._lock.close()
            raise
        self._db = self.fence.connection
        try:
            self._read()
        except BaseException:
            self.close()
            raise

    def _read(self) -> None:
        self._db.executescript(_SCHEMA)
        self._db.check_tables(_SCHEMA)
        self._clocks: dict[str, tuple[Hlc, int, int]] = {
            region: (Hlc(ms, counter, region), epoch, seq)
            for region, ms, counter, epoch, seq in self._db.execute("SELECT * FROM agent_clocks")
        }
        self._unsaved: set[str] = set()
        self.starts: set[str] = {row[0] for row in self._db.execute("SELECT agent_id FROM agent_starts")}
        """Ids of the agents that have run on this file."""
        self.same_file = self._db.execute("SELECT place FROM agent_place").fetchone() == (self._place(),)
        """Whether this is the very file with which an agent last began: its lock shows that none of then is left."""

    def _place(self) -> str:
        file = (self.folder / FILE_NAME).stat()
        return f"{socket.gethostname()}:{file.st_dev}:{file.st_ino}"

    def settle(self) -> None:
        """Note where the file lies, now that it is decided how it goes on; in the transaction that decides it.

        Not before: who was killed while it waited for that would be taken for one that had begun here.
        """
        self._db.execute("INSERT OR REPLACE INTO agent_place VALUES (1, ?)", (self._place(),))

    # Who has run on the file

    def note_start(self, agent_id: str) -> None:
        """Remember an agent's id before it is published."""
        self._db.execute("INSERT INTO agent_starts (agent_id) VALUES (?)", (agent_id,))
        self._db.execute(
            "DELETE FROM agent_starts WHERE number <= (SELECT max(number) FROM agent_starts) - ?", (STARTS_KEPT,)
        )
        self.starts.add(agent_id)

    def newest_report(self, region: RegionId) -> tuple[int, int] | None:
        """Epoch and sequence of the last numbered stamp of a region; None if the file has none of it."""
        known = self._clocks.get(region)
        return None if known is None else known[1:]

    # Stamps

    def stamp(self, region: RegionId, now_ms: int, *, numbered: bool = True) -> MessageStamp:
        """Read the region's clock; numbered stamps count on in the region's dense sequence."""
        # A store made anew counts as a new life of the region; the second it was made in orders its lives.
        last, epoch, seq = self._clocks.get(region) or (Hlc(0, 0, region), now_ms // 1000, 0)
        if last.ms - now_ms > DEFAULT_LIMITS.park_ms:
            # The wall clock had been ahead and was set right. What was stamped then is parked, quarantined or refused
            # everywhere, and so would be all that follows it: the sequence ends, and another life begins at the truth.
            last, epoch, seq = Hlc(0, 0, region), max(epoch + 1, now_ms // 1000), 0
        reading = tick(last, now_ms, region)
        seq += numbered
        self._clocks[region] = (reading, epoch, seq)
        self._unsaved.add(region)
        return MessageStamp(
            ms=reading.ms, counter=reading.counter, region=region, epoch=epoch, seq=seq if numbered else 0, version=0
        )

    def save_clocks(self) -> None:
        """Write the clocks; inside the transaction that used them."""
        self._db.executemany(
            "INSERT OR REPLACE INTO agent_clocks VALUES (?, ?, ?, ?, ?)",
            [
                (region, last.ms, last.counter, epoch, seq)
                for region in self._unsaved
                for last, epoch, seq in (self._clocks[region],)
            ],
        )
        self._unsaved.clear()

    # What was changed in vain

    @contextmanager
    def changed_with_the_file(self) -> Iterator[None]:
        """Leave what is kept in memory beside the file as it was where what is within fails."""
        clocks, unsaved = dict(self._clocks), set(self._unsaved)
        try:
            yield
        except BaseException:
            # A sequence has no gaps; the clock itself never goes back, because heartbeats may have told it.
            for region, (_, epoch, seq) in clocks.items():
                self._clocks[region] = (self._clocks[region][0], epoch, seq)
            for region in self._clocks.keys() - clocks.keys():
                del self._clocks[region]
            self._unsaved = unsaved | self._clocks.keys()
            raise

    # Held tasks

    def held(self) -> list[HeldAssignment]:
        """Every held task."""
        asked = "SELECT state, event, started_ms, pid FROM agent_held"
        return [
            HeldAssignment(event=self._decoded(_EVENT, event), state=state, started_ms=started_ms, pid=pid)
            for state, event, started_ms, pid in self._db.rows_as(
                tuple[HeldState, bytes, int | None, int | None], asked
            )
        ]

    def hold(self, held: HeldAssignment) -> None:
        """Keep a task as it is now."""
        self._db.execute(
            "INSERT OR REPLACE INTO agent_held VALUES (?, ?, ?, ?, ?, ?, ?)",
            (*held.key, held.state, _ENCODER.encode(held.event), held.started_ms, held.pid),
        )

    def drop(self, held: HeldAssignment) -> None:
        """Hold a task no longer."""
        self._db.execute("DELETE FROM agent_held WHERE region = ? AND task_id = ? AND epoch = ?", held.key)

    # Reports

    def report(self, status: StatusEvent) -> None:
        """Put a report into the outbox."""
        self._db.execute("INSERT INTO agent_outbox (status) VALUES (?)", (_ENCODER.encode(status),))

    def outbox(self, prefix: str, limit: int) -> tuple[list[OutgoingRecord], int]:
        """Oldest reports as records, and the number of the last one (0: none)."""
        rows = self._db.execute("SELECT number, status FROM agent_outbox ORDER BY number LIMIT ?", (limit,)).fetchall()
        records = [status_record(self._decoded(_STATUS, status), prefix) for _, status in rows]
        return records, rows[-1][0] if rows else 0

    def acknowledged(self, number: int) -> None:
        """Forget the reports up to this one."""
        self._db.execute("DELETE FROM agent_outbox WHERE number <= ?", (number,))

    def _decoded(self, decoder: "msgspec.json.Decoder[Message]", stored: bytes) -> Message:
        try:
            return decoded(decoder, stored)
        except UndecodableError as error:
            raise self._db.damaged(f"what it keeps cannot be read ({error})") from error

    # Runs

    def begin_run(self, held: HeldAssignment, now_ms: int) -> None:
        """Note that a task starts to run.

        Raises:
            FenceError: it ran in this epoch before. The fence makes that impossible; should it ever be wrong, the
                agent ends here instead of running a task twice.
        """
        self._db.execute(
            "INSERT INTO agent_runs (region, task_id, epoch, started_ms) VALUES (?, ?, ?, ?)", (*held.key, now_ms)
        )

    def end_run(self, held: HeldAssignment, now_ms: int, outcome: str) -> None:
        """Note how a run ended."""
        self._db.execute(
            "UPDATE agent_runs SET ended_ms = ?, outcome = ? WHERE region = ? AND task_id = ? AND epoch = ?",
            (now_ms, outcome, *held.key),
        )

    def forget(self, now_ms: int) -> None:
        """Drop what is long over: the fence by its own proof, the runs (kept for people and checks) with it."""
        self.fence.forget()
        self._db.execute("DELETE FROM agent_runs WHERE ended_ms < ?", (now_ms - KEEP_MS,))

    def close(self) -> None:
        """Close the file and let the folder go."""
        self.fence.close()
        self._lock.close()


def status_record(status: StatusEvent, prefix: str) -> OutgoingRecord:
    """Make the record of a report. Its id names what happened, so that sending it again repeats the id."""
    time_ms = status.observed_at or 0
    about: Iterable[str | int] = (
        (status.task_id, status.epoch, *((time_ms,) if status.type == "progress" else ()))
        if status.task_id is not None
        else (time_ms, status.agent_id)
    )
    return outgoing(
        STATUS,
        prefix,
        status,
        key=status.task_id or status.region,
        region=status.region,
        event=Envelope(
            event_id=content_id("status", status.type, status.region, *about),
            source=f"/thalweg/agent/{status.region}",
            event_type=f"status.{status.type}",
            time_ms=time_ms,
        ),
    )


def inventory(held: Iterable[HeldAssignment]) -> list[HeldTask]:
    """List held tasks, each once with its highest epoch; what is told to stop is the region's no more."""
    highest: dict[TaskId, int] = {}
    for task in held:
        if task.state is HeldState.STOPPING:
            continue
        highest[task.event.task_id] = max(task.event.epoch, highest.get(task.event.task_id, 0))
    return [HeldTask(task_id=task_id, epoch=epoch) for task_id, epoch in sorted(highest.items())]


def new_agent_id() -> str:
    """Name one start of one agent."""
    return content_id(time.time_ns())[:12]
