"""The replica topic: the centre's entries as compacted Kafka records, in one partition, in one order.

The record's key is the replicated record's, so that compaction keeps the newest state of each. The centre's own words
(what it has of a region, digests, repairs) have keys that begin with U+0000. A forgotten key is Kafka's tombstone: a
null value, with the vector of what was forgotten in a header.
"""

from collections.abc import Sequence
from typing import Final, Protocol

import msgspec
from kafka import KafkaProducer
from kafka.errors import KafkaError

from thalweg.conf.settings import KafkaSettings
from thalweg.conf.words import cut_short
from thalweg.streams.broker.admin import existing_topics
from thalweg.streams.broker.connection import close_producer, connection_options
from thalweg.streams.broker.errors import BrokerUnavailableError, NotAcknowledgedError, TopicGoneError
from thalweg.streams.contract.decode import decoded
from thalweg.streams.contract.topics import REPLICA, topic_name
from thalweg.sync.protocol.entries import BucketEntry, DigestEntry, Entry, ForgetEntry, RecordEntry, RegionEntry
from thalweg.sync.protocol.records import RESERVED_KEY_PREFIX
from thalweg.sync.protocol.vectors import Vector

_ENTRY: Final = msgspec.json.Decoder(Entry)
_VECTOR: Final = msgspec.json.Decoder(dict[str, int])
_ENCODER: Final = msgspec.json.Encoder()
_FORGOTTEN: Final = "forgotten"
_RECORD_START: Final = b'{"kind":"record","record":'
_BATCH_BYTES: Final = 524_288
# A batch leaves when it is full or when we flush, as in `streams.broker.publish`.
_UNTIL_FLUSHED_MS: Final = 100


class LogRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One Kafka record of the replica topic."""

    key: bytes
    value: bytes | None
    headers: list[tuple[str, bytes]] = []


def record_entry(key: str, encoded: bytes) -> LogRecord:
    """Write a record whose encoding is at hand."""
    return LogRecord(key=key.encode(), value=_RECORD_START + encoded + b"}")


def forget_entry(key: str, vector: Vector) -> LogRecord:
    """Write that a key is forgotten."""
    return LogRecord(key=key.encode(), value=None, headers=[(_FORGOTTEN, _ENCODER.encode(vector))])


def write_entry(entry: Entry) -> LogRecord:
    """Write any entry."""
    match entry:
        case RecordEntry():
            return LogRecord(key=entry.record.key.encode(), value=_ENCODER.encode(entry))
        case ForgetEntry():
            return forget_entry(entry.key, entry.vector)
        case RegionEntry():
            name = f"region/{entry.region}"
        case DigestEntry():
            name = "digests"
        case BucketEntry():
            name = f"bucket/{entry.bucket}"
    return LogRecord(key=f"{RESERVED_KEY_PREFIX}{name}".encode(), value=_ENCODER.encode(entry))


def read_entry(key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes]]) -> Entry | None:
    """Read an entry; None for a foreign record, which readers skip: only the centre may write here."""
    try:
        if value is not None:
            entry: Entry = decoded(_ENTRY, value)
            return entry
        vector = dict(headers).get(_FORGOTTEN)
        return None if vector is None or key is None else ForgetEntry(key.decode(), decoded(_VECTOR, vector))
    except ValueError:  # undecodable, or a key that is no text
        return None


class ReplicaLog(Protocol):
    """What the centre publishes to."""

    def publish(self, records: Sequence[LogRecord]) -> int:
        """Write the records in this order, wait for the acknowledgements, and return the position after the last."""


class KafkaReplicaLog:
    """The replica topic in Kafka, for its one writer."""

    def __init__(self, kafka: KafkaSettings, *, timeout_ms: int = 30_000) -> None:
        """Connect.

        Raises:
            BrokerUnavailableError: Nobody answers.
        """
        self._kafka = kafka
        self._topic = topic_name(REPLICA, kafka.topic_prefix)
        self._timeout_ms = timeout_ms
        self._position = 0
        self._producer: KafkaProducer | None = self._connected()

    def _connected(self) -> KafkaProducer:
        timeout_ms = self._timeout_ms
        try:
            return KafkaProducer(
                client_id="thalweg-replicate",
                acks="all",
                # Order within the partition is what regions rely on; idempotence keeps it across retries.
                enable_idempotence=True,
                linger_ms=_UNTIL_FLUSHED_MS,
                batch_size=_BATCH_BYTES,
                compression_type="zstd",  # each region reads all of it over a long way
                delivery_timeout_ms=timeout_ms,
                max_block_ms=timeout_ms,
                max_request_size=2 * REPLICA.max_message_bytes,
                allow_auto_create_topics=False,
                metrics_enabled=False,
                **connection_options(self._kafka),
            )
        except (KafkaError, OSError) as error:
            raise BrokerUnavailableError(self._kafka.bootstrap_servers, error) from error

    def publish(self, records: Sequence[LogRecord]) -> int:
        """Write the records; see `ReplicaLog`.

        Raises:
            NotAcknowledgedError: Not all were acknowledged; publish them again.
            BrokerUnavailableError: Nobody answers; publish them again.
            TopicGoneError: The topic is there no more; a start makes it and tells everything again.
        """
        if not records:
            return self._position
        try:
            return self._publish(records)
        except NotAcknowledgedError:
            # A producer that gave records up answers every later one with the same error (`streams.broker.publish`).
            self._give_up_producer()
            if self._is_gone():
                raise TopicGoneError(self._topic) from None
            raise

    def _publish(self, records: Sequence[LogRecord]) -> int:
        if self._producer is None:
            self._producer = self._connected()
        try:
            sent = [
                self._producer.send(self._topic, record.value, key=record.key, headers=record.headers, partition=0)
                for record in records
            ]
            self._producer.flush(timeout=self._timeout_ms / 1000)
            self._position = sent[-1].get(timeout=1).offset + 1
        except KafkaError as error:
            raise self._failure(len(records), len(records), error) from error
        late = [one for one in sent if not one.succeeded()]
        if late:
            raise self._failure(len(late), len(records), late[0].exception)
        return self._position

    def _is_gone(self) -> bool:
        try:
            return self._topic not in existing_topics(self._kafka)
        except BrokerUnavailableError:
            return False  # nobody knows

    def _give_up_producer(self, seconds: float = 0) -> None:
        if self._producer is not None:
            close_producer(self._producer, seconds)
            self._producer = None

    def _failure(self, late: int, total: int, cause: BaseException | None) -> NotAcknowledgedError:
        return NotAcknowledgedError(
            late, total, self._timeout_ms, [self._topic], cut_short(f"{type(cause).__name__}: {cause}")
        )

    def close(self) -> None:
        """Close the connection."""
        self._give_up_producer(1)
