"""A connection that leads to another cluster than before is none."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from kafka.errors import KafkaConnectionError
from kafka.net.selector import NetworkSelector

from thalweg.conf.settings import KafkaSettings
from thalweg.streams.broker.connection import connection_options
from thalweg.streams.broker.errors import BrokerUnavailableError
from thalweg.streams.broker.home import HomeClient, HomeManager, Homes, RefusedClusterError

ADDRESS = "127.0.0.1:9092"


class Wire:
    """A connection of kafka-python's, up to the answers of the broker at its other end."""

    sasl_enabled = False

    def __init__(self, cluster: str | None) -> None:
        self._cluster = cluster
        self.sent: list[str] = []
        self.waiting = ["what waited for the connection"]
        self.closed_with: BaseException | None = None

    async def _get_api_versions(self, timeout_at: float | None) -> None:
        self.sent.append("versions")

    async def _send_request(self, request: object, timeout_at: float | None) -> SimpleNamespace:
        self.sent.append(type(request).__name__)
        return SimpleNamespace(cluster_id=self._cluster)

    def _init_complete(self) -> None:
        self.sent += self.waiting

    def close(self, error: BaseException) -> None:
        self.closed_with = error


def connect(homes: Homes, cluster: str | None, address: str = ADDRESS) -> Wire:
    wire = Wire(cluster)
    manager: Any = HomeManager(NetworkSelector(), homes=homes, bootstrap_servers=address)
    asyncio.run(manager._initialize(wire))
    manager.close()
    return wire


def test_whoever_answers_first_is_meant_and_asked_before_anything_is_sent() -> None:
    homes = Homes()
    for _ in range(2):
        assert connect(homes, "ours").sent == ["versions", "MetadataRequest", "what waited for the connection"]


def test_another_cluster_gets_nothing_that_waited() -> None:
    homes = Homes()
    connect(homes, "ours")
    wire: Any = Wire("theirs")
    manager = HomeManager(NetworkSelector(), homes=homes, bootstrap_servers=ADDRESS)
    with pytest.raises(RefusedClusterError, match=r"127\.0\.0\.1:9092: theirs, where this process began with ours"):
        asyncio.run(manager._initialize(wire))
    assert wire.sent == ["versions", "MetadataRequest"]
    assert isinstance(wire.closed_with, KafkaConnectionError)
    assert connect(homes, "ours").closed_with is None


def test_each_address_has_its_own() -> None:
    homes = Homes()
    connect(homes, "ours")
    assert connect(homes, "theirs", "127.0.0.1:9093").closed_with is None


def test_who_starts_a_broker_knows_whose_it_is() -> None:
    homes = Homes()
    connect(homes, "last week's")
    homes.settle(ADDRESS, "today's")
    assert connect(homes, "today's").closed_with is None


def test_a_broker_without_an_id_is_taken() -> None:
    homes = Homes()
    connect(homes, "ours")
    assert connect(homes, None).closed_with is None


def test_every_client_of_ours_is_given_the_guard() -> None:
    assert connection_options(KafkaSettings())["kafka_client"] is HomeClient


def test_the_own_broker_counts_as_away_in_words() -> None:
    refused = RefusedClusterError(ADDRESS, found="theirs", meant="ours")
    assert str(BrokerUnavailableError(ADDRESS, refused)).startswith("another Kafka cluster answers at 127.0.0.1:9092")
