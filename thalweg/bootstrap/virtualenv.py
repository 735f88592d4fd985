"""The Python environment in .venv: made when it is missing, brought in line with the lock when that changed.

Installing goes through uv (pinned by hash, kept in .venv), because it takes 20 s where pip takes minutes; where uv
cannot be had, pip does it from the same lock. A stamp in .venv says what it was last brought in line with.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from thalweg.bootstrap.exclusive import exclusive
from thalweg.bootstrap.pip_settings import uv_environment
from thalweg.bootstrap.progress import say
from thalweg.conf.environment import CONF, MIN_PYTHON, PROJECT_ROOT, REQUIREMENTS_LOCK, SetupIncompleteError

FOLDER = PROJECT_ROOT / ".venv"
PYTHON = FOLDER / "bin" / "python"
STAMP = FOLDER / "thalweg-stamp.json"
# There while packages are being changed: found at the start of a run, it tells that the last one was cut off.
UNFINISHED = FOLDER / "thalweg-unfinished"
INSTALLER_LOCK = CONF / "installer.lock"
INSTALLER = FOLDER / "installer"

Command = Sequence[str | Path]


def ensure() -> None:
    """Make .venv what the lock says; nothing happens when it already is.

    Raises:
        SetupIncompleteError: It cannot be done; the message says why and what to do.
    """
    if is_ready():
        return
    # The lock file itself is the thing to hold: it is there, and no stray file is needed.
    with exclusive(REQUIREMENTS_LOCK, lambda: say("another process is preparing .venv; waiting for it")):
        if not is_ready():
            started = time.monotonic()
            _prepare()
            say(f"the Python environment is ready ({time.monotonic() - started:.0f} s)")


def is_ready() -> bool:
    """Tell whether .venv is whole and in line with the lock."""
    try:
        return not UNFINISHED.exists() and json.loads(STAMP.read_text(encoding="utf-8")) == wanted_stamp()
    except (OSError, ValueError):
        return False


def wanted_stamp() -> dict[str, str]:
    """Return what .venv depends on: another value of any of these asks for another installation."""
    return {
        "requirements": hashlib.sha256(REQUIREMENTS_LOCK.read_bytes()).hexdigest(),
        "project": hashlib.sha256((PROJECT_ROOT / "pyproject.toml").read_bytes()).hexdigest(),
        "folder": str(PROJECT_ROOT),  # a moved clone: scripts and the editable install name the old place
        "python": python_of(FOLDER) or "none",
    }


def python_of(folder: Path) -> str | None:
    """Return the version the environment was made with ("3.11"), or None if it cannot be used any more."""
    try:
        made_with = re.search(r"^version\w* = (\d+\.\d+)", (folder / "pyvenv.cfg").read_text(), re.MULTILINE)
        # A system upgrade replaces the interpreter that the link points to; the packages are still the old version's.
        runs_as = (folder / "bin" / "python").resolve(strict=True).name
    except OSError:
        return None
    if made_with is None or (re.fullmatch(r"python\d\.\d+", runs_as) and runs_as != f"python{made_with.group(1)}"):
        return None
    return made_with.group(1)


def _prepare() -> None:
    _make_folder()
    cut_off = UNFINISHED.exists()
    UNFINISHED.touch()
    STAMP.unlink(missing_ok=True)
    say("installing the Python packages of conf/requirements.lock into .venv")
    uv = pinned_uv()
    if uv is None or not _install_with_uv(uv, everything_again=cut_off):
        _install_with_pip(everything_again=cut_off)
    STAMP.write_text(json.dumps(wanted_stamp(), indent=1), encoding="utf-8")
    UNFINISHED.unlink()


def _make_folder() -> None:
    version = python_of(FOLDER)
    if version is not None and tuple(map(int, version.split("."))) >= MIN_PYTHON:
        return
    if FOLDER.exists() and any(FOLDER.iterdir()) and not (FOLDER / "pyvenv.cfg").exists():
        raise SetupIncompleteError(
            f"{FOLDER} is there but is no Python environment.", f"Move it away: mv {FOLDER} {FOLDER}.old"
        )
    if FOLDER.exists():
        say(f".venv was made with Python {version or 'that is gone'}; making it anew")
        shutil.rmtree(FOLDER)
    base = Path(getattr(sys, "_base_executable", sys.executable))
    # Without pip: Debian's Python makes such an environment even where python3-venv is not installed.
    _run([base, "-m", "venv", "--without-pip", FOLDER], "making .venv failed")


def pinned_uv() -> Path | None:
    """Return the pinned uv, installed first if need be, or None if it cannot be had."""
    uv = INSTALLER / "bin" / "uv"
    pinned = re.search(r"^uv==(\S+)", INSTALLER_LOCK.read_text(encoding="utf-8"), re.MULTILINE)
    assert pinned is not None
    if _output([uv, "--version"]).startswith(f"uv {pinned.group(1)}"):
        return uv
    shutil.rmtree(INSTALLER, ignore_errors=True)
    try:
        install_beside(INSTALLER_LOCK, INSTALLER)
    except SetupIncompleteError:
        say("uv cannot be installed here; pip will do its work, more slowly")
        return None
    return uv


def uv_settings() -> dict[str, str]:
    """Return, as environment variables of uv, what pip is configured to use."""
    return uv_environment(_output([*_pip(), "config", "list"]))


def _install_with_uv(uv: Path, *, everything_again: bool) -> bool:
    environ = {**os.environ, **uv_settings(), "VIRTUAL_ENV": str(FOLDER)}
    # --system-certs: a machine behind its own certificate authority has it in the system's store.
    sync: list[str | Path] = [uv, "pip", "sync", "--system-certs", "--require-hashes", REQUIREMENTS_LOCK]
    if everything_again:  # a package may be half there and look installed
        sync.append("--reinstall")
    project: list[str | Path] = [uv, "pip", "install", "--quiet", "--system-certs", "--no-deps", "--no-build-isolation"]
    if _succeeds(sync, environ) and _succeeds([*project, "--editable", PROJECT_ROOT], environ):
        return True
    say("uv failed (its words are above); trying pip with the same lock")
    return False


def _install_with_pip(*, everything_again: bool) -> None:
    install = [*_pip(), "install", "--quiet", "--no-input"]
    force = ["--force-reinstall"] if everything_again else []
    _run([*install, *force, "--require-hashes", "-r", REQUIREMENTS_LOCK], "pip could not install the packages")
    project = [*install, "--no-deps", "--no-build-isolation", "--editable", PROJECT_ROOT]
    _run(project, "pip could not install the project")


def install_beside(lock: Path, target: Path, *, python: Path = PYTHON) -> None:
    """Install the packages of a small lock into a folder of their own, which bringing .venv in line leaves alone.

    Args:
        lock: What to install, with hashes.
        target: The folder.
        python: For whom: decides which wheels fit.

    Raises:
        SetupIncompleteError: It failed; the installer's own words were shown.
    """
    command = [*_pip(python), "install", "--quiet", "--no-input", "--no-deps", "--target", target, "--require-hashes"]
    _run([*command, "-r", lock], f"installing conf/{lock.name} failed")


def _pip(python: Path = PYTHON) -> list[str | Path]:
    """Return a pip that installs for a Python: the base Python's, else the one ensurepip puts beside it."""
    base = Path(getattr(sys, "_base_executable", sys.executable))
    quiet = ["--disable-pip-version-check"]
    if _output([base, "-m", "pip", "--version"]):
        return [base, "-m", "pip", "--python", python, *quiet]
    if _output([python, "-m", "pip", "--version"]) or _succeeds([python, "-m", "ensurepip", "--default-pip"]):
        return [python, "-m", "pip", *quiet]
    raise SetupIncompleteError(
        f"{base} has neither pip nor ensurepip.", "Install pip (Debian, Ubuntu: apt-get install python3-pip)."
    )


def _output(command: Command) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    except OSError:
        return ""
    return done.stdout if done.returncode == 0 else ""


def _succeeds(command: Command, environ: Mapping[str, str] | None = None) -> bool:
    # Installers may talk, but not on our standard output, which is the command's.
    return (
        subprocess.run(command, env=environ, stdout=sys.stderr, stdin=subprocess.DEVNULL, check=False).returncode == 0
    )


def _run(command: Command, failure: str) -> None:
    if not _succeeds(command):
        raise SetupIncompleteError(
            f"{failure} (its words are above).",
            "Check that the package index can be reached (pip's own settings are used), then run again.",
        )
