"""A reader that starts at a moment passes over no record that is written while it looks for that moment."""

from types import SimpleNamespace
from typing import Any

from thalweg.streams.broker.consume import KafkaReader


class BusyTopic:
    """A consumer of a topic to which a record is written between any two questions."""

    def __init__(self) -> None:
        self.end = 5
        self.sought: dict[Any, int] = {}

    def partitions_for_topic(self, name: str) -> set[int]:
        return {0}

    def assign(self, partitions: Any) -> None:
        pass

    def end_offsets(self, partitions: Any) -> dict[Any, int]:
        answer = dict.fromkeys(partitions, self.end)
        self.end += 1
        return answer

    def offsets_for_times(self, moments: Any) -> dict[Any, Any]:
        written = SimpleNamespace(offset=5) if self.end > 5 else None  # those before are older than the moment
        self.end += 1
        return dict.fromkeys(moments, written)

    def seek(self, partition: Any, offset: int) -> None:
        self.sought[partition.topic] = offset


def test_a_record_that_is_written_between_two_questions_is_read() -> None:
    reader = object.__new__(KafkaReader)
    topic = BusyTopic()
    reader._consumer, reader._topics, reader._pattern, reader._taken = topic, frozenset({"answers"}), None, set()
    reader._discover(since_ms=1)
    assert topic.sought == {"answers": 5}
