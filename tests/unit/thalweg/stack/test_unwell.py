"""A process that lives and says that it does not do its work: `ps`, `doctor` and the end of `up` tell it."""

import json
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from thalweg.checkup.finding import Severity
from thalweg.checkup.stacks import state_finding, supervisor_findings
from thalweg.cli.main import cli
from thalweg.processes.children import ProcessSpec
from thalweg.processes.identity import ProcessIdentity
from thalweg.stack import process_table, stack
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

    def signal(self, signum: int, *, supervisor: bool = False) -> int:
        pid = self.process.pid if supervisor else self.folder.stack()["processes"][0]["pid"]
        assert isinstance(pid, int)
        os.kill(pid, signum)
        return pid

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


def test_a_process_that_is_stopped_by_a_signal_is_told_as_frozen_at_once(running: Running) -> None:
    running.until("ready")
    pid = running.signal(signal.SIGSTOP)
    running.until("frozen")
    code, document = running.ps()
    words = f"it is stopped by a signal: kill -CONT {pid} lets it go on"
    assert (code, document["processes"][0]["last_failure"]) == (1, words)
    told = CliRunner().invoke(cli, ["ps"])
    assert (told.exit_code, f"jobs is frozen: {words}" in told.stdout) == (1, True)
    finding, _ = state_finding(running.folder.path)
    assert (finding.status, f"jobs is frozen ({words})" in finding.seen) == (Severity.PROBLEM, True)
    running.signal(signal.SIGCONT)
    running.until("ready")
    assert running.ps()[0] == 0


def test_a_supervisor_that_is_stopped_is_told_and_so_is_what_it_does_not_see_end(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    running.until("ready")
    pid = running.signal(signal.SIGSTOP, supervisor=True)
    running.signal(signal.SIGKILL)
    running.until("gone")
    told = CliRunner().invoke(cli, ["ps"])
    assert told.exit_code == 1
    assert f"supervisor: process {pid} stands still, it is stopped by a signal" in told.stdout
    assert f"kill -CONT {pid}, or thalweg down, then thalweg up" in told.stdout
    assert "jobs is gone" in told.stdout
    (finding,) = supervisor_findings(running.folder.path)
    assert (finding.status, f"process {pid} stands still" in finding.seen) == (Severity.PROBLEM, True)
    assert state_finding(running.folder.path)[0].status is Severity.PROBLEM
    monkeypatch.setattr(stack, "DOWN_SILENT_SECONDS", 0.0)
    ended = CliRunner().invoke(cli, ["down", "--timeout", "0.3"])
    waiting, done = ended.stderr.splitlines()[:2]
    assert waiting.startswith(f"Waiting for supervisor {pid} to end its processes in order; after 0 s")
    assert "stands still, it is stopped by a signal" in waiting
    assert "was killed" in done


def of_own(folder: StateFolder, pulse_age_s: float) -> None:
    """Record this process as a folder's supervisor, whose pulse is so old."""
    own = ProcessIdentity.own()
    folder.write_stack({"supervisor": {"pid": own.pid, "started": own.started}, "processes": []})
    pulse = process_table.supervisor_pulse(folder.path)
    pulse.parent.mkdir(exist_ok=True)
    pulse.touch()
    os.utime(pulse, (time.time() - pulse_age_s,) * 2)


@pytest.mark.parametrize(("pulse_age_s", "code"), [(0.0, 0), (60.0, 1)])
def test_a_supervisor_without_a_pulse_stands_still(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pulse_age_s: float, code: int
) -> None:
    monkeypatch.setenv("THALWEG_STATE", str(tmp_path))
    folder = StateFolder(tmp_path)
    with folder.held():
        of_own(folder, pulse_age_s)
        told = CliRunner().invoke(cli, ["ps"])
    assert told.exit_code == code
    assert ("it got no time for 60 s" in told.stdout) == bool(code)


def test_a_full_disk_is_told_while_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THALWEG_STATE", str(tmp_path))
    monkeypatch.setattr(process_table, "full_words", lambda path: f"the disk is full: 0 MB free at {path}")
    folder = StateFolder(tmp_path)
    with folder.held():
        of_own(folder, 0.0)
        told = CliRunner().invoke(cli, ["ps"])
    assert told.exit_code == 1
    assert f"disk: the disk is full: 0 MB free at {tmp_path}. To mend it: free space there" in told.stdout
