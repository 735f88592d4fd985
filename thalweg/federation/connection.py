"""Where a command finds what learning needs: the broker of what runs here, its warehouse, and payloads beside it."""

from collections.abc import Callable
from typing import TypeVar

from thalweg.conf.environment import state_folder
from thalweg.conf.settings import KafkaSettings, Settings, WarehouseSettings
from thalweg.streams.broker.admin import ensure_topics
from thalweg.streams.broker.consume import KafkaReader
from thalweg.streams.broker.publish import KafkaPublisher
from thalweg.streams.contract.topics import MODELS, UPDATES, topic_name
from thalweg.streams.learning.payloads import PayloadStore

Value = TypeVar("Value")


def placed(settings: Settings, warehouse: str) -> Settings:
    """Point settings to a warehouse, and where they do not say where payloads lie, to a folder beside it.

    Args:
        settings: everything.
        warehouse: folder or URI.
    """
    payloads = settings.federate.payloads_of(warehouse)
    return settings.model_copy(
        update={
            "warehouse": settings.warehouse.model_copy(update={"path": warehouse}),
            "federate": settings.federate.model_copy(update={"payloads": payloads}),
        }
    )


def warehouse_of(settings: Settings) -> str:
    """Choose the warehouse: the settings', else the local stack's."""
    path = settings.warehouse.path
    return str(state_folder() / "warehouse") if path == WarehouseSettings().path else path


def publisher_for(kafka: KafkaSettings, region: str) -> KafkaPublisher:
    """Connect, and make the topic that a region sends by where it is not there.

    Raises:
        BrokerUnavailableError: nobody answers.
    """
    ensure_topics(kafka, [region], (UPDATES, MODELS))
    return KafkaPublisher(kafka, client_id="thalweg-learning")


def models_reader(kafka: KafkaSettings) -> KafkaReader:
    """Read runs as they are, from the beginning.

    Raises:
        BrokerUnavailableError: nobody answers.
    """
    return KafkaReader(kafka, topics=(topic_name(MODELS, kafka.topic_prefix),), client_id="thalweg-learning")


def store_of(settings: Settings) -> PayloadStore:
    """Open the store of payloads."""
    return PayloadStore(settings.federate.payloads)


def with_publisher(settings: Settings, region: str, use: Callable[[KafkaPublisher], Value]) -> Value:
    """Do something with a connection, and give it up."""
    publisher = publisher_for(settings.kafka, region)
    try:
        return use(publisher)
    finally:
        publisher.close()
