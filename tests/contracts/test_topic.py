"""What readers and publishers rely on, asked of the broker in memory and of the real one alike."""

import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from thalweg.conf.settings import KafkaSettings
from thalweg.streams.broker.admin import ensure_topics, existing_topics
from thalweg.streams.broker.consume import IncomingRecord, KafkaReader, Reader
from thalweg.streams.broker.errors import (
    BrokerUnavailableError,
    MessageTooLargeError,
    NotAcknowledgedError,
    TopicMismatchError,
)
from thalweg.streams.broker.memory import MemoryBroker, MemoryReader
from thalweg.streams.broker.publish import KafkaPublisher, OutgoingRecord, Publisher
from thalweg.streams.contract.topics import (
    ASSIGNMENTS,
    MODELS,
    REQUESTS,
    STATUS,
    TopicContract,
    topic_name,
    topic_pattern,
)

REGION = "aws:us-east-1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One implementation under the suite."""

    prefix: str
    publisher: Publisher
    reader: Callable[..., Reader]
    create: Callable[[list[str]], object]
    """Make the per-region topics of these regions."""


@pytest.fixture(params=["memory", pytest.param("kafka", marks=pytest.mark.acceptance)])
def side(request: pytest.FixtureRequest) -> Iterator[Side]:
    prefix = f"contract-{uuid.uuid4().hex[:8]}"
    if request.param == "memory":
        broker = MemoryBroker(clock=lambda: time.time_ns() // 1_000_000)

        def create(regions: list[str]) -> None:
            broker.create(
                topic_name(contract, prefix, region) for region in regions for contract in (ASSIGNMENTS, STATUS)
            )

        create([REGION])
        yield Side(
            prefix=prefix, publisher=broker, reader=lambda **options: MemoryReader(broker, **options), create=create
        )
        return
    kafka = KafkaSettings(bootstrap_servers=request.getfixturevalue("broker"), topic_prefix=prefix)

    def create_real(regions: list[str]) -> None:
        ensure_topics(kafka, regions, [ASSIGNMENTS, STATUS])

    create_real([REGION])
    with KafkaPublisher(kafka, timeout_ms=2_000) as publisher:
        yield Side(
            prefix=prefix,
            publisher=publisher,
            reader=lambda **options: KafkaReader(kafka, **options),
            create=create_real,
        )


def read(reader: Reader, count: int, within_s: float = 15) -> list[IncomingRecord]:
    deadline = time.monotonic() + within_s
    records: list[IncomingRecord] = []
    while len(records) < count and time.monotonic() < deadline:
        records += reader.poll(100)
    return records


def numbered(topic: str, first: int, last: int) -> list[OutgoingRecord]:
    return [
        OutgoingRecord(topic=topic, key=b"k%d" % i, value=b"v%d" % i, headers=[("n", b"%d" % i)])
        for i in range(first, last)
    ]


def test_a_reader_gets_what_was_published_in_order_with_key_value_headers_and_dense_offsets(side: Side) -> None:
    topic = topic_name(ASSIGNMENTS, side.prefix, REGION)
    side.publisher.publish(numbered(topic, 0, 500))
    records = read(side.reader(topics=[topic]), 500)
    assert [(r.offset, r.key, r.value, list(r.headers)) for r in records] == [
        (i, b"k%d" % i, b"v%d" % i, [("n", b"%d" % i)]) for i in range(500)
    ]


def test_a_reader_starts_where_it_is_told(side: Side) -> None:
    topic = topic_name(ASSIGNMENTS, side.prefix, REGION)
    side.publisher.publish(numbered(topic, 0, 10))
    records = read(side.reader(topics=[topic], start=lambda _topic, _partition: 7), 3)
    assert [r.offset for r in records] == [7, 8, 9]


def test_a_reader_starts_at_a_time_and_before_it_sees_nothing(side: Side) -> None:
    topic = topic_name(ASSIGNMENTS, side.prefix, REGION)
    side.publisher.publish(numbered(topic, 0, 5))
    time.sleep(0.05)
    since_ms = time.time_ns() // 1_000_000
    reader = side.reader(topics=[topic], since_ms=since_ms)
    assert reader.poll(200) == []
    side.publisher.publish(numbered(topic, 5, 8))
    assert [r.offset for r in read(reader, 3)] == [5, 6, 7]
    assert [r.offset for r in read(side.reader(topics=[topic], since_ms=since_ms), 3)] == [5, 6, 7]


def test_a_reader_by_pattern_sees_a_region_that_appears_later_from_its_first_record(side: Side) -> None:
    reader = side.reader(pattern=topic_pattern(STATUS, side.prefix))
    side.publisher.publish(numbered(topic_name(STATUS, side.prefix, REGION), 0, 2))
    assert len(read(reader, 2)) == 2
    side.create(["gcp:us-west1-a"])
    late = topic_name(STATUS, side.prefix, "gcp:us-west1-a")
    side.publisher.publish(numbered(late, 0, 3))
    assert [(r.topic, r.offset) for r in read(reader, 3)] == [(late, 0), (late, 1), (late, 2)]


def test_a_record_over_the_limit_is_refused_before_anything_is_sent(side: Side) -> None:
    topic = topic_name(ASSIGNMENTS, side.prefix, REGION)
    with pytest.raises(MessageTooLargeError, match=r"1,200,\d\d\d bytes, allowed are 1,048,576"):
        side.publisher.publish(
            [*numbered(topic, 0, 1), OutgoingRecord(topic=topic, key=b"big", value=bytes(1_200_000))]
        )
    side.publisher.publish(numbered(topic, 1, 2))
    assert [r.key for r in read(side.reader(topics=[topic]), 1)] == [b"k1"]


def test_a_record_just_under_the_limit_arrives(side: Side) -> None:
    topic = topic_name(ASSIGNMENTS, side.prefix, REGION)
    big = OutgoingRecord(topic=topic, key=b"k", value=bytes(1_048_576 - 128 - 1))
    assert big.size_bytes() == 1_048_576
    side.publisher.publish([big])
    (record,) = read(side.reader(topics=[topic]), 1)
    assert record.value == big.value


def test_publishing_to_a_topic_that_does_not_exist_says_so(side: Side) -> None:
    with pytest.raises(NotAcknowledgedError, match=r"nowhere"):
        side.publisher.publish(numbered(f"{side.prefix}.nowhere", 0, 1))


def test_a_tombstone_arrives_as_no_value(side: Side) -> None:
    topic = topic_name(ASSIGNMENTS, side.prefix, REGION)
    side.publisher.publish([OutgoingRecord(topic=topic, key=b"k", value=None)])
    (record,) = read(side.reader(topics=[topic]), 1)
    assert record.value is None


@pytest.mark.acceptance
def test_topics_are_made_once_by_their_contracts(broker: str) -> None:
    kafka = KafkaSettings(bootstrap_servers=broker, topic_prefix=f"admin-{uuid.uuid4().hex[:8]}")
    made = ensure_topics(kafka, ["aws:us-east-1", "eu_west"])
    assert f"{kafka.topic_prefix}.assignments.aws.us-east-1" in made
    assert f"{kafka.topic_prefix}.status.eu_5fwest" in made
    assert ensure_topics(kafka, ["aws:us-east-1", "eu_west"]) == []
    assert existing_topics(kafka)[topic_name(REQUESTS, kafka.topic_prefix)] == REQUESTS.partitions

    from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient

    admin = KafkaAdminClient(bootstrap_servers=broker)
    models = topic_name(MODELS, kafka.topic_prefix)
    config = admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, models)])
    admin.close()
    assert "compact" in str(config)


@pytest.mark.acceptance
def test_a_topic_with_fewer_partitions_than_its_contract_is_named(broker: str) -> None:
    kafka = KafkaSettings(bootstrap_servers=broker, topic_prefix=f"admin-{uuid.uuid4().hex[:8]}")
    small = TopicContract(topic="requests", key="", writer="", meaning="", partitions=1)
    ensure_topics(kafka, [], [small])
    with pytest.raises(TopicMismatchError, match="has 1 partition, its contract says 2"):
        ensure_topics(kafka, [], [REQUESTS])


def test_a_broker_that_is_not_there_is_named_with_what_to_do() -> None:
    kafka = KafkaSettings(bootstrap_servers="127.0.0.1:1", request_timeout_ms=500)
    for connect in (
        lambda: KafkaPublisher(kafka),
        lambda: KafkaReader(kafka, topics=["t"]),
        lambda: ensure_topics(kafka),
    ):
        with pytest.raises(BrokerUnavailableError, match=r"127\.0\.0\.1:1 .*thalweg up"):
            connect()


def test_a_memory_broker_that_is_down_acknowledges_nothing_and_keeps_what_it_has() -> None:
    broker = MemoryBroker(clock=lambda: 1)
    broker.create(["t"])
    broker.publish(numbered("t", 0, 1))
    broker.down = True
    with pytest.raises(NotAcknowledgedError, match="the broker does not answer"):
        broker.publish(numbered("t", 1, 2))
    broker.down = False
    assert [r.offset for r in MemoryReader(broker, topics=["t"]).poll(0)] == [0]
