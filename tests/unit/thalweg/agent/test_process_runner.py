import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.patience import PATIENCE_S
from tests.unit.thalweg.agents import REGION, assign
from thalweg.agent.artefacts import SharedFolder, read_artefact
from thalweg.agent.process_runner import ProcessRunner
from thalweg.agent.retention import RunFolders, RunRetention
from thalweg.agent.run_folder import log_name
from thalweg.agent.run_watch import TASK_FOLDER, RunWatch, memory_bytes
from thalweg.agent.runners import CommandNotFoundError, Ended, RunKey, RunnerError
from thalweg.agent.secret_store import SecretStore
from thalweg.streams.contract.messages import AssignmentEvent, NodeShare

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


def test_a_command_runs_with_its_output_in_its_log(runner: ProcessRunner) -> None:
    runner.start(assign("t", command=[*SHELL, "echo hello; echo trouble >&2"]), now_ms())
    (ended,) = wait_for(runner)
    assert (ended.key, ended.succeeded, ended.exit_code, ended.detail, ended.cause) == (key_of("t"), True, 0, "", None)
    assert log_of(runner, "t") == "hello\ntrouble\n"


def test_an_exit_code_is_reported(runner: ProcessRunner) -> None:
    runner.start(assign("t", command=[*SHELL, "exit 3"]), now_ms())
    (ended,) = wait_for(runner)
    assert (ended.succeeded, ended.exit_code, ended.detail, ended.cause) == (False, 3, "exit code 3", "exit")


def test_a_command_that_takes_too_long_is_ended_and_failed(tmp_path: Path) -> None:
    runner = ProcessRunner(folder=tmp_path, timeout_s=0.3, kill_grace_s=5)
    runner.start(assign("t", command=[*SHELL, "exec sleep 60"]), now_ms())
    (ended,) = wait_for(runner)
    assert not ended.succeeded
    assert (ended.detail, ended.cause) == ("ran longer than 0.3 s, ended by SIGTERM", "time_limit")


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
    processes = [runner._running[key_of(name)].workers[0].popen for name in ("done", "wrong")]
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


def test_a_program_that_is_not_there_is_told_from_one_that_cannot_start(runner: ProcessRunner) -> None:
    with pytest.raises(CommandNotFoundError):
        runner.start(assign("t", command=["no-such-program-anywhere"]), now_ms())
    with pytest.raises(RunnerError) as refused:
        runner.start(assign("u", command=["/bin/echo", "a\0b"]), now_ms())
    assert not isinstance(refused.value, CommandNotFoundError)


def test_where_the_task_itself_says_where_to_look_the_region_is_not_blamed(runner: ProcessRunner) -> None:
    with pytest.raises(CommandNotFoundError, match="'env' was not found in the task's own PATH '/nowhere'"):
        runner.start(assign("t", command=["env"], env={"PATH": "/nowhere"}), now_ms())
    with pytest.raises(CommandNotFoundError, match="'/nowhere/prog' was not found in this region"):
        runner.start(assign("u", command=["/nowhere/prog"], env={"PATH": "/nowhere"}), now_ms())


def test_task_ids_cannot_leave_the_folder_nor_collide(runner: ProcessRunner) -> None:
    names = ["../../etc", "a/b", "a-b", "A-b", "x" * 300, "", "ü", "\x00"]
    folders = {runner.task_folder(key_of(name)) for name in names}
    assert len(folders) == len(names)
    assert {folder.parent for folder in folders} == {runner.folder / "tasks"}
    assert all(len(folder.name.encode()) < 255 for folder in folders)


LIFE = """
import sys, time
from pathlib import Path
from tests.patience import PATIENCE_S
from tests.unit.thalweg.agents import assign
from thalweg.agent.process_runner import ProcessRunner
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
    assert runner.take_over("c/p", [REGION], 0) == 1
    assert until(lambda: runner.take_over("c/p", [REGION], 0) == 0)
    assert not alive(child)


OTHER_LIFE = """
import sys, time
from pathlib import Path
from tests.unit.thalweg.agents import REGION, assign
from thalweg.agent.process_runner import ProcessRunner
runner = ProcessRunner(folder=Path(sys.argv[1]), timeout_s=60, kill_grace_s=1)
runner.take_over(sys.argv[2], [REGION], 0)
stubborn = "trap '' TERM; echo $$; while :; do sleep 0.1; done"
for name, script in (("meek", "echo $$; exec sleep 300"), ("stubborn", stubborn)):
    runner.start(assign(name, command=["/bin/sh", "-c", script]), 0)
print("started", flush=True)
time.sleep(300)
"""


def test_what_another_agent_of_the_region_left_here_is_asked_to_end_and_then_killed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Two agents on one machine, each with a folder of its own: the older one stands still, its processes do not."""
    lives = {
        installation: subprocess.Popen(
            [sys.executable, "-c", OTHER_LIFE, str(tmp_path / name), installation],
            stdout=subprocess.PIPE,
            cwd=os.getcwd(),
        )
        for name, installation in (("older", "cluster/t"), ("foreign", "cluster/other"))
    }
    pids = {}
    try:
        for name, life in zip(("older", "foreign"), lives.values(), strict=True):
            assert life.stdout is not None
            assert life.stdout.readline() == b"started\n"
            runner = ProcessRunner(folder=tmp_path / name, timeout_s=60, kill_grace_s=1)
            for task in ("meek", "stubborn"):
                assert until(lambda runner=runner, task=task: log_of(runner, task).strip())
                pids[name, task] = int(log_of(runner, task))
        younger = ProcessRunner(folder=tmp_path / "younger", timeout_s=60, kill_grace_s=1)
        for now_ms in (0, 10_000):  # it lives: it ends them itself, or is of a copy of this installation
            assert younger.take_over("cluster/t", [REGION], now_ms) >= 2
            assert alive(pids["older", "meek"])
        assert str([lives["cluster/t"].pid]) in caplog.text and caplog.text.count("nothing is started") == 1
        lives["cluster/t"].send_signal(signal.SIGSTOP)
        assert until(lambda: psutil.Process(lives["cluster/t"].pid).status() == psutil.STATUS_STOPPED)
        assert younger.take_over("cluster/t", [REGION], 0) >= 2
        assert until(lambda: not alive(pids["older", "meek"]))
        assert younger.take_over("cluster/t", [REGION], 999) >= 1
        assert alive(pids["older", "stubborn"])
        assert younger.take_over("cluster/t", [REGION], 1_000) >= 1
        assert until(lambda: younger.take_over("cluster/t", [REGION], 1_001) == 0)
        assert not alive(pids["older", "stubborn"])
        assert alive(pids["foreign", "meek"]) and alive(pids["foreign", "stubborn"])
    finally:
        for life in lives.values():
            life.send_signal(signal.SIGKILL)
            life.communicate(timeout=20)


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


# environment, secrets


def python(program: str) -> list[str]:
    return [sys.executable, "-c", program]


def test_env_and_secrets_reach_the_task_and_what_is_reserved_wins(tmp_path: Path) -> None:
    store = tmp_path / "secrets"
    store.mkdir()
    (store / "TOKEN").write_text("s3cr3t\n")
    (store / "TOKEN").chmod(0o600)
    runner = ProcessRunner(folder=tmp_path / "agent", timeout_s=60, kill_grace_s=1, secrets=SecretStore(store))
    env = {"MODE": "fast", "THALWEG_TASK_ID": "forged"}
    runner.start(assign("t", command=["/usr/bin/env"], env=env, secrets=["TOKEN"]), now_ms())
    wait_for(runner)
    seen = dict(line.split("=", 1) for line in log_of(runner, "t").splitlines())
    assert (seen["MODE"], seen["TOKEN"], seen["THALWEG_TASK_ID"]) == ("fast", "s3cr3t", "t")
    runner.close()


def test_a_task_whose_secret_is_missing_is_not_started(runner: ProcessRunner) -> None:
    with pytest.raises(RunnerError, match="secret 'TOKEN' was not found"):
        runner.start(assign("t", command=["/usr/bin/env"], secrets=["TOKEN"]), now_ms())
    assert not runner.task_folder(key_of("t")).exists()


def test_a_value_that_no_environment_can_hold_is_a_failed_start_that_does_not_say_it(tmp_path: Path) -> None:
    runner = ProcessRunner(folder=tmp_path, timeout_s=60, kill_grace_s=1)
    for env in ({"A": "val\0ue"}, {f"A{number}": "v" * 32_000 for number in range(200)}):
        with pytest.raises(RunnerError, match="could not be started") as refused:
            runner.start(assign("t", command=["/bin/true"], env=env), now_ms())
        assert "val" not in str(refused.value)
    assert runner.ended(now_ms()) == []
    runner.close()


# limits


def test_a_tasks_own_time_limit_ends_it_and_a_longer_one_than_the_agents_does_not_count(tmp_path: Path) -> None:
    runner = ProcessRunner(folder=tmp_path, timeout_s=1, kill_grace_s=5)
    runner.start(assign("short", command=["sleep", "60"], time_limit_s=0.2), 0)
    runner.start(assign("long", command=["sleep", "60"], time_limit_s=1e9), 0)
    assert runner.ended(199) == []
    runner.ended(201)
    (ended,) = until_ended(runner, 201)
    assert (ended.key, ended.cause, ended.detail) == (
        key_of("short"),
        "time_limit",
        "ran longer than 0.2 s, ended by SIGTERM",
    )
    (ended,) = until_ended(runner, 1_001)
    assert (ended.key, ended.detail) == (key_of("long"), "ran longer than 1 s, ended by SIGTERM")
    runner.close()


def until_ended(runner: ProcessRunner, at_ms: int, count: int = 1) -> list[Ended]:
    """Wait in real time for what ends at a moment of the runner's."""
    ended: list[Ended] = []
    assert until(lambda: len(ended.__iadd__(runner.ended(at_ms))) >= count)
    return ended


def test_a_signal_that_nobody_of_ours_sent_is_the_cause(runner: ProcessRunner) -> None:
    runner.start(assign("t", command=[*SHELL, "kill -SEGV $$"]), now_ms())
    (ended,) = wait_for(runner)
    assert (ended.cause, ended.exit_code, ended.detail) == ("signal", -11, "ended by SIGSEGV")


def test_who_takes_more_memory_than_was_asked_for_is_killed_with_words(runner: ProcessRunner) -> None:
    greedy = "import time; held = bytearray(300_000_000); print('held', flush=True); time.sleep(60)"
    modest = "import time; held = bytearray(1_000_000); time.sleep(60)"
    runner.start(assign("greedy", command=python(greedy), nodes=[NodeShare(node_id="n1", memory_gb=0.1)]), now_ms())
    runner.start(assign("modest", command=python(modest), nodes=[NodeShare(node_id="n1", memory_gb=0.1)]), now_ms())
    runner.start(assign("free", command=python(greedy)), now_ms())
    (ended,) = wait_for(runner)
    assert (ended.key, ended.cause, ended.exit_code) == (key_of("greedy"), "memory", -9)
    assert "GB of memory, allowed are 0.1 GB, ended by SIGKILL" in ended.detail
    assert until(lambda: runner._running[key_of("free")].memory_bytes > 300_000_000)
    assert runner.ended(now_ms()) == []


def test_memory_that_several_processes_share_is_counted_once(runner: ProcessRunner) -> None:
    program = """
import os, time
held = bytearray(b"x") * 60_000_000
for _ in range(5):
    if os.fork() == 0:
        time.sleep(60)
print("forked", flush=True)
time.sleep(60)
"""
    runner.start(assign("t", command=python(program)), now_ms())
    assert until(lambda: log_of(runner, "t") == "forked\n")
    run = runner._running[key_of("t")]
    sessions = {run.workers[0].popen.pid: str(run.folder.path)}
    found = RunWatch(f"{runner.folder}/tasks/").look(sessions)
    assert [len(processes) for processes in found.values()] == [6]
    processes = found[str(run.folder.path)]
    assert 60_000_000 < memory_bytes(processes, 200_000_000) < 200_000_000
    assert memory_bytes(processes, 1e12) > 300_000_000  # resident sizes, which are asked first


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="of one core, none can be kept from a task")
def test_a_worker_runs_on_as_many_cores_as_it_asked_for(runner: ProcessRunner) -> None:
    program = "import os; print(len(os.sched_getaffinity(0)), flush=True)"
    runner.start(assign("one", command=python(program), nodes=[NodeShare(node_id="n1", cpus=0.5)]), now_ms())
    runner.start(assign("any", command=python(program)), now_ms())
    wait_for(runner, 2)
    assert (log_of(runner, "one"), log_of(runner, "any")) == ("1\n", f"{len(os.sched_getaffinity(0))}\n")


# several workers


def two_nodes(task_id: str, script: str, workers: int = 2) -> AssignmentEvent:
    nodes = [NodeShare(node_id="a", workers=workers - 1), NodeShare(node_id="b")]
    return assign(task_id, command=[*SHELL, script], nodes=nodes)


def worker_log(runner: ProcessRunner, task_id: str, rank: int) -> str:
    return (runner.task_folder(key_of(task_id)) / log_name(rank)).read_text()


def test_each_worker_knows_its_place_and_the_run_ends_well_when_all_have(runner: ProcessRunner) -> None:
    script = 'echo $RANK/$WORLD_SIZE $NODE_RANK $MASTER_ADDR:$MASTER_PORT; [ "$RANK" = 0 ] || sleep 0.5'
    runner.start(two_nodes("t", script, workers=3), now_ms())
    (ended,) = wait_for(runner)
    assert (ended.succeeded, ended.exit_code) == (True, 0)
    logs = [worker_log(runner, "t", rank) for rank in range(3)]
    assert [log.split()[:2] for log in logs] == [["0/3", "0"], ["1/3", "0"], ["2/3", "1"]]
    assert len({log.split()[2] for log in logs}) == 1


def test_the_workers_meet_where_they_are_told_to(runner: ProcessRunner) -> None:
    program = """
import os, socket, time
address = (os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
if os.environ["RANK"] == "0":
    server = socket.create_server(address)
    peers = [server.accept()[0].recv(1) for _ in range(int(os.environ["WORLD_SIZE"]) - 1)]
    print(sorted(peers))
else:
    for _ in range(100):
        try:
            socket.create_connection(address).send(os.environ["RANK"].encode())
            break
        except OSError:
            time.sleep(0.1)
"""
    nodes = [NodeShare(node_id="a", workers=3)]
    runner.start(assign("t", command=python(program), nodes=nodes), now_ms())
    (ended,) = wait_for(runner)
    assert ended.succeeded
    assert worker_log(runner, "t", 0) == "[b'1', b'2']\n"


def test_the_first_worker_that_fails_ends_the_others_and_is_named(runner: ProcessRunner, tmp_path: Path) -> None:
    runner.start(two_nodes("t", "[ $RANK = 1 ] && exit 7; trap '' TERM; while :; do sleep 0.05; done", 3), now_ms())
    (ended,) = wait_for(runner)
    assert (ended.succeeded, ended.exit_code, ended.cause) == (False, 7, "exit")
    assert ended.detail == "worker 1: exit code 7"
    runs = [_environ(process).get(TASK_FOLDER, "") for process in psutil.process_iter()]
    assert not [folder for folder in runs if folder.startswith(str(tmp_path))]  # other agents may live here


def _environ(process: psutil.Process) -> dict[str, str]:
    try:
        return process.environ() if process.status() != psutil.STATUS_ZOMBIE else {}
    except (psutil.Error, OSError):
        return {}


def test_stopping_a_run_stops_all_its_workers(runner: ProcessRunner) -> None:
    runner.start(two_nodes("t", "exec sleep 60"), now_ms())
    pids = [worker.popen.pid for worker in runner._running[key_of("t")].workers]
    runner.stop(key_of("t"), now_ms())
    (ended,) = wait_for(runner)
    assert (ended.detail, ended.cause) == ("stopped, ended by SIGTERM", None)
    assert not any(alive(pid) for pid in pids)


def test_if_one_worker_cannot_be_started_none_is_left(runner: ProcessRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[int] = []
    real = subprocess.Popen

    def second_fails(*given: object, **named: object) -> object:
        if started:
            raise OSError(12, "Cannot allocate memory")
        made = real(*given, **named)  # type: ignore[call-overload]
        started.append(made.pid)
        return made

    monkeypatch.setattr(subprocess, "Popen", second_fails)
    with pytest.raises(RunnerError, match="Cannot allocate memory"):
        runner.start(two_nodes("t", "exec sleep 60"), now_ms())
    assert not alive(started[0])
    assert runner.ended(now_ms()) == []


# what a run gives


def test_what_a_task_gives_comes_with_its_end(runner: ProcessRunner) -> None:
    script = (
        """echo '{"accuracy": 0.9}' > $THALWEG_RESULT; echo '{"loss": 0.5}' > $THALWEG_METRICS;"""
        "touch $THALWEG_CHECKPOINTED; echo weights > $THALWEG_ARTEFACTS/w.bin"
    )
    runner.start(assign("t", command=[*SHELL, script]), now_ms())
    (ended,) = wait_for(runner)
    given = ended.outputs
    assert (given.result, given.metrics, given.trouble) == ({"accuracy": 0.9}, {"loss": 0.5}, "")
    assert abs((given.checkpointed_ms or 0) - now_ms()) < 60_000
    assert read_artefact(given.artefacts["w.bin"]) == b"weights\n"
    assert read_artefact(given.log or "") == b""


def test_metrics_and_checkpoints_come_with_progress_and_the_result_does_not(runner: ProcessRunner) -> None:
    script = """echo '{"a": 1}' > $THALWEG_RESULT; echo '{"loss": 0.5}' > $THALWEG_METRICS; echo up; exec sleep 60"""
    runner.start(assign("t", command=[*SHELL, script]), now_ms())
    assert until(lambda: log_of(runner, "t") == "up\n")
    seen = runner.progress(key_of("t"), now_ms())
    assert seen is not None
    assert (seen.outputs.metrics, seen.outputs.result) == ({"loss": 0.5}, None)


def test_a_result_that_is_too_long_is_said_and_the_success_is_kept(runner: ProcessRunner) -> None:
    program = "import os; open(os.environ['THALWEG_RESULT'], 'w').write('{\"a\": \"' + 'x' * 20_000 + '\"}')"
    runner.start(assign("t", command=python(program)), now_ms())
    (ended,) = wait_for(runner)
    assert (ended.succeeded, ended.outputs.result, ended.cause) == (True, None, None)
    assert ended.detail == "result not taken: it is longer than 16,384 bytes"


def test_a_task_that_removes_its_folder_has_ended_all_the_same(runner: ProcessRunner) -> None:
    runner.start(assign("t", command=[*SHELL, 'rm -rf "$PWD"; echo gone; exit 0']), now_ms())
    (ended,) = wait_for(runner)
    assert (ended.succeeded, ended.outputs.result) == (True, None)


def test_a_task_that_writes_without_end_has_a_short_log_also_when_it_removes_the_file(tmp_path: Path) -> None:
    runner = ProcessRunner(folder=tmp_path, timeout_s=60, kill_grace_s=1, log_bytes=100_000)
    runner.start(
        assign("t", command=[*SHELL, "echo first; yes 'a line of output' | head -c 300000000; echo last"]), now_ms()
    )
    runner.start(assign("u", command=[*SHELL, "rm output.log; exec yes 'a line of output'"]), now_ms())
    unlinked = runner._running[key_of("u")].workers[0].log
    (ended,) = wait_for(runner)
    assert ended.succeeded
    kept = log_of(runner, "t")
    assert kept.startswith("first\na line") and kept.endswith("last\n")
    assert until(lambda: os.fstat(unlinked).st_size > 100_000)
    assert until(lambda: os.fstat(unlinked).st_size < 100_000)
    runner.close()


def test_a_log_is_within_its_limit_when_the_run_is_told_to_have_ended(tmp_path: Path) -> None:
    runner = ProcessRunner(folder=tmp_path, timeout_s=60, kill_grace_s=1, log_bytes=100_000)
    runner.start(assign("t", command=[*SHELL, "head -c 50000000 /dev/zero"]), now_ms())
    wait_for(runner)
    assert len(log_of(runner, "t")) <= 100_000
    runner.close()


def test_a_daemon_that_a_task_leaves_is_ended(runner: ProcessRunner) -> None:
    program = """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        print(os.getpid(), flush=True)
        time.sleep(300)
    os._exit(0)
time.sleep(0.3)
"""
    runner.start(assign("t", command=python(program)), now_ms())
    wait_for(runner)
    daemon = int(log_of(runner, "t"))
    assert until(lambda: not alive(daemon))


# a store beside


def test_what_is_offered_in_a_store_can_be_read_there(tmp_path: Path) -> None:
    store = SharedFolder(tmp_path / "store")
    runner = ProcessRunner(folder=tmp_path / "agent", timeout_s=60, kill_grace_s=1, artefacts=store)
    runner.start(two_nodes("t", "echo hello $RANK; echo w > $THALWEG_ARTEFACTS/w$RANK"), now_ms())
    (ended,) = wait_for(runner)
    shutil.rmtree(tmp_path / "agent")
    assert read_artefact(ended.outputs.log or "") == b"hello 0\n"
    assert read_artefact((ended.outputs.log or "").replace("output", "output-1")) == b"hello 1\n"
    assert {name: read_artefact(uri) for name, uri in ended.outputs.artefacts.items()} == {"w0": b"w\n", "w1": b"w\n"}
    runner.close()


def test_what_a_stopped_task_has_said_is_found_where_its_end_says(tmp_path: Path) -> None:
    store = SharedFolder(tmp_path / "store")
    runner = ProcessRunner(folder=tmp_path / "agent", timeout_s=60, kill_grace_s=1, artefacts=store)
    runner.start(assign("t", command=[*SHELL, "echo hello; exec sleep 60"]), now_ms())
    assert until(lambda: log_of(runner, "t") == "hello\n")
    runner.stop(key_of("t"), now_ms())
    (ended,) = wait_for(runner)
    uri = ended.outputs.log
    assert uri is not None
    assert until(lambda: read_artefact(uri) == b"hello\n")
    runner.close()


def test_the_log_of_a_running_task_is_in_the_store_within_seconds(tmp_path: Path) -> None:
    store = SharedFolder(tmp_path / "store")
    runner = ProcessRunner(folder=tmp_path / "agent", timeout_s=60, kill_grace_s=1, artefacts=store)
    runner.start(assign("t", command=[*SHELL, "echo hello; exec sleep 60"]), now_ms())
    seen = runner.progress(key_of("t"), now_ms())
    assert seen is not None and seen.outputs.log is not None
    uri = seen.outputs.log
    assert until(lambda: read_artefact(uri) == b"hello\n")
    runner.close()


def test_a_store_that_takes_nothing_spoils_no_run_and_the_disk_is_named_instead(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("no folder")
    store = SharedFolder(tmp_path / "store")
    runner = ProcessRunner(folder=tmp_path / "agent", timeout_s=60, kill_grace_s=1, artefacts=store)
    runner.start(assign("t", command=[*SHELL, "echo hello"]), now_ms())
    (ended,) = wait_for(runner)
    assert ended.succeeded
    assert read_artefact(ended.outputs.log or "") == b"hello\n"
    assert "are on the agent's disk only" in ended.detail
    runner.close()


STORE_LIFE = """
import sys, time
from pathlib import Path
from tests.patience import PATIENCE_S
from tests.unit.thalweg.agents import assign
from thalweg.agent.artefacts import SharedFolder
from thalweg.agent.process_runner import ProcessRunner
folder = Path(sys.argv[1])
runner = ProcessRunner(folder=folder / "agent", timeout_s=60, kill_grace_s=1, artefacts=SharedFolder(folder / "store"))
runner.start(assign("t", command=["/bin/sh", "-c", "echo early; sleep 1; echo late; exec sleep 300"]), 0)
print(runner.progress(("aws:us-east-1", "t", 1), 0).outputs.log, flush=True)
time.sleep(300)
"""


def test_the_log_of_a_killed_agents_task_is_kept_by_its_next_life(tmp_path: Path) -> None:
    life = subprocess.Popen([sys.executable, "-c", STORE_LIFE, str(tmp_path)], stdout=subprocess.PIPE, cwd=os.getcwd())
    runner = ProcessRunner(
        folder=tmp_path / "agent", timeout_s=60, kill_grace_s=1, artefacts=SharedFolder(tmp_path / "store")
    )
    try:
        assert life.stdout is not None
        uri = life.stdout.readline().decode().strip()
        assert until(lambda: log_of(runner, "t") == "early\nlate\n")
    finally:
        life.send_signal(signal.SIGKILL)
        life.communicate(timeout=20)
    assert until(lambda: runner.take_over("c/p", [REGION], 0) == 0)
    left = runner.progress(key_of("t"), now_ms())
    assert left is not None and left.outputs.log == uri
    assert until(lambda: read_artefact(uri) == b"early\nlate\n")
    runner.close()


# many, and a full disk


def test_many_short_tasks_all_end_and_no_more_than_is_kept_stays_on_disk(tmp_path: Path) -> None:
    runner = ProcessRunner(folder=tmp_path, timeout_s=60, kill_grace_s=1, retention=RunRetention(runs=10))
    runner.start(assign("live", command=["sleep", "60"]), now_ms())
    for number in range(60):
        runner.start(assign(f"t{number}", command=["true"]), now_ms())
    ended = wait_for(runner, 60, within_s=120)
    assert [end.succeeded for end in ended] == [True] * 60
    runner._upkeep.sweep()
    left = {path.name for path in (tmp_path / "tasks").iterdir() if path.is_dir()}
    assert len(left) == 11
    assert runner.task_folder(key_of("live")).name in left
    runner.close()


def test_a_full_disk_is_a_failed_start_and_spoils_nothing_else(
    runner: ProcessRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> int:
        raise OSError(28, "No space left on device")

    runner.start(assign("before", command=["sleep", "60"]), now_ms())
    with monkeypatch.context() as disk:
        disk.setattr(os, "open", full)
        with pytest.raises(RunnerError, match="No space left on device"):
            runner.start(assign("t", command=["true"]), now_ms())
    assert list(runner._running) == [key_of("before")]


def test_memory_and_logs_are_looked_after_while_old_runs_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    removing, done = threading.Event(), threading.Event()

    def slowly(*_: object) -> list[str]:
        removing.set()
        done.wait()
        return []

    monkeypatch.setattr(RunFolders, "sweep", slowly)
    runner = ProcessRunner(folder=tmp_path / "agent", timeout_s=60, kill_grace_s=1, log_bytes=10_000)
    greedy = "import time\nx = bytearray(300_000_000)\ntime.sleep(3_600)"
    shares = [NodeShare(node_id="a", memory_gb=0.1)]
    runner.start(assign("t", command=python(greedy), nodes=shares), now_ms())
    assert removing.wait(PATIENCE_S)
    (ended,) = wait_for(runner, within_s=PATIENCE_S)
    assert ended.cause == "memory"
    done.set()
    runner.close()
