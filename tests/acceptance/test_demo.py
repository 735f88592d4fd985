"""The demo in a terminal, cut off, begun anew, hurt, ended with Ctrl-C; and what its command says to wrong calls."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.terminal import Terminal
from tests.patience import PATIENCE_S
from thalweg.stack.leftovers import leftovers
from thalweg.stack.state import StateFolder

pytestmark = pytest.mark.acceptance


def thalweg(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "thalweg", *arguments]


class Person:
    """Somebody who calls commands beside the demo, in the same state folder."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.environ = os.environ | {"THALWEG_STATE": str(state)}

    def demo(self) -> Terminal:
        arguments = ("demo", "--rate", "20", "--regions", "6", "--seed", "3", "--json")
        return Terminal(thalweg(*arguments), self.environ, columns=100)

    def call(self, *arguments: str, code: int = 0) -> "subprocess.CompletedProcess[str]":
        called = subprocess.run(
            thalweg(*arguments), env=self.environ, capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )
        assert called.returncode == code, f"{arguments} ended with {called.returncode}: {called.stderr}{called.stdout}"
        return called

    def what_runs(self) -> dict[str, Any]:
        document = json.loads(self.call("ps", "--json").stdout)
        assert isinstance(document, dict)
        return document

    def left(self) -> list[int]:
        return [process.pid for process in leftovers(StateFolder(self.state / "demo"))]


def test_a_demo_that_was_cut_off_begins_anew_is_hurt_and_ends_with_ctrl_c(tmp_path: Path) -> None:
    person = Person(tmp_path / "state")
    with person.demo() as demo:
        demo.wait(lambda: "agents-1 ready" in demo.screen())
        demo.process.kill()
        limit = (
            time.monotonic() + PATIENCE_S
        )  # the Spark JVM is no child of ours: it ends when it sees that its Python is gone
        while person.left():
            assert time.monotonic() < limit, person.left()
            time.sleep(0.2)

    with person.demo() as demo:
        demo.wait(lambda: "first assignment" in demo.screen())
        demo.wait(lambda: "last plan" in demo.screen())
        demo.wait(lambda: bool(re.search(r"p50 .* ms  p95 .* ms  p99 .* ms", demo.screen())))
        assert all(len(line) <= demo.columns for line in demo.screen().splitlines())

        second = person.call("demo", "--headless", "--seconds", "1", code=1)
        assert f"already runs in {person.state / 'demo'} (process {demo.process.pid})" in second.stderr
        runs = person.what_runs()
        assert runs["supervisor_pid"] == demo.process.pid
        assert {process["name"] for process in runs["processes"]} == {
            "broker",
            "jobs",
            "maintain",
            "window",
            "agents-1",
            "agents-2",
        }
        assert list((person.state / "demo" / "scratch").glob("spark-*")), "Spark's folders lie elsewhere"

        hurting = person.call("hurt", "agents-1", "jobs", "broker", "--pause", "2", "--json")
        assert [hurt["how"] for hurt in json.loads(hurting.stdout)["hurt"]] == ["killed"] * 3
        # Nobody but the demo knew of it; the books must not call it a ghost.
        guest = person.call("submit", "--task", "guest", "--gpus", "1", "--expected-s", "60", "--wait", "900", "--json")
        assert json.loads(guest.stdout)["tasks"][0]["state"] == "succeeded"

        demo.press_ctrl_c()
        code = demo.ended()
        told = f"{demo.out()}\n{demo.screen()}\n{hurting.stderr}"
    document = json.loads(demo.out())
    assert document["violations"] == [], told
    assert (code, document["ok"]) == (0, True), told
    assert demo.written.rstrip().endswith(b"\x1b[?25h"), "the cursor is still hidden"
    assert person.left() == []
    assert not (person.state / "demo" / "scratch").exists()
    assert document["tasks_of_others"] == 1
    assert document["tasks_submitted"] > 400
    states = ("running", "waiting", "finished", "failed", "cancelled")
    assert sum(document[f"tasks_{state}"] for state in states) == document["tasks_submitted"] + 1
    assert document["tasks_finished"] > 50
    assert document["events_sent"] == document["events_received"]
    assert document["telemetry_rows"] > 1_000
    assert document["plans_made"] > 3


def test_ctrl_c_before_the_first_assignment_ends_the_demo_in_order(tmp_path: Path) -> None:
    person = Person(tmp_path / "state")
    with person.demo() as demo:
        demo.wait(lambda: "starting the broker" in demo.screen())
        demo.press_ctrl_c()
        assert demo.ended() == 1
        assert "interrupted before the first assignment" in demo.screen()
    assert person.left() == []


def test_hurting_without_a_stack_says_what_to_start(tmp_path: Path) -> None:
    environment = os.environ | {"THALWEG_STATE": str(tmp_path / "state")}
    called = subprocess.run(
        thalweg("hurt"),
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
        cwd=os.getcwd(),
    )
    assert called.returncode == 2
    assert "start one with `thalweg up`" in called.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--regions", "99"], "published figures of 10 regions"),
        (["--trace", "pyproject.toml"], "known are the openb pod list"),
        (["--trace", "/nowhere.csv"], "does not exist"),
        (["--rate", "0"], "0"),
        (["--set", "place.nonsense=1"], "no such setting"),
    ],
)
def test_a_wrong_call_of_the_demo_ends_with_2(tmp_path: Path, arguments: list[str], words: str) -> None:
    environment = os.environ | {"THALWEG_STATE": str(tmp_path / "state")}
    called = subprocess.run(
        thalweg("demo", *arguments),
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
        cwd=os.getcwd(),
    )
    assert called.returncode == 2
    assert words in called.stderr


def test_a_folder_that_is_not_ours_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "thesis.tex").write_text("do not delete")
    environment = os.environ | {"THALWEG_STATE": str(tmp_path / "state")}
    called = subprocess.run(
        thalweg("demo", "--seconds", "1", "--headless"),
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
        cwd=os.getcwd(),
    )
    assert called.returncode == 2
    assert "thesis.tex" in called.stderr
    assert (tmp_path / "state" / "thesis.tex").read_text() == "do not delete"
