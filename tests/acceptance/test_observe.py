"""Observe, on a real broker, with Spark and Delta: what regions send arrives, whole, once, and the latest wins."""

import json
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from deltalake import DeltaTable
from kafka import KafkaProducer
from pyspark.sql import SparkSession
from pyspark.sql.streaming.query import StreamingQuery

from conf.settings import Kafka, Observe, Settings, Warehouse
from conf.settings import Spark as SparkSettings
from jobs import observe
from jobs.runtime import Stop, system_clock
from streams import topics
from streams.admin import ensure_topics

pytestmark = pytest.mark.acceptance

T = TypeVar("T")
OREGON, IOWA = "aws:us-west-2", "gcp:us-central1"


class World:
    """A prefix of its own on the shared broker, a warehouse of its own, and the job when it runs."""

    def __init__(self, broker: str, spark: SparkSession, folder: Path) -> None:
        self.spark = spark
        self.folder = folder
        self.settings = Settings(
            kafka=Kafka(bootstrap_servers=broker, topic_prefix=f"t{uuid.uuid4().hex[:8]}"),
            warehouse=Warehouse(path=str(folder / "warehouse")),
            spark=SparkSettings(checkpoints=str(folder / "checkpoints")),
            observe=Observe(trigger_ms=200, latest_every_ms=200),
        )
        self.producer = KafkaProducer(bootstrap_servers=broker)
        self.query: StreamingQuery | None = None

    def start(self) -> StreamingQuery:
        self.stopped = Stop()
        self.query = observe.start(self.spark, self.settings, system_clock, self.stopped)
        return self.query

    def stop(self) -> None:
        if self.query is not None:
            self.stopped.ask()
            self.query.stop()

    def send(self, region: str, *records: dict[str, object] | bytes, topic_of: str | None = None) -> None:
        ensure_topics(self.settings.kafka, [region])
        topic = topics.topic_name(topics.TELEMETRY, self.settings.kafka.topic_prefix, topic_of or region)
        for record in records:
            value = record if isinstance(record, bytes) else json.dumps({"region": region, **record}).encode()
            self.producer.send(topic, value)
        self.producer.flush()

    def drain(self) -> None:
        assert self.query is not None
        self.query.processAllAvailable()

    def rows(self, table: str) -> list[dict[str, object]]:
        rows: list[dict[str, object]] = (
            DeltaTable(f"{self.settings.warehouse.path}/{table}").to_pyarrow_table().to_pylist()
        )
        return rows


@pytest.fixture
def world(broker: str, spark: SparkSession, tmp_path: Path) -> Iterator[World]:
    world = World(broker, spark, tmp_path)
    yield world
    world.stop()
    world.producer.close()


def eventually(read: Callable[[], T], *, seconds: float = 10) -> T:
    """Read until there is something, because the latest tables follow beside the stream."""
    deadline = time.monotonic() + seconds
    while not (seen := read()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return seen


def node(node_id: str, **fields: object) -> dict[str, object]:
    return {"kind": "node", "node_id": node_id, "gpu_model": "A100", "gpus": 8, "state": "ready", **fields}


def test_samples_of_every_kind_reach_the_history_and_the_latest_tables(world: World) -> None:
    world.send(
        OREGON,
        {
            "stamp": {"ms": 1_700_000_000_000},
            "samples": [
                node("n1", gpu_utilisation=0.5),
                {"kind": "link", "dst_region": IOWA, "rtt_ms": 40.5, "gbps": 5.0},
                {"kind": "price", "gpu_model": "A100", "spot": True, "usd_per_gpu_hour": 1.1},
            ],
        },
    )
    world.start()
    world.drain()
    world.stop()

    assert [row["kind"] for row in world.rows("telemetry")] == ["node", "link", "price"]
    assert [(row["node_id"], row["gpu_utilisation"]) for row in eventually(lambda: world.rows("nodes"))] == [
        ("n1", 0.5)
    ]
    assert [(row["dst_region"], row["rtt_ms"]) for row in eventually(lambda: world.rows("links"))] == [(IOWA, 40.5)]
    assert [row["usd_per_gpu_hour"] for row in eventually(lambda: world.rows("prices"))] == [1.1]
