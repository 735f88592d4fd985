"""Standard output that cannot be written: one line, exit code 1, and what was done all the same; real processes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

FULL = Path("/dev/full")
LOST = "standard output cannot be written: No space left on device\n"
ACTING = """
import sys
from tests.unit.cli.test_change_commands import AnsweringClient
from thalweg.cli import main
from thalweg.cli.reach import broker_calls
broker_calls.Client = AnsweringClient
broker_calls.with_broker = lambda settings: settings
main.main()
"""
pytestmark = pytest.mark.skipif(not FULL.exists(), reason="only Linux has a file that is always full")


def run(*arguments: str, program: str = "", unbuffered: bool = False) -> tuple[int, str]:
    start = ["-c", program] if program else ["-P", "-m", "thalweg.cli.main"]
    with FULL.open("w") as full:
        found = subprocess.run(
            [sys.executable, *start, *arguments],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            env={**os.environ, "PYTHONUNBUFFERED": "1" if unbuffered else ""},
        )
    return found.returncode, found.stderr


@pytest.mark.parametrize("unbuffered", [True, False])
@pytest.mark.parametrize(
    "arguments",
    [
        ("topics",),
        ("topics", "--json"),
        ("sql", "select * from tasks", "--format", "csv"),
        ("plans", "--json"),
        ("ps", "--json"),
        ("--help",),
    ],
)
def test_a_full_standard_output_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], unbuffered: bool
) -> None:
    monkeypatch.setenv("THALWEG_STATE", str(tmp_path))
    (tmp_path / "warehouse").mkdir()
    assert run(*arguments, unbuffered=unbuffered) == (1, LOST)


def test_what_ends_a_command_is_said_before_it() -> None:
    code, told = run("sql", "drop table tasks", "--json", "--warehouse", "/nowhere")
    assert code == 2
    assert told.startswith("Error: ")
    assert "Traceback" not in told


@pytest.mark.parametrize("as_json", [(), ("--json",)])
def test_what_was_sent_is_said_all_the_same(as_json: tuple[str, ...]) -> None:
    asked = ("submit", "--task", "train-1", "--gpus", "1", "--bootstrap", "127.0.0.1:1", *as_json)
    assert run(*asked, program=ACTING) == (1, f"sent: train-1; but {LOST}")
    asked = ("cancel", *(f"t{number}" for number in range(7)), "--bootstrap", "127.0.0.1:1", *as_json)
    assert run(*asked, program=ACTING) == (1, f"cancel sent: t0, t1, t2, t3, t4, …; but {LOST}")


def test_who_does_not_want_to_read_may_close_it_and_who_stops_reading_is_told_nothing() -> None:
    for shell in ("{} >&-", "{} | true; exit ${{PIPESTATUS[0]}}"):
        command = shell.format(f"{sys.executable} -P -m thalweg.cli.main topics --json")
        found = subprocess.run(["bash", "-c", command], stderr=subprocess.PIPE, text=True, check=False)
        assert found.stderr == ""
        assert found.returncode in (0, 1)
