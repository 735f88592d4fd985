"""The reader that is ahead of Spark: exactly the offsets asked for, or nothing."""

import uuid
from collections.abc import Iterator

import pytest
from kafka import KafkaProducer

from thalweg.conf.settings import KafkaSettings
from thalweg.streams.broker.admin import ensure_topics
from thalweg.streams.broker.range_reader import LARGEST_RECORDS, RangeReader
from thalweg.streams.contract.topics import REQUESTS, topic_name

pytestmark = pytest.mark.acceptance


@pytest.fixture
def topic(broker: str) -> Iterator[tuple[KafkaSettings, str, KafkaProducer]]:
    kafka = KafkaSettings(bootstrap_servers=broker, topic_prefix=f"t{uuid.uuid4().hex[:8]}")
    ensure_topics(kafka, contracts=[REQUESTS])
    producer = KafkaProducer(bootstrap_servers=broker)
    yield kafka, topic_name(REQUESTS, kafka.topic_prefix), producer
    producer.close()


def send(producer: KafkaProducer, topic: str, partition: int, *values: str) -> None:
    for value in values:
        producer.send(topic, value.encode(), partition=partition)
    producer.flush()


def test_it_hands_over_exactly_the_ranges_in_step_with_the_batches(
    topic: tuple[KafkaSettings, str, KafkaProducer],
) -> None:
    kafka, name, producer = topic
    reader = RangeReader(kafka)
    try:
        send(producer, name, 0, "a", "b", "c")
        send(producer, name, 1, "x", "y")
        first = reader.read({(name, 0): (0, 2), (name, 1): (0, 2)}, 10)
        assert first is not None
        assert sorted(first.column("value").to_pylist()) == [b"a", b"b", b"x", b"y"]
        assert first.column("timestamp_ms").null_count == 0
        send(producer, name, 0, "d")
        second = reader.read({(name, 0): (2, 4)}, 10)
        assert second is not None
        assert second.select(["partition", "offset", "value"]).to_pylist() == [
            {"partition": 0, "offset": 2, "value": b"c"},
            {"partition": 0, "offset": 3, "value": b"d"},
        ]
    finally:
        reader.close()


def test_a_range_asked_for_again_or_jumped_to_is_read_again(topic: tuple[KafkaSettings, str, KafkaProducer]) -> None:
    kafka, name, producer = topic
    reader = RangeReader(kafka)
    try:
        send(producer, name, 0, *"abcdefgh")
        for start, end in ((0, 3), (0, 3), (6, 8), (2, 5)):
            rows = reader.read({(name, 0): (start, end)}, 10)
            assert rows is not None
            assert b"".join(rows.column("value").to_pylist()) == b"abcdefgh"[start:end]
    finally:
        reader.close()


def test_what_is_not_there_in_time_or_too_much_is_left_to_spark(
    topic: tuple[KafkaSettings, str, KafkaProducer],
) -> None:
    kafka, name, producer = topic
    reader = RangeReader(kafka)
    try:
        send(producer, name, 0, "a")
        assert reader.read({(name, 0): (0, 5)}, 0.5) is None
        assert reader.read({(name, 0): (0, LARGEST_RECORDS + 1)}, 0.5) is None
        send(producer, name, 0, "b")
        rows = reader.read({(name, 0): (1, 2)}, 10)
        assert rows is not None
        assert rows.column("value").to_pylist() == [b"b"]
    finally:
        reader.close()
