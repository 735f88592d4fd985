"""While our broker is away another installation's takes its address: nobody of ours reads there, or writes."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

import pytest

from thalweg.bootstrap.jars import ensure_jars
from thalweg.conf.environment import find_java
from thalweg.conf.settings import KafkaSettings
from thalweg.stack.broker import Broker, cluster_id
from thalweg.streams.broker import home
from thalweg.streams.broker.admin import ensure_topics, topics_now
from thalweg.streams.broker.consume import IncomingRecord, KafkaReader
from thalweg.streams.broker.errors import BrokerUnavailableError, NotAcknowledgedError
from thalweg.streams.broker.publish import KafkaPublisher, OutgoingRecord
from thalweg.streams.broker.soundings import TopicEnds
from thalweg.streams.contract.topics import ASSIGNMENTS, topic_name

REGION = "lab"


@contextmanager
def as_another_process() -> Iterator[None]:
    """Connect as whoever knows nothing of our cluster."""
    ours = dict(home.HOMES._meant)
    home.HOMES._meant.clear()
    yield
    home.HOMES._meant.update(ours)


def read(reader: KafkaReader, tries: int) -> list[IncomingRecord]:
    found: list[IncomingRecord] = []
    for _ in range(tries):
        found += reader.poll(500)
        if found:
            break
    return found


def test_a_process_waits_for_its_own(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ensure_jars(find_java())
    ours, theirs = Broker(tmp_path / "ours"), Broker(tmp_path / "theirs")
    ours.start()
    prefix = f"t{uuid4().hex[:8]}"
    kafka = KafkaSettings(bootstrap_servers=ours.bootstrap, topic_prefix=prefix, request_timeout_ms=5_000)
    topic = topic_name(ASSIGNMENTS, prefix, REGION)
    ensure_topics(kafka, [REGION], [ASSIGNMENTS])
    record = OutgoingRecord(topic=topic, key=b"task", value=b"ours")
    ends = TopicEnds(kafka, topic)
    with KafkaReader(kafka, topics=[topic]) as reader, KafkaPublisher(kafka, timeout_ms=4_000) as publisher:
        publisher.publish([record])
        assert [found.value for found in read(reader, 20)] == [b"ours"]
        ends.look()
        ours.stop()

        theirs._ports = ours._ports
        theirs.start()
        own = cluster_id(tmp_path / "ours")
        assert own is not None
        home.HOMES.settle(ours.bootstrap, own)  # this process started both brokers, and is the first one's
        with as_another_process():
            ensure_topics(kafka, [REGION], [ASSIGNMENTS])
            with KafkaPublisher(kafka) as stranger:
                stranger.publish([OutgoingRecord(topic=topic, key=b"task", value=b"theirs")] * 3)
        with caplog.at_level(logging.WARNING, logger="thalweg.home"):
            assert read(reader, 8) == []
        assert "another Kafka cluster answers" in caplog.text
        with pytest.raises(NotAcknowledgedError):
            publisher.publish([record])
        with pytest.raises(NotAcknowledgedError, match="another Kafka cluster answers"):
            publisher.publish([record])
        with pytest.raises(BrokerUnavailableError, match="another Kafka cluster answers"):
            topics_now(kafka, topic)
        with suppress(BrokerUnavailableError):  # or what was known of our own: never where the other's topics end
            assert sum(end or 0 for end in ends.look().get(topic, {}).values()) <= 1
        with as_another_process():
            there = TopicEnds(kafka, topic)
            found = there.look()
            there.close()
        assert sum(end or 0 for end in found[topic].values()) == 3
        theirs.stop()

        ours.start()
        publisher.publish([OutgoingRecord(topic=topic, key=b"task", value=b"ours again")])
        assert [found.value for found in read(reader, 40)] == [b"ours again"]
    ends.close()
    ours.stop()
