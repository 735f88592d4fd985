"""A broker's records, copied while it writes, are a broker again: what was acknowledged before the copy is there."""

import threading
from pathlib import Path

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from thalweg.backup.make import StackPlaces, make_backup
from thalweg.backup.restore import restore_backup
from thalweg.conf.settings import KafkaSettings
from thalweg.stack.broker import Broker, cluster_id
from thalweg.streams.broker.admin import ensure_topics, identities
from thalweg.streams.broker.past import KafkaPast

pytestmark = pytest.mark.acceptance
TOPIC = "thalweg.requests"


def test_a_copy_of_a_broker_that_writes_is_a_broker_that_has_what_it_acknowledged(tmp_path: Path) -> None:
    state, other = tmp_path / "state", tmp_path / "other"
    acknowledged = 0
    stop = threading.Event()
    with Broker(state / "broker") as broker:
        kafka = KafkaSettings(bootstrap_servers=broker.bootstrap)
        ensure_topics(kafka, [])
        ids = identities(kafka, [TOPIC])[1]
        producer = KafkaProducer(bootstrap_servers=broker.bootstrap, acks="all")

        def write() -> None:
            nonlocal acknowledged
            while not stop.is_set():
                producer.send(TOPIC, b"%d" % acknowledged, key=b"k").get(timeout=60)
                acknowledged += 1

        writer = threading.Thread(target=write)
        writer.start()
        try:
            while acknowledged < 50 and writer.is_alive():
                pass
            before = acknowledged
            made = make_backup(
                StackPlaces(state=state, warehouse=state / "warehouse", checkpoints=state / "checkpoints"),
                tmp_path / "backup",
                now_ms=0,
                steady=lambda: 0,
            )
        finally:
            stop.set()
            writer.join()
            producer.close()
    restore_backup(tmp_path / "backup", other)
    assert cluster_id(other / "broker") == made.cluster_id == cluster_id(state / "broker")
    with Broker(other / "broker") as again:
        kafka = KafkaSettings(bootstrap_servers=again.bootstrap)
        assert identities(kafka, [TOPIC])[1] == ids, "topics keep their ids: checkpoints and agents go on with them"
        found = values(again.bootstrap)
        assert found[:before] == [b"%d" % number for number in range(before)]
        assert found == [b"%d" % number for number in range(len(found))], "cut off at the end, and nowhere else"
        past = KafkaPast(kafka)
        places = [(TOPIC, place.partition) for place in partitions(again.bootstrap)]
        ends = {place: end for place in places if (end := len(values(again.bootstrap, place[1])))}
        read = list(past.read(past.since(ends, 0), ends))
        assert sorted(int(record.value or b"") for record in read) == list(range(len(found)))
        assert past.since(ends, 2**41) == ends, "nothing is that new"


def partitions(bootstrap: str) -> list[TopicPartition]:
    consumer = KafkaConsumer(bootstrap_servers=bootstrap)
    found = [TopicPartition(TOPIC, number) for number in sorted(consumer.partitions_for_topic(TOPIC) or ())]
    consumer.close()
    return found


def values(bootstrap: str, partition: int | None = None) -> list[bytes]:
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    wanted = [place for place in partitions(bootstrap) if partition in (None, place.partition)]
    consumer.assign(wanted)
    ends = consumer.end_offsets(wanted)
    found: list[bytes] = []
    while any(consumer.position(place) < ends[place] for place in wanted):
        found += [record.value for records in consumer.poll(1000).values() for record in records]
    consumer.close()
    return sorted(found, key=int)
