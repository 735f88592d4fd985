"""Roll-outs over the real broker, Spark and Delta: edges in two regions with the real reporter, the process killed."""

import json
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.acceptance.test_replicate import running, settings_for
from tests.patience import PATIENCE_S
from thalweg.cli.rollout_command import rollout
from thalweg.client.replica_client import ReplicaClient
from thalweg.learning.rollout.reporter import Reporter
from thalweg.sync.clock import system_clock

pytestmark = pytest.mark.acceptance

SLOW = {"1": 0.0, "2": 0.9, "3": 0.0}


class Edge:
    """Serves what it is told, twenty requests a turn; of a version's answers a share is slow."""

    def __init__(self, name: str, replica: ReplicaClient) -> None:
        self.reporter = Reporter("digits", name, read=replica.read, write=replica.put_value)
        self.served = 0
        self.ever: set[str] = set()
        self.now = ("", False)

    def turn(self) -> None:
        wanted = self.reporter.desired()
        if wanted is not None:
            self.now = wanted.serve.version, wanted.beside is not None
            for _ in range(20):
                self.served += 1
                arm = self.reporter.arm(f"request-{self.served}")
                version = wanted.beside.version if arm == "new" and wanted.beside else wanted.serve.version
                self.ever.add(version)
                slow = (self.served * 7919) % 100 < 100 * SLOW[version]
                self.reporter.answered(arm, latency_ms=2_000.0 if slow else 1.0)
        self.reporter.reported(system_clock(), version=self.now[0])


class Decider:
    """`jobs/roll_out` in a process of its own, killed and started again."""

    def __init__(self, options: list[str], log: Path) -> None:
        self._command = [sys.executable, "-m", "thalweg.jobs.roll_out", *options, "--set=rollout.look_every_ms=200"]
        self._log = log.open("ab")
        self.process = self._started()

    def kill_and_begin_anew(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process = self._started()

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=PATIENCE_S)

    def _started(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(self._command, stdout=self._log, stderr=self._log)


def told(call: list[str]) -> Any:
    result = CliRunner().invoke(rollout, call)
    assert result.exit_code == 0, result.output
    return json.loads(result.output)


def test_a_harmful_version_comes_back_and_a_good_one_arrives_though_who_decides_is_killed(
    spark: Any, broker: str, tmp_path: Path
) -> None:
    settings = settings_for(broker, tmp_path, "rollout")
    options = [
        f"--set=kafka.bootstrap_servers={broker}", "--set=kafka.topic_prefix=rollout",
        f"--set=warehouse.path={settings.warehouse.path}",
    ]  # fmt: skip
    with ExitStack() as stack:
        stack.enter_context(running(spark, settings))
        edges = []
        for region in ("eu", "us"):
            replica = stack.enter_context(ReplicaClient(region, tmp_path / f"{region}.db", settings.kafka))
            assert replica.wait_joined()
            edges += [Edge(f"{region}-{number}", replica) for number in range(5)]
        for edge in edges:
            edge.turn()
        decider = Decider(options, tmp_path / "roll_out.log")
        stack.callback(decider.process.kill)

        def ask(version: str) -> None:
            call = [
                f"--version={version}",
                f"--digest={version * 64}",
                "--waves=0.3,1",
                "--soak=0",
                "--margin=slow=0.2",
            ]
            told(["start", "digits", *call, "--json", *options])

        def ended(number: int, kill: bool) -> dict[str, Any]:
            deadline, killed = time.monotonic() + 2 * PATIENCE_S, not kill
            while time.monotonic() < deadline:
                for edge in edges:
                    edge.turn()
                time.sleep(0.3)
                found = told(["status", "--json", f"--warehouse={settings.warehouse.path}"])["rollouts"]
                if found and found[0]["rollout"] == number:
                    if not killed and found[0]["wave"]:
                        decider.kill_and_begin_anew()
                        stack.callback(decider.process.kill)
                        killed = True
                    if found[0]["state"] != "running":
                        assert killed
                        return dict(found[0])
            raise AssertionError(f"roll-out {number} has not ended: {(tmp_path / 'roll_out.log').read_text()[-2_000:]}")

        def all_serve(version: str) -> None:
            deadline = time.monotonic() + PATIENCE_S
            while any(edge.now != (version, False) for edge in edges):
                assert time.monotonic() < deadline, [edge.now for edge in edges]
                for edge in edges:
                    edge.turn()
                time.sleep(0.3)

        ask("1")
        assert ended(1, kill=False)["rule"] == "first"
        all_serve("1")
        ask("2")
        harmful = ended(2, kill=True)
        assert (harmful["state"], harmful["rule"], harmful["serving"]) == ("rolled_back", "slow", "1")
        all_serve("1")
        assert sum("2" in edge.ever for edge in edges) == 3, "the first wave, and nobody else"
        ask("3")
        good = ended(3, kill=True)
        assert (good["state"], good["serving"]) == ("completed", "3")
        all_serve("3")
        facts = told(["history", "digits", "--json", f"--warehouse={settings.warehouse.path}"])["facts"]
        assert not [fact for fact in facts if fact["kind"] == "refused"], facts
        assert decider.end() == 0
