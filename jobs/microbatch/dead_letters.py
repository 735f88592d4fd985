"""The dead-letter topic as a job writes to it: connected when something is refused for the first time."""

from collections.abc import Callable, Sequence

from thalweg.streams.broker.deadletter import RefusedRecord, dead_letter
from thalweg.streams.broker.publish import Publisher


class DeadLetters:
    """Publishes what a job refuses. A letter's id is its record's place, so a repetition is recognised."""

    def __init__(self, topic_prefix: str, connect: Callable[[], Publisher]) -> None:
        """Prepare; most runs refuse nothing and never connect.

        Args:
            topic_prefix: first part of the topics' names.
            connect: gives the publisher.
        """
        self._topic_prefix = topic_prefix
        self._connect = connect
        self._publisher: Publisher | None = None

    def publish(self, refused: Sequence[RefusedRecord]) -> None:
        """Publish the letters and return when each is acknowledged."""
        if self._publisher is None:
            self._publisher = self._connect()
        self._publisher.publish([dead_letter(record, self._topic_prefix) for record in refused])

    def close(self) -> None:
        """Give up the connection."""
        if self._publisher is not None:
            self._publisher.close()
