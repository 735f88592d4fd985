"""Flower's strategies over a real broker, while a participant's process is killed and everything is said twice."""

import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

pytest.importorskip("flwr", reason="Flower has an environment of its own: ./run test-flower")

from tests.flower_stage import (
    NAMES,
    REGIONS,
    STRATEGIES,
    Repeating,
    app,
    learning_app,
    names_and_configs,
    outcome,
    threads_that_take_part,
)
from tests.patience import PATIENCE_S
from thalweg.conf.environment import PROJECT_ROOT
from thalweg.conf.settings import KafkaSettings
from thalweg.flower.client_node import ClientNode
from thalweg.flower.connection import kafka_grid
from thalweg.flower.local_grid import LocalGrid

pytestmark = pytest.mark.acceptance

HERE: Final = NAMES[:4]
THERE: Final = NAMES[4]
"""Takes part in a process of its own."""
DIES_IN: Final = 2


class Process:
    """A participant as the plane's agents start one, killed and started again."""

    def __init__(self, broker: str, prefix: str, run: str, folder: Path) -> None:
        self._command = [
            sys.executable, "-P", "-m", "thalweg", "flower", "take-part", run, "--app=tests.flower_stage:app",
            f'--node-config={{"partition-id": {NAMES.index(THERE)}}}', f"--memory={folder / 'memory'}",
            f"--bootstrap={broker}", f"--set=kafka.topic_prefix={prefix}",
            f"--set=federate.payloads={folder / 'payloads'}", "--set=federate.inline_bytes=200",
        ]  # fmt: skip
        self._environ = {
            **os.environ, "PYTHONPATH": str(PROJECT_ROOT), "FLOWER_STAGE": str(folder), "THALWEG_TASK_ID": THERE,
            "THALWEG_REGION": REGIONS[THERE],
        }  # fmt: skip
        self._epoch, self._log = 0, (folder / "process.log").open("ab")
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._epoch += 1
        environ = {**self._environ, "THALWEG_EPOCH": str(self._epoch)}
        self.process = subprocess.Popen(self._command, env=environ, stdout=self._log, stderr=self._log)

    def kill(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(60)

    def ended(self) -> int:
        """Wait for its end."""
        assert self.process is not None
        return self.process.wait(PATIENCE_S)


@contextmanager
def killed_in_a_round(one: Process, folder: Path) -> Iterator[None]:
    """Kill it while it trains in a round, and start it anew, beside what goes on here."""
    hold = folder / f"hold-{THERE}-{DIES_IN}"
    hold.touch()

    def kill() -> None:
        ends = time.monotonic() + PATIENCE_S
        log = folder / "log"
        while time.monotonic() < ends:
            if log.exists() and f"begins {THERE} {DIES_IN}\n" in log.read_text():
                one.kill()
                hold.unlink()
                one.start()
                return
            time.sleep(0.02)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield
    finally:
        thread.join(PATIENCE_S)


@pytest.mark.parametrize("name", ["FedAvg", "FedProx", "FedAdam", "Krum"])
def test_a_strategy_over_kafka_learns_the_bits_of_one_process_through_a_kill_and_repetitions(
    broker: str, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLOWER_STAGE", str(tmp_path))
    prefix = f"flower-{uuid.uuid4().hex[:8]}"
    kafka = KafkaSettings(bootstrap_servers=broker, topic_prefix=prefix)
    one = Process(broker, prefix, "r", tmp_path)
    one.start()
    with threads_that_take_part("r", HERE, kafka, tmp_path, app, wrap=True), killed_in_a_round(one, tmp_path):
        grid = kafka_grid("r", kafka, payloads=str(tmp_path / "payloads"), inline_bytes=200)
        grid._publisher = Repeating(grid._publisher)
        grid.wait_for(len(NAMES), PATIENCE_S)
        made = outcome(grid, STRATEGIES[name]())
        grid.end()
        assert grid.repeated > 0 and grid.refused == 0
        grid.close()
    assert one.ended() == 0, (tmp_path / "process.log").read_text()

    apps = [ClientNode("r", who, learning_app(), node_config=config) for who, config in names_and_configs()]
    assert made == outcome(LocalGrid("r", apps), STRATEGIES[name]())
    noted = Counter((tmp_path / "log").read_text().splitlines())
    ended = {line: count for line, count in noted.items() if line.startswith("ends ")}
    assert set(ended.values()) == {1}, "what was answered is not computed again"
    assert noted[f"begins {THERE} {DIES_IN}"] == 2, "it was killed in the middle"
