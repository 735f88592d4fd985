"""A publisher outlives its broker: what was not acknowledged says so; once the broker is back, the next call works."""

import time
import uuid
from pathlib import Path

import pytest

from tests.patience import PATIENCE_S
from thalweg.bootstrap.jars import ensure_jars
from thalweg.conf.environment import find_java
from thalweg.conf.settings import KafkaSettings
from thalweg.stack.broker import Broker
from thalweg.streams.broker.admin import delete_topic, ensure_topics, existing_topics
from thalweg.streams.broker.consume import KafkaReader
from thalweg.streams.broker.errors import NotAcknowledgedError, TopicGoneError
from thalweg.streams.broker.publish import KafkaPublisher, OutgoingRecord
from thalweg.streams.contract.topics import REPLICA, REQUESTS, topic_name
from thalweg.streams.replication.replica_log import KafkaReplicaLog, LogRecord

pytestmark = pytest.mark.acceptance


def record(topic: str, number: int) -> OutgoingRecord:
    return OutgoingRecord(topic=topic, key=b"k", value=b"%d" % number)


@pytest.mark.parametrize("keeps_topics", [False, True])
def test_a_publisher_and_a_reader_go_on_after_the_broker_was_away(tmp_path: Path, keeps_topics: bool) -> None:
    ensure_jars(find_java())
    topic = topic_name(REQUESTS, "away")
    with Broker(tmp_path / "broker") as broker:
        kafka = KafkaSettings(bootstrap_servers=broker.bootstrap, topic_prefix="away")
        ensure_topics(kafka, [], [REQUESTS])
        publisher = KafkaPublisher(kafka, timeout_ms=2_000, keeps_topics=keeps_topics)
        publisher.publish([record(topic, 1)])
        reader = KafkaReader(kafka, topics=[topic])
        values = [r.value for r in reader.poll(5_000)]
        broker.stop()
        for _ in range(2):
            started = time.monotonic()
            with pytest.raises(NotAcknowledgedError, match=r"1 of 1 record not acknowledged within 2000 ms"):
                publisher.publish([record(topic, 2)])
            assert time.monotonic() - started < 6
        assert reader.poll(100) == []
        broker.start()
        assert broker.bootstrap == kafka.bootstrap_servers
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                publisher.publish([record(topic, 3)])
                break
            except NotAcknowledgedError:
                assert time.monotonic() < deadline
        while b"3" not in values and time.monotonic() < deadline:
            values += [r.value for r in reader.poll(200)]
        publisher.close()
        reader.close()
    # What was refused may still have been on its way: it may arrive, late, and consumers know repetitions.
    assert set(values) <= {b"1", b"2", b"3"}
    assert {b"1", b"3"} <= set(values)


def deleted(kafka: KafkaSettings, topic: str) -> None:
    delete_topic(kafka, topic)
    while topic in existing_topics(kafka):
        time.sleep(0.05)


def test_a_deleted_topic_is_made_again_by_who_keeps_it_and_by_nobody_else(broker: str) -> None:
    kafka = KafkaSettings(bootstrap_servers=broker, topic_prefix=f"t{uuid.uuid4().hex[:8]}")
    topic = topic_name(REQUESTS, kafka.topic_prefix)
    ensure_topics(kafka, [], [REQUESTS])
    deleted(kafka, topic)
    with KafkaPublisher(kafka, timeout_ms=2_000) as guest, pytest.raises(NotAcknowledgedError):
        guest.publish([record(topic, 1)])
    assert topic not in existing_topics(kafka)
    with KafkaPublisher(kafka, timeout_ms=2_000, keeps_topics=True) as host:
        with pytest.raises(NotAcknowledgedError, match=f"made again, because they were gone: {topic}"):
            host.publish([record(topic, 1), record("foreign", 2)])
        host.publish([record(topic, 1)])
    assert "foreign" not in existing_topics(KafkaSettings(bootstrap_servers=broker, topic_prefix="foreign"))


def test_a_log_whose_topic_is_gone_is_not_written_on(broker: str) -> None:
    prefix = f"t{uuid.uuid4().hex[:8]}"
    kafka = KafkaSettings(bootstrap_servers=broker, topic_prefix=prefix, request_timeout_ms=3_000)
    ensure_topics(kafka, [], [REPLICA])
    log = KafkaReplicaLog(kafka, timeout_ms=5_000)
    log.publish([LogRecord(key=b"k", value=b"1")])
    deleted(kafka, topic_name(REPLICA, kafka.topic_prefix))
    with pytest.raises(TopicGoneError, match="starts anew"):
        log.publish([LogRecord(key=b"k", value=b"2")])
    log.close()
