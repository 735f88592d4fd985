"""Read records from chosen positions, without consumer groups: who reads keeps its own place.

`KafkaReader` serves the agent (named topics, positions from its fence), the client and the demo (topics by pattern; a
topic that appears later is read from its beginning).
"""

import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, Self

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from thalweg.conf.settings import KafkaSettings
from thalweg.streams.broker.connection import consumer_options, is_unreadable
from thalweg.streams.broker.errors import BrokerUnavailableError, UnreadableError

# New regions appear by their first message; a look at the topic list every two seconds costs one small request.
_DISCOVER_EVERY_S: Final = 2.0

FETCH_MAX_WAIT_MS: Final = 50
"""How long the broker may hold a fetch. There is one at a time, without the partitions whose records lie unread here:
where one region speaks and the others are silent, its next records wait for that fetch to come back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IncomingRecord:
    """One record as read."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = field(default_factory=tuple)

    @classmethod
    def of(cls, record: Any) -> Self:
        """Take a record of kafka-python's."""
        return cls(
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            timestamp_ms=record.timestamp,
            key=record.key,
            value=record.value,
            headers=tuple(record.headers),
        )


class Reader(Protocol):
    """What reads: Kafka (`KafkaReader`) or memory (`streams.broker.memory.MemoryReader`)."""

    def poll(self, timeout_ms: int) -> list[IncomingRecord]:
        """Return what arrived, in order within a partition; wait at most so long for the first record."""

    def end_offsets(self) -> dict[tuple[str, int], int]:
        """Offset after the newest record, of each partition read."""

    def close(self) -> None:
        """Give up the connection."""


def from_beginning(topic: str, partition: int) -> int:
    """Start at the oldest record kept."""
    return 0


class KafkaReader:
    """Read partitions directly. Not for several threads."""

    def __init__(
        self,
        kafka: KafkaSettings,
        *,
        topics: Iterable[str] = (),
        pattern: str | None = None,
        start: Callable[[str, int], int] = from_beginning,
        since_ms: int | None = None,
        max_records: int = 2_000,
        client_id: str = "thalweg",
    ) -> None:
        """Connect and take the partitions there are.

        Args:
            kafka: the broker's settings.
            topics: names to read; each must exist.
            pattern: regular expression of further names; those that appear later are read from their beginning.
            start: next offset to read of (topic, partition); one that is not kept any more becomes the oldest kept.
            since_ms: start at the first record of this broker time or later instead; overrides `start`.
            max_records: most records of one poll.
            client_id: shown in the broker's own logs and metrics.

        Raises:
            BrokerUnavailableError: nobody answers within `kafka.request_timeout_ms`.
        """
        self._topics = frozenset(topics)
        self._pattern = re.compile(pattern) if pattern is not None else None
        self._start = start
        self._taken: set[TopicPartition] = set()
        self._next_discovery = 0.0
        self._unreadable: UnreadableError | None = None
        self._servers = kafka.bootstrap_servers
        try:
            self._consumer = KafkaConsumer(
                client_id=client_id,
                group_id=None,
                enable_auto_commit=False,
                auto_offset_reset="earliest",
                max_poll_records=max_records,
                fetch_max_wait_ms=FETCH_MAX_WAIT_MS,
                allow_auto_create_topics=False,
                metrics_enabled=False,
                **consumer_options(kafka),
            )
            self._discover(since_ms)
        except (KafkaError, OSError) as error:
            raise BrokerUnavailableError(kafka.bootstrap_servers, error) from error

    def _discover(self, since_ms: int | None) -> None:
        """Take partitions not taken yet."""
        self._next_discovery = time.monotonic() + _DISCOVER_EVERY_S
        names: set[str] = set(self._topics)
        if self._pattern is not None:
            names |= {name for name in self._consumer.topics() if self._pattern.fullmatch(name)}
        new: list[TopicPartition] = [
            TopicPartition(name, partition)
            for name in sorted(names)
            for partition in sorted(self._consumer.partitions_for_topic(name) or ())
        ]
        new = [partition for partition in new if partition not in self._taken]
        if not new:
            return
        self._taken.update(new)
        self._consumer.assign(sorted(self._taken))
        found: dict[TopicPartition, Any] = {}
        if since_ms is not None:
            # The ends first: what is written between the two questions is then found by its time, and not passed over.
            ends = self._consumer.end_offsets(new)
            found = self._consumer.offsets_for_times(dict.fromkeys(new, since_ms))
        for partition in new:
            if since_ms is not None:
                hit = found.get(partition)
                self._consumer.seek(partition, hit.offset if hit is not None else ends[partition])
            elif (offset := self._start(partition.topic, partition.partition)) > 0:
                self._consumer.seek(partition, offset)
            else:
                self._consumer.seek_to_beginning(partition)

    def poll(self, timeout_ms: int) -> list[IncomingRecord]:
        """Return what arrived; an unreachable broker looks like silence, and is tried again with the next call.

        Raises:
            UnreadableError: records lie there that this client cannot read; they are not silence.
        """
        if self._pattern is not None and time.monotonic() >= self._next_discovery:
            try:
                self._discover(None)
            except KafkaError:
                # The broker is away; the topics will still be there when it is back.
                self._next_discovery = time.monotonic() + _DISCOVER_EVERY_S
        if self._unreadable is not None:
            raise self._unreadable  # the consumer would go round the same records for ever
        try:
            batches = self._consumer.poll(timeout_ms=timeout_ms)
        except Exception as error:
            if not is_unreadable(error):
                time.sleep(min(timeout_ms, 100) / 1000)
                return []
            self._unreadable = UnreadableError(sorted({place.topic for place in self._taken}), error)
            raise self._unreadable from error
        return [IncomingRecord.of(record) for batch in batches.values() for record in batch]

    def end_offsets(self) -> dict[tuple[str, int], int]:
        """Offset after the newest record, of each partition read.

        Raises:
            BrokerUnavailableError: nobody answers.
        """
        try:
            ends = self._consumer.end_offsets(sorted(self._taken))
        except (KafkaError, OSError) as error:
            raise BrokerUnavailableError(self._servers, error) from error
        return {(partition.topic, partition.partition): offset for partition, offset in ends.items()}

    def position(self, topic: str, partition: int) -> int:
        """Next offset to read: everything before it was handed over, or is nothing that readers get."""
        found: int = self._consumer.position(TopicPartition(topic, partition))
        return found

    def known_end(self, topic: str, partition: int) -> int | None:
        """Offset after the newest record as the last fetch has shown it; None before the first."""
        found: int | None = self._consumer.highwater(TopicPartition(topic, partition))
        return found

    def close(self) -> None:
        """Close the connection."""
        self._consumer.close(autocommit=False, timeout_ms=1_000)

    def __enter__(self) -> "KafkaReader":
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()
