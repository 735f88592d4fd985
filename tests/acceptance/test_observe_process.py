"""Observe as a process of its own: killed, without a broker, and still every sample once."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError
from kafka import KafkaProducer

from tests.patience import PATIENCE_S
from thalweg.bootstrap.jars import ensure_jars
from thalweg.conf.environment import PROJECT_ROOT, find_java
from thalweg.conf.settings import KafkaSettings
from thalweg.stack.broker import Broker
from thalweg.streams.broker.admin import ensure_topics
from thalweg.streams.contract import topics

pytestmark = pytest.mark.acceptance

REGION = "aws:us-west-2"


class Job:
    """`python -m thalweg.jobs.observe` with folders of its own."""

    def __init__(self, folder: Path, bootstrap: str) -> None:
        self.folder = folder
        self.bootstrap = bootstrap
        self.log = folder / "observe.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        items = {
            "kafka.bootstrap_servers": self.bootstrap,
            "kafka.request_timeout_ms": "3000",
            "warehouse.path": str(self.folder / "warehouse"),
            "spark.checkpoints": str(self.folder / "checkpoints"),
            "spark.driver_memory": "1g",
            "observe.trigger_ms": "100",
        }
        arguments = [part for name, value in items.items() for part in ("--set", f"{name}={value}")]
        with self.log.open("ab") as log:
            # A session of its own, so that a kill takes the JVM along and nothing is left behind.
            self.process = subprocess.Popen(
                [sys.executable, "-m", "thalweg.jobs.observe", *arguments],
                cwd=PROJECT_ROOT,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def kill(self) -> None:
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process = None

    def stop(self) -> int:
        assert self.process is not None
        self.process.terminate()
        code = self.process.wait(60)
        self.process = None
        return code

    def said(self, words: str) -> bool:
        return words in self.log.read_text(errors="replace")

    def positions(self) -> Counter[tuple[int, int]]:
        try:
            rows = DeltaTable(str(self.folder / "warehouse" / "telemetry")).to_pyarrow_table()
        except TableNotFoundError:
            return Counter()
        return Counter(zip(rows["topic_offset"].to_pylist(), rows["sample_index"].to_pylist(), strict=True))

    def latest(self) -> dict[str, int]:
        rows = DeltaTable(str(self.folder / "warehouse" / "nodes")).to_pyarrow_table().to_pylist()
        return {row["node_id"]: row["stamp_ms"] - 1_700_000_000_000 for row in rows}


@pytest.fixture
def own_broker(tmp_path: Path) -> Iterator[Broker]:
    ensure_jars(find_java())
    with Broker(tmp_path / "broker") as running:
        yield running


@pytest.fixture
def job(own_broker: Broker, tmp_path: Path) -> Iterator[Job]:
    job = Job(tmp_path, own_broker.bootstrap)
    yield job
    if job.process is not None:
        job.kill()


def send(bootstrap: str, first: int, count: int) -> None:
    kafka = KafkaSettings(bootstrap_servers=bootstrap)
    ensure_topics(kafka, [REGION])
    producer = KafkaProducer(bootstrap_servers=bootstrap)
    for number in range(first, first + count):
        samples = [{"kind": "node", "node_id": f"n{number % 5}-{index}", "gpus": number % 9} for index in range(3)]
        record = {"region": REGION, "stamp": {"ms": 1_700_000_000_000 + number}, "samples": samples}
        producer.send(topics.topic_name(topics.TELEMETRY, "thalweg", REGION), json.dumps(record).encode())
    producer.flush()
    producer.close()


def until(true: Callable[[], bool], job: Job) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline, job.log.read_text(errors="replace")[-3_000:]
        time.sleep(0.05)


def test_kills_at_any_moment_lose_and_repeat_nothing(job: Job) -> None:
    sent = 0
    for seconds_after_first_rows in (0.0, 0.2):
        job.start()
        before = sum(job.positions().values())
        for _ in range(5):
            send(job.bootstrap, sent, 40)
            sent += 40
        until(lambda before=before: sum(job.positions().values()) > before, job)  # type: ignore[misc]
        time.sleep(seconds_after_first_rows)
        job.kill()
    send(job.bootstrap, sent, 40)
    sent += 40
    job.start()
    until(lambda: len(job.positions()) == 3 * sent, job)
    newest = {f"n{number % 5}-{index}": number for number in range(sent) for index in range(3)}
    until(lambda: job.latest() == newest, job)

    assert job.stop() == 0
    assert job.positions() == Counter({(offset, index): 1 for offset in range(sent) for index in range(3)})


def test_a_broker_that_is_down_at_the_start_or_goes_away_is_waited_for(job: Job, own_broker: Broker) -> None:
    send(job.bootstrap, 0, 10)
    own_broker.stop()
    job.start()
    until(lambda: job.said("waiting for the broker") and job.said("no Kafka broker answers"), job)
    own_broker.start()
    until(lambda: len(job.positions()) == 30, job)

    own_broker.kill()
    until(lambda: job.log.read_text(errors="replace").count("waiting for the broker") > 1, job)
    own_broker.start()
    send(job.bootstrap, 10, 10)
    until(lambda: len(job.positions()) == 60, job)
    assert set(job.positions().values()) == {1}
    assert job.stop() == 0
