"""What the tests of `jobs/place` share: a small world in a warehouse, and a region that listens."""

import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
from deltalake import DeltaTable
from kafka import KafkaConsumer, KafkaProducer

from tests.patience import PATIENCE_S
from thalweg.conf.settings import KafkaSettings, PlaceSettings, Settings, WarehouseSettings
from thalweg.conf.settings import SparkSettings as SparkSettings
from thalweg.streams.broker.admin import ensure_topics
from thalweg.streams.contract.topics import ASSIGNMENTS, CONTROL, DEADLETTER, REQUESTS, STATUS, topic_name
from thalweg.sync.delta.contracts import LINKS, NODES, PRICES
from thalweg.sync.delta.store import append, open_or_create

REGIONS = ("aws:eu-west-1", "gcp:us-central1")


def until(met: Callable[[], bool], seconds: float = PATIENCE_S) -> None:
    limit = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < limit, "not met in time"
        time.sleep(0.05)


class Setting:
    """A prefix of its own on the shared broker, a warehouse with nodes, links and prices, and ears in every region."""

    def __init__(
        self, broker: str, folder: Path, *, gpus: int = 64, warehouse: str = "", checkpoints: str = ""
    ) -> None:
        self.folder = folder
        warehouse = warehouse or str(folder / "warehouse")
        self.settings = Settings(
            kafka=KafkaSettings(bootstrap_servers=broker, topic_prefix=f"t{uuid.uuid4().hex[:8]}"),
            warehouse=WarehouseSettings(path=warehouse),
            spark=SparkSettings(checkpoints=checkpoints or str(folder / "checkpoints")),
            place=PlaceSettings(folds_every_ms=200, world_every_ms=200, heartbeat_timeout_ms=3_000),
        )
        self.prefix = self.settings.kafka.topic_prefix
        ensure_topics(self.settings.kafka, [*REGIONS, "control"])
        self.producer = KafkaProducer(bootstrap_servers=broker)
        self.ears = KafkaConsumer(
            *[topic_name(ASSIGNMENTS, self.prefix, region) for region in REGIONS],
            topic_name(DEADLETTER, self.prefix),
            bootstrap_servers=broker,
            auto_offset_reset="earliest",
        )
        self.events: list[dict[str, Any]] = []
        self.refused: list[tuple[dict[str, str], bytes | None]] = []
        write_world(warehouse, gpus)

    def request(self, *requests: dict[str, Any] | bytes) -> None:
        for request in requests:
            value = request if isinstance(request, bytes) else json.dumps(request).encode()
            key = request["task_id"].encode() if isinstance(request, dict) and "task_id" in request else None
            self.producer.send(topic_name(REQUESTS, self.prefix), value, key=key)
        self.producer.flush()

    def report(self, region: str, **event: Any) -> None:
        value = json.dumps({"region": region, **event}).encode()
        self.producer.send(topic_name(STATUS, self.prefix, region), value, key=region.encode())
        self.producer.flush()

    def order(self, **order: Any) -> None:
        self.producer.send(topic_name(CONTROL, self.prefix), json.dumps(order).encode(), key=b"k")
        self.producer.flush()

    def beat(self, *regions: str) -> None:
        for region in regions or REGIONS:
            self.report(region, type="heartbeat")

    def listen(self) -> None:
        for topic, records in self.ears.poll(timeout_ms=50).items():
            for record in records:
                if topic.topic.endswith(DEADLETTER.topic):
                    headers = {name: value.decode() for name, value in record.headers}
                    self.refused.append((headers, record.value))
                else:
                    self.events.append(json.loads(record.value))

    def heard(
        self, met: Callable[[], bool], seconds: float = PATIENCE_S, *, beating: tuple[str, ...] = REGIONS
    ) -> None:
        """Listen, and let regions beat, until something is met."""

        def look() -> bool:
            self.beat(*beating)
            self.listen()
            return met()

        until(look, seconds)

    def assigned(self) -> dict[str, list[dict[str, Any]]]:
        """Distinct assign events by task, in order of arrival: what a fence would let through."""
        found: dict[str, dict[str, dict[str, Any]]] = {}
        for event in self.events:
            if event["type"] == "assign":
                found.setdefault(event["task_id"], {})[event["event_id"]] = event
        return {task: list(events.values()) for task, events in found.items()}

    def ledger(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = (
            DeltaTable(f"{self.settings.warehouse.path}/decisions").to_pyarrow_table().to_pylist()
        )
        return sorted(rows, key=lambda row: (row["driver_epoch"], row["batch_id"], row["row"]))

    def table(self, name: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = DeltaTable(f"{self.settings.warehouse.path}/{name}").to_pyarrow_table().to_pylist()
        return rows

    def process(self, **settings: str) -> "subprocess.Popen[bytes]":
        """Start `python -m thalweg.jobs.place` as a process of its own; settings of `place` by name."""
        environment = os.environ | {
            "THALWEG_KAFKA__BOOTSTRAP_SERVERS": self.settings.kafka.bootstrap_servers,
            "THALWEG_KAFKA__TOPIC_PREFIX": self.prefix,
            "THALWEG_WAREHOUSE__PATH": self.settings.warehouse.path,
            "THALWEG_SPARK__CHECKPOINTS": self.settings.spark.checkpoints,
            "THALWEG_PLACE__HEARTBEAT_TIMEOUT_MS": "60000",
            **{f"THALWEG_PLACE__{name.upper()}": value for name, value in settings.items()},
        }
        log = (self.folder / f"place-{time.time_ns()}.log").open("wb")
        return subprocess.Popen(
            [sys.executable, "-m", "thalweg.jobs.place"],
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )

    def close(self) -> None:
        self.producer.close()
        self.ears.close()


def write_world(warehouse: str, gpus: int) -> None:
    stamp = {"observed_at": time.time_ns() // 1_000, "stamp_ms": time.time_ns() // 1_000_000, "stamp_counter": 0}
    nodes = [
        {"region": region, "node_id": f"n{index}", "gpu_model": "A100", "spot": False, "gpus": 8, "cpus": 96.0,
         "memory_gb": 512.0, "state": "ready", **stamp}
        for region in REGIONS
        for index in range(gpus // 8)
    ]  # fmt: skip
    links = [
        {"region": a, "dst_region": b, "rtt_ms": 100.0, "gbps": 5.0, "usd_per_gb": 0.05, **stamp}
        for a in REGIONS
        for b in REGIONS
        if a != b
    ]
    prices = [
        {"region": region, "gpu_model": "A100", "spot": False, "usd_per_gpu_hour": 2.0 + index, **stamp}
        for index, region in enumerate(REGIONS)
    ]
    for contract, rows in ((NODES, nodes), (LINKS, links), (PRICES, prices)):
        append(open_or_create(contract, warehouse), pa.Table.from_pylist(rows, schema=contract.schema))
