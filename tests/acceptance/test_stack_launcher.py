"""``./run`` from nothing: a copy of the launcher with a lock of two packages, so that each installation takes seconds.

The jars come from the user's cache as always; packages come from the package index, as they do for a newcomer.
"""

import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.patience import PATIENCE_S
from thalweg.bootstrap.jars import ensure_jars
from thalweg.conf.environment import JAR_LOCK, PROJECT_ROOT, REQUIREMENTS_LOCK, cache_folder, find_java

pytestmark = pytest.mark.acceptance

CLI = """
import sys
def main():
    import click
    print("click", sys.argv[1:])
if __name__ == "__main__":
    main()
"""
PYPROJECT = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
[project]
name = "thalweg"
version = "0"
[tool.setuptools]
packages = ["thalweg", "thalweg.bootstrap", "thalweg.cli", "thalweg.conf", "thalweg.processes"]
"""


def locked(*names: str) -> str:
    """Return these packages' entries of the real lock."""
    entries = re.findall(r"^(?:\S.*(?:\n    .*)*)", REQUIREMENTS_LOCK.read_text(), re.MULTILINE)
    return "\n".join(entry for entry in entries if entry.split("==")[0] in names) + "\n"


class Clone:
    """A small project with the real launcher, and a user who has nothing but the jars."""

    def __init__(self, folder: Path, downloads: Path) -> None:
        ensure_jars(find_java())
        self.root = folder / "a clone"  # a path with a blank
        for part in (
            "conf/environment.py",
            "conf/installer.lock",
            "conf/java.lock",
            "run",
            "thalweg/processes/leash.py",
        ):
            self._copy(part)
        for source in (PROJECT_ROOT / "thalweg" / "bootstrap").glob("*.py"):
            self._copy(str(source.relative_to(PROJECT_ROOT)))
        (self.root / "conf" / "jars").mkdir()
        shutil.copy(JAR_LOCK, self.root / "conf" / "jars")
        (self.root / "thalweg" / "conf").symlink_to("../conf")
        (self.root / "thalweg" / "cli").mkdir()
        for package in ("conf", "thalweg", "thalweg/cli", "thalweg/processes"):
            (self.root / package / "__init__.py").touch()
        (self.root / "thalweg" / "cli" / "main.py").write_text(CLI)
        (self.root / "pyproject.toml").write_text(PYPROJECT)
        self.lock = self.root / "conf" / "requirements.lock"
        self.lock.write_text(locked("click", "setuptools"))
        home = folder / "home"
        home.mkdir()
        pip = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_CERT", "UV_"))}
        self.environ = {
            "HOME": str(home),
            "PATH": "/usr/bin:/bin",
            "THALWEG_CACHE": str(cache_folder()),
            "XDG_CACHE_HOME": str(downloads),
            **pip,
        }

    def _copy(self, part: str) -> None:
        (self.root / part).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PROJECT_ROOT / part, self.root / part)

    def start(self, *arguments: str, program: Path | None = None) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [program or self.root / "run", *arguments],
            env=self.environ,
            cwd="/",
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def run(self, *arguments: str, program: Path | None = None) -> "subprocess.CompletedProcess[str]":
        process = self.start(*arguments, program=program)
        out, err = process.communicate(timeout=PATIENCE_S)
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)


@pytest.fixture(scope="module")
def downloads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give pip and uv one cache for all these tests: the first one downloads."""
    return tmp_path_factory.mktemp("downloads")


@pytest.fixture
def clone(tmp_path: Path, downloads: Path) -> Clone:
    return Clone(tmp_path, downloads)


def test_the_first_run_prepares_and_the_second_does_nothing(clone: Clone, tmp_path: Path) -> None:
    first = clone.run("ps", "--json")
    assert (first.returncode, first.stdout) == (0, "click ['ps', '--json']\n"), first.stderr
    assert "the Python environment is ready" in first.stderr
    (tmp_path / "link").symlink_to(clone.root / "run")
    started = time.monotonic()
    second = clone.run("down", program=tmp_path / "link")
    assert (second.returncode, second.stdout, second.stderr) == (0, "click ['down']\n", "")
    assert time.monotonic() - started < 5  # a bound for a crowded machine; docs/how-to/operations.md has the figure


def test_a_changed_lock_is_followed_and_a_moved_clone_repaired(clone: Clone) -> None:
    assert clone.run().returncode == 0
    clone.lock.write_text(locked("click", "setuptools", "iniconfig"))
    assert clone.run().returncode == 0
    packages = clone.root / ".venv" / "lib"
    assert list(packages.glob("*/site-packages/iniconfig"))
    clone.lock.write_text(locked("click", "setuptools"))
    clone.root = clone.root.rename(clone.root.with_name("moved"))
    assert clone.run().returncode == 0
    assert not list((clone.root / ".venv" / "lib").glob("*/site-packages/iniconfig"))
    script = (clone.root / ".venv" / "bin" / "python").absolute()
    where = subprocess.run(
        [script, "-P", "-c", "import thalweg; print(thalweg.__file__)"],
        capture_output=True,
        text=True,
        cwd="/",
        check=True,
    )
    assert where.stdout.startswith(str(clone.root))


def test_a_kill_in_the_middle_is_repaired_by_the_next_run(clone: Clone) -> None:
    process = clone.start()
    deadline = time.monotonic() + PATIENCE_S
    while not (clone.root / ".venv" / "thalweg-unfinished").exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    time.sleep(0.5)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (clone.root / ".venv" / "thalweg-stamp.json").exists()
    repaired = clone.run()
    assert (repaired.returncode, repaired.stdout) == (0, "click []\n"), repaired.stderr


def test_two_first_runs_at_once_both_succeed_and_one_prepares(clone: Clone) -> None:
    both = [clone.start(), clone.start()]
    told = [process.communicate(timeout=PATIENCE_S) for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    assert sorted("environment is ready" in err for _, err in told) == [False, True]
    assert any("another process is preparing .venv" in err for _, err in told)


def test_a_package_that_differs_from_its_hash_is_refused(clone: Clone) -> None:
    clone.lock.write_text(re.sub(r"sha256:[0-9a-f]{8}", "sha256:00000000", clone.lock.read_text()))
    refused = clone.run()
    assert refused.returncode == 1
    assert "pip could not install the packages" in refused.stderr
    assert not (clone.root / ".venv" / "thalweg-stamp.json").exists()


def test_without_uv_pip_does_it(clone: Clone) -> None:
    (clone.root / "conf" / "installer.lock").write_text("uv==0.0.1 --hash=sha256:" + "0" * 64 + "\n")
    slow = clone.run()
    assert (slow.returncode, slow.stdout) == (0, "click []\n"), slow.stderr
    assert "pip will do its work" in slow.stderr


def test_a_folder_in_the_place_of_the_environment_is_refused_and_left_alone(clone: Clone) -> None:
    (clone.root / ".venv").mkdir()
    (clone.root / ".venv" / "notes.txt").touch()
    refused = clone.run()
    assert refused.returncode == 1
    assert "is there but is no Python environment" in refused.stderr
    assert [entry.name for entry in (clone.root / ".venv").iterdir()] == ["notes.txt"]


def test_no_python_is_said_in_words(clone: Clone, tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("dirname", "readlink", "sh"):
        (tools / name).symlink_to(shutil.which(name) or "")
    clone.environ["PATH"] = str(tools)
    refused = clone.run()
    assert refused.returncode == 1
    assert "no Python 3.11 or newer found on PATH" in refused.stderr
