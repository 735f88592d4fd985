"""The agent as a process of its own against a real broker: it runs real commands, is killed, and goes on."""

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from tests.patience import PATIENCE_S
from thalweg.agent.artefacts import read_artefact
from thalweg.audit.accounts import read_agents
from thalweg.cli.reach.newest_report import newest_report
from thalweg.conf.settings import KafkaSettings
from thalweg.query.reports.task_runs import PlacedRun
from thalweg.streams.broker.admin import ensure_topics
from thalweg.streams.broker.consume import KafkaReader
from thalweg.streams.broker.publish import KafkaPublisher, outgoing
from thalweg.streams.contract.envelope import Envelope
from thalweg.streams.contract.messages import AssignmentEvent, StatusEvent, TelemetryRecord
from thalweg.streams.contract.topics import ASSIGNMENTS, STATUS, TELEMETRY, topic_name

pytestmark = pytest.mark.acceptance
REGION = "aws:us-east-1"


class Region:
    """A region's agent process, and the test in the role of the place job."""

    def __init__(self, bootstrap: str, folder: Path, arguments: list[str]) -> None:
        self.kafka = KafkaSettings(bootstrap_servers=bootstrap, topic_prefix=f"agent-{uuid.uuid4().hex[:8]}")
        self.folder = folder
        self.arguments = arguments
        ensure_topics(self.kafka, [REGION])
        self.publisher = KafkaPublisher(self.kafka)
        prefix = self.kafka.topic_prefix
        self.status = KafkaReader(self.kafka, topics=[topic_name(STATUS, prefix, REGION)])
        self.reports: list[StatusEvent] = []
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "thalweg", "agent", "--region", REGION, "--state", str(self.folder)]
        command += ["--set", f"kafka.bootstrap_servers={self.kafka.bootstrap_servers}"]
        command += ["--set", f"kafka.topic_prefix={self.kafka.topic_prefix}", "--set", "agent.kill_grace_s=1"]
        with (self.folder.parent / "agent.log").open("ab") as log:
            self.process = subprocess.Popen([*command, *self.arguments], stdout=log, stderr=log, cwd=os.getcwd())

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(timeout=PATIENCE_S)

    def stop(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=PATIENCE_S)

    def send(self, *events: AssignmentEvent) -> None:
        self.publisher.publish(
            [
                outgoing(
                    ASSIGNMENTS,
                    self.kafka.topic_prefix,
                    event,
                    key=event.task_id,
                    region=REGION,
                    event=Envelope(event_id=event.event_id, source="/test", event_type=event.type, time_ms=1),
                )
                for event in events
            ]
        )

    def until(self, condition: Callable[[list[StatusEvent]], bool], within_s: float = 60) -> None:
        deadline = time.monotonic() + within_s
        while not condition(self.reports):
            log = (self.folder.parent / "agent.log").read_text()
            assert time.monotonic() < deadline, f"{[(r.type, r.task_id, r.detail) for r in self.reports]}\n{log}"
            records = self.status.poll(200)
            self.reports += [msgspec.json.decode(record.value or b"", type=StatusEvent) for record in records]

    def told(self, task_id: str) -> list[str]:
        """What was reported of a task; a kill may repeat reports, which their place in the sequence tells."""
        by_seq = {r.stamp.seq: r.type for r in self.reports if r.task_id == task_id and r.stamp}
        return [kind for _, kind in sorted(by_seq.items()) if kind != "progress"]


@pytest.fixture
def regions(broker: str, tmp_path: Path) -> Iterator[Callable[..., Region]]:
    made: list[Region] = []

    def make(*arguments: str) -> Region:
        region = Region(broker, tmp_path / f"state-{len(made)}", list(arguments))
        made.append(region)
        region.start()
        return region

    yield make
    for region in made:
        if region.process is not None and region.process.poll() is None:
            region.kill()
        region.publisher.close()
        region.status.close()


def event(task_id: str, epoch: int = 1, kind: str = "assign", **more: object) -> AssignmentEvent:
    fields = {"event_id": f"{kind}-{task_id}-{epoch}", "type": kind, "task_id": task_id, "epoch": epoch}
    return AssignmentEvent(**(fields | {"region": REGION, "decided_at": 1_000 + epoch} | more))  # type: ignore[arg-type]


def test_real_commands_run_fail_are_revoked_and_report(regions: Callable[..., Region], tmp_path: Path) -> None:
    region = regions("--runner", "process")
    proof = tmp_path / "proof"
    region.send(
        event("good", command=["/bin/sh", "-c", f"echo done >> {proof}"]),
        event("good", command=["/bin/sh", "-c", f"echo done >> {proof}"]),
        event("bad", command=["/bin/sh", "-c", "exit 7"]),
        event("long", command=["/bin/sleep", "600"]),
    )
    region.until(lambda _: region.told("long")[-1:] == ["running"] and region.told("bad")[-1:] == ["failed"])
    region.until(lambda _: region.told("good") == ["accepted", "running", "succeeded"])
    assert proof.read_text() == "done\n"
    assert next(r.exit_code for r in region.reports if r.type == "failed") == 7
    region.send(event("long", 2, "revoke"))
    region.until(lambda _: region.told("long") == ["accepted", "running", "revoked"])
    telemetry = KafkaReader(region.kafka, topics=[topic_name(TELEMETRY, region.kafka.topic_prefix, REGION)])
    samples = [
        sample
        for record in telemetry.poll(10_000)
        for sample in msgspec.json.decode(record.value or b"", type=TelemetryRecord).samples
    ]
    telemetry.close()
    (cpus,) = {sample.cpus for sample in samples if sample.kind == "node"}
    assert cpus == os.cpu_count()
    assert region.stop() == 0


def test_a_killed_agent_runs_no_command_twice_and_reports_what_it_lost(
    regions: Callable[..., Region], tmp_path: Path
) -> None:
    region = regions("--runner", "process")
    proof = tmp_path / "proof"
    region.send(event("t", command=["/bin/sh", "-c", f"echo ran >> {proof}; exec sleep 600"]))
    region.until(lambda _: region.told("t") == ["accepted", "running"] and proof.exists())
    region.kill()
    region.send(event("t", command=["/bin/sh", "-c", f"echo ran >> {proof}"]))
    region.start()
    region.until(lambda _: region.told("t") == ["accepted", "running", "failed"])
    region.send(event("t", 2, command=["/bin/sh", "-c", f"echo again >> {proof}"]))
    region.until(lambda _: region.told("t")[-1] == "succeeded")
    assert proof.read_text() == "ran\nagain\n"


def test_a_simulated_region_killed_again_and_again_loses_and_doubles_nothing(regions: Callable[..., Region]) -> None:
    region = regions("--time-scale", "10")
    count = 600
    for first in range(0, count, 100):
        batch = [event(f"t{number}", expected_s=5) for number in range(first, first + 100)]
        region.send(*batch, *batch[:20])
        time.sleep(0.4)
        region.kill()
        region.start()
    names = {f"t{number}" for number in range(count)}
    region.until(lambda reports: names <= {r.task_id for r in reports if r.type == "succeeded"}, within_s=120)
    region.stop()
    books = read_agents([region.folder])
    assert sorted(task_id for _, task_id, _, _ in books.runs) == sorted(names)
    assert {outcome for *_, outcome in books.runs} == {"succeeded"}
    assert books.read == {REGION: count + 120}
    assert books.ignored == 120
    # A report may be repeated after a kill, with the same stamp: what it says is not.
    ended = {(r.task_id, r.epoch, r.stamp.seq if r.stamp else 0) for r in region.reports if r.type == "succeeded"}
    assert len(ended) == count


def test_an_agent_without_a_broker_waits_and_stops_when_asked(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "thalweg", "agent", "--region", REGION, "--state", str(tmp_path / "s")]
    command += ["--set", "kafka.bootstrap_servers=127.0.0.1:1", "--set", "kafka.request_timeout_ms=500"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, cwd=os.getcwd())
    assert process.stderr is not None
    assert any(b"waiting for the broker" in line for line in process.stderr)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=PATIENCE_S) == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--region", "mars:north-1"], "has no published figures"),
        (["--region", "aws:us-east-1", "--region", "aws:us-east-1"], "give each --region once"),
        (["--region", "x", "--fleet", "/nowhere.yaml"], "/nowhere.yaml"),
        ([], "Missing option '--region'"),
    ],
)
def test_a_wrong_call_of_the_agent_ends_with_2(arguments: list[str], words: str) -> None:
    command = [sys.executable, "-m", "thalweg", "agent", *arguments]
    called = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False, cwd=os.getcwd())
    assert called.returncode == 2
    assert words in called.stderr


def test_the_log_of_a_running_task_is_found_by_its_reports_and_outlives_its_agent(
    regions: Callable[..., Region], tmp_path: Path
) -> None:
    kept = ["--set", f"agent.artefacts=file://{tmp_path}/store", "--set", "agent.progress_ms=500"]
    region = regions("--runner", "process", *kept)
    script = """echo '{"loss": 0.5}' > $THALWEG_METRICS; echo hello $WORD; exec sleep 300"""
    region.send(event("t", command=["/bin/sh", "-c", script], env={"WORD": "world"}))
    region.until(lambda reports: any(r.type == "progress" and r.metrics == {"loss": 0.5} for r in reports))
    now = datetime.now(UTC)
    placed = PlacedRun(copy=0, epoch=1, region=REGION, state="running", changed_at=now)
    report = newest_report(region.kafka, "t", placed, now)
    assert report is not None and report.log is not None
    assert newest_report(region.kafka, "t", replace(placed, epoch=2), now) is None
    assert newest_report(region.kafka, "t", placed, now + timedelta(days=1)) is not None  # as it was when it began
    uri = report.log
    region.until(lambda _: read_artefact(uri) == b"hello world\n")
    region.kill()
    region.start()
    region.until(lambda reports: any(r.type == "failed" for r in reports))
    (failed,) = [r for r in region.reports if r.type == "failed"]
    assert (failed.cause, failed.log, failed.metrics) == ("agent", uri, {"loss": 0.5})
    assert read_artefact(uri) == b"hello world\n"
    assert region.stop() == 0
