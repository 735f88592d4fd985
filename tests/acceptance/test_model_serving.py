"""A model as a task: an agent runs its server, versions come through the sync plane, and callers lose nothing."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import psutil
import pytest
from click.testing import CliRunner

from tests.acceptance.placing import REGIONS, Setting, until
from tests.patience import PATIENCE_S
from tests.unit.thalweg.serving.models import model, question, version
from thalweg.cli.main import cli
from thalweg.client.found_servers import FoundServers
from thalweg.client.model_client import ModelClient
from thalweg.conf.settings import KafkaSettings, Settings, load_settings
from thalweg.jobs import place, replicate
from thalweg.jobs.runtime.job import Stop
from thalweg.learning.vectors.parameters import digest
from thalweg.processes.ports import free_port
from thalweg.serving.announcements import Announced
from thalweg.serving.version_record import FIELD, ModelVersion, key_of, written
from thalweg.serving.wanted_version import WantedVersion
from thalweg.streams.broker.admin import ensure_topics
from thalweg.streams.broker.consume import KafkaReader
from thalweg.streams.broker.publish import KafkaPublisher, OutgoingRecord, outgoing
from thalweg.streams.contract.envelope import Envelope
from thalweg.streams.contract.messages import AssignmentEvent, StatusEvent
from thalweg.streams.contract.topics import ASSIGNMENTS, REPLICA, SERVERS, STATE, STATUS, topic_name
from thalweg.streams.learning.payloads import PayloadStore
from thalweg.streams.learning.rollout_writes import state_record
from thalweg.streams.replication.replica_log import write_entry
from thalweg.sync.clock import steady_clock, system_clock
from thalweg.sync.protocol.entries import RecordEntry
from thalweg.sync.protocol.records import Record, Register
from thalweg.sync.protocol.stamps import Hlc

pytestmark = pytest.mark.acceptance
REGION = "aws:us-east-1"
ONE, TWO, THREE = model(1), model(2), model(3)
SERVE = [sys.executable, "-m", "thalweg", "model", "serve", "m"]


class Stage:
    """An agent with the process runner; the test is the place job and the centre of the sync plane."""

    def __init__(self, broker: str, folder: Path) -> None:
        self.kafka = KafkaSettings(bootstrap_servers=broker, topic_prefix=f"model-{uuid.uuid4().hex[:8]}")
        self.folder = folder
        self.payloads = folder / "payloads"
        self.store = PayloadStore(str(self.payloads))
        ensure_topics(self.kafka, [REGION])
        ensure_topics(self.kafka, [], [REPLICA, SERVERS])
        self.publisher = KafkaPublisher(self.kafka)
        self.servers = Announced(self.reader(topic_name(SERVERS, self.kafka.topic_prefix)))
        self.status = self.reader(topic_name(STATUS, self.kafka.topic_prefix, REGION))
        self.reports: list[StatusEvent] = []

    def reader(self, topic: str) -> KafkaReader:
        return KafkaReader(self.kafka, topics=[topic])

    def agent(self) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "thalweg", "agent", "--region", REGION, "--state", str(self.folder / "agent")]
        command += ["--runner=process", f"--set=federate.payloads={self.payloads}", "--set=agent.kill_grace_s=20"]
        command += ["--set=agent.progress_ms=500", f"--set=kafka.bootstrap_servers={self.kafka.bootstrap_servers}"]
        with (self.folder / "agent.log").open("ab") as log:
            return subprocess.Popen(
                [*command, f"--set=kafka.topic_prefix={self.kafka.topic_prefix}"], stdout=log, stderr=log
            )

    def declare(self, wanted: ModelVersion) -> None:
        """Write the record as the centre does, once the bytes are in the store."""
        self.publisher.publish([record_of(wanted, self.kafka.topic_prefix)])

    def order(self, kind: str, epoch: int = 1) -> None:
        event = AssignmentEvent(
            event_id=f"{kind}-{epoch}", type=kind, task_id="m/served", epoch=epoch, region=REGION, kind="infer",  # type: ignore[arg-type]
            command=SERVE, expected_s=86_400, decided_at=system_clock(),
        )  # fmt: skip
        envelope = Envelope(event_id=event.event_id, source="/test", event_type=kind, time_ms=1)
        prefix = self.kafka.topic_prefix
        self.publisher.publish([outgoing(ASSIGNMENTS, prefix, event, key=event.task_id, region=REGION, event=envelope)])

    def urls(self) -> list[str]:
        self.servers.refresh()
        return [status.url for status in self.servers.of("m", system_clock())]

    def serves(self, number: int) -> bool:
        self.servers.refresh()
        return [status.version for status in self.servers.of("m", system_clock())] == [number]

    def told(self, kind: str) -> list[StatusEvent]:
        records = self.status.poll(0)
        self.reports += [msgspec.json.decode(record.value or b"", type=StatusEvent) for record in records]
        return [report for report in self.reports if report.type == kind and report.task_id == "m/served"]

    def close(self) -> None:
        for closing in (self.publisher, self.servers.reader, self.status):
            closing.close()


def record_of(wanted: ModelVersion, prefix: str) -> OutgoingRecord:
    at = Hlc(system_clock(), 0, "x")
    entry = write_entry(RecordEntry(Record(key=key_of("m"), written=at, last={FIELD: Register(written(wanted), at)})))
    return OutgoingRecord(topic=topic_name(REPLICA, prefix), key=entry.key, value=entry.value)


@pytest.fixture
def stage(broker: str, tmp_path: Path) -> Iterator[Stage]:
    made = Stage(broker, tmp_path)
    yield made
    made.close()


@contextmanager
def ended(process: "subprocess.Popen[bytes]") -> Iterator["subprocess.Popen[bytes]"]:
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(PATIENCE_S)
        finally:
            process.kill()


def label(answer: dict[str, Any]) -> tuple[str, int]:
    return answer["model_version"], {one["name"]: one for one in answer["outputs"]}["label"]["data"][0]


def test_a_task_serves_swaps_under_load_is_killed_and_serves_again_without_the_store(stage: Stage) -> None:
    stage.store.put([ONE, TWO])
    stage.declare(version(1, ONE))
    with ended(stage.agent()):
        stage.order("assign")
        until(lambda: stage.serves(1))
        failures: list[BaseException] = []
        answers: list[tuple[str, int]] = []
        over = threading.Event()
        urls = stage.urls()

        def ask(seed: int) -> None:
            with ModelClient("m", urls, rng=random.Random(seed), timeout_s=60) as client:
                while not over.is_set():
                    try:
                        answers.append(label(client.infer([question([float(seed), 0.0, 0.0])])))
                    except BaseException as error:
                        failures.append(error)

        callers = [threading.Thread(target=ask, args=(seed,)) for seed in range(3)]
        for caller in callers:
            caller.start()
        until(lambda: len(answers) > 50)
        stage.declare(version(2, TWO))
        until(lambda: ("2", 2) in answers)
        after = len(answers)
        until(lambda: len(answers) > after + 50)
        over.set()
        for caller in callers:
            caller.join(PATIENCE_S)
        assert failures == []
        assert set(answers) == {("1", 1), ("2", 2)}
        until(lambda: any(report.metrics.get("requests", 0) > 100 for report in stage.told("progress")))
        newest = stage.told("progress")[-1].metrics
        assert (newest["version"], newest["failed"], newest["shed"]) == (2, 0, 0)
        assert newest["p99_ms"] >= newest["p50_ms"] > 0

        # The store is gone, and the server killed: its next life serves what served last.
        os.rename(stage.payloads, f"{stage.payloads}-gone")
        (process,) = (one for one in psutil.process_iter(["cmdline"]) if one.info["cmdline"] == SERVE)
        process.kill()
        until(lambda: bool(stage.told("failed")))
        stage.order("assign", 2)
        until(lambda: stage.serves(2) and stage.urls() != urls)
        with ModelClient("m", stage.urls()) as client:
            assert label(client.infer([question()])) == ("2", 2)

        # Told to end, it says so before it does.
        stage.order("revoke", 3)
        until(lambda: stage.urls() == [])
        until(lambda: bool(stage.told("revoked")))


def test_a_server_without_broker_and_store_serves_what_served_last(stage: Stage) -> None:
    stage.store.put([THREE])
    stage.declare(version(3, THREE))
    keep, port = stage.folder / "kept", free_port()

    def served(bootstrap: str, payloads: Path) -> "subprocess.Popen[bytes]":
        command = [*SERVE, "--region=bern", "--name=s", f"--port={port}", f"--keep={keep}", f"--bootstrap={bootstrap}"]
        command += [f"--set=kafka.topic_prefix={stage.kafka.topic_prefix}", f"--set=federate.payloads={payloads}"]
        with (stage.folder / "server.log").open("ab") as log:
            return subprocess.Popen(command, stdout=log, stderr=log)

    with ended(served(stage.kafka.bootstrap_servers, stage.payloads)):
        until(lambda: stage.serves(3))
    until(lambda: stage.urls() == [])
    with (
        ended(served(f"127.0.0.1:{free_port()}", stage.folder / "nowhere")) as server,
        ModelClient("m", [f"http://127.0.0.1:{port}"]) as client,
    ):

        def answers() -> bool:
            assert server.poll() is None, (stage.folder / "server.log").read_text()
            try:
                return label(client.infer([question()])) == ("3", 3)
            except Exception:
                return False

        until(answers)


def settings_for(broker: str, folder: Path) -> Settings:
    options = [
        f"kafka.bootstrap_servers={broker}",
        f"kafka.topic_prefix=model-{uuid.uuid4().hex[:8]}",
        f"warehouse.path={folder / 'warehouse'}",
        f"spark.checkpoints={folder / 'checkpoints'}",
    ]
    return load_settings(None, options, {})


def test_a_version_is_published_from_the_command_line_and_declared_in_every_region(
    spark: Any, broker: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THALWEG_STATE", str(tmp_path / "state"))
    settings, stop = settings_for(broker, tmp_path), Stop()
    where = [
        f"--bootstrap={broker}",
        f"--set=kafka.topic_prefix={settings.kafka.topic_prefix}",
        f"--set=federate.payloads={tmp_path / 'payloads'}",
        "--json",
    ]
    for name, raw in (("one", ONE), ("two", TWO), ("wide", model(1, inputs=7))):
        (tmp_path / f"{name}.onnx").write_bytes(raw)
    query = replicate.start(spark, settings, system_clock, stop)
    try:

        def publish(name: str, *more: str) -> Any:
            return CliRunner().invoke(cli, ["model", "publish", "m", str(tmp_path / f"{name}.onnx"), *more, *where])

        first = publish("one")
        assert first.exit_code == 0, first.output
        second = publish("two", "--for-region", "bern")
        assert second.exit_code == 0, second.output
        wide = publish("wide")
        assert wide.exit_code == 2 and "other inputs than version 1" in wide.output, wide.output
        old = publish("one", "--version", "1")
        assert old.exit_code == 2 and "allowed are numbers above it" in old.output, old.output

        # Another machine with a new state folder takes the region over; this one's store is obsolete, and says so.
        monkeypatch.setenv("THALWEG_STATE", str(tmp_path / "another"))
        third = publish("one")
        assert third.exit_code == 0, third.output
        assert (json.loads(third.output)["version"], json.loads(third.output)["before"]) == (3, 2)
        monkeypatch.setenv("THALWEG_STATE", str(tmp_path / "state"))
        overtaken = publish("one")
        assert overtaken.exit_code == 1 and "is obsolete" in overtaken.output, overtaken.output

        # Training data are prepared by what is declared for all, too.
        how = {"revision": 5, "window_s": 1, "keep": [{"field": "y", "one_of": [1]}]}
        prefix = settings.kafka.topic_prefix
        ensure_topics(settings.kafka, ["oslo"], [STATE])
        with KafkaPublisher(settings.kafka) as publisher:
            publisher.publish([state_record("edge/training", how, system_clock(), prefix, "oslo")])
        np.savez(tmp_path / "in.npz", x=np.eye(3), y=np.arange(3))
        prepare = ["edge", "prepare", str(tmp_path / "in.npz"), str(tmp_path / "out.npz"), "--record=edge/training"]
        until(lambda: CliRunner().invoke(cli, [*prepare, *where]).exit_code == 0)
        assert np.load(tmp_path / "out.npz")["y"].tolist() == [1]
        assert json.loads((tmp_path / "out.npz.prepared.json").read_text())["revision"] == 5
    finally:
        query.stop()
        stop.finish()
    told = json.loads(second.output)
    assert (told["key"], told["version"], told["before"], told["sha256"]) == ("models/m/bern", 2, 1, digest(TWO))
    topic = topic_name(REPLICA, settings.kafka.topic_prefix)
    for region, number in (("bern", 2), ("oslo", 3)):
        wanted = WantedVersion(KafkaReader(settings.kafka, topics=[topic]), "m", region)
        deadline = time.monotonic() + PATIENCE_S
        while (found := wanted.refresh(100)) is None or found.version != number:
            assert time.monotonic() < deadline
        assert PayloadStore(str(tmp_path / "payloads")).get(found.sha256) in (ONE, TWO)
        wanted.close()


CHEAP, NEAR = REGIONS
"""Of two regions that both have room: the cheaper one, and the one where the callers are, 100 ms away from it."""


def test_a_server_is_placed_where_its_callers_are_and_copies_in_a_region_each(
    spark: Any, broker: str, tmp_path: Path
) -> None:
    setting, stop = Setting(broker, tmp_path, gpus=16), Stop()
    kafka = setting.settings.kafka
    PayloadStore(str(tmp_path / "payloads")).put([ONE])
    ensure_topics(kafka, [], [REPLICA, SERVERS])
    with KafkaPublisher(kafka) as publisher:
        publisher.publish([record_of(version(1, ONE), kafka.topic_prefix)])
    nodes = [
        {"node_id": f"n{number}", "gpu_model": "A100", "gpus": 8, "cpus": 96, "memory_gb": 512} for number in (0, 1)
    ]
    (tmp_path / "fleet.yaml").write_text(json.dumps({"nodes": nodes}))

    def agent(region: str) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "thalweg", "agent", f"--region={region}", "--runner=process"]
        command += [f"--fleet={tmp_path / 'fleet.yaml'}", f"--state={tmp_path / f'agent-{REGIONS.index(region)}'}"]
        command += [f"--set=kafka.bootstrap_servers={broker}", f"--set=kafka.topic_prefix={kafka.topic_prefix}"]
        command += [f"--set=federate.payloads={tmp_path / 'payloads'}", "--set=agent.kill_grace_s=20"]
        with (tmp_path / f"agent-{REGIONS.index(region)}.log").open("ab") as log:
            return subprocess.Popen(command, stdout=log, stderr=log)

    reader = KafkaReader(kafka, topics=[topic_name(SERVERS, kafka.topic_prefix)])
    announced = Announced(reader)
    needs = {"kind": "infer", "origin_region": NEAR, "per_worker": {"gpus": 1, "cpus": 1}, "command": SERVE}

    def serving(count: int) -> list[tuple[str, str]]:
        found: list[tuple[str, str]] = []

        def are_there() -> bool:
            announced.refresh(100)
            found[:] = [(one.server, one.region) for one in announced.of("m", system_clock())]
            return len(found) == count

        until(are_there)
        return sorted(found)

    query = place.start(spark, setting.settings, system_clock, stop)
    try:
        with ended(agent(NEAR)), ended(agent(CHEAP)):
            setting.request({"task_id": "m/near", "max_rtt_ms": 30, "expected_s": 86_400, **needs})
            assert serving(1) == [(f"m/near@{NEAR}", NEAR)], "the price is not what decides"
            setting.request({"task_id": "m/each", "replicas": 2, "max_rtt_ms": 200, "expected_s": 86_400, **needs})
            assert serving(3) == [(f"m/each@{CHEAP}", CHEAP), (f"m/each@{NEAR}", NEAR), (f"m/near@{NEAR}", NEAR)]
            servers = KafkaReader(kafka, topics=[topic_name(SERVERS, kafka.topic_prefix)])
            found = FoundServers("m", servers, clock=system_clock, steady=steady_clock)
            with servers, ModelClient("m", found) as client:
                until(lambda: len(found()) == 3)
                assert {label(client.infer([question()])) for _ in range(20)} == {("1", 1)}
            until(lambda: {row["task_id"]: row["state"] for row in setting.table("tasks")} == {
                "m/near": "running", "m/each": "running"
            })  # fmt: skip
    finally:
        query.stop()
        stop.finish()
        reader.close()
        setting.close()
