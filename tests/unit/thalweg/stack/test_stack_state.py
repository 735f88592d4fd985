"""The state folder: ours or refused, one supervisor at a time, readable after any kill."""

import json
import multiprocessing
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from thalweg.cli.main import cli
from thalweg.conf.environment import DEMO
from thalweg.stack.stack import scratch_environment
from thalweg.stack.state import FORMAT, MARKER, StateFolder, StateFolderError, running_in


def test_a_new_folder_is_marked_with_its_format(tmp_path: Path) -> None:
    StateFolder(tmp_path / "new")
    assert json.loads((tmp_path / "new" / MARKER).read_text())["format"] == FORMAT
    StateFolder(tmp_path / "new")  # and is ours the second time


def test_a_folder_that_only_a_job_has_used_is_taken_over(tmp_path: Path) -> None:
    (tmp_path / "warehouse").mkdir()
    StateFolder(tmp_path)
    assert (tmp_path / MARKER).exists()


def test_a_foreign_folder_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(StateFolderError, match=r"holds thesis\.tex.*THALWEG_STATE"):
        StateFolder(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"format": "one"}'])
def test_a_damaged_marker_is_refused(tmp_path: Path, damage: str) -> None:
    (tmp_path / MARKER).write_text(damage)
    with pytest.raises(StateFolderError, match="damaged"):
        StateFolder(tmp_path)


def test_a_damaged_marker_may_be_deleted_as_its_message_says(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path)
    folder.write_stack({})
    folder.remember_ports({"kafka": 20001})
    with folder.held():  # which makes the lock
        pass
    for name in ("broker", "warehouse", "checkpoints", "agents", "logs", "scratch", DEMO):
        (tmp_path / name).mkdir()
    (tmp_path / "stack.json.new").touch()
    (tmp_path / MARKER).unlink()
    StateFolder(tmp_path)
    assert (tmp_path / MARKER).exists()


def test_what_runs_is_the_stack_and_only_without_one_the_demo(tmp_path: Path) -> None:
    assert running_in(tmp_path) is None
    assert list(tmp_path.iterdir()) == []  # looking makes nothing
    own, demo = StateFolder(tmp_path), StateFolder(tmp_path / DEMO)
    assert running_in(tmp_path) is None
    with demo.held():
        found = running_in(tmp_path)
        assert found is not None and found.path == demo.path
        with own.held():
            found = running_in(tmp_path)
            assert found is not None and found.path == own.path


def test_temporary_files_go_where_they_are_cleared_away_beside_the_users_own_options(tmp_path: Path) -> None:
    scratch = tmp_path / "with a blank"
    environment = scratch_environment(scratch, {"SPARK_SUBMIT_OPTS": "-Dfoo=bar"})
    assert environment["TMPDIR"] == str(scratch)
    assert shlex.split(environment["SPARK_SUBMIT_OPTS"]) == [
        "-Dfoo=bar",
        f"-Djava.io.tmpdir={scratch}",
        f"-Dspark.local.dir={scratch}",
    ]


def test_a_folder_of_a_later_format_is_refused_naming_both(tmp_path: Path) -> None:
    (tmp_path / MARKER).write_text(json.dumps({"format": FORMAT + 1}))
    with pytest.raises(StateFolderError, match=f"format {FORMAT + 1}; .* format {FORMAT}"):
        StateFolder(tmp_path)


def test_a_path_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StateFolderError, match="cannot be used"):
        StateFolder(tmp_path / "file")


@pytest.mark.parametrize("damage", ["", "{", "[]", "null"])
def test_damaged_records_read_as_nothing_known(tmp_path: Path, damage: str) -> None:
    folder = StateFolder(tmp_path)
    (tmp_path / "stack.json").write_text(damage)
    (tmp_path / "ports.json").write_text(damage)
    assert folder.stack() == {}
    assert folder.supervisor() is None
    assert folder.port("kafka") is None


def test_ports_are_remembered_beside_those_known(tmp_path: Path) -> None:
    StateFolder(tmp_path).remember_ports({"kafka": 20001, "metrics": 20002})
    StateFolder(tmp_path).remember_ports({"metrics": 20003})
    assert (StateFolder(tmp_path).port("kafka"), StateFolder(tmp_path).port("metrics")) == (20001, 20003)


def _hold(path: Path, held: "multiprocessing.synchronize.Event") -> None:
    folder = StateFolder(path)
    with folder.held():
        held.set()
        multiprocessing.Event().wait()


@pytest.mark.parametrize("command", ["ps", "down", "open"])
@pytest.mark.parametrize("found", ["nothing", "a new folder", "a warehouse", "a folder of ours"])
def test_who_only_asks_what_runs_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, found: str
) -> None:
    state = tmp_path / "state"
    monkeypatch.setenv("THALWEG_STATE", str(state))
    if found != "nothing":
        state.mkdir()
    if found == "a warehouse":
        (state / "warehouse").mkdir()
    if found == "a folder of ours":
        StateFolder(state)
    before = sorted(tmp_path.rglob("*"))
    told = CliRunner().invoke(cli, [command])
    assert "Traceback" not in told.output
    assert told.exit_code == int(command == "open")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_second_supervisor_is_refused_until_the_first_is_killed(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path)
    context = multiprocessing.get_context("spawn")
    held = context.Event()
    holder = context.Process(target=_hold, args=(tmp_path, held))
    holder.start()
    try:
        assert held.wait(30)
        assert folder.is_held()
        with pytest.raises(StateFolderError, match="already runs"), folder.held():
            pass
    finally:
        holder.kill()
        holder.join()
    assert not folder.is_held()
    with folder.held():
        assert folder.is_held()


def test_asked_once_it_goes_on_to_its_end_asked_twice_it_ends_at_once() -> None:
    program = (
        "import time; from thalweg.stack.stack import Interruption\n"
        "asked = Interruption.on_signals()\nprint('ready', flush=True)\n"
        "while not asked.asked(): time.sleep(0.01)\n"
        "print('asked', flush=True)\ntime.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "asked\n"
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 128 + signal.SIGINT
