"""``./run test``: every check there is. The lint steps first, since they take seconds, and pytest's words last.

``./run lint`` is those first steps alone: what a commit must pass (.pre-commit-config.yaml), and CI after it.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

from thalweg.bootstrap.progress import say
from thalweg.conf.environment import PROJECT_ROOT
from thalweg.processes import leash

Step = tuple[str, list[str]]
"""A check's name and command, to be run in the project's root."""


def lint_steps() -> list[Step]:
    """Return the checks that read the code and run none of it."""
    programs = Path(sys.prefix) / "bin"
    return [
        ("ruff check", [str(programs / "ruff"), "check"]),
        ("ruff format", [str(programs / "ruff"), "format", "--check", "--quiet"]),
        ("mypy", [str(programs / "mypy")]),
        ("import contract", [str(programs / "lint-imports")]),
    ]


def steps(pytest_arguments: list[str]) -> list[Step]:
    """Return every check."""
    return [
        *lint_steps(),
        ("pytest", [sys.executable, "-m", "pytest", *pytest_arguments]),
    ]


def run_all(pytest_arguments: list[str]) -> int:
    """Run every check, whatever the earlier ones said; return 0 if all passed."""
    return run_steps(steps(pytest_arguments))


def run_steps(wanted: list[Step]) -> int:
    """Run these checks, whatever the earlier ones said; return 0 if all passed."""
    failed = []
    for name, command in wanted:
        started = time.monotonic()
        # On a leash: whoever kills this run, CI at its time limit for one, means the tests and their brokers too.
        leashed = [sys.executable, "-I", "-S", leash.__file__, str(os.getpid()), *command]
        code = subprocess.run(leashed, cwd=PROJECT_ROOT, check=False, stdin=subprocess.DEVNULL).returncode
        say(f"{name}: {'passed' if code == 0 else f'failed (exit code {code})'} in {time.monotonic() - started:.0f} s")
        if code != 0:
            failed.append(name)
    if failed:
        say(f"failed: {', '.join(failed)}")
    return 1 if failed else 0
