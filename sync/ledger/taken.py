"""Which requests the ledger has taken, known by where they lay in their topic.

A checkpoint that is older than the ledger (restored from a copy, lost with the power, moved away) makes the topic's
past arrive once more. A request that was taken then must not be taken again: an old update would undo a newer one. And
one that was not must not be passed over because it comes along with them.

What is known of a task in a partition is the furthest request that was taken. A request at or before it was judged
before it, since a partition is read in order. Its time must not lie after, either: a topic that was deleted and made
anew counts from 0 again, and what it holds is news.
"""

from collections.abc import Callable
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from thalweg.scheduling.ids import TaskId

COLUMNS = ("task_id", "topic", "topic_partition", "topic_offset", "topic_timestamp_ms")


class _Furthest(NamedTuple):
    offset: int
    timestamp_ms: int


class Reach(dict[tuple[str, int], int]):
    """How far the ledger's rows reach into the topics: (topic, partition) → the furthest request taken."""

    def note(self, rows: pa.Table) -> None:
        """Note more rows."""
        asked = rows.filter(pc.is_valid(rows["topic_offset"]))
        places = asked.select(["topic", "topic_partition", "topic_offset"]).group_by(["topic", "topic_partition"])
        for row in places.aggregate([("topic_offset", "max")]).to_pylist():
            place = (row["topic"], row["topic_partition"])
            self[place] = max(self.get(place, -1), row["topic_offset_max"])


class TakenRequests:
    """Looked at for every request, asked for its index only when the past arrives again."""

    def __init__(self, load: Callable[[], pa.Table]) -> None:
        """Start with nothing.

        Args:
            load: reads COLUMNS of every ledger row.
        """
        self._load = load
        self.reach = Reach()
        self._of_task: dict[tuple[str, str, int], _Furthest] | None = None

    def has(self, task_id: TaskId, topic: str, partition: int, offset: int, timestamp_ms: int) -> bool:
        """Tell whether a request was judged by the driver whose rows these are."""
        if offset > self.reach.get((topic, partition), -1):
            return False
        if self._of_task is None:
            self._of_task = _index(self._load())
        furthest = self._of_task.get((task_id, topic, partition))
        return furthest is not None and offset <= furthest.offset and timestamp_ms <= furthest.timestamp_ms


def _index(rows: pa.Table) -> dict[tuple[str, str, int], _Furthest]:
    index: dict[tuple[str, str, int], _Furthest] = {}
    for task_id, topic, partition, offset, timestamp_ms in zip(*(rows[n].to_pylist() for n in COLUMNS), strict=True):
        if offset is not None:
            key = (task_id, topic, partition)
            known = index.get(key, _Furthest(-1, -1))
            index[key] = _Furthest(max(known.offset, offset), max(known.timestamp_ms, timestamp_ms or 0))
    return index
