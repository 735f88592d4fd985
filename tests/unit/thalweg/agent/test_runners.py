import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.unit.thalweg.agents import REGION, assign
from thalweg.agent.runners import Ended, ProcessRunner, RunKey, RunnerError, SimulateRunner

SHELL = ["/bin/sh", "-c"]


@pytest.fixture
def runner(tmp_path: Path) -> Iterator[ProcessRunner]:
    made = ProcessRunner(folder=tmp_path / "agent", timeout_s=60, kill_grace_s=0.5)
    yield made
    made.close()


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def wait_for(runner: ProcessRunner, count: int = 1, within_s: float = 20) -> list[Ended]:
    ended: list[Ended] = []
    deadline = time.monotonic() + within_s
    while len(ended) < count and time.monotonic() < deadline:
        ended += runner.ended(now_ms())
        time.sleep(0.02)
    return ended


def until(condition: Callable[[], bool], within_s: float = 20) -> bool:
    deadline = time.monotonic() + within_s
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


def key_of(task_id: str, epoch: int = 1) -> RunKey:
    return (REGION, task_id, epoch)


def log_of(runner: ProcessRunner, task_id: str, epoch: int = 1) -> str:
    return (runner.task_folder(key_of(task_id, epoch)) / "output.log").read_text()


# simulate


def test_a_simulated_task_takes_its_scaled_time_more_or_less_a_fifth() -> None:
    runner = SimulateRunner(time_scale=10)
    for number in range(200):
        runner.start(assign(f"t{number}", expected_s=100), 0)
    assert runner.ended(7_999) == []
    assert len(runner.ended(10_000)) in range(60, 140)
    runner.ended(12_001)
    assert runner.progress(key_of("t1"), 12_001) is None


def test_the_same_run_takes_the_same_time_and_ends_the_same_way_in_another_life() -> None:
    def ends(first_ms: int) -> list[tuple[int, str, bool]]:
        runner = SimulateRunner(failure_share=0.5, seed=7)
        for number in range(50):
            runner.resume(assign(f"t{number}", expected_s=1), first_ms)
        return [(at, e.key[1], e.succeeded) for at in range(0, 1_300, 10) for e in runner.ended(first_ms + at)]

    assert ends(0) == ends(5_000)
    assert {succeeded for _, _, succeeded in ends(0)} == {True, False}


def test_another_seed_fails_other_tasks_and_no_share_fails_none() -> None:
    def failed(seed: int, share: float) -> set[str]:
        runner = SimulateRunner(failure_share=share, seed=seed)
        for number in range(100):
            runner.start(assign(f"t{number}", expected_s=1), 0)
        return {ended.key[1] for ended in runner.ended(2_000) if not ended.succeeded}

    assert failed(1, 0.3) != failed(2, 0.3)
    assert 10 < len(failed(1, 0.3)) < 55
    assert failed(1, 0.0) == set()


def test_a_stopped_simulation_does_not_end_by_itself() -> None:
    runner = SimulateRunner()
    runner.start(assign("t", expected_s=1), 0)
    assert runner.stop(key_of("t"), 100)
    assert runner.ended(10_000) == []


# process


def test_a_command_runs_with_its_output_in_its_log(runner: ProcessRunner) -> None:
    runner.start(assign("t", command=[*SHELL, "echo hello; echo trouble >&2"]), now_ms())
    (ended,) = wait_for(runner)
    assert ended == Ended(key=key_of("t"), succeeded=True, exit_code=0)
    assert log_of(runner, "t") == "hello\ntrouble\n"


def test_an_exit_code_is_reported(runner: ProcessRunner) -> None:
    runner.start(assign("t", command=[*SHELL, "exit 3"]), now_ms())
    (ended,) = wait_for(runner)
    assert (ended.succeeded, ended.exit_code, ended.detail) == (False, 3, "exit code 3")


def test_a_command_that_takes_too_long_is_ended_and_failed(tmp_path: Path) -> None:
    runner = ProcessRunner(folder=tmp_path, timeout_s=0.3, kill_grace_s=5)
    runner.start(assign("t", command=[*SHELL, "exec sleep 60"]), now_ms())
    (ended,) = wait_for(runner)
    assert not ended.succeeded
    assert ended.detail == "ran longer than 0.3 s, ended by SIGTERM"


def test_a_stopped_command_is_asked_first_and_may_tidy_up(runner: ProcessRunner) -> None:
    script = "trap 'echo tidy; exit 0' TERM; echo up; while :; do sleep 0.05; done"
    runner.start(assign("t", command=[*SHELL, script]), now_ms())
    assert until(lambda: log_of(runner, "t") == "up\n")
    assert not runner.stop(key_of("t"), now_ms())
    (ended,) = wait_for(runner)
    assert log_of(runner, "t").endswith("tidy\n")
    assert (ended.succeeded, ended.detail) == (False, "stopped")


def test_closing_tells_what_had_ended_by_itself_and_not_what_was_told_to_end(runner: ProcessRunner) -> None:
    runner.start(assign("done", command=[*SHELL, "exit 0"]), now_ms())
    runner.start(assign("wrong", command=[*SHELL, "exit 3"]), now_ms())
    runner.start(assign("polite", command=[*SHELL, "trap 'exit 0' TERM; while :; do sleep 0.05; done"]), now_ms())
    processes = [runner._running[key_of(name)].popen for name in ("done", "wrong")]
    assert until(lambda: all(psutil.Process(p.pid).status() == psutil.STATUS_ZOMBIE for p in processes))
    ended = {run.key[1]: (run.succeeded, run.exit_code) for run in runner.close()}
    assert ended == {"done": (True, 0), "wrong": (False, 3)}


def test_a_command_that_does_not_listen_is_killed_after_the_grace_with_its_children(runner: ProcessRunner) -> None:
    script = "trap '' TERM; sleep 300 & echo $!; while :; do sleep 0.05; done"
    runner.start(assign("t", command=[*SHELL, script]), now_ms())
    assert until(lambda: log_of(runner, "t").strip().isdigit())
    child = int(log_of(runner, "t"))
    stopped_at = time.monotonic()
    runner.stop(key_of("t"), now_ms())
    (ended,) = wait_for(runner)
    assert time.monotonic() - stopped_at >= 0.5
    assert ended.detail == "stopped, ended by SIGKILL"
    assert until(lambda: not alive(child))


def test_a_command_is_told_what_it_needs_and_not_the_agents_secrets(
    runner: ProcessRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THALWEG_KAFKA__SASL_PASSWORD", "secret")
    runner.start(assign("t", 4, devices=[1, 3], command=["/usr/bin/env"]), now_ms())
    wait_for(runner)
    seen = dict(line.split("=", 1) for line in log_of(runner, "t", 4).splitlines())
    assert (seen["THALWEG_TASK_ID"], seen["THALWEG_EPOCH"], seen["THALWEG_REGION"]) == ("t", "4", REGION)
    assert seen["CUDA_VISIBLE_DEVICES"] == "1,3"
    assert "secret" not in seen.values()


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (None, "has no command"),
        ([], "has no command"),
        (["/nowhere/prog"], "'/nowhere/prog' was not found"),
        (["/bin/echo", "a\0b"], "null byte"),
    ],
)
def test_what_cannot_be_started_says_why(runner: ProcessRunner, command: list[str] | None, words: str) -> None:
    with pytest.raises(RunnerError, match=words):
        runner.start(assign("t", command=command), now_ms())


def test_task_ids_cannot_leave_the_folder_nor_collide(runner: ProcessRunner) -> None:
    names = ["../../etc", "a/b", "a-b", "A-b", "x" * 300, "", "ü", "\x00"]
    folders = {runner.task_folder(key_of(name)) for name in names}
    assert len(folders) == len(names)
    assert {folder.parent for folder in folders} == {runner.folder / "tasks"}
    assert all(len(folder.name.encode()) < 255 for folder in folders)


LIFE = """
import sys, time
from pathlib import Path
from tests.unit.thalweg.agents import assign
from thalweg.agent.runners import ProcessRunner
runner = ProcessRunner(folder=Path(sys.argv[1]), timeout_s=60, kill_grace_s=1)
script = "(trap '' HUP; exec sleep 300) & echo $$ $!; wait"
runner.start(assign("t", command=["/bin/sh", "-c", script]), 0)
print("started", flush=True)
time.sleep(300)
"""


def test_nothing_of_a_killed_agents_tasks_is_left(tmp_path: Path) -> None:
    folder = tmp_path / "agent"
    life = subprocess.Popen([sys.executable, "-c", LIFE, str(folder)], stdout=subprocess.PIPE, cwd=os.getcwd())
    try:
        assert life.stdout is not None
        assert life.stdout.readline() == b"started\n"
        runner = ProcessRunner(folder=folder, timeout_s=60, kill_grace_s=1)
        assert until(lambda: len(log_of(runner, "t").split()) == 2)
        command, child = map(int, log_of(runner, "t").split())
        assert alive(command) and alive(child)
    finally:
        life.send_signal(signal.SIGKILL)
        life.communicate(timeout=20)
    assert until(lambda: not alive(command))  # the kernel ended it with its agent
    assert alive(child)
    assert runner.clear_leftovers() == 1
    assert not alive(child)


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
