"""The demo from nothing to its document, hurt in the middle; and what its command says to wrong calls."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.acceptance


def thalweg(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "thalweg", *arguments]


@pytest.mark.timeout(900)
def test_a_demo_whose_jobs_and_agents_are_killed_loses_and_doubles_nothing(tmp_path: Path) -> None:
    environment = os.environ | {"THALWEG_STATE": str(tmp_path / "state")}
    arguments = ("demo", "--headless", "--seconds", "40", "--rate", "20", "--regions", "6", "--json", "--seed", "3")
    with (tmp_path / "progress.txt").open("w+") as progress:
        demo = subprocess.Popen(
            thalweg(*arguments), env=environment, stdout=subprocess.PIPE, stderr=progress, text=True, cwd=os.getcwd()
        )
        try:
            deadline = time.monotonic() + 300
            while "first assignment" not in (tmp_path / "progress.txt").read_text():
                assert demo.poll() is None, (tmp_path / "progress.txt").read_text()
                assert time.monotonic() < deadline, (tmp_path / "progress.txt").read_text()
                time.sleep(0.2)
            chaos = subprocess.run(
                thalweg("chaos", "agents-1", "jobs", "--pause", "2", "--json"),
                env=environment,
                capture_output=True,
                text=True,
                timeout=400,
                check=False,
                cwd=os.getcwd(),
            )
            out, _ = demo.communicate(timeout=400)
        finally:
            if demo.poll() is None:
                demo.kill()
                demo.communicate()
    document = json.loads(out)
    told = f"{json.dumps(document, indent=1)}\n{(tmp_path / 'progress.txt').read_text()}\n{chaos.stderr}"
    assert document["violations"] == [], told
    assert document["ok"] is True
    assert demo.returncode == 0
    # The demo may end before chaos has compared the books itself; that both were killed and came back it has said.
    for name in ("agents-1", "jobs"):
        assert re.search(rf"^{name} \(\d+\) was killed, back after", chaos.stderr, re.MULTILINE), told
    assert document["tasks_submitted"] > 400
    states = ("running", "waiting", "finished", "failed", "cancelled")
    assert sum(document[f"tasks_{state}"] for state in states) == document["tasks_submitted"]
    assert document["tasks_finished"] > 50
    assert document["events_sent"] == document["events_received"]
    assert document["telemetry_rows"] > 1_000
    assert document["plans_made"] > 3


def test_chaos_without_a_stack_says_what_to_start(tmp_path: Path) -> None:
    environment = os.environ | {"THALWEG_STATE": str(tmp_path / "state")}
    called = subprocess.run(
        thalweg("chaos"), env=environment, capture_output=True, text=True, timeout=60, check=False, cwd=os.getcwd()
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
        timeout=60,
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
        timeout=60,
        check=False,
        cwd=os.getcwd(),
    )
    assert called.returncode == 2
    assert "thesis.tex" in called.stderr
    assert (tmp_path / "state" / "thesis.tex").read_text() == "do not delete"
