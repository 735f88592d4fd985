"""What settings of a cluster become, for our clients and for Spark's."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from thalweg.conf.settings import KafkaSettings, SettingsError, load_settings
from thalweg.streams.broker import admin
from thalweg.streams.broker.connection import connection_options
from thalweg.streams.broker.errors import TopicMismatchError
from thalweg.streams.broker.sources import kafka_options
from thalweg.streams.contract.topics import CONTRACTS, REQUESTS, STATUS, TELEMETRY, TopicContract


class Admin:
    """Notes what it is asked to create."""

    def __init__(self, **partitions: int) -> None:
        self.partitions = partitions
        self.asked: dict[str, dict[str, object]] = {}
        self.waited_for: list[str] = []

    def describe_topics(self) -> list[dict[str, object]]:
        return [
            {"name": name.replace("__", "."), "partitions": [{}] * count, "error_code": 0}
            for name, count in self.partitions.items()
        ]

    def wait_for_topics(self, names: list[str], *, timeout_ms: int) -> None:
        self.waited_for = names

    def create_topics(self, topics: dict[str, dict[str, object]], *, raise_errors: bool) -> dict[str, object]:
        self.asked = topics
        return {"topics": [{"name": name, "error_code": 0} for name in topics]}


@pytest.mark.parametrize(("least", "said"), [(1, None), (2, "2")])
def test_topics_are_made_with_as_many_in_sync_as_asked(least: int, said: str | None) -> None:
    fake = Admin()
    kafka = KafkaSettings(replication_factor=3, min_insync_replicas=least)
    assert admin._create(fake, {"thalweg.requests": REQUESTS}, kafka) == ["thalweg.requests"]  # type: ignore[arg-type]
    made = fake.asked["thalweg.requests"]
    assert made["replication_factor"] == 3
    configs = made["configs"]
    assert isinstance(configs, dict)
    assert configs.get("min.insync.replicas") == said


def test_more_in_sync_than_there_are_copies_is_refused() -> None:
    with pytest.raises(SettingsError, match="at most replication_factor"):
        load_settings(None, ("kafka.min_insync_replicas=2",))


def test_a_client_certificate_reaches_both_kinds_of_clients() -> None:
    kafka = KafkaSettings(security_protocol="SSL", ssl_cafile="ca.pem", ssl_certfile="me.pem")
    assert connection_options(kafka)["ssl_certfile"] == "me.pem"
    options = kafka_options(kafka)
    assert (options["kafka.ssl.keystore.type"], options["kafka.ssl.keystore.location"]) == ("PEM", "me.pem")
    assert "kafka.ssl.keystore.location" not in kafka_options(KafkaSettings())


def test_a_query_waits_for_another_leader_where_there_can_be_one() -> None:
    assert KafkaSettings().patience_ms == 10_000
    copied = KafkaSettings(replication_factor=3, min_insync_replicas=2)
    assert copied.patience_ms > 9_000 + 10_000, "a session that runs out, and a request that was under way"
    assert KafkaSettings(leader_wait_ms=5_000, replication_factor=3).patience_ms == 5_000


def made_by(
    fake: Admin, monkeypatch: pytest.MonkeyPatch, regions: tuple[str, ...], *wanted: TopicContract
) -> list[str]:
    @contextmanager
    def connected(_: KafkaSettings) -> Iterator[Admin]:
        yield fake

    monkeypatch.setattr(admin, "_admin", connected)
    return admin.ensure_topics(KafkaSettings(topic_prefix="t"), regions, wanted)


def test_a_topic_of_regions_is_made_for_each_of_them_and_another_one_once(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Admin(t__status__a=1, others=9)
    made = made_by(fake, monkeypatch, ("a", "b"), REQUESTS, STATUS, TELEMETRY)
    assert sorted(made) == ["t.requests", "t.status.b", "t.telemetry.a", "t.telemetry.b"], "what is there stays"
    assert sorted(fake.waited_for) == sorted(made) == sorted(fake.asked)
    assert fake.asked["t.requests"]["num_partitions"] == REQUESTS.partitions


def test_without_regions_only_what_all_share_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    assert made_by(Admin(), monkeypatch, (), REQUESTS, STATUS) == ["t.requests"]
    fake = Admin()
    assert made_by(fake, monkeypatch, (), STATUS) == [] and fake.asked == {}
    assert made_by(Admin(t__requests=2), monkeypatch, ("a",), REQUESTS) == [], "it is there"


def test_a_topic_with_fewer_partitions_than_its_contract_says_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Admin(t__requests=REQUESTS.partitions - 1)
    with pytest.raises(TopicMismatchError, match=r"t\.requests"):
        made_by(fake, monkeypatch, ("a",), REQUESTS, STATUS)
    assert fake.asked == {}, "before anything is made"


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: contract.topic)
def test_a_topic_keeps_what_its_contract_says_and_stamps_what_its_readers_judge_by_arrival(
    contract: TopicContract,
) -> None:
    asked = contract.config()
    assert asked["max.message.bytes"] == str(contract.max_message_bytes)
    assert (asked.get("message.timestamp.type") == "LogAppendTime") == contract.stamped_by_broker
    if contract.compacted:
        assert (asked["cleanup.policy"], asked["delete.retention.ms"]) == ("compact", "86400000")
    else:
        assert (asked["cleanup.policy"], asked["retention.ms"]) == ("delete", str(contract.retention_ms))


def test_samples_and_updates_of_participants_are_judged_by_when_they_arrive() -> None:
    assert {contract.topic for contract in CONTRACTS if contract.stamped_by_broker} == {
        "telemetry", "updates", "replies",
    }  # fmt: skip
