"""`thalweg up`, `ps`, `doctor` and `down` as a person uses them, with the real broker and the real streaming jobs."""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaAdminClient, KafkaProducer
from kafka.admin import NewTopic

from tests.patience import PATIENCE_S
from thalweg.bootstrap.jars import ensure_jars
from thalweg.checkup import brokers, checkpoints
from thalweg.checkup.finding import Severity
from thalweg.conf.environment import find_java
from thalweg.conf.settings import KafkaSettings
from thalweg.processes.identity import ProcessIdentity
from thalweg.processes.ports import free_port
from thalweg.stack.leftovers import leftovers
from thalweg.stack.stack import running_bootstrap
from thalweg.stack.state import StateFolder
from thalweg.streams.broker.origin import Present, Standing

pytestmark = pytest.mark.acceptance

READY = dict.fromkeys(("broker", "jobs", "maintain", "window"), "ready")


class Shell:
    """Runs our commands for one state folder."""

    def __init__(self, state: Path) -> None:
        self.state = state
        # As unlucky as it comes: another Spark's environment, and a locale in which a JVM knows no accents.
        unlucky = {"SPARK_HOME": "/nowhere", "PYSPARK_PYTHON": "/nowhere/python", "LANG": "C", "LC_ALL": "C"}
        self.environ = {**os.environ, **unlucky, "THALWEG_STATE": str(state)}

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        command = [sys.executable, "-W", "ignore", "-P", "-m", "thalweg.cli.main", *arguments]
        return subprocess.Popen(
            command, env=self.environ, cwd="/", text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    def run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        process = self.start(*arguments)
        out, err = process.communicate(timeout=PATIENCE_S)
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def ps(self) -> dict[str, Any]:
        document = json.loads(self.run("ps", "--json").stdout)
        assert isinstance(document, dict)
        return document

    def findings(self) -> dict[str, dict[str, str]]:
        document = json.loads(self.run("doctor", "--json").stdout)
        return {finding["check"]: finding for finding in document["findings"]}


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    ensure_jars(find_java())
    shell = Shell(tmp_path / "état à deux")
    yield shell
    shell.run("down")


def states(document: dict[str, Any]) -> dict[str, str]:
    return {process["name"]: process["state"] for process in document["processes"]}


def pid_of(document: dict[str, Any], name: str) -> int | None:
    pids: dict[str, int | None] = {process["name"]: process["pid"] for process in document["processes"]}
    return pids[name]


def identities(document: dict[str, Any]) -> list[ProcessIdentity]:
    found = [ProcessIdentity.of(process["pid"]) for process in document["processes"]]
    found.append(ProcessIdentity.of(document["supervisor_pid"]))
    assert None not in found
    return [identity for identity in found if identity is not None]


def wait_until_gone(state: Path, processes: list[ProcessIdentity], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while any(process.is_alive() for process in processes) or leftovers(StateFolder(state)):
        assert time.monotonic() < deadline, [process.pid for process in processes if process.is_alive()]
        time.sleep(0.1)


def test_a_stack_comes_up_is_cut_off_comes_back_and_goes_down(shell: Shell) -> None:
    # Not Kafka's own ports: between a supervisor's death and the next start they are everybody's.
    kafka = free_port()
    StateFolder(shell.state).remember_ports({"kafka": kafka, "controller": free_port(taken=[kafka])})
    up = shell.run("up", "--detach")
    assert up.returncode == 0, up.stderr
    document = shell.ps()
    assert document["running"] is True
    assert states(document) == READY
    assert all(process["rss_mb"] > 50 and process["uptime_seconds"] > 0 for process in document["processes"])
    address = running_bootstrap(shell.state)
    assert address is not None
    producer = KafkaProducer(bootstrap_servers=address)
    producer.send("thalweg.requests", b"{}").get(timeout=30)
    producer.close()

    findings = shell.findings()
    assert findings["state folder"]["seen"].startswith("a stack runs")
    assert findings["broker's clock"]["status"] == "ok"
    assert [check for check, finding in findings.items() if finding["status"] == "problem"] == []

    before = {process["name"]: process["pid"] for process in document["processes"]}
    os.kill(before["broker"], signal.SIGKILL)
    deadline = time.monotonic() + PATIENCE_S
    while states(document := shell.ps()) != READY or pid_of(document, "broker") in (
        None,
        before["broker"],
    ):
        assert time.monotonic() < deadline, document
        time.sleep(0.5)
    assert pid_of(document, "jobs") == before["jobs"]  # which only reconnects
    assert running_bootstrap(shell.state) == address

    second = shell.run("up")
    assert second.returncode == 1
    assert f"already runs in {shell.state} (process {document['supervisor_pid']})" in second.stderr

    processes = identities(document)
    os.kill(document["supervisor_pid"], signal.SIGKILL)
    # The Spark JVM is no child of ours: it ends when it sees that its Python is gone.
    wait_until_gone(shell.state, processes, seconds=PATIENCE_S)
    assert states(shell.ps()) == dict.fromkeys(READY, "gone")
    assert running_bootstrap(shell.state) is None

    foreground = shell.start("up")
    deadline = time.monotonic() + PATIENCE_S
    while states(document := shell.ps()) != READY:
        assert foreground.poll() is None, foreground.communicate()
        assert time.monotonic() < deadline
        time.sleep(1)
    assert running_bootstrap(shell.state) == address
    processes = identities(document)
    foreground.send_signal(signal.SIGINT)
    _, err = foreground.communicate(timeout=PATIENCE_S)
    assert foreground.returncode == 0
    assert err.splitlines()[-2:] == ["Stopping.", "Stopped."]  # nothing had to be killed
    wait_until_gone(shell.state, processes, seconds=0.1)
    assert shell.ps()["running"] is False


def test_up_and_ps_refuse_a_folder_that_is_not_theirs(shell: Shell) -> None:
    shell.state.mkdir()
    (shell.state / "letters").touch()
    for command in ("up", "ps", "down"):
        refused = shell.run(command)
        assert refused.returncode == 2
        assert "is not a state folder of thalweg" in refused.stderr


def test_a_process_that_breaks_at_start_ends_the_stack_with_its_own_words(shell: Shell) -> None:
    refused = shell.run("up", "--set", "spark.driver_memory=nonsense")
    assert refused.returncode == 1
    assert "jobs ended with exit code 1 and was given up" in refused.stderr
    assert leftovers(StateFolder(shell.state)) == []


def test_the_doctor_recognises_a_checkpoint_of_another_broker(broker: str, tmp_path: Path) -> None:
    topic = f"doctor-{uuid.uuid4().hex[:8]}"
    admin = KafkaAdminClient(bootstrap_servers=broker)
    admin.create_topics([NewTopic(name=topic, num_partitions=1, replication_factor=1)])
    before = set(admin.list_topics())
    producer = KafkaProducer(bootstrap_servers=broker)
    producer.send(topic, b"only one").get(timeout=30)
    producer.close()
    kafka = KafkaSettings(bootstrap_servers=broker)
    (tmp_path / "place" / "offsets").mkdir(parents=True)
    (tmp_path / "place" / "metadata").touch()

    def judged(offset: int) -> Severity:
        positions = json.dumps({topic: {"0": offset}})
        (tmp_path / "place" / "offsets" / "0").write_text(f"v1\n{{}}\n{positions}")
        (finding,) = checkpoints.checkpoint_findings(tmp_path, look)
        return finding.status

    def look(_: str, standing: Standing) -> Present:
        present = brokers.topics_present(kafka, standing)
        assert present is not None
        return present

    assert judged(1) is Severity.OK
    assert judged(2) is Severity.WARNING
    clock = {finding.check: finding for finding in brokers.broker_findings(kafka, must_answer=True)}["broker's clock"]
    assert clock.status is Severity.OK
    assert "agrees with ours" in clock.seen
    (foreign,) = brokers.broker_findings(kafka, must_answer=False, is_ours=False)
    assert "another installation's, and is left alone" in foreign.seen
    (wrong,) = brokers.broker_findings(kafka, must_answer=True, cluster="ours")
    assert wrong.status is Severity.PROBLEM
    assert "in the place of this stack's cluster ours" in wrong.seen
    assert set(admin.list_topics()) == before  # the doctor leaves no topic behind
    admin.close()
