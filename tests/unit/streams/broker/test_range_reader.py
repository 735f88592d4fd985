"""Reading ahead of Spark, without a broker: what fits into memory can be handed over, and closing ends it."""

import time
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest
from kafka import TopicPartition
from kafka.consumer.fetcher import ConsumerRecord

from thalweg.conf.settings import KafkaSettings
from thalweg.streams.broker import range_reader
from thalweg.streams.broker.range_reader import RangeReader

PLACE = ("t", 0)
MARKER = None
"""An offset that no reader gets: the end of a transaction."""


class Consumer:
    """One partition in memory, read one offset a poll."""

    log: list[bytes | None]
    made: list["Consumer"]

    def __init__(self, **_: Any) -> None:
        self.closed = False
        self.at = 0
        self.assigned: set[TopicPartition] = set()
        self.made.append(self)

    def assignment(self) -> set[TopicPartition]:
        return self.assigned

    def assign(self, places: list[TopicPartition]) -> None:
        self.assigned = set(places)

    def seek(self, _: TopicPartition, offset: int) -> None:
        self.at = offset

    def position(self, _: TopicPartition) -> int:
        return self.at

    def poll(self, timeout_ms: int) -> dict[TopicPartition, list[ConsumerRecord]]:
        if self.at == len(self.log):
            time.sleep(timeout_ms / 1_000)
            return {}
        value, offset = self.log[self.at], self.at
        self.at += 1
        if value is MARKER:
            return {}
        fields = defaultdict(lambda: None, topic="t", partition=0, offset=offset, timestamp=7, value=value)
        return {TopicPartition(*PLACE): [ConsumerRecord(*(fields[name] for name in ConsumerRecord._fields))]}

    def close(self) -> None:
        time.sleep(0.05)  # as long as a broker may take to let somebody go
        self.closed = True


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> list[bytes | None]:
    """What the partition holds."""
    held: list[bytes | None] = []
    monkeypatch.setattr(Consumer, "log", held, raising=False)
    monkeypatch.setattr(Consumer, "made", [], raising=False)
    monkeypatch.setattr(range_reader, "KafkaConsumer", Consumer)
    monkeypatch.setattr(range_reader, "_PAUSE_S", 0.001)
    return held


@pytest.fixture
def reader(log: list[bytes | None]) -> Iterator[RangeReader]:
    made = RangeReader(KafkaSettings())
    yield made
    made.close()


@pytest.mark.parametrize("bound", ["BUFFERED_RECORDS", "BUFFERED_BYTES"])
@pytest.mark.parametrize("behind", [[], [MARKER], [MARKER, MARKER]], ids=["nothing", "a marker", "two markers"])
def test_a_range_that_fills_the_memory_exactly_is_handed_over_whatever_lies_behind_its_records(
    log: list[bytes | None], reader: RangeReader, behind: list[None], bound: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(range_reader, bound, 3)
    log += [b"a", MARKER, b"b", b"c", *behind]
    rows = reader.read({PLACE: (0, len(log))}, 5)
    assert rows is not None, "it is left to Spark"
    assert rows.column("value").to_pylist() == [b"a", b"b", b"c"]


def test_reading_ahead_stops_at_so_much_in_memory_and_goes_on_once_it_is_taken(
    log: list[bytes | None], reader: RangeReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(range_reader, "BUFFERED_RECORDS", 3)
    log += [b"%d" % number for number in range(20)]
    for start in range(0, 20, 2):
        rows = reader.read({PLACE: (start, start + 2)}, 5)
        assert rows is not None and rows.column("offset").to_pylist() == [start, start + 1]
        time.sleep(0.005)
        assert reader.arrived({}).num_rows <= 3 + 1, "no more than one poll beyond it"


def test_closing_is_over_when_nobody_is_connected_any_more(log: list[bytes | None], reader: RangeReader) -> None:
    log.append(b"a")
    assert reader.read({PLACE: (0, 1)}, 5) is not None
    reader.close()
    assert [consumer.closed for consumer in Consumer.made] == [True]
    assert reader.read({PLACE: (1, 2)}, 5) is None, "and who asks does not wait"
