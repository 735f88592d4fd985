"""The entries of a batch on their way to the replica topic."""

from collections.abc import Sequence

from thalweg.streams.replication.replica_log import LogRecord, ReplicaLog
from thalweg.sync.centre.centre import Centre


class TopicReplacedError(Exception):
    """The replica topic was made anew while it was written: the job starts again and publishes all it has."""

    def __init__(self, position: int, expected: int) -> None:
        super().__init__(
            f"the replica topic was made anew: its last record lies at {position - 1}, expected was {expected} or "
            "beyond. All records are published again"
        )


class Publication:
    """A batch's entries on their way to the replica topic."""

    def __init__(self, log: ReplicaLog, centre: Centre, outgoing: Sequence[LogRecord]) -> None:
        self._log = log
        self._centre = centre
        self._outgoing = outgoing
        self._tries = 0
        self.foreign = range(0)
        """Positions that somebody else has written since the last time."""

    def publish(self) -> None:
        """Publish; the same entries once more say nothing new.

        Raises:
            TopicReplacedError: The topic was made anew meanwhile.
        """
        self._tries += 1
        expected = self._centre.position
        end = self._log.publish(self._outgoing)
        if self._outgoing and end <= expected:
            raise TopicReplacedError(end, expected)
        end = max(end, expected)
        self._centre.published(end)
        if self._outgoing and self._tries == 1:  # after a try that failed, what lies between may be ours
            self.foreign = range(expected, end - len(self._outgoing))
