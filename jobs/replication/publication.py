"""The entries of a batch on their way to the replica topic."""

from collections.abc import Sequence

from thalweg.streams.replication.replica_log import LogRecord, ReplicaLog
from thalweg.sync.centre.centre import Centre


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
        """Publish; the same entries once more say nothing new."""
        self._tries += 1
        expected = self._centre.position
        end = max(self._log.publish(self._outgoing), expected)
        self._centre.published(end)
        if self._outgoing and self._tries == 1:  # after a try that failed, what lies between may be ours
            self.foreign = range(expected, end - len(self._outgoing))
