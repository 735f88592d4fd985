"""Publish records and wait until the broker has acknowledged every one of them.

One call is one unit: records of all topics go out together and the call returns when all are acknowledged by all
in-sync replicas. A failed call may have written some of them; publishing the same records again is always right,
because event ids are derived from content and every consumer of ours recognises a repetition.
"""

import threading
from collections.abc import Sequence
from typing import Final, Protocol

import msgspec
from kafka import KafkaProducer
from kafka.errors import BrokerResponseError, KafkaError, UnknownTopicOrPartitionError

from thalweg.conf.settings import KafkaSettings
from thalweg.conf.words import cut_short
from thalweg.streams.broker.admin import make_again
from thalweg.streams.broker.connection import close_producer, connection_options, tell_retries
from thalweg.streams.broker.errors import BrokerUnavailableError, MessageTooLargeError, NotAcknowledgedError
from thalweg.streams.broker.partitions import KeyPartitioner
from thalweg.streams.contract import envelope
from thalweg.streams.contract.topics import LARGEST_MESSAGE_BYTES, TopicContract, topic_name

# Batch header (61 bytes) and the record's own lengths, flags and checksums; rounded up.
_RECORD_OVERHEAD_BYTES: Final = 128

# A batch leaves when it is full or when we flush, never by time: while one thread still encodes, the sender's thread
# would take the interpreter from it to send crumbs.
_UNTIL_FLUSHED_MS: Final = 100
_BATCH_BYTES: Final = 262_144

_ENCODER: Final = msgspec.json.Encoder()


class OutgoingRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One record to publish. `value` None is a tombstone."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()
    max_bytes: int = 1_048_576
    """The topic's limit."""

    def size_bytes(self) -> int:
        """Size as the broker counts it, at most a few bytes too high."""
        size = len(self.key or b"") + len(self.value or b"") + _RECORD_OVERHEAD_BYTES
        for name, value in self.headers:
            size += len(name) + len(value) + 8
        return size


class Publisher(Protocol):
    """What publishes: Kafka (`KafkaPublisher`) or memory (`streams.broker.memory.MemoryBroker`)."""

    def publish(self, records: Sequence[OutgoingRecord]) -> None:
        """Write all records and return when each is acknowledged."""

    def close(self) -> None:
        """Give up the connection."""


def outgoing(
    contract: TopicContract,
    prefix: str,
    message: msgspec.Struct,
    *,
    key: str,
    region: str | None = None,
    event: envelope.Envelope,
) -> OutgoingRecord:
    """Make the record of one message: its JSON as value, its CloudEvents attributes as headers."""
    return OutgoingRecord(
        topic=topic_name(contract, prefix, region),
        key=key.encode(),
        value=_ENCODER.encode(message),
        headers=envelope.write_headers(event),
        max_bytes=contract.max_message_bytes,
    )


def check_sizes(records: Sequence[OutgoingRecord]) -> None:
    """Refuse a call of which one record is larger than its topic allows.

    Raises:
        MessageTooLargeError: names the first such record.
    """
    for record in records:
        size = record.size_bytes()
        if size > record.max_bytes:
            raise MessageTooLargeError(record.topic, record.key, size, record.max_bytes)


class KafkaPublisher:
    """Publish to Kafka: idempotent producer, `acks=all`. Threads may share one."""

    def __init__(
        self,
        kafka: KafkaSettings,
        *,
        timeout_ms: int = 10_000,
        client_id: str = "thalweg",
        keeps_topics: bool = False,
    ) -> None:
        """Connect.

        Args:
            kafka: the broker's settings.
            timeout_ms: how long one `publish` waits for all its acknowledgements.
            client_id: shown in the broker's own logs and metrics.
            keeps_topics: make topics again that are gone when something is published: of a process that makes them at
                its start. The call fails all the same, and its repetition succeeds.

        Raises:
            BrokerUnavailableError: nobody answers within `kafka.request_timeout_ms`.
        """
        self._kafka = kafka
        self._timeout_ms = timeout_ms
        self._client_id = client_id
        self._keeps_topics = keeps_topics
        self._connecting = threading.Lock()
        self._producer: KafkaProducer | None = None
        self._last_word: BaseException | None = None
        self._connected()

    def _connected(self) -> KafkaProducer:
        with self._connecting:
            if self._producer is None:
                self._producer = self._connect()
            return self._producer

    def _connect(self) -> KafkaProducer:
        options = connection_options(self._kafka)
        # One request may fail and be tried again before the whole delivery is given up.
        options["request_timeout_ms"] = min(self._kafka.request_timeout_ms, self._timeout_ms // 2)
        options["bootstrap_timeout_ms"] = min(self._kafka.request_timeout_ms, self._timeout_ms)
        try:
            producer = KafkaProducer(
                client_id=self._client_id,
                acks="all",
                enable_idempotence=True,
                linger_ms=min(_UNTIL_FLUSHED_MS, self._timeout_ms // 4),
                batch_size=_BATCH_BYTES,
                delivery_timeout_ms=self._timeout_ms,
                max_block_ms=self._timeout_ms,
                # The limit that counts is each topic's own (`check_sizes`); the producer's must not be below any.
                max_request_size=LARGEST_MESSAGE_BYTES + _BATCH_BYTES,
                allow_auto_create_topics=False,
                metrics_enabled=False,
                partitioner=KeyPartitioner(),
                **options,
            )
        except (KafkaError, OSError) as error:
            raise BrokerUnavailableError(self._kafka.bootstrap_servers, error) from error
        tell_retries(producer, self._hear)
        return producer

    def _hear(self, why: BaseException) -> None:
        self._last_word = why

    def publish(self, records: Sequence[OutgoingRecord]) -> None:
        """Write all records and return when each is acknowledged; order is kept within a topic and key.

        Raises:
            MessageTooLargeError: a record is too large; nothing was sent.
            NotAcknowledgedError: not all were acknowledged in time; publish them again.
        """
        if not records:
            return
        check_sizes(records)
        self._last_word = None
        try:
            producer = self._connected()
            pending = [
                producer.send(record.topic, record.value, key=record.key, headers=list(record.headers))
                for record in records
            ]
            # The producer itself gives up a record after the timeout; the second on top lets it say why.
            producer.flush(timeout=self._timeout_ms / 1000 + 1)
        except (KafkaError, BrokerUnavailableError) as error:
            self._give_up_producer()
            # A producer that has reached its broker fails before it sends anything where it is not told of a topic.
            failure = self._failure(records, len(records), error, may_be_gone=isinstance(error, KafkaError))
            raise failure from error
        unacknowledged = [sent for sent in pending if not sent.succeeded()]
        if unacknowledged:
            self._give_up_producer()
            cause = next((sent.exception for sent in unacknowledged if sent.exception is not None), None)
            unknown = isinstance(self._last_word, UnknownTopicOrPartitionError)
            raise self._failure(records, len(unacknowledged), cause, may_be_gone=unknown) from cause

    def _give_up_producer(self) -> None:
        """Let the next call begin with a new producer.

        An idempotent producer that timed out while it asked for its id, or whose batches expired, answers every later
        record with the same fatal error, also when the broker is long back.
        """
        with self._connecting:
            if self._producer is not None:
                close_producer(self._producer, 0)
                self._producer = None

    def _keep_topics(self, topics: Sequence[str]) -> str:
        """Make topics again that are gone; return words of it."""
        if not self._keeps_topics:
            return ""
        try:
            made = make_again(self._kafka, topics)
        except BrokerUnavailableError as error:
            return f"; topics that may be gone could not be made again ({type(error.__cause__).__name__})"
        return f"; made again, because they were gone: {', '.join(made[:5])}" if made else ""

    def _failure(
        self,
        records: Sequence[OutgoingRecord],
        unacknowledged: int,
        cause: BaseException | None,
        *,
        may_be_gone: bool,
    ) -> NotAcknowledgedError:
        words = cut_short(f"{type(cause).__name__}: {cause}") if cause else "the broker does not answer"
        if isinstance(self._last_word, BrokerResponseError):
            last = type(self._last_word)
            words += f"; the broker's last word: {last.__name__} ({last.description or last.message})"
        topics = sorted({record.topic for record in records})
        if may_be_gone:  # else nobody answers, and to ask would only take longer
            words += self._keep_topics(topics)
        return NotAcknowledgedError(unacknowledged, len(records), self._timeout_ms, topics[:5], words)

    def close(self) -> None:
        """Close the connection; what is not acknowledged by now is given up after a second."""
        with self._connecting:
            if self._producer is not None:
                close_producer(self._producer, 1)
                self._producer = None

    def __enter__(self) -> "KafkaPublisher":
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()
