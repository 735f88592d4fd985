"""Supervision with small real processes: order, restarts, orderly ends, nothing left behind."""

import errno
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from thalweg.conf import readiness
from thalweg.processes.children import ChildFailedError, NeverReadyError, ProcessSpec, RestartPolicy, last_lines
from thalweg.processes.identity import ProcessIdentity
from thalweg.processes.supervisor import ProcessState, Supervisor
from thalweg.stack.leftovers import end_leftovers
from thalweg.stack.stack import running, up_in_background
from thalweg.stack.state import StateFolder, StateFolderError

AT_ONCE = RestartPolicy(first_delay_seconds=0.05, max_delay_seconds=0.05)


def python(name: str, program: str, **more: object) -> ProcessSpec:
    argv = (sys.executable, "-I", "-S", "-c", textwrap.dedent(program))
    return ProcessSpec(name=name, argv=argv, **({"restart": AT_ONCE} | more))  # type: ignore[arg-type]


def sleeper(name: str, **more: object) -> ProcessSpec:
    return python(name, "import time; time.sleep(600)", **more)


def tick_until(supervisor: Supervisor, condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, {n: p.state for n, p in supervisor.processes.items()}
        supervisor.tick()
        time.sleep(0.01)


def journal_writer(name: str, journal: Path, **more: object) -> ProcessSpec:
    program = f"""
        import signal, sys, time
        def note(word):
            with open({str(journal)!r}, "a") as file:
                file.write(word + " {name}\\n")
        def end(*_):
            time.sleep(0.1)
            note("stop")
            sys.exit()
        signal.signal(signal.SIGTERM, end)
        note("start")
        time.sleep(600)
    """
    return python(name, program, **more)


def test_processes_start_after_what_they_need_and_stop_before_it(tmp_path: Path) -> None:
    journal = tmp_path / "journal"

    def noted(word: str) -> Callable[[], bool]:
        return lambda: journal.exists() and word in journal.read_text().splitlines()

    specs = [
        journal_writer("agent", journal, needs=("jobs",), is_ready=noted("start agent")),
        journal_writer("jobs", journal, needs=("broker",), is_ready=noted("start jobs")),
        journal_writer("broker", journal, is_ready=noted("start broker")),
    ]
    supervisor = Supervisor(specs, tmp_path / "logs")
    assert supervisor.wait_ready()
    assert supervisor.stop() == []
    started_then_stopped = ["start broker", "start jobs", "start agent", "stop agent", "stop jobs", "stop broker"]
    assert journal.read_text().splitlines() == started_then_stopped


def test_a_process_that_ends_is_started_again(tmp_path: Path) -> None:
    supervisor = Supervisor([sleeper("one")], tmp_path)
    try:
        supervisor.wait_ready()
        first = supervisor.processes["one"].identity
        assert first is not None
        os.kill(first.pid, signal.SIGKILL)
        tick_until(supervisor, lambda: supervisor.processes["one"].state is ProcessState.PAUSING)
        assert supervisor.processes["one"].last_failure == "ended with signal 9"
        tick_until(supervisor, supervisor.all_ready)
        second = supervisor.processes["one"].identity
        assert second is not None
        assert second != first
    finally:
        supervisor.stop()


def test_a_process_that_cannot_start_is_given_up_with_the_end_of_its_log(tmp_path: Path) -> None:
    spec = python("broken", "import sys; sys.exit('no such disk')", is_ready=lambda: False)
    supervisor = Supervisor([spec], tmp_path)
    with pytest.raises(ChildFailedError, match=r"(?s)broken ended with exit code 1 and was given up.*no such disk"):
        supervisor.wait_ready()
    supervisor.stop()


def test_a_process_that_was_ready_is_tried_more_often_with_growing_pauses(tmp_path: Path) -> None:
    now = [0.0]
    policy = RestartPolicy(max_restarts=3, first_delay_seconds=1.0, max_delay_seconds=3.0)
    supervisor = Supervisor([python("flaky", "pass", restart=policy)], tmp_path, clock_seconds=lambda: now[0])
    process = supervisor.processes["flaky"]
    pauses = []
    while process.state is not ProcessState.FAILED:
        tick_until(supervisor, lambda: process.state in (ProcessState.PAUSING, ProcessState.FAILED))
        if process.state is ProcessState.PAUSING:
            pauses.append(process.start_again_seconds - now[0])
            now[0] = process.start_again_seconds
            tick_until(supervisor, lambda: process.state is not ProcessState.PAUSING)
    assert pauses == [1.0, 2.0, 3.0]


def test_a_failure_after_a_healthy_time_counts_as_the_first(tmp_path: Path) -> None:
    now = [0.0]
    supervisor = Supervisor([sleeper("one")], tmp_path, clock_seconds=lambda: now[0])
    process = supervisor.processes["one"]
    try:
        tick_until(supervisor, supervisor.all_ready)
        process.restarts = process.spec.restart.max_restarts
        now[0] += process.spec.restart.healthy_after_seconds
        assert process.identity is not None
        os.kill(process.identity.pid, signal.SIGKILL)
        tick_until(supervisor, lambda: process.state is not ProcessState.READY)
        assert process.state is ProcessState.PAUSING
        assert process.restarts == 1
    finally:
        supervisor.stop()


def test_a_process_not_ready_in_time_is_killed_and_given_up(tmp_path: Path) -> None:
    spec = sleeper("slow", is_ready=lambda: False, ready_timeout_seconds=0.2)
    supervisor = Supervisor([spec], tmp_path)
    with pytest.raises(ChildFailedError, match="was not ready within 0 s"):
        supervisor.wait_ready()


def test_a_process_that_gets_on_may_take_its_time_and_one_that_stands_still_may_not(tmp_path: Path) -> None:
    program = f"""
        import itertools, sys, time
        sys.path.insert(0, {os.getcwd()!r})
        from thalweg.conf.readiness import announce_progress
        for number in itertools.count():
            announce_progress(str(min(number, 15)) + " steps")
            time.sleep(0.1)
    """
    spec = python("long", program, announces_ready=True, ready_timeout_seconds=0.6)
    supervisor = Supervisor([spec], tmp_path)
    started = time.monotonic()
    with pytest.raises(ChildFailedError, match=r"not ready within 1 s after its last word of progress \(15 steps\)"):
        supervisor.wait_ready()
    assert time.monotonic() - started > 2 * 1.5, "both of its starts took all their steps"


def test_a_process_says_itself_when_it_is_ready(tmp_path: Path) -> None:
    program = """
        import os, pathlib, time
        time.sleep(0.3)
        pathlib.Path(os.environ["THALWEG_READY_FILE"]).touch()
        time.sleep(600)
    """
    supervisor = Supervisor([python("polite", program, announces_ready=True)], tmp_path)
    try:
        supervisor.tick()
        supervisor.tick()
        assert supervisor.processes["polite"].state is ProcessState.STARTING
        supervisor.wait_ready()
    finally:
        supervisor.stop()


def test_a_process_that_ignores_the_request_is_killed_with_its_group(tmp_path: Path) -> None:
    program = """
        import signal, subprocess, sys, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        print(child.pid, flush=True)
        time.sleep(600)
    """
    supervisor = Supervisor([python("deaf", program, stop_timeout_seconds=0.3)], tmp_path)
    log = tmp_path / "deaf.log"
    tick_until(supervisor, lambda: log.exists() and log.read_text().endswith("\n"))
    grandchild = ProcessIdentity.of(int(log.read_text()))
    assert grandchild is not None
    assert supervisor.stop() == ["deaf"]
    deadline = time.monotonic() + 10
    while grandchild.is_alive() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not grandchild.is_alive()


def test_needs_that_name_nobody_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"jobs needs \['brokre'\]"):
        Supervisor([sleeper("jobs", needs=("brokre",)), sleeper("broker")], tmp_path)


SUPERVISING = """
import sys, time
from pathlib import Path
from thalweg.processes.children import ProcessSpec
from thalweg.stack.stack import running, up_in_background
from thalweg.stack.state import StateFolder

folder = StateFolder(Path(sys.argv[1]))
spec = ProcessSpec(name="one", argv=(sys.executable, "-c", {program!r}))
with running(folder, lambda: [spec], say=print) as supervisor:
    supervisor.wait_ready()
    while True:
        supervisor.tick()
        time.sleep(0.05)
"""


def start_supervising(path: Path, program: str) -> tuple[subprocess.Popen[bytes], ProcessIdentity]:
    supervising = subprocess.Popen([sys.executable, "-P", "-c", SUPERVISING.format(program=program), str(path)])
    folder = StateFolder(path)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for record in folder.stack().get("processes", []):
            if record["state"] == "ready":
                return supervising, ProcessIdentity(pid=record["pid"], started=record["started"])
        time.sleep(0.02)
    supervising.kill()
    raise AssertionError("the supervisor started nothing")


def wait_gone(identity: ProcessIdentity, seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while identity.is_alive():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel ends children with their parent on Linux only")
def test_children_die_with_a_killed_supervisor(tmp_path: Path) -> None:
    supervising, child = start_supervising(tmp_path, "import time; time.sleep(600)")
    assert child.is_alive()
    supervising.kill()
    supervising.wait()
    assert wait_gone(child)


def test_the_next_stack_ends_what_a_killed_one_left(tmp_path: Path) -> None:
    # A grandchild is on no leash: it stands for a JVM that outlives its Python.
    sleeping = "import time; time.sleep(600)"
    program = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {sleeping!r}]); time.sleep(600)"
    supervising, child = start_supervising(tmp_path, program)
    deadline = time.monotonic() + 10
    while not (left := psutil.Process(child.pid).children()) and time.monotonic() < deadline:
        time.sleep(0.02)
    grandchild = ProcessIdentity.of(left[0].pid)
    assert grandchild is not None
    supervising.kill()
    supervising.wait()
    assert wait_gone(child)
    assert grandchild.is_alive()

    told: list[str] = []
    folder = StateFolder(tmp_path)
    with running(folder, lambda: [sleeper("two")], say=told.append) as supervisor:
        assert not grandchild.is_alive()
        supervisor.wait_ready()
    assert len(told) == 1
    assert str(grandchild.pid) in told[0]


def test_leftovers_of_another_state_folder_are_left_alone(tmp_path: Path) -> None:
    supervising, child = start_supervising(tmp_path / "one", "import time; time.sleep(600)")
    try:
        assert end_leftovers(StateFolder(tmp_path / "two")) == []
        assert child.is_alive()
    finally:
        supervising.kill()
        supervising.wait()
    assert wait_gone(child)


def test_an_identity_is_not_fooled_by_a_number_given_out_again() -> None:
    own = ProcessIdentity.own()
    assert own.is_alive()
    assert not ProcessIdentity(pid=own.pid, started="another start").is_alive()


def test_a_zombie_counts_as_gone() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    identity = ProcessIdentity.of(process.pid)
    deadline = time.monotonic() + 10
    while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE and time.monotonic() < deadline:
        time.sleep(0.01)
    assert identity is None or not identity.is_alive()
    process.wait()


def test_a_very_long_log_is_put_aside_at_the_next_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thalweg.processes.children.LOG_LIMIT_BYTES", 10)
    (tmp_path / "one.log").write_text("more than ten bytes")
    supervisor = Supervisor([sleeper("one")], tmp_path)
    supervisor.wait_ready()
    supervisor.stop()
    assert (tmp_path / "one.log.old").read_text() == "more than ten bytes"
    assert (tmp_path / "one.log").read_text() == ""


def taken(port: int) -> bool:
    """Fail as a readiness check does that meets somebody else at its process's port."""
    if port == 1:
        raise NeverReadyError("another's cluster answers there")
    return True


def test_what_cannot_become_ready_as_it_is_is_made_anew(tmp_path: Path) -> None:
    ports = iter((1, 2, 3))

    def made() -> ProcessSpec:
        port = next(ports)
        return sleeper("broker", ports={"kafka": port}, is_ready=lambda: taken(port), again=made)

    def reader() -> ProcessSpec:
        return sleeper("jobs", needs=("broker",), ports={"reads": found()}, again=reader)

    def found() -> int:
        return supervisor.processes["broker"].spec.ports["kafka"] if supervisor else 0

    supervisor: Supervisor | None = None
    supervisor = Supervisor([sleeper("broker", again=made), reader()], tmp_path)
    try:
        tick_until(supervisor, supervisor.all_ready)
        broker = supervisor.processes["broker"]
        assert broker.spec.ports == {"kafka": 2}
        assert "another's cluster" in broker.last_failure
        assert supervisor.processes["jobs"].spec.ports == {"reads": 2}  # made when the broker's port was settled
        assert broker.identity is not None
        os.kill(broker.identity.pid, signal.SIGKILL)
        tick_until(supervisor, lambda: broker.state is ProcessState.PAUSING)
        tick_until(supervisor, supervisor.all_ready)
        assert broker.spec.ports == {"kafka": 2}  # others know it there
    finally:
        supervisor.stop()


def test_what_meets_somebody_else_each_time_is_given_up_in_words(tmp_path: Path) -> None:
    supervisor = Supervisor([sleeper("broker", is_ready=lambda: taken(1))], tmp_path)
    with pytest.raises(ChildFailedError, match=r"cannot become ready: another's cluster answers there"):
        supervisor.wait_ready()
    supervisor.stop()


def test_a_process_that_runs_and_does_not_do_its_work_is_failing_with_its_own_words(tmp_path: Path) -> None:
    order = tmp_path / "order"
    program = f"""
        import os, pathlib, time
        ready, order = pathlib.Path(os.environ["THALWEG_READY_FILE"]), pathlib.Path({str(order)!r})
        while True:
            fresh = ready.with_name("fresh")
            fresh.write_text(order.read_text() if order.exists() else "")
            fresh.rename(ready)  # it is never seen half written
            time.sleep(0.01)
    """
    supervisor = Supervisor([python("jobs", program, announces_ready=True)], tmp_path)
    jobs = supervisor.processes["jobs"]
    told: list[str] = []
    supervisor.on_change = lambda: told.append(jobs.last_failure)
    try:
        assert supervisor.wait_ready()
        for words in ("place has failed for 1 min", "place has failed for 2 min"):
            (tmp_path / "next").write_text(words)
            (tmp_path / "next").rename(order)
            tick_until(supervisor, lambda words=words: told[-1:] == [words])  # type: ignore[misc]
        order.write_text("place failed 3 times")
        tick_until(supervisor, lambda: jobs.state is ProcessState.FAILING and jobs.last_failure == order.read_text())
        assert supervisor.all_ready() and supervisor.failed() == [], "it is not ended for that"
        order.write_text("")
        tick_until(supervisor, lambda: jobs.state is ProcessState.READY)
        os.kill(jobs.child.pid if jobs.child else 0, signal.SIGKILL)
        tick_until(supervisor, lambda: jobs.restarts == 1)
    finally:
        supervisor.stop()


def test_who_is_frozen_is_unwell_until_it_goes_on(tmp_path: Path) -> None:
    program = f"""
        import runpy, time
        readiness = runpy.run_path({readiness.__file__!r})
        readiness["keep_pulse"]()
        readiness["announce_ready"]()
        time.sleep(600)
    """
    spec = python("jobs", program, announces_ready=True, still_after_seconds=3.0)
    supervisor = Supervisor([spec], tmp_path)
    try:
        jobs = supervisor.processes["jobs"]
        tick_until(supervisor, lambda: jobs.state is ProcessState.READY)
        tick_until(supervisor, lambda: jobs.pulse != 0)
        assert jobs.identity is not None
        os.kill(jobs.identity.pid, signal.SIGSTOP)
        tick_until(supervisor, lambda: jobs.is_failing)
        assert f"stands still for more than 3 s: it is frozen (kill -CONT {jobs.identity.pid}" in jobs.last_failure
        os.kill(jobs.identity.pid, signal.SIGCONT)
        tick_until(supervisor, lambda: jobs.state is ProcessState.READY)
    finally:
        supervisor.stop()


def test_who_keeps_no_pulse_is_never_called_frozen(tmp_path: Path) -> None:
    now = [0.0]
    supervisor = Supervisor([sleeper("broker", still_after_seconds=1.0)], tmp_path, clock_seconds=lambda: now[0])
    try:
        broker = supervisor.processes["broker"]
        tick_until(supervisor, lambda: broker.state is ProcessState.READY)
        now[0] = 1_000.0
        supervisor.tick()
        assert broker.state is ProcessState.READY
    finally:
        supervisor.stop()


def test_progress_is_passed_on(tmp_path: Path) -> None:
    program = """
        import os, pathlib, time
        pathlib.Path(os.environ["THALWEG_READY_FILE"]).with_suffix(".progress").write_text("3 of 40 kernels")
        time.sleep(600)
    """
    said: list[tuple[str, str]] = []
    supervisor = Supervisor([python("jobs", program, announces_ready=True)], tmp_path)
    supervisor.on_progress = lambda name, words: said.append((name, words))
    try:
        tick_until(supervisor, lambda: bool(said))
        assert said == [("jobs", "3 of 40 kernels")]
    finally:
        supervisor.stop()


def test_a_stack_in_the_background_says_what_it_says(tmp_path: Path) -> None:
    program = "import sys, time; print('Starting broker', flush=True); time.sleep(0.5); sys.exit('it failed')"
    said: list[str] = []
    folder = StateFolder(tmp_path)
    trouble = up_in_background([sys.executable, "-c", program], folder, timeout_seconds=30, say=said.append)
    assert (said[0], trouble) == ("Starting broker", "it failed")
    assert set(said[1:]) <= {"it failed"}, "read while the process was about to end"


def test_a_stack_in_the_background_that_ends_without_a_word_says_so(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path)
    trouble = up_in_background([sys.executable, "-c", "raise SystemExit(3)"], folder, timeout_seconds=30, say=print)
    assert trouble is not None
    assert trouble == "it ended with 3 and said nothing"


def test_two_stacks_in_the_background_of_one_folder_are_told_apart(tmp_path: Path) -> None:
    folder, heard, done = StateFolder(tmp_path / "state"), dict[str, list[str]](), tmp_path / "done"

    def begin(name: str, program: str) -> str | None:
        said = heard[name] = list[str]()
        command = [sys.executable, "-c", program]
        return up_in_background(command, folder, timeout_seconds=60, say=lambda words: told(said, words))

    def told(said: list[str], words: str) -> None:
        said.append(words)
        if words == "Starting broker":  # and while it runs, another one begins and is refused
            refused = "print('Looking', flush=True); raise SystemExit('Error: A stack already runs')"
            assert begin("second", refused) == "A stack already runs"
            done.touch()

    runs = f"""
import os, time
print('Starting broker', flush=True)
while not os.path.exists({str(done)!r}):
    time.sleep(0.02)
print('Stopping', flush=True)
raise SystemExit('Error: ValueError: it was not well')
"""
    assert begin("first", runs) == "ValueError: it was not well"
    assert heard == {"first": ["Starting broker", "Stopping"], "second": ["Looking"]}
    assert list((folder.path / "logs").iterdir()) == []


def test_one_that_may_fail_holds_nobody_up_and_is_tried_again_for_ever(tmp_path: Path) -> None:
    specs = [sleeper("broker"), python("window", "raise SystemExit(3)", may_fail=True)]
    supervisor = Supervisor(specs, tmp_path)
    tick_until(supervisor, supervisor.all_ready)
    tick_until(supervisor, lambda: supervisor.processes["window"].restarts > RestartPolicy().max_restarts + 1, 900)
    assert supervisor.failed() == []
    assert supervisor.all_ready()
    assert supervisor.processes["window"].last_failure == "ended with exit code 3"
    supervisor.stop()


class Disk:
    """A disk that is full or not, as a test says."""

    def __init__(self, words: str = "") -> None:
        self.words = words

    def full(self, _: Path) -> str:
        return self.words


def test_what_ends_on_a_full_disk_waits_for_room_and_is_never_given_up(tmp_path: Path) -> None:
    disk, told = Disk(), list[str]()
    policy = RestartPolicy(max_restarts=1, first_delay_seconds=0.0, max_delay_seconds=0.0)
    supervisor = Supervisor([sleeper("broker", restart=policy)], tmp_path, disk_full=disk.full, on_disk=told.append)
    broker = supervisor.processes["broker"]
    try:
        for is_freed_by_its_end in (False, True, False):
            tick_until(supervisor, supervisor.all_ready)
            disk.words = "the disk is full: 0 MB free"
            supervisor.tick()
            if is_freed_by_its_end:
                disk.words = ""
            assert broker.identity is not None
            os.kill(broker.identity.pid, signal.SIGKILL)
            tick_until(supervisor, lambda: broker.state is ProcessState.PAUSING)
            assert broker.restarts == 0
            assert "signal 9, and the disk is full: it is started again when there is room" in broker.last_failure
            for _ in range(0 if is_freed_by_its_end else 3):
                supervisor.tick()
                assert broker.state is ProcessState.PAUSING
            disk.words = ""
        tick_until(supervisor, supervisor.all_ready)
        assert told == ["the disk is full: 0 MB free", ""] * 3
    finally:
        supervisor.stop()


def test_what_never_fitted_on_the_disk_is_given_up(tmp_path: Path) -> None:
    disk = Disk()
    supervisor = Supervisor([sleeper("jobs", is_ready=lambda: False, restart=AT_ONCE)], tmp_path, disk_full=disk.full)
    jobs = supervisor.processes["jobs"]
    for state in (ProcessState.PAUSING, ProcessState.FAILED):
        tick_until(supervisor, lambda: jobs.state is ProcessState.STARTING)
        disk.words = "the disk is full"
        supervisor.tick()
        disk.words = ""  # what ended has removed what it had half written
        assert jobs.identity is not None
        os.kill(jobs.identity.pid, signal.SIGKILL)
        tick_until(supervisor, lambda: jobs.state is not ProcessState.STARTING)
        assert jobs.state is state


def test_a_spec_that_cannot_be_made_anew_for_want_of_room_is_tried_again(tmp_path: Path) -> None:
    made = iter([OSError(errno.ENOSPC, "No space left on device"), sleeper("broker")])

    def again() -> ProcessSpec:
        spec = next(made)
        if isinstance(spec, OSError):
            raise spec
        return spec

    supervisor = Supervisor([sleeper("broker", again=again)], tmp_path)
    try:
        tick_until(supervisor, supervisor.all_ready)
        assert "No space left on device" in supervisor.processes["broker"].last_failure
    finally:
        supervisor.stop()


def test_a_stack_goes_on_where_its_record_cannot_be_written_and_writes_it_when_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, said, writes = StateFolder(tmp_path), list[str](), StateFolder.write_stack

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with running(folder, lambda: [sleeper("one"), sleeper("two")], say=said.append) as supervisor:
        monkeypatch.setattr(StateFolder, "write_stack", full)
        assert supervisor.wait_ready()
        first = supervisor.processes["one"].identity
        supervisor.tick()
        assert folder.stack()["processes"][0]["state"] == "waiting"
        assert supervisor.processes["one"].identity == first is not None
        monkeypatch.setattr(StateFolder, "write_stack", writes)
        supervisor.tick()
        assert [record["state"] for record in folder.stack()["processes"]] == ["ready", "ready"]
        monkeypatch.setattr(StateFolder, "write_stack", full)
    once = "What runs cannot be written down (No space left on device); until it can, `thalweg ps` shows what was."
    assert said == [once, once], "once each time"
    assert first is not None and wait_gone(first)


def test_a_stack_that_finds_no_room_to_begin_says_so(tmp_path: Path) -> None:
    def full() -> list[ProcessSpec]:
        raise OSError(errno.ENOSPC, "No space left on device")

    with (
        pytest.raises(StateFolderError, match=r"cannot be used: No space left on device\. Free space there, or name"),
        running(StateFolder(tmp_path), full, say=print),
    ):
        pass


def test_what_a_full_disk_did_not_take_is_said_again(tmp_path: Path) -> None:
    file = tmp_path / "away" / "jobs.ready"
    readiness.announce_trouble("place failed 3 times", {readiness.READY_FILE: str(file)})  # and raises nothing
    file.parent.mkdir()
    with readiness.beating(tmp_path / "jobs.pulse"):
        deadline = time.monotonic() + 20
        while readiness.trouble_in(file) != "place failed 3 times":
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert not (tmp_path / "jobs.pulse").exists()


def test_what_is_shown_of_a_log_is_that_the_disk_is_full_where_it_says_so_since_the_start(tmp_path: Path) -> None:
    log = tmp_path / "jobs.log"
    earlier = "java.io.IOException: No space left on device, a year ago\n"
    after = "\tat org.apache.spark.SparkEnv.get() is null\n" * 300
    log.write_text(earlier + after)
    assert "SparkEnv" in last_lines(log, begins=len(earlier))
    said = '{"level": "error", "error": "Traceback\\njava.io.IOException: No space left on device\\n\\tat x"}\n'
    log.write_text(earlier + said + after)
    assert last_lines(log, begins=len(earlier)) == "java.io.IOException: No space left on device"


def test_what_is_shown_of_a_process_that_failed_is_of_its_last_start(tmp_path: Path) -> None:
    (tmp_path / "jobs.log").write_text("No space left on device\n")
    spec = python("jobs", "import sys; sys.exit('a wrong setting')", is_ready=lambda: False)
    with pytest.raises(ChildFailedError, match=r"a wrong setting$"):
        Supervisor([spec], tmp_path).wait_ready()
