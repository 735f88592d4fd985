"""A region's replica, live: the durable store, kept up to date by a thread that speaks to Kafka when it can.

    with ReplicaClient("eu", Path("eu.sqlite"), settings.kafka) as replica:
        replica.wait_joined()
        replica.put("dataset/imagenet", Assign("size_gb", 150.0), Add("copies", ("eu",)))
        replica.read("dataset/imagenet")

Reading and writing never wait for the network: a write is durable in the file when the call returns and is sent later,
through restarts and outages, until the centre has confirmed it.
"""

import logging
import secrets
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import msgspec
from kafka import KafkaProducer

from thalweg.conf.settings import KafkaSettings
from thalweg.streams.broker.admin import ensure_topics, identities
from thalweg.streams.broker.connection import close_producer, connection_options
from thalweg.streams.broker.consume import IncomingRecord, KafkaReader
from thalweg.streams.contract.finite import objection
from thalweg.streams.contract.topics import REPLICA, STATE, topic_name
from thalweg.streams.replication.replica_log import read_entry
from thalweg.sync.clock import system_clock
from thalweg.sync.protocol.changes import Assign, Change, ChangeRefusedError, Delete
from thalweg.sync.protocol.entries import DigestEntry, Entry, RegionEntry, Update, UpMessage
from thalweg.sync.protocol.records import Record
from thalweg.sync.replica.replica import Replica
from thalweg.sync.replica.sqlite_store import SqliteStore
from thalweg.sync.tables.snapshots import read_snapshot

log = logging.getLogger("thalweg.replica")

HEARTBEAT_MS: Final = 500
"""Between heartbeats: an acknowledgement that late delays no write, only forgetting and the display."""
SILENT_MS: Final = 10_000
"""Without a word from the centre for this long, everything unconfirmed is sent again."""
POLL_MS: Final = 20
BATCH_UPDATES: Final = 500
BATCH_BYTES: Final = 500_000
"""Updates that share a Kafka record: half the topic's limit, so that one more never passes it."""
STALE_DIGEST_MS: Final = 60_000
"""Older digests were made when the log held entries that compaction has dropped since: they would not compare."""

_ENCODER: Final = msgspec.json.Encoder()


class ReplicaLag(msgspec.Struct, frozen=True, kw_only=True):
    """How far behind a replica is, as far as it knows itself."""

    joined: bool
    waiting: int  # own writes that the centre has not confirmed
    behind: int | None  # records of the replica topic not applied yet; None while the broker is away
    heard_ms_ago: int | None  # since the centre last spoke of this region
    clock_offset_ms: int | None  # the centre's clock minus ours
    digests_agree: bool | None  # when last compared
    fenced: bool  # a newer store of the region has joined: this one is obsolete and sends nothing
    trouble: (
        str | None
    )  # why the replica is cut off from the broker or cannot go on with what it says; None: it is well


class ReplicaClient:
    """See the module's words. Methods may be called from any thread."""

    def __init__(
        self, region: str, path: Path, kafka: KafkaSettings, *, snapshot: Path | None = None, clock_offset_ms: int = 0
    ) -> None:
        """Open the store; nothing is sent before `start`.

        Args:
            region: Whose replica this is; one store per region.
            path: The store's file.
            kafka: The broker's settings.
            snapshot: A new store starts from this file (`thalweg sync --snapshot`) instead of the topic's beginning.
            clock_offset_ms: Added to the wall clock; for proofs with wrong clocks.

        Raises:
            StoreUnusableError: The file is taken or is no replica's store.
            SnapshotError: The snapshot is none, of another installation, or too old.
        """
        self.region = region
        self._kafka = kafka
        self._offset_ms = clock_offset_ms
        self._store = SqliteStore(path)
        self._replica = Replica(region, self._store, token=secrets.randbits(52))
        if snapshot is not None and self._replica.state.position == 0:
            found = read_snapshot(snapshot, kafka.topic_prefix, datetime.now(UTC))
            self._replica.restore(found.records, found.position, found.clock)
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._heard_ms: int | None = None
        self._end: int | None = None
        self._leaving = False
        self._trouble: str | None = None

    # ---- reading and writing -------------------------------------------------------------------------------------

    def read(self, key: str) -> dict[str, Any] | None:
        """Return a record's value, own unsent writes included; None if there is none."""
        with self._lock:
            return self._replica.read(key)

    def keys(self, prefix: str = "") -> list[str]:
        """Return the keys of all live records that start with the prefix, ascending."""
        with self._lock:
            return [key for key in self._store.keys(prefix) if self._replica.read(key) is not None]

    def put(self, key: str, *changes: Change) -> Update:
        """Write; see `Replica.write` for what is refused, and a value in which a number is not finite."""
        for change in changes:
            if isinstance(change, Assign) and (wrong := objection({change.field: change.value})) is not None:
                raise ChangeRefusedError(f"field {wrong}")
        with self._lock:
            return self._replica.write(key, changes, self._now_ms())

    def put_value(self, key: str, value: Mapping[str, Any]) -> Update:
        """Assign every field of a value; fields that it does not name stay."""
        return self.put(key, *(Assign(field, one) for field, one in value.items()))

    def delete(self, key: str) -> Update:
        """End a record."""
        return self.put(key, Delete())

    @contextmanager
    def together(self) -> Iterator[None]:
        """Make the writes inside durable at once: one wait for the disk instead of one each.

        If the block raises, none of them was made.
        """
        with self._lock, self._replica.together():
            yield

    def record(self, key: str) -> Record | None:
        """Return the replicated state itself, for proofs."""
        with self._lock:
            return self._store.get(key)

    def digests(self) -> Sequence[int]:
        """Return the digest of every bucket."""
        with self._lock:
            return list(self._store.bucket_digests())

    # ---- how far behind ------------------------------------------------------------------------------------------

    def lag(self) -> ReplicaLag:
        """Tell how far behind this replica is."""
        with self._lock:
            state = self._replica.state
            return ReplicaLag(
                joined=state.joined,
                waiting=state.seq - state.confirmed,
                behind=None if self._end is None else max(0, self._end - state.position),
                heard_ms_ago=None if self._heard_ms is None else self._now_ms() - self._heard_ms,
                clock_offset_ms=self._replica.centre_offset_ms,
                digests_agree=self._replica.digest_agrees,
                fenced=self._replica.fenced,
                trouble=self._trouble,
            )

    def wait_joined(self, timeout_s: float = 60.0) -> bool:
        """Wait until the replica has met the centre and may write."""
        return self._wait(lambda: self._replica.state.joined, timeout_s)

    def wait_confirmed(self, timeout_s: float = 60.0) -> bool:
        """Wait until the centre has every write."""
        return self._wait(lambda: self._replica.state.confirmed == self._replica.state.seq, timeout_s)

    def leave(self, timeout_s: float = 60.0) -> bool:
        """End this region's membership for good, once the centre has every write; the store is obsolete afterwards.

        Without it, a region that goes away holds forgetting back for ever. Returns False if the centre did not answer
        in time: the region is still a member.
        """
        if not self.wait_confirmed(timeout_s):
            return False
        self._leaving = True
        return self._wait(lambda: self._replica.fenced, timeout_s)

    def _wait(self, reached: Any, timeout_s: float) -> bool:
        with self._changed:
            return bool(self._changed.wait_for(reached, timeout_s))

    # ---- the thread ----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to speak to Kafka, in a thread."""
        self._thread = threading.Thread(target=self._run, name=f"replica-{self.region}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop the thread and close the file; what is unsent is sent after the next start."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=30)
        self._store.close()

    def __enter__(self) -> Self:
        """Start."""
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Close."""
        self.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                ensure_topics(self._kafka, [self.region], (STATE, REPLICA))
                replica_topic = topic_name(REPLICA, self._kafka.topic_prefix)
                topic_id = identities(self._kafka, [replica_topic])[1].get(replica_topic, "")
                with self._lock:
                    self._replica.read_topic(topic_id)
                with _Connection(self._kafka, self.region, self._replica.state.position) as connection:
                    self._replica.send_again()
                    self._converse(connection)
            except Exception as error:
                # Whatever it is (a cut, a full disk, an entry that this version cannot apply): the thread lives on,
                # and `lag` says what is wrong. A thread that ends would look like silence for ever.
                self._end = None
                self._trouble = f"{type(error).__name__}: {error}"[:500]
                log.info("%s is cut off and tries again: %s", self.region, self._trouble)
                self._stop.wait(1.0)

    def _converse(self, connection: "_Connection") -> None:
        next_heartbeat_ms = 0
        while not self._stop.is_set():
            if self._apply(connection.poll(), connection):
                return  # from the beginning, by a new connection
            self._trouble = None
            now_ms = self._now_ms()
            with self._lock:
                messages: list[UpMessage] = []
                if not self._replica.fenced:
                    messages += self._replica.outgoing(BATCH_UPDATES)
                if (messages or now_ms >= next_heartbeat_ms) and not self._replica.fenced:
                    if regular := self._regular(now_ms, connection):
                        # First who speaks and what it has read: by that the centre judges what it writes.
                        messages = [regular[0], *messages, *regular[1:]]
                        next_heartbeat_ms = now_ms + HEARTBEAT_MS
                    self._repeat_if_silent(now_ms)
            if messages:
                connection.send(messages)

    def _regular(self, now_ms: int, connection: "_Connection") -> list[UpMessage]:
        if self._replica.must_join:
            return [self._replica.join(now_ms)] if self._replica.may_join(connection.end()) else []
        if self._leaving:
            return [self._replica.heartbeat(now_ms), self._replica.leave()]
        repair = self._replica.repair_request()
        return [self._replica.heartbeat(now_ms), *([repair] if repair else [])]

    def _repeat_if_silent(self, now_ms: int) -> None:
        if self._heard_ms is not None and now_ms - self._heard_ms > SILENT_MS:
            self._replica.send_again()
            self._heard_ms = now_ms

    def _apply(self, records: list[IncomingRecord], connection: "_Connection") -> bool:
        """Apply records; return whether the topic is to be read from its beginning."""
        now_ms = self._now_ms()
        if not records:
            with self._lock:
                return self._settle(now_ms)
        if records[0].offset < self._replica.state.position:  # the topic was made anew, or cut off, under us
            with self._lock:
                self._replica.read_again()
            return True
        entries: list[Entry] = []
        for record in records:
            entry = read_entry(record.key, record.value, record.headers)
            # By the centre's clock, which wrote both times: ours may be wrong.
            centre_ms = now_ms + (self._replica.centre_offset_ms or 0)
            fresh = not isinstance(entry, DigestEntry) or record.timestamp_ms > centre_ms - STALE_DIGEST_MS
            if entry is None:
                log.warning("%s: record %d of the replica topic is not the centre's", self.region, record.offset)
            elif fresh:
                entries.append(entry)
        with self._changed:
            self._replica.apply(entries, records[-1].offset + 1, now_ms)
            if any(isinstance(entry, RegionEntry) and entry.region == self.region for entry in entries):
                self._heard_ms = now_ms
            self._end = connection.end() or self._end
            again = self._settle(now_ms)
            self._changed.notify_all()
            return again

    def _settle(self, now_ms: int) -> bool:
        again = self._replica.settle(self._end, now_ms)
        moved, self._replica.moved = self._replica.moved, []
        lost = [was.record.key for was, now in moved if now is None]
        if moved:
            log.warning(
                "%s began a new life of its store, because it was put back from a copy or its clock was far ahead; "
                "%d writes that the centre had not taken were made again",
                self.region,
                len(moved) - len(lost),
            )
        if lost:
            log.error("%s could not make these writes again, on top of what others wrote: %s", self.region, lost[:20])
        return again

    def _now_ms(self) -> int:
        return system_clock() + self._offset_ms


class _Connection:
    """A reader of the replica topic and a producer to the region's state topic."""

    def __init__(self, kafka: KafkaSettings, region: str, position: int) -> None:
        self._topic = topic_name(STATE, kafka.topic_prefix, region)
        self._replica_topic = topic_name(REPLICA, kafka.topic_prefix)
        self._key = region.encode()
        self._reader = KafkaReader(
            kafka,
            topics=(self._replica_topic,),
            start=lambda topic, partition: position,
            client_id=f"thalweg-replica-{region}",
        )
        try:
            self._producer = KafkaProducer(
                client_id=f"thalweg-replica-{region}",
                acks="all",
                enable_idempotence=True,
                compression_type="zstd",
                linger_ms=0,
                delivery_timeout_ms=20_000,
                max_block_ms=10_000,
                allow_auto_create_topics=False,
                metrics_enabled=False,
                **connection_options(kafka),
            )
        except BaseException:
            self._reader.close()
            raise

    def poll(self) -> list[IncomingRecord]:
        return self._reader.poll(POLL_MS)

    def end(self) -> int | None:
        """Return the newest end of the replica topic that a fetch has shown."""
        return self._reader.known_end(self._replica_topic, 0)

    def send(self, messages: Sequence[UpMessage]) -> None:
        """Send messages in order, many to a record; not waited for: what is lost is asked for again."""
        for value in packed(messages):
            self._producer.send(self._topic, value, key=self._key)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        close_producer(self._producer, 2)
        self._reader.close()


def packed(messages: Sequence[UpMessage]) -> Iterator[bytes]:
    """Pack messages into as few record values as their size allows, keeping their order."""
    pieces: list[bytes] = []
    size = 0
    for message in messages:
        piece = _ENCODER.encode(message)
        if pieces and size + len(piece) > BATCH_BYTES:
            yield _joined(pieces)
            pieces, size = [], 0
        pieces.append(piece)
        size += len(piece) + 1
    if pieces:
        yield _joined(pieces)


def _joined(pieces: Sequence[bytes]) -> bytes:
    return b'{"batch":[' + b",".join(pieces) + b"]}"
