"""One process's connection to the broker: it can be cut or lose an answer, and the process die between two records."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from thalweg.proof.points import Points
from thalweg.scheduling.liveness.hearing import Ends
from thalweg.streams.broker.consume import IncomingRecord
from thalweg.streams.broker.errors import BrokerUnavailableError, NotAcknowledgedError
from thalweg.streams.broker.memory import MemoryBroker, MemoryReader
from thalweg.streams.broker.publish import OutgoingRecord


@dataclass(slots=True, kw_only=True)
class Wire:
    """Publishes to a broker in memory, and makes readers of it."""

    broker: MemoryBroker
    points: Points
    cut: bool = False
    """Nothing passes, in either direction."""
    lost_answers: int = 0
    """So many of the next calls write everything and are not acknowledged."""

    lost_commits: int = 0
    """So many of the next commits are made without the process hearing of it."""

    def publish(self, records: Sequence[OutgoingRecord]) -> None:
        """Write records one by one.

        Raises:
            NotAcknowledgedError: the connection is cut, or the answer was lost.
        """
        if self.cut:
            raise self._unanswered(records)
        for record in records:
            self.points.reach("publish")
            self.broker.publish([record])
        self.points.reach("published")
        if records and self.lost_answers:
            self.lost_answers -= 1
            raise self._unanswered(records)

    def close(self) -> None:
        """Do nothing; the records stay."""

    def reader(self, topics: Sequence[str], start: Callable[[str, int], int]) -> "WireReader":
        """Read topics from where the process's own books say."""
        return WireReader(self, MemoryReader(self.broker, topics=topics, start=start))

    def ends(self) -> Ends:
        """Where every topic ends."""
        return {name: {0: len(log)} for name, log in self.broker.topics.items()}

    @staticmethod
    def _unanswered(records: Sequence[OutgoingRecord]) -> NotAcknowledgedError:
        return NotAcknowledgedError(len(records), len(records), 0, sorted({r.topic for r in records}), "no answer")


@dataclass(slots=True)
class WirePast:
    """Reads what topics hold, as `streams.broker.past.KafkaPast` does."""

    wire: Wire

    def since(self, ends: Mapping[tuple[str, int], int], moment_ms: int) -> dict[tuple[str, int], int]:
        """Say where what came at a moment or later begins."""
        return {
            (topic, partition): next(
                (record.offset for record in self.wire.broker.topics[topic][:end] if record.timestamp_ms >= moment_ms),
                end,
            )
            for (topic, partition), end in ends.items()
        }

    def read(self, starts: Mapping[tuple[str, int], int], ends: Mapping[tuple[str, int], int]) -> list[IncomingRecord]:
        """Read what lies between.

        Raises:
            BrokerUnavailableError: the connection is cut.
        """
        if self.wire.cut:
            raise BrokerUnavailableError("the broker", TimeoutError("cut"))
        return [
            record
            for (topic, partition), end in ends.items()
            for record in self.wire.broker.topics[topic][starts.get((topic, partition), 0) : end]
        ]


@dataclass(slots=True)
class WireReader:
    """Reads what its wire lets through."""

    wire: Wire
    reader: MemoryReader

    def poll(self, timeout_ms: int) -> list[IncomingRecord]:
        """Return what arrived; never waits."""
        return [] if self.wire.cut else self.reader.poll(0)

    def end_offsets(self) -> dict[tuple[str, int], int]:
        """Offset after the newest record of each topic."""
        return self.reader.end_offsets()

    def close(self) -> None:
        """Do nothing."""
