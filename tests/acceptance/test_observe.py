"""Observe, on a real broker, with Spark and Delta: what regions send arrives, whole, once, and the latest wins."""

import contextlib
import json
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import pytest
from deltalake import DeltaTable
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka.errors import KafkaError
from pyspark.sql import SparkSession
from pyspark.sql.streaming.query import StreamingQuery

from tests.patience import PATIENCE_S
from thalweg.conf.settings import KafkaSettings, ObserveSettings, Settings, WarehouseSettings
from thalweg.conf.settings import SparkSettings as SparkSettings
from thalweg.jobs import observe
from thalweg.jobs.runtime.job import Stop
from thalweg.streams.broker.admin import ensure_topics
from thalweg.streams.contract import topics
from thalweg.sync.clock import system_clock
from thalweg.sync.delta import contracts as tables
from thalweg.sync.delta.appender import Appender

pytestmark = pytest.mark.acceptance

T = TypeVar("T")
OREGON, IOWA = "aws:us-west-2", "gcp:us-central1"


class World:
    """A prefix of its own on the shared broker, a warehouse of its own, and the job when it runs."""

    def __init__(self, broker: str, spark: SparkSession, folder: Path) -> None:
        self.spark = spark
        self.folder = folder
        self.settings = Settings(
            kafka=KafkaSettings(bootstrap_servers=broker, topic_prefix=f"t{uuid.uuid4().hex[:8]}"),
            warehouse=WarehouseSettings(path=str(folder / "warehouse")),
            spark=SparkSettings(checkpoints=str(folder / "checkpoints")),
            observe=ObserveSettings(trigger_ms=200, latest_every_ms=200),
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

    def send(self, region: str, *records: Mapping[str, object] | bytes, topic_of: str | None = None) -> None:
        ensure_topics(self.settings.kafka, [region])
        topic = topics.topic_name(topics.TELEMETRY, self.settings.kafka.topic_prefix, topic_of or region)
        for record in records:
            value = record if isinstance(record, bytes) else json.dumps({"region": region, **record}).encode()
            self.producer.send(topic, value)
        self.producer.flush()

    def restart(self) -> None:
        self.stop()
        self.start()
        self.drain()

    def drain(self) -> None:
        assert self.query is not None
        self.query.processAllAvailable()

    def use(self, **observe_settings: object) -> None:
        changed = self.settings.observe.model_copy(update=observe_settings)
        self.settings = self.settings.model_copy(update={"observe": changed})

    def dead_letters(self, count: int) -> list[dict[str, bytes]]:
        topic = topics.topic_name(topics.DEADLETTER, self.settings.kafka.topic_prefix)
        consumer = KafkaConsumer(
            topic,
            bootstrap_servers=self.settings.kafka.bootstrap_servers,
            auto_offset_reset="earliest",
            consumer_timeout_ms=3_000,
        )
        letters = [{**dict(record.headers), "value": record.value} for record in consumer]
        consumer.close()
        assert len(letters) == count
        return sorted(letters, key=lambda letter: int(letter["offset"]))

    def sorted_rows(self, table: str) -> list[dict[str, object]]:
        moments = {"quarantined_at"}  # the batch's own time
        rows = [{name: value for name, value in row.items() if name not in moments} for row in self.rows(table)]
        return sorted(rows, key=str)

    def rows(self, table: str) -> list[dict[str, object]]:
        """A table's rows; those with a position in its order."""
        found: list[dict[str, Any]] = (
            DeltaTable(f"{self.settings.warehouse.path}/{table}").to_pyarrow_table().to_pylist()
        )
        if found and "topic_offset" in found[0]:
            found.sort(key=lambda row: (row["topic"], row["topic_offset"], row["sample_index"] or 0))
        return found


@pytest.fixture
def world(broker: str, spark: SparkSession, tmp_path: Path) -> Iterator[World]:
    world = World(broker, spark, tmp_path)
    yield world
    world.stop()
    world.producer.close()


def eventually(read: Callable[[], T], *, seconds: float = PATIENCE_S) -> T:
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

    assert [row["kind"] for row in world.rows("telemetry")] == ["node", "link", "price"]
    assert [(row["node_id"], row["gpu_utilisation"]) for row in eventually(lambda: world.rows("nodes"))] == [
        ("n1", 0.5)
    ]
    assert [(row["dst_region"], row["rtt_ms"]) for row in eventually(lambda: world.rows("links"))] == [(IOWA, 40.5)]
    assert [row["usd_per_gpu_hour"] for row in eventually(lambda: world.rows("prices"))] == [1.1]


def test_a_region_that_appears_while_the_job_runs_is_read_without_a_restart(world: World) -> None:
    world.send(OREGON, {"samples": [node("n1")]})
    world.start()
    world.drain()
    world.send(IOWA, {"samples": [node("n2")]})

    assert eventually(lambda: {row["region"] for row in world.rows("telemetry")} == {OREGON, IOWA})


def test_the_newest_sample_wins_within_a_batch_across_batches_and_across_restarts(world: World) -> None:
    def at(ms: int, gpus: int) -> dict[str, object]:
        return {"stamp": {"ms": ms}, "samples": [node("n1", gpus=gpus)]}

    world.send(OREGON, at(30, 3), at(50, 5), at(40, 4))
    world.start()
    world.drain()
    world.send(OREGON, at(20, 2), at(50, 5))
    world.drain()
    world.restart()
    world.send(OREGON, at(10, 1))
    world.drain()
    world.stop()
    time.sleep(0.5)

    assert [row["gpus"] for row in world.rows("telemetry")] == [3, 5, 4, 2, 5, 1]
    assert [(row["node_id"], row["gpus"], row["stamp_ms"]) for row in world.rows("nodes")] == [("n1", 5, 50)]


def test_what_cannot_be_used_is_kept_with_its_reason_and_the_stream_goes_on(world: World) -> None:
    hour_ahead_ms = system_clock() + 3_600_000
    world.start()
    world.send(
        OREGON,
        {"samples": [node("good"), node("bad", gpus=-1), node("early", observed_at=hour_ahead_ms)]},
        b"not json",
        {"samples": [node("bad", gpus="eight")]},
        {"task_id": "t1", "op": "submit"},
        {"samples": [{"kind": "disk"}]},
    )
    world.send(IOWA, {"samples": [node("foreign")]}, topic_of=OREGON)
    world.send(OREGON, {"samples": [node("after")]})
    world.drain()
    world.drain()

    assert [row["node_id"] for row in world.rows("telemetry")] == ["good", "after"]
    quarantined = [(row["topic_offset"], row["sample_index"], row["rule"]) for row in world.rows("quarantine")]
    assert sorted(quarantined, key=str) == sorted(
        [
            (0, 1, "gpus_in_range"),
            (0, 2, "stamp_is_not_in_the_future"),
            (1, None, "json_is_well_formed"),
            (2, None, "types_are_right"),
            (3, None, "types_are_right"),
            (4, 0, "kind_is_known"),
            (5, None, "region_matches_topic"),
        ],
        key=str,
    )
    letters = world.dead_letters(4)
    assert [(letter["offset"], letter["rule"]) for letter in letters] == [
        (b"1", b"json_is_well_formed"),
        (b"2", b"types_are_right"),
        (b"3", b"types_are_right"),
        (b"5", b"region_matches_topic"),
    ]
    assert letters[0]["value"] == b"not json"
    assert all(letter["reason"] and letter["topic"] and letter["partition"] == b"0" for letter in letters)


@pytest.mark.parametrize("writer", ["driver", "executors"])
def test_a_batch_that_spark_repeats_is_committed_once(world: World, writer: str) -> None:
    world.use(writer=writer)
    world.send(OREGON, {"samples": [node("n1"), node("bad", gpus=-1)]}, b"not json")
    world.start()
    world.drain()
    world.send(OREGON, {"samples": [node("n2")]}, {"samples": [node("worse", gpus=-2)]})
    world.drain()
    world.stop()
    before = world.rows("telemetry"), world.rows("quarantine")
    assert [len(rows) for rows in before] == [2, 3]

    commits = sorted(
        (world.folder / "checkpoints" / "observe" / "commits").glob("[0-9]*"), key=lambda path: int(path.name)
    )
    for newest in commits[-2:]:
        newest.unlink()  # as if the job had died between its own commits and Spark's
    world.start()
    world.drain()
    world.send(OREGON, {"samples": [node("n3")]})
    world.drain()
    world.stop()

    assert [row["node_id"] for row in world.rows("telemetry")] == ["n1", "n2", "n3"]
    assert world.rows("quarantine") == before[1]


def test_driver_and_executors_write_the_same_rows(
    world: World, broker: str, spark: SparkSession, tmp_path: Path
) -> None:
    records: list[dict[str, object] | bytes] = [
        {"stamp": {"ms": 1_000 + number}, "samples": [node(f"n{number % 7}", gpus=gpus) for gpus in (-1, 0, 1, 8)]}
        for number in range(300)
    ]
    world.send(OREGON, *records, b"not json")
    world.send(IOWA, *records)
    written = {}
    for writer in ("driver", "executors"):
        world.settings = world.settings.model_copy(
            update={
                "warehouse": WarehouseSettings(path=str(tmp_path / writer)),
                "spark": SparkSettings(checkpoints=str(tmp_path / f"{writer}-checkpoints")),
            }
        )
        world.use(writer=writer)
        world.start()
        world.drain()
        world.stop()
        time.sleep(0.5)
        written[writer] = {table: world.sorted_rows(table) for table in ("telemetry", "nodes", "quarantine")}

    assert len(written["driver"]["telemetry"]) == 1_800
    assert len(written["driver"]["nodes"]) == 14
    assert len(written["driver"]["quarantine"]) == 601
    assert written["executors"] == written["driver"]


def test_a_full_disk_makes_the_batch_wait_and_loses_nothing(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="thalweg.observe")
    disk = world.folder / "small-disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(disk)], check=False, capture_output=True, text=True
    )
    if mounted.returncode != 0:
        pytest.skip(f"mounting a small disk is not permitted here: {mounted.stderr.strip()}")
    try:
        world.settings = world.settings.model_copy(
            update={"warehouse": WarehouseSettings(path=str(disk / "warehouse"))}
        )
        world.send(OREGON, {"samples": [node("before")]})
        world.start()
        world.drain()
        filler = disk / "filler"
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while file.write(b"x" * 4096):
                pass
        world.send(
            OREGON, *({"samples": [node(f"{number}-{uuid.uuid4()}") for number in range(50)]} for _ in range(20))
        )
        assert eventually(lambda: [text for text in caplog.messages if "free some space" in text])
        assert len(world.rows("telemetry")) == 1
        assert world.query is not None
        assert world.query.isActive

        filler.unlink()
        assert eventually(lambda: len(world.rows("telemetry")) == 1_001)
        assert [text for text in caplog.messages if "works again" in text]
        world.stop()
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_two_jobs_on_one_warehouse_are_told_apart(world: World, tmp_path: Path) -> None:
    world.send(OREGON, {"samples": [node("n1")]})
    first = world.start()
    world.drain()
    other = Appender(tables.TELEMETRY, world.settings.warehouse.path)
    other.commit(other.write(DeltaTable(other.uri).to_pyarrow_table(), 0))
    world.send(OREGON, {"samples": [node("n2")]})

    assert eventually(lambda: not first.isActive)
    assert "another writer" in str(first.exception())
    assert [row["node_id"] for row in world.rows("telemetry")] == ["n1", "n1"]


def test_the_place_reached_is_told_to_a_consumer_group(world: World) -> None:
    world.send(OREGON, {"samples": [node("n1")]}, {"samples": [node("n2")]})
    world.start()
    world.drain()
    admin = KafkaAdminClient(bootstrap_servers=world.settings.kafka.bootstrap_servers)
    group = f"{world.settings.kafka.topic_prefix}-observe"
    try:
        assert eventually(lambda: _group_offsets(admin, group)) == [2]
    finally:
        admin.close()


def _group_offsets(admin: KafkaAdminClient, group: str) -> list[int]:
    try:
        offsets = admin.list_group_offsets(group)
    except KafkaError:
        return []
    return [place.offset for places in offsets.values() for place in places.values()] if offsets else []


def test_a_checkpoint_moved_away_duplicates_nothing_in_the_tables(world: World) -> None:
    world.send(OREGON, {"samples": [node("n1"), {"kind": "unheard of"}]}, b"no JSON", {"samples": [node("n2")]})
    world.start()
    world.drain()
    before = {table: world.sorted_rows(table) for table in ("telemetry", "quarantine")}
    assert [len(rows) for rows in before.values()] == [2, 2]
    world.stop()
    (world.folder / "checkpoints" / "observe").rename(world.folder / "moved")
    world.send(OREGON, {"samples": [node("n3")]})
    world.start()
    world.drain()
    assert [row["node_id"] for row in world.rows("telemetry")] == ["n1", "n2", "n3"]
    assert world.sorted_rows("quarantine") == before["quarantine"]


def test_a_topic_made_anew_while_the_query_runs_is_read_from_its_beginning(world: World) -> None:
    world.send(OREGON, *({"samples": [node(f"old-{number}")]} for number in range(5)))
    world.send(IOWA, {"samples": [node("iowa")]})
    first = world.start()
    world.drain()
    time.sleep(3)  # its topics have been looked at
    topic = topics.topic_name(topics.TELEMETRY, world.settings.kafka.topic_prefix, OREGON)
    admin = KafkaAdminClient(bootstrap_servers=world.settings.kafka.bootstrap_servers)
    admin.delete_topics([topic])
    assert eventually(lambda: topic not in admin.list_topics())
    admin.close()
    world.send(OREGON, {"samples": [node("new-0")]}, {"samples": [node("new-1")]})
    assert eventually(lambda: not first.isActive)
    world.restart()
    told = [str(row["node_id"]) for row in world.rows("telemetry")]
    assert sorted(told) == ["iowa", "new-0", "new-1", *(f"old-{number}" for number in range(5))]
