"""A batch's entries on their way to the replica topic: what others wrote meanwhile is named, and nothing of ours is."""

from collections.abc import Sequence

import pytest

from thalweg.jobs.replication.publication import Publication
from thalweg.streams.replication.replica_log import LogRecord
from thalweg.sync.centre.centre import Centre

OURS = [LogRecord(key=b"k", value=b"%d" % number) for number in range(3)]


class Log:
    """A topic to which others may write just before we do, and which may lose the first acknowledgement."""

    def __init__(self, end: int, others: int, fails: bool) -> None:
        self.end, self.others, self.fails = end, others, fails

    def publish(self, records: Sequence[LogRecord]) -> int:
        self.end += self.others + len(records)
        self.others = 0
        if self.fails:
            self.fails = False
            raise OSError("no acknowledgement")
        return self.end


@pytest.mark.parametrize("fails", [False, True], ids=["at once", "at the second try"])
@pytest.mark.parametrize("others", [0, 2])
@pytest.mark.parametrize("ours", [0, 3])
def test_positions_that_somebody_else_wrote_are_named_where_it_is_known_that_they_are_not_ours(
    ours: int, others: int, fails: bool
) -> None:
    log, centre = Log(10, others, fails), Centre(position=10)
    entries = Publication(log, centre, OURS[:ours])
    assert not entries.foreign, "nothing is said before anything is written"
    for _ in range(1 + fails):
        try:
            entries.publish()
        except OSError:
            continue
    known = ours and not fails
    assert entries.foreign == range(10, 10 + others * bool(known))
    assert centre.position == log.end
