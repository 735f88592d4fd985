"""A process that lives and says that it does not do its work: `ps`, `doctor` and the end of `up` tell it."""

import json
import multiprocessing
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from thalweg.checkup.finding import Severity
from thalweg.checkup.stacks import state_finding
from thalweg.cli.main import cli
from thalweg.processes.children import ProcessSpec
from thalweg.stack.stack import Interruption, UnwellError, up
from thalweg.stack.state import StateFolder

PROGRAM = """
import os, signal, sys, time
file = os.environ["THALWEG_READY_FILE"]
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
said = None
while True:
    words = open({told!r}).read()
    if words != said:
        open(file, "w").write(words)
    said = words
    time.sleep(0.02)
"""


class Running:
    """`up` in a process of its own, over one process that says what a file says."""

    def __init__(self, tmp_path: Path) -> None:
        self.told = tmp_path / "told"
        self.told.write_text("")
        self.folder = StateFolder(tmp_path / "state")
        spec = ProcessSpec(
            name="jobs",
            argv=(sys.executable, "-I", "-S", "-c", PROGRAM.format(told=str(self.told))),
            announces_ready=True,
        )
        self.process = multiprocessing.get_context("fork").Process(target=self._run, args=(spec,))
        self.process.start()

    def _run(self, spec: ProcessSpec) -> None:
        try:
            up(self.folder, lambda: [spec], say=lambda _: None, interruption=Interruption.on_signals())
        except UnwellError as error:
            self.told.write_text(str(error))
            sys.exit(1)

    def until(self, state: str) -> None:
        deadline = time.monotonic() + 30
        while [process["state"] for process in self.ps()[1]["processes"]] != [state]:
            assert time.monotonic() < deadline, self.ps()
            time.sleep(0.05)

    def ps(self) -> tuple[int, dict[str, Any]]:
        found = CliRunner().invoke(cli, ["ps", "--json"])
        return found.exit_code, json.loads(found.stdout)

    def end(self) -> int | None:
        self.process.terminate()
        self.process.join(60)
        return self.process.exitcode


@pytest.fixture
def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    monkeypatch.setenv("THALWEG_STATE", str(tmp_path / "state"))
    made = Running(tmp_path)
    yield made
    made.end()


def test_who_does_not_do_its_work_is_unwell_everywhere_until_it_does(running: Running) -> None:
    running.until("ready")
    assert running.ps()[0] == 0
    running.told.write_text("place failed 3 times")
    running.until("failing")
    code, document = running.ps()
    assert (code, document["processes"][0]["last_failure"]) == (1, "place failed 3 times")
    told = CliRunner().invoke(cli, ["ps"])
    assert told.exit_code == 1
    assert "jobs is failing: place failed 3 times" in told.stdout
    finding, stack = state_finding(running.folder.path)
    assert finding.status is Severity.PROBLEM
    assert stack.runs
    assert "place failed 3 times" in finding.seen
    assert running.end() == 1
    assert "jobs (place failed 3 times)" in running.told.read_text()


def test_who_is_well_again_ends_well(running: Running) -> None:
    running.until("ready")
    running.told.write_text("place failed 3 times")
    running.until("failing")
    running.told.write_text("")
    running.until("ready")
    assert running.ps()[0] == 0
    assert running.end() == 0
