"""`./run test`: every check runs, one failure fails the whole, and nothing outlives a kill."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.patience import PATIENCE_S
from thalweg.bootstrap import checks
from thalweg.conf.environment import PROJECT_ROOT
from thalweg.processes.identity import ProcessIdentity


def stand_ins(monkeypatch: pytest.MonkeyPatch, *, tests: str, after: str = "", **beside: str) -> None:
    commands = [(name, [sys.executable, "-c", program]) for name, program in beside.items()]
    monkeypatch.setattr(checks, "lint_steps", lambda: commands)
    monkeypatch.setattr(checks, "test_step", lambda _: ("tests", [sys.executable, "-c", tests]))
    monkeypatch.setattr(checks, "steps_before", lambda _: [])
    monkeypatch.setattr(checks, "steps_after", lambda _: [("after", [sys.executable, "-c", after])])


def test_one_failing_check_fails_the_run_the_others_still_run_and_its_words_come_last(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    mark = f"import pathlib; pathlib.Path({str(tmp_path / 'third')!r}).touch()"
    stand_ins(
        monkeypatch,
        tests="print('tests')",
        first="print('one')",
        second="print('why'); raise SystemExit(5)",
        third=mark,
    )
    assert checks.run_all([]) == 1
    told = capfd.readouterr()
    assert told.out.split() == ["tests"]
    assert "second: failed (exit code 5)" in told.err and "third: passed" in told.err
    assert told.err.rstrip().endswith("second said:\nwhy\nthalweg: failed: second")
    assert (tmp_path / "third").exists() and "one" not in told.err


def test_failing_tests_fail_the_run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    stand_ins(monkeypatch, tests="raise SystemExit(1)", first="")
    assert checks.run_all([]) == 1
    assert capfd.readouterr().err.rstrip().endswith("failed: tests")


def test_checks_that_all_pass_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_ins(monkeypatch, tests="", first="", second="")
    assert checks.run_all([]) == 0


def test_the_wheel_has_the_machine_for_itself_after_all_others_whatever_they_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ended = [tmp_path / "tests", tmp_path / "beside"]
    touch = [f"import pathlib, time; time.sleep(0.3); pathlib.Path({str(file)!r}).touch()" for file in ended]
    look = f"import pathlib; raise SystemExit(not all(pathlib.Path(file).exists() for file in {list(map(str, ended))}))"
    stand_ins(monkeypatch, tests=touch[0], after=look, beside=touch[1])
    assert checks.run_all([]) == 0
    stand_ins(
        monkeypatch,
        tests="raise SystemExit(1)",
        after=f"import pathlib; pathlib.Path({str(tmp_path / 'ran')!r}).touch()",
    )
    assert checks.run_all([]) == 1
    assert (tmp_path / "ran").exists()


def test_the_checks_are_the_linters_the_tests_and_where_all_are_run_the_wheel() -> None:
    assert [name for name, _ in checks.lint_steps()] == ["ruff check", "ruff format", "mypy", "import contract"]
    assert [name for name, _ in checks.steps_after([])] == ["flower", "wheel"]
    assert [name for name, _ in checks.steps_before([])] == ["class archives"]
    assert checks.steps_before(["-k", "fence"]) == checks.steps_after(["-k", "fence"]) == []
    assert checks.test_step(["-k", "fence"])[1][-2:] == ["-k", "fence"]


FAILING = """
import os, pytest

def test_passes(): pass

@pytest.mark.parametrize("at", range(4))
def test_says_its_name(at): assert at != 2

def test_dies(): os._exit(3)
"""


def test_a_test_that_fails_or_takes_its_worker_with_it_fails_the_run_by_name(tmp_path: Path) -> None:
    (tmp_path / "test_failing.py").write_text(FAILING)
    _, command = checks.test_step(["-p", "no:cacheprovider", "-c", str(tmp_path / "pytest.ini"), str(tmp_path)])
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 1, done.stdout
    assert "FAILED test_failing.py::test_says_its_name[2]" in done.stdout
    assert "FAILED test_failing.py::test_dies" in done.stdout and "4 passed" in done.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel ends children with their parent on Linux only")
def test_a_killed_run_takes_its_checks_with_it(tmp_path: Path) -> None:
    pid_files = [tmp_path / "tests", tmp_path / "beside"]
    slow = [
        f"import os, pathlib, time; pathlib.Path({str(file)!r}).write_text(str(os.getpid())); time.sleep(600)"
        for file in pid_files
    ]
    program = (
        "import sys; from thalweg.bootstrap import checks; checks.steps_before = lambda _: [];"
        f" checks.test_step = lambda _: ('slow', [sys.executable, '-c', {slow[0]!r}]);"
        f" checks.lint_steps = lambda: [('slow too', [sys.executable, '-c', {slow[1]!r}])]; checks.run_all([])"
    )
    run = subprocess.Popen([sys.executable, "-c", program], cwd=PROJECT_ROOT)
    deadline = time.monotonic() + PATIENCE_S
    while not all(file.exists() and file.read_text() for file in pid_files) and time.monotonic() < deadline:
        time.sleep(0.02)
    checking = [ProcessIdentity.of(int(file.read_text())) for file in pid_files]
    run.terminate()
    run.wait()
    deadline = time.monotonic() + PATIENCE_S
    while any(check is None or check.is_alive() for check in checking) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(check is None or check.is_alive() for check in checking)
