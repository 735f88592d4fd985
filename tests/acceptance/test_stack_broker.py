"""The broker: what clients meet, and what survives an orderly stop, a kill, and a folder that is not its own."""

import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewTopic
from kafka.errors import KafkaError, MessageSizeTooLargeError

from thalweg.bootstrap.jars import ensure_jars
from thalweg.conf.environment import find_java
from thalweg.processes.identity import ProcessIdentity
from thalweg.processes.ports import is_free
from thalweg.processes.supervisor import Supervisor
from thalweg.stack import broker as broker_module
from thalweg.stack import stack
from thalweg.stack.broker import Broker, BrokerPorts, BrokerSetupError, choose_ports, cluster_id
from thalweg.stack.state import StateFolder

pytestmark = pytest.mark.acceptance


@pytest.fixture
def topic(broker: str) -> Iterator[str]:
    name = f"stack-{uuid.uuid4().hex[:8]}"
    create_topic(broker, name)
    yield name


def create_topic(bootstrap: str, name: str) -> None:
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    admin.create_topics([NewTopic(name=name, num_partitions=1, replication_factor=1)])
    admin.close()


def send(bootstrap: str, topic: str, *values: bytes) -> None:
    producer = KafkaProducer(bootstrap_servers=bootstrap, acks="all")
    for value in values:
        producer.send(topic, value)
    producer.flush()
    producer.close()


def values_in(bootstrap: str, topic: str) -> list[bytes]:
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest", consumer_timeout_ms=5000)
    partition = TopicPartition(topic, 0)
    consumer.assign([partition])
    end = consumer.end_offsets([partition])[partition]
    values: list[bytes] = []
    while len(values) < end:
        values += [record.value for records in consumer.poll(1000).values() for record in records]
    consumer.close()
    return values


def test_a_message_of_10_mb_is_refused_by_the_client_in_words(broker: str, topic: str) -> None:
    producer = KafkaProducer(bootstrap_servers=broker)
    with pytest.raises(MessageSizeTooLargeError, match="larger than the maximum"):
        producer.send(topic, b"x" * 10_000_000)
    producer.close()
    send(broker, topic, b"x" * 1_000_000)  # what is just below the limit passes


def test_a_client_that_lifts_its_own_limit_is_refused_by_the_broker(broker: str, topic: str) -> None:
    producer = KafkaProducer(bootstrap_servers=broker, max_request_size=20_000_000)
    with pytest.raises(KafkaError, match="MessageSizeTooLarge"):
        producer.send(topic, b"x" * 10_000_000).get(timeout=30)
    producer.close()


def test_a_topic_nobody_made_is_not_made_by_writing_to_it(broker: str) -> None:
    producer = KafkaProducer(bootstrap_servers=broker, max_block_ms=2000)
    misspelt = f"misspelt-{uuid.uuid4().hex[:8]}"
    with pytest.raises(KafkaError):
        producer.send(misspelt, b"lost?").get(timeout=10)
    producer.close()
    admin = KafkaAdminClient(bootstrap_servers=broker)
    assert misspelt not in admin.list_topics()
    admin.close()


def test_records_and_address_survive_a_stop_and_a_kill(tmp_path: Path) -> None:
    ensure_jars(find_java())
    with Broker(tmp_path / "broker") as broker:
        address = broker.bootstrap
        create_topic(address, "kept")
        send(address, "kept", b"before the stop")
        broker.stop()
        broker.start()
        assert broker.bootstrap == address
        send(address, "kept", b"before the kill")
        broker.kill()
        broker.start()
        send(address, "kept", b"after")
        assert values_in(address, "kept") == [b"before the stop", b"before the kill", b"after"]
        identity = ProcessIdentity.of(broker.pid)
    assert identity is not None
    assert not identity.is_alive()
    assert is_free(int(address.rpartition(":")[2]))


def test_the_broker_starts_on_other_ports_with_the_records_it_had(tmp_path: Path) -> None:
    with Broker(tmp_path / "broker") as broker:
        first = broker.bootstrap
        create_topic(first, "kept")
        send(first, "kept", b"one")
    with Broker(tmp_path / "broker") as broker:  # a new one, which remembers no port
        assert broker.bootstrap != first
        assert values_in(broker.bootstrap, "kept") == [b"one"]


def test_a_records_folder_of_somebody_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "broker" / "records").mkdir(parents=True)
    (tmp_path / "broker" / "records" / "photos.zip").touch()
    with pytest.raises(BrokerSetupError, match="no broker wrote them"):
        Broker(tmp_path / "broker").start()
    assert [entry.name for entry in (tmp_path / "broker" / "records").iterdir()] == ["photos.zip"]


def first_those_of(taken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the first choice of ports fall on another broker's, as when two look at the same free port at once."""
    answers = [BrokerPorts(clients=int(taken.rpartition(":")[2]), controller=choose_ports().controller)]

    def choose(preferred: BrokerPorts | None = None) -> BrokerPorts:
        return answers.pop() if answers else choose_ports(preferred)

    monkeypatch.setattr(broker_module, "choose_ports", choose)
    monkeypatch.setattr(stack, "choose_ports", choose)


def test_of_two_brokers_that_chose_one_port_the_second_goes_elsewhere(
    broker: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first_those_of(broker, monkeypatch)
    with Broker(tmp_path / "broker") as second:
        assert second.bootstrap != broker
        admin = KafkaAdminClient(bootstrap_servers=second.bootstrap)
        assert admin.describe_cluster()["cluster_id"] == cluster_id(tmp_path / "broker")
        admin.close()


def test_of_two_stacks_that_chose_one_port_the_second_never_works_on_the_others_cluster(
    broker: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first_those_of(broker, monkeypatch)
    folder = StateFolder(tmp_path)
    own = stack.local_broker(folder)
    assert f"127.0.0.1:{own.ports['kafka']}" == broker
    # As if the port had been free when it was chosen, and taken before it was bound: it is first started as it is.
    supervisor = Supervisor([replace(own, again=lambda: own)], tmp_path / "logs")
    assert supervisor.wait_ready()
    try:
        process = supervisor.processes["broker"]
        assert "is answered by cluster" in process.last_failure or "exit code" in process.last_failure
        admin = KafkaAdminClient(bootstrap_servers=stack.local_bootstrap(folder))
        assert admin.describe_cluster()["cluster_id"] == cluster_id(tmp_path / "broker")
        admin.close()
        assert stack.local_bootstrap(folder) != broker
    finally:
        supervisor.stop()
