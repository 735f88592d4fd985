"""Flower in an environment of its own, .venv/flower, and the tests that need it: what ``./run test-flower`` runs.

`flwr` holds back packages that `thalweg[plane]` has newer (docs/decisions/0203). So it has its own lock, of
`thalweg[flower]` and pytest, and lies where remaking .venv removes it.
"""

import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from thalweg.bootstrap import virtualenv
from thalweg.bootstrap.exclusive import exclusive
from thalweg.bootstrap.progress import say
from thalweg.conf.environment import CONF, PROJECT_ROOT, SetupIncompleteError

FOLDER: Final = virtualenv.FOLDER / "flower"
PYTHON: Final = FOLDER / "bin" / "python"
LOCK: Final = CONF / "flower.lock"
STAMP: Final = FOLDER / "thalweg-stamp"
TESTS: Final = (
    "tests/unit/thalweg/flower",
    "tests/contracts/test_flower_grid.py",
    "tests/acceptance/test_flower.py",
)


def main(pytest_arguments: Sequence[str]) -> int:
    """Make the environment what its lock says, and run the tests in it; return their exit code."""
    try:
        ensure()
    except SetupIncompleteError as error:
        say(str(error))
        return 1
    command: list[str | Path] = [PYTHON, "-m", "pytest", *TESTS, *pytest_arguments]
    return subprocess.run(command, cwd=PROJECT_ROOT, stdin=subprocess.DEVNULL, check=False).returncode


def ensure() -> None:
    """Make the environment, unless it is what its lock says.

    Raises:
        SetupIncompleteError: it cannot be done; the message says why and what to do.
    """
    with exclusive(LOCK, lambda: say("another process is preparing .venv/flower; waiting for it")):
        if not _is_ready():
            started = time.monotonic()
            _prepare()
            say(f"Flower's environment is ready ({time.monotonic() - started:.0f} s)")


def wanted_stamp() -> str:
    """Return what the environment depends on: another value asks for another installation."""
    parts = (LOCK.read_bytes(), (PROJECT_ROOT / "pyproject.toml").read_bytes(), str(PROJECT_ROOT).encode())
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def _is_ready() -> bool:
    try:
        return STAMP.read_text(encoding="utf-8") == wanted_stamp() and virtualenv.python_of(FOLDER) is not None
    except OSError:
        return False


def _prepare() -> None:
    uv = virtualenv.pinned_uv()
    if uv is None:
        raise SetupIncompleteError("The pinned uv cannot be installed.", "See conf/installer.lock")
    say("installing the Python packages of conf/flower.lock into .venv/flower")
    STAMP.unlink(missing_ok=True)
    _run([sys.executable, "-m", "venv", "--clear", "--without-pip", FOLDER])
    pip: list[str | Path] = [uv, "pip"]
    more: list[str | Path] = ["--quiet", "--system-certs", "--python", PYTHON]
    _run([*pip, "sync", *more, "--require-hashes", LOCK])
    _run([*pip, "install", *more, "--no-deps", "--no-build-isolation", "--editable", PROJECT_ROOT])
    STAMP.write_text(wanted_stamp(), encoding="utf-8")


def _run(command: Sequence[str | Path]) -> None:
    environ = {**os.environ, **virtualenv.uv_settings()}
    done = subprocess.run(command, env=environ, stdin=subprocess.DEVNULL, stdout=sys.stderr, check=False)
    if done.returncode != 0:
        raise SetupIncompleteError(
            "making .venv/flower failed (its words are above).",
            "Check that the package index can be reached (pip's own settings are used), then run again.",
        )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
