"""``./run test``: every check there is. pytest's words come as they are said; the others are held to the end.

What reads the code runs beside the tests, which are the longest by far. The wheel comes after them, alone: its demo is
a newcomer's, with a broker, Spark and agents of its own, and beside the stacks of the test processes it showed nothing
but how a machine with several of them on two cores stands still. So do the tests of Flower's grids, which another
environment runs.

``./run lint`` is the checks that read the code, alone: what a commit must pass (.pre-commit-config.yaml).
"""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from thalweg.bootstrap.progress import say
from thalweg.conf.environment import PROJECT_ROOT
from thalweg.processes import leash

Step = tuple[str, list[str]]
"""A check's name and command, to be run in the project's root."""

WORKERS: Final = ("-n", "3", "--dist", "loadfile", "--no-loadscope-reorder", "--max-worker-restart", "0")
"""Three processes share the tests by files, in the order of tests/conftest.py: on two cores, since tests wait as much
as they compute. Three also where there are more: each has a broker and a Spark of its own. One that dies ends the run:
xdist may wait for ever for one that replaces it."""


SLOWEST: Final = ("--durations", "12", "--durations-min", "20")
"""Tests that take long are named at the end, for who asks where the minutes go."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedCheck:
    """A check that has ended."""

    name: str
    code: int
    words: str = ""
    """What it said, where that was held."""


def lint_steps() -> list[Step]:
    """Return the checks that read the code and run none of it."""
    programs = Path(sys.prefix) / "bin"
    return [
        ("ruff check", [str(programs / "ruff"), "check"]),
        ("ruff format", [str(programs / "ruff"), "format", "--check", "--quiet"]),
        ("mypy", [str(programs / "mypy")]),
        ("import contract", [str(programs / "lint-imports")]),
    ]


def test_step(pytest_arguments: Sequence[str]) -> Step:
    """Return the tests; what is given comes last, so that `-n 0` and its like win."""
    return "pytest", [sys.executable, "-m", "pytest", *WORKERS, *SLOWEST, *pytest_arguments]


def steps_before(pytest_arguments: Sequence[str]) -> list[Step]:
    """Return what the tests are quicker after: the many JVMs that they start map their classes from an archive."""
    return [] if pytest_arguments else [("class archives", [sys.executable, "-m", "thalweg.stack.rehearsal"])]


def steps_after(pytest_arguments: Sequence[str]) -> list[Step]:
    """Return the checks that need the machine for themselves; who chose some tests wants neither wheel nor Flower."""
    if pytest_arguments:
        return []
    return [
        ("flower", [sys.executable, "-m", "thalweg.bootstrap.flower_environment"]),
        ("wheel", [sys.executable, "-m", "thalweg.bootstrap.try_wheel"]),
    ]


def run_all(pytest_arguments: Sequence[str]) -> int:
    """Run every check, whatever the others say; return 0 if all passed."""
    interrupted = threading.Event()

    def run_others() -> list[EndedCheck]:
        return [_run(step, hold=True) for step in lint_steps() if not interrupted.is_set()]

    before = [_run(step) for step in steps_before(pytest_arguments)]
    with ThreadPoolExecutor(max_workers=1) as beside:
        others = beside.submit(run_others)
        try:
            tests = _run(test_step(pytest_arguments))
        except BaseException:
            interrupted.set()
            raise
    alone = [_run(step, hold=True) for step in steps_after(pytest_arguments)]
    return _sum_up([*before, *others.result(), tests, *alone])


def run_steps(wanted: Sequence[Step]) -> int:
    """Run these checks one after the other, whatever the earlier ones said; return 0 if all passed."""
    return _sum_up([_run(step) for step in wanted])


def _run(step: Step, *, hold: bool = False) -> EndedCheck:
    name, command = step
    started = time.monotonic()
    # On a leash: whoever kills this run, CI at its time limit for one, means the tests and their brokers too.
    leashed = [sys.executable, "-I", "-S", leash.__file__, str(os.getpid()), *command]
    done = subprocess.run(
        leashed,
        cwd=PROJECT_ROOT, check=False, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE if hold else None, stderr=subprocess.STDOUT if hold else None,
    )  # fmt: skip
    code = done.returncode
    say(f"{name}: {'passed' if code == 0 else f'failed (exit code {code})'} in {time.monotonic() - started:.0f} s")
    return EndedCheck(name=name, code=code, words=(done.stdout or b"").decode(errors="replace"))


def _sum_up(ended: Sequence[EndedCheck]) -> int:
    failed = [check for check in ended if check.code != 0]
    for check in failed:
        if check.words:
            say(f"{check.name} said:\n{check.words.rstrip()}")
    if failed:
        say(f"failed: {', '.join(check.name for check in failed)}")
    return 1 if failed else 0
