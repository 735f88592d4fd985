"""`./run test`: every check runs, one failure fails the whole, and nothing outlives a kill."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from thalweg.bootstrap import checks
from thalweg.conf.environment import PROJECT_ROOT
from thalweg.processes.identity import ProcessIdentity


def stand_ins(monkeypatch: pytest.MonkeyPatch, **programs: str) -> None:
    commands = [(name, [sys.executable, "-c", program]) for name, program in programs.items()]
    monkeypatch.setattr(checks, "steps", lambda _: commands)


def test_one_failing_check_fails_the_run_and_the_others_still_run(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    stand_ins(monkeypatch, first="print('one')", second="raise SystemExit(5)", third="print('three')")
    assert checks.run_all([]) == 1
    told = capfd.readouterr()
    assert told.out.split() == ["one", "three"]
    assert "second: failed (exit code 5)" in told.err
    assert told.err.rstrip().endswith("failed: second")


def test_checks_that_all_pass_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_ins(monkeypatch, first="", second="")
    assert checks.run_all([]) == 0


def test_the_checks_are_the_linters_and_then_pytest_with_what_was_given() -> None:
    steps = checks.steps(["-k", "fence"])
    assert [name for name, _ in steps] == ["ruff check", "ruff format", "mypy", "import contract", "pytest"]
    assert steps[-1][1][-2:] == ["-k", "fence"]


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel ends children with their parent on Linux only")
def test_a_killed_run_takes_its_check_with_it(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    check = f"import os, pathlib, time; pathlib.Path({str(pid_file)!r}).write_text(str(os.getpid())); time.sleep(600)"
    program = (
        "import sys; from thalweg.bootstrap import checks;"
        f" checks.steps = lambda _: [('slow', [sys.executable, '-c', {check!r}])]; checks.run_all([])"
    )
    run = subprocess.Popen([sys.executable, "-c", program], cwd=PROJECT_ROOT)
    deadline = time.monotonic() + 30
    while not (pid_file.exists() and pid_file.read_text()) and time.monotonic() < deadline:
        time.sleep(0.02)
    checking = ProcessIdentity.of(int(pid_file.read_text()))
    assert checking is not None
    run.terminate()
    run.wait()
    deadline = time.monotonic() + 10
    while checking.is_alive() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not checking.is_alive()
