"""A broker in memory: topics as lists, for tests and for runs without a network.

It keeps what the contract suite asks of the real one: order within a partition, size limits before anything is
written, topics that must exist, readers that start where they are told and see topics appear.
"""

import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from thalweg.streams.broker.consume import IncomingRecord, from_beginning
from thalweg.streams.broker.errors import NotAcknowledgedError
from thalweg.streams.broker.publish import OutgoingRecord, check_sizes
from thalweg.sync.clock import Clock


@dataclass(slots=True, kw_only=True)
class MemoryBroker:
    """Topics with one partition each; publishes and is read from."""

    clock: Clock
    """Milliseconds since 1970: the records' timestamps."""
    topics: dict[str, list[IncomingRecord]] = field(default_factory=dict)
    down: bool = False
    """True refuses to acknowledge, as a broker that is away."""

    def create(self, names: Iterable[str]) -> None:
        """Make topics that are not there."""
        for name in names:
            self.topics.setdefault(name, [])

    def publish(self, records: Sequence[OutgoingRecord]) -> None:
        """Write all records.

        Raises:
            MessageTooLargeError: a record is too large; nothing was written.
            NotAcknowledgedError: the broker is down, or a topic does not exist; nothing was written.
        """
        check_sizes(records)
        unknown = sorted({record.topic for record in records} - self.topics.keys())
        if records and (self.down or unknown):
            cause = "the broker does not answer" if self.down else f"unknown topics: {', '.join(unknown)}"
            raise NotAcknowledgedError(len(records), len(records), 0, unknown, cause)
        for record in records:
            log = self.topics[record.topic]
            log.append(
                IncomingRecord(
                    topic=record.topic,
                    partition=0,
                    offset=len(log),
                    timestamp_ms=self.clock(),
                    key=record.key,
                    value=record.value,
                    headers=tuple(record.headers),
                )
            )

    def close(self) -> None:
        """Do nothing; the records stay."""


class MemoryReader:
    """Read a `MemoryBroker`."""

    def __init__(
        self,
        broker: MemoryBroker,
        *,
        topics: Iterable[str] = (),
        pattern: str | None = None,
        start: Callable[[str, int], int] = from_beginning,
        since_ms: int | None = None,
        max_records: int = 2_000,
    ) -> None:
        self._broker = broker
        self._topics = frozenset(topics)
        self._pattern = re.compile(pattern) if pattern is not None else None
        self._max_records = max_records
        self._next: dict[str, int] = {}
        for name in self._wanted():
            log = broker.topics[name]
            self._next[name] = (
                start(name, 0)
                if since_ms is None
                else next((record.offset for record in log if record.timestamp_ms >= since_ms), len(log))
            )

    def _wanted(self) -> list[str]:
        pattern = self._pattern
        matching = {name for name in self._broker.topics if pattern is not None and pattern.fullmatch(name)}
        return sorted(self._topics | matching)

    def poll(self, timeout_ms: int) -> list[IncomingRecord]:
        """Return what arrived; wait once for the timeout if nothing did."""
        records = self._take()
        if not records and timeout_ms:
            time.sleep(timeout_ms / 1000)
            records = self._take()
        return records

    def _take(self) -> list[IncomingRecord]:
        if self._broker.down:
            return []
        records: list[IncomingRecord] = []
        for name in self._wanted():
            first = self._next.get(name, 0)
            batch = self._broker.topics[name][first : first + self._max_records - len(records)]
            self._next[name] = first + len(batch)
            records += batch
        return records

    def end_offsets(self) -> dict[tuple[str, int], int]:
        """Offset after the newest record of each topic."""
        return {(name, 0): len(self._broker.topics[name]) for name in self._wanted()}

    def position(self, topic: str, partition: int) -> int:
        """Next offset to read."""
        return self._next.get(topic, 0)

    def close(self) -> None:
        """Do nothing."""
