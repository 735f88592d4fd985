"""What brokers and other clients may write, our readers read, in any codec and size; and nothing that was not sent."""

import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from kafka import KafkaAdminClient, KafkaProducer
from kafka.admin import ConfigResource, ConfigResourceType

from thalweg.audit.watch import records_until_now
from thalweg.conf.settings import KafkaSettings
from thalweg.streams.broker.admin import ensure_topics, raise_limits
from thalweg.streams.broker.consume import KafkaReader
from thalweg.streams.broker.errors import UnreadableError
from thalweg.streams.broker.publish import KafkaPublisher, OutgoingRecord
from thalweg.streams.broker.range_reader import RangeReader
from thalweg.streams.broker.sources import read_pattern
from thalweg.streams.contract.topics import ASSIGNMENTS, REQUESTS, topic_name

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

pytestmark = pytest.mark.acceptance


@pytest.fixture
def kafka(broker: str) -> KafkaSettings:
    return KafkaSettings(bootstrap_servers=broker, topic_prefix=f"e{uuid.uuid4().hex[:8]}")


@pytest.fixture
def transactional(broker: str) -> Iterator[KafkaProducer]:
    producer = KafkaProducer(bootstrap_servers=broker, transactional_id=uuid.uuid4().hex)
    producer.init_transactions()
    yield producer
    producer.close()


def read(reader: KafkaReader, count: int, within_s: float = 15) -> list[bytes | None]:
    deadline = time.monotonic() + within_s
    values: list[bytes | None] = []
    while len(values) < count and time.monotonic() < deadline:
        values += [record.value for record in reader.poll(100)]
    return values


def test_what_a_transaction_took_back_or_has_not_committed_reaches_nobody(
    kafka: KafkaSettings, transactional: KafkaProducer, broker: str, spark: "SparkSession", tmp_path: Path
) -> None:
    ensure_topics(kafka, contracts=[REQUESTS])
    topic = topic_name(REQUESTS, kafka.topic_prefix)
    plain = KafkaProducer(bootstrap_servers=broker)

    def send(producer: KafkaProducer, *values: bytes) -> None:
        for value in values:
            producer.send(topic, value, partition=0).get(10)

    send(plain, b"plain")  # offset 0
    transactional.begin_transaction()
    send(transactional, b"aborted 1", b"aborted 2")  # 1, 2; the marker is 3
    transactional.abort_transaction()
    transactional.begin_transaction()
    send(transactional, b"committed")  # 4; the marker is 5
    transactional.commit_transaction()
    wanted = [b"plain", b"committed"]

    reader = KafkaReader(kafka, topics=[topic])
    assert read(reader, 2) == wanted
    assert [record.value for record in records_until_now(kafka, topics=[topic])] == wanted, "a marker ends the topic"

    ahead = RangeReader(kafka)
    for start, end, inside in ((0, 6, wanted), (0, 4, [b"plain"]), (1, 4, []), (3, 6, [b"committed"]), (5, 6, [])):
        rows = ahead.read({(topic, 0): (start, end)}, 10)
        assert rows is not None, "offsets that nobody gets are not waited for"
        assert rows.column("value").to_pylist() == inside

    taken: list[bytes] = []

    def take(batch: "DataFrame", _: int) -> None:
        taken.extend(row["value"] for row in batch.select("value").collect())

    query = (
        read_pattern(spark, kafka, topic, max_records_per_batch=1_000)
        .writeStream.option("checkpointLocation", str(tmp_path / "checkpoint"))
        .trigger(availableNow=True)
        .foreachBatch(take)
        .start()
    )
    assert query.awaitTermination(60)
    assert taken == [bytearray(value) for value in wanted]

    transactional.begin_transaction()
    send(transactional, b"open")  # 6
    send(plain, b"behind")  # 7: waits for the transaction in front of it
    assert read(reader, 1, within_s=1) == []
    transactional.commit_transaction()
    assert read(reader, 2) == [b"open", b"behind"]
    for closing in (reader, ahead, plain):
        closing.close()


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
def test_an_operator_may_compress_a_topic_in_any_way_that_kafka_knows(kafka: KafkaSettings, codec: str) -> None:
    ensure_topics(kafka, contracts=[REQUESTS])
    topic = topic_name(REQUESTS, kafka.topic_prefix)
    compress(kafka, topic, codec)
    values = [b"%d" % number * 100 for number in range(50)]
    with KafkaPublisher(kafka) as publisher:
        publisher.publish([OutgoingRecord(topic=topic, key=b"k", value=value) for value in values])
    with KafkaReader(kafka, topics=[topic]) as reader:
        assert read(reader, 50) == values


def test_a_codec_that_is_missing_is_named_and_nobody_goes_round_in_circles(
    kafka: KafkaSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    ensure_topics(kafka, contracts=[REQUESTS])
    topic = topic_name(REQUESTS, kafka.topic_prefix)
    compress(kafka, topic, "lz4")
    with KafkaPublisher(kafka) as publisher:
        publisher.publish([OutgoingRecord(topic=topic, key=b"k", value=b"v" * 1_000)])
    for name in ("lz4", "lz4f", "lz4framed"):
        monkeypatch.setattr(f"kafka.codec.{name}", None)
    with KafkaReader(kafka, topics=[topic]) as reader:
        for _ in range(3):
            started = time.monotonic()
            with pytest.raises(UnreadableError, match=f"{topic}.*lz4.*install what is missing"):
                read(reader, 1)
            assert time.monotonic() - started < 10
    ahead = RangeReader(kafka)
    assert ahead.read({(topic, 0): (0, 1), (topic, 1): (0, 1)}, 2) is None, "Spark reads it"
    started = time.monotonic()
    ahead.close()
    assert time.monotonic() - started < 3


def test_a_topic_of_an_earlier_version_takes_the_largest_event(kafka: KafkaSettings) -> None:
    ensure_topics(kafka, ["eu"], contracts=[replace(ASSIGNMENTS, max_message_bytes=1_048_576)])
    topic = topic_name(ASSIGNMENTS, kafka.topic_prefix, "eu")
    assert raise_limits(kafka) == [topic]
    assert raise_limits(kafka) == []
    largest = OutgoingRecord(
        topic=topic, key=b"k", value=bytes(ASSIGNMENTS.max_message_bytes - 200), max_bytes=ASSIGNMENTS.max_message_bytes
    )
    with KafkaPublisher(kafka) as publisher, KafkaReader(kafka, topics=[topic]) as reader:
        publisher.publish([largest])
        assert read(reader, 1) == [largest.value]


def compress(kafka: KafkaSettings, topic: str, codec: str) -> None:
    admin = KafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers)
    admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, {"compression.type": codec})])
    admin.close()
