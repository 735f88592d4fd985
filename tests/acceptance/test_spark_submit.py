"""The documented spark-submit: on a standalone cluster that knows nothing of ours, and with all that stays on S3."""

import os
import random
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import psutil
import pytest
from pyspark.sql import SparkSession

from tests.acceptance.object_store import relayed_store
from tests.acceptance.placing import Setting, until
from tests.patience import PATIENCE_S
from thalweg.conf.environment import SetupIncompleteError
from thalweg.jobs.runtime.s3_checkpoints import check_reachable
from thalweg.stack.spark_cluster import python_without_the_tree, spark_cluster
from thalweg.stack.submission import Submission, printed_jars, submitted
from thalweg.streams.broker.admin import ensure_topics
from thalweg.streams.broker.query_checkpoint import QueryCheckpoint
from thalweg.streams.broker.stored_checkpoint import files_at
from thalweg.streams.contract.topics import TELEMETRY, topic_name

pytestmark = pytest.mark.acceptance


@pytest.fixture
def setting(broker: str, tmp_path: Path) -> Iterator[Setting]:
    made = Setting(broker, tmp_path)
    yield made
    made.close()


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    python = python_without_the_tree(tmp_path / "bare")
    command = [python, "-c", "import pyarrow, thalweg"]
    found = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/", env={})
    assert "No module named 'thalweg'" in found.stderr
    return python


def options(setting: Setting) -> list[str]:
    found = {
        "kafka.bootstrap_servers": setting.settings.kafka.bootstrap_servers,
        "kafka.topic_prefix": setting.prefix,
        "warehouse.path": setting.settings.warehouse.path,
        "spark.checkpoints": setting.settings.spark.checkpoints,
        # While a test looks at processes and kills them its regions say nothing, on a busy machine for a quarter of a
        # minute: that is no silence to be judged.
        "place.heartbeat_timeout_ms": "600000",
    }
    return [part for name, value in found.items() for part in ("--set", f"{name}={value}")]


def task(name: str) -> dict[str, object]:
    return {"task_id": name, "per_worker": {"gpus": 1}}


def test_on_a_standalone_cluster_two_jobs_run_beside_each_other_and_go_on_when_their_executors_are_killed(
    setting: Setting, bare: Path, tmp_path: Path
) -> None:
    ensure_topics(setting.settings.kafka, ["new"], [TELEMETRY])
    jars = printed_jars()

    def sample(node_id: str) -> None:
        told = f'{{"region": "new", "samples": [{{"kind": "node", "node_id": "{node_id}", "gpus": 8}}]}}'
        setting.producer.send(topic_name(TELEMETRY, setting.prefix, "new"), told.encode())
        setting.producer.flush()

    def known() -> set[str]:
        return {row["node_id"] for row in setting.table("nodes") if row["region"] == "new"}

    with spark_cluster(tmp_path / "cluster", patience_s=PATIENCE_S) as cluster:

        def submit(job: str, *more: str) -> AbstractContextManager[Submission]:
            share = ("--total-executor-cores", "2", "--executor-memory", "700m")
            return submitted(
                job, tmp_path, bare, *options(setting), *more, master=cluster.master, jars=jars, spark_options=share
            )

        # Each batch through executors, and by our code there.
        with submit("place", "--set", "place.read_ahead=false"), submit("observe", "--set", "observe.writer=executors"):
            setting.request(task("before"))
            sample("n-before")
            setting.heard(lambda: "before" in setting.assigned() and "n-before" in known())

            alike = [psutil.Process(daemon.pid) for daemon in cluster.daemons]
            assert not any("HOME" in process.environ() for process in alike), "they inherit nothing of ours"
            doomed = cluster.executors()
            assert len(doomed) >= 2, "each application has executors of its own"
            names = [f"while-{number}" for number in range(len(doomed))]
            for name, executor in zip(names, doomed, strict=True):
                setting.request(task(name))
                sample(f"n-{name}")
                executor.kill()
            setting.heard(lambda: set(names) <= setting.assigned().keys())
            setting.heard(lambda: {f"n-{name}" for name in names} <= known())
            assert {one.pid for one in cluster.executors()}.isdisjoint(one.pid for one in doomed)
            assert {name: len(events) for name, events in setting.assigned().items()} == dict.fromkeys(
                ["before", *names], 1
            )


def test_warehouse_and_checkpoint_on_s3_outlive_drivers_that_are_killed(
    broker: str, bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance, jars, sent = random.Random(5), printed_jars("s3"), set[str]()
    with relayed_store(monkeypatch, tmp_path) as (bucket, _):
        setting = Setting(broker, tmp_path, warehouse=f"{bucket}/thalweg", checkpoints=f"{bucket}/checkpoints")
        checkpoint = QueryCheckpoint(files_at(f"{bucket}/checkpoints/place"))

        def ask(*names: str) -> None:
            sent.update(names)
            setting.request(*map(task, names))

        try:
            for life in range(3):
                with submitted("place", tmp_path, bare, *options(setting), master="local[2]", jars=jars) as place:
                    ask(*(f"whole-{life}-{number}" for number in range(5)))
                    setting.heard(lambda: sent <= setting.assigned().keys())
                    if life < 2:
                        ask(*(f"cut-{life}-{number}" for number in range(20)))
                        time.sleep(chance.random())
                        place.kill()
            rows = Counter(row["transition"] for row in setting.ledger() if row["transition"] != "waiting")
            assert rows == {"submitted": len(sent), "assigned": len(sent)}
            assert all(len(events) == 1 for events in setting.assigned().values())
            assert {event["event_id"] for event in setting.events} == {
                row["event_id"] for row in setting.ledger() if row["event_id"]
            }
            assert checkpoint.standing().batch and checkpoint.origin() is not None, "it is looked into there, too"
        finally:
            setting.close()


def test_executors_write_to_s3_where_their_environment_names_it(
    broker: str, bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jars = printed_jars("s3")
    with (
        relayed_store(monkeypatch, tmp_path) as (bucket, _),
        spark_cluster(tmp_path / "cluster", patience_s=PATIENCE_S) as cluster,
    ):
        setting = Setting(broker, tmp_path, warehouse=f"{bucket}/thalweg", checkpoints=f"{bucket}/checkpoints")
        ensure_topics(setting.settings.kafka, ["new"], [TELEMETRY])
        named = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
        confs = [part for name in named for part in ("--conf", f"spark.executorEnv.{name}={named[name]}")]
        share = ("--total-executor-cores", "2", "--executor-memory", "700m")
        told = (*options(setting), "--set", "observe.writer=executors")
        try:
            with submitted(
                "observe", tmp_path, bare, *told, master=cluster.master, jars=jars, spark_options=(*share, *confs)
            ):
                value = b'{"region": "new", "samples": [{"kind": "node", "node_id": "n", "gpus": 8}]}'
                setting.producer.send(topic_name(TELEMETRY, setting.prefix, "new"), value)
                setting.producer.flush()
                until(lambda: any(row["region"] == "new" for row in setting.table("nodes")))
        finally:
            setting.close()


def test_a_checkpoint_on_s3_is_refused_with_the_command_that_brings_what_it_wants(spark: SparkSession) -> None:
    for place in ("s3://bucket/checkpoints", "s3a://bucket/checkpoints"):
        with pytest.raises(SetupIncompleteError, match=r"no classes for S3.*print_jars s3"):
            check_reachable(spark, place)
    check_reachable(spark, "/srv/checkpoints")
