"""Build the wheel, install it where nothing of the tree is, and use it: ``python -m thalweg.bootstrap.try_wheel``.

What a newcomer gets from `pip install` is another thing than the tree: files that are not packed, paths that only exist
beside the sources, packages that only developers have. So CI uses it as a newcomer does, in an environment of its own
with nothing of this process's but the caches: the client alone, then the whole plane with a short demo.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path

from thalweg.bootstrap import virtualenv
from thalweg.bootstrap.progress import say
from thalweg.conf.environment import CONF, PROJECT_ROOT, REQUIREMENTS_LOCK, SetupIncompleteError, cache_folder

DEMO = ("demo", "--seconds", "8", "--rate", "20", "--regions", "2", "--headless", "--json")

PATIENCE_S = 1_200.0
"""Bounds a standstill of a command, and not its speed, on whatever machine."""

_MACHINE = ("JAVA_HOME", "THALWEG_JAVA", "THALWEG_IVY_SETTINGS")
"""What a newcomer's shell may say of the machine, and not of the tree."""


class WheelUnusableError(Exception):
    """The wheel lacks something, or a command of it does not do what it should."""


def main() -> int:
    """Build, install and use it; return the exit code."""
    with tempfile.TemporaryDirectory(prefix="thalweg-wheel-", ignore_cleanup_errors=True) as scratch:
        try:
            wheel = build(copy_of_the_tree(Path(scratch) / "tree"), Path(scratch))
            if missing := sorted(files_of_the_tree() - files_of_the_wheel(wheel)):
                raise WheelUnusableError(f"not packed: {', '.join(missing[:10])} (pyproject.toml: package-data)")
            _try_client(install(wheel, Path(scratch) / "client"))
            _try_plane(install(wheel, Path(scratch) / "plane", extra="[plane]"))
        except (WheelUnusableError, SetupIncompleteError) as error:
            say(str(error))
            return 1
    return 0


def copy_of_the_tree(folder: Path) -> Path:
    """Copy the project, so that a build neither finds what an older one left nor leaves anything."""
    made = shutil.ignore_patterns(".*", "__pycache__", "build", "*.egg-info")
    return Path(shutil.copytree(PROJECT_ROOT, folder, symlinks=True, ignore=made))


def build(tree: Path, folder: Path) -> Path:
    """Build the wheel from the tree, and by way of the source distribution; return the latter, which is the same.

    Raises:
        WheelUnusableError: it is another.
    """
    command = [*_uv(), "build", "--quiet", "--no-build-isolation", "--python", sys.executable]
    _run([*command, "--wheel", "--out-dir", folder / "direct", tree])
    _run([*command, "--out-dir", folder / "dist", tree])  # builds the wheel from the source distribution alone
    (direct,), (wheel,) = (folder / "direct").glob("*.whl"), (folder / "dist").glob("*.whl")
    if different := sorted(files_of_the_wheel(direct) ^ files_of_the_wheel(wheel)):
        raise WheelUnusableError(f"only in one of the tree's wheel and its source's: {', '.join(different[:10])}")
    return wheel


def files_of_the_tree() -> set[str]:
    """Name what the rooms hold that a running program may want: modules, and the data beside the settings."""
    root = PROJECT_ROOT / "thalweg"
    rooms = [root, *(room for room in root.iterdir() if room.is_symlink())]
    modules = {file for room in rooms for file in room.rglob("*.py")}
    data = {root / "conf" / file.relative_to(CONF) for file in CONF.rglob("*.*") if file.is_file()}
    wanted = modules | {root / "py.typed"} | {file for file in data if "__pycache__" not in file.parts}
    return {f"thalweg/{file.relative_to(root)}" for file in wanted}


def files_of_the_wheel(wheel: Path) -> set[str]:
    """Name what is in a wheel."""
    with zipfile.ZipFile(wheel) as packed:
        return set(packed.namelist())


def install(wheel: Path, folder: Path, extra: str = "") -> Path:
    """Install the wheel into an environment of its own, at the locked versions; return its command."""
    started = time.monotonic()
    _run([sys.executable, "-m", "venv", "--without-pip", folder])
    versions = folder / "constraints.txt"
    versions.write_text("\n".join(re.findall(r"^\S+==\S+(?: ;.*?)?(?= \\?$)", _lock(), re.MULTILINE)), encoding="utf-8")
    pip = [*_uv(), "pip", "install", "--quiet", "--system-certs", "--python", folder / "bin" / "python"]
    if extra:
        # It comes as source. Asked for by its hash, uv takes what it built for the clone; else it builds for a minute.
        (pyspark,) = re.findall(r"^pyspark==.*?(?=^\S|\Z)", _lock(), re.MULTILINE | re.DOTALL)
        built = folder / "pyspark.txt"
        built.write_text(pyspark, encoding="utf-8")
        _run([*pip, "--no-deps", "--require-hashes", "--requirement", built])
    _run([*pip, "--constraint", versions, f"thalweg{extra} @ {wheel.as_uri()}"])
    size_mb = sum(file.stat().st_blocks * 512 for file in folder.rglob("*") if not file.is_symlink()) / 2**20
    say(f"thalweg{extra} installed in {time.monotonic() - started:.0f} s, {size_mb:.0f} MB")
    return folder / "bin" / "thalweg"


def _try_client(thalweg: Path) -> None:
    for arguments in (
        ["--version"],
        ["--help"],
        ["tables", "tasks"],
        ["topics"],
        ["pyfiles", "thalweg.zip"],
        ["doctor"],
    ):
        told(thalweg, *arguments)
    for arguments in (["plan", "--problem", "-"], ["demo"], ["up"]):
        refused = call(thalweg, *arguments)
        if refused.returncode != 2 or "thalweg[plane]" not in refused.stderr or "Traceback" in refused.stderr:
            raise WheelUnusableError(f"thalweg {arguments[0]} should say what to install, said: {refused.stderr}")


def _try_plane(thalweg: Path) -> None:
    before = _packed(thalweg)
    told(thalweg, "doctor")
    outcome = json.loads(told(thalweg, *DEMO))
    if not outcome["ok"]:
        raise WheelUnusableError(f"the demo from the wheel is not ok: {outcome}")
    if written := sorted(_packed(thalweg) - before):
        raise WheelUnusableError(f"written beside the code: {', '.join(map(str, written[:10]))}")
    say(f"demo from the wheel: ok, {outcome.get('tasks_submitted', '?')} tasks")


def _packed(thalweg: Path) -> set[Path]:
    # Byte code and machine code are caches of the code itself; pip removes them with it.
    (package,) = thalweg.parent.parent.glob("lib/python*/site-packages/thalweg")
    return {file for file in package.rglob("*") if "__pycache__" not in file.parts}


def told(thalweg: Path, *arguments: str) -> str:
    """Run a command that must succeed; return its standard output."""
    done = call(thalweg, *arguments)
    if done.returncode != 0:
        said = (done.stdout + done.stderr)[-3_000:]
        raise WheelUnusableError(f"thalweg {' '.join(arguments)} ended with {done.returncode}: {said}")
    return done.stdout


def call(thalweg: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run a command of the installed wheel as a newcomer would: nothing of ours in the environment but the caches."""
    home = thalweg.parent.parent / "home"
    home.mkdir(exist_ok=True)
    kept = {name: os.environ[name] for name in _MACHINE if name in os.environ}
    environ = {"HOME": str(home), "PATH": os.defpath, "THALWEG_CACHE": str(cache_folder()), **kept}
    try:
        return subprocess.run(
            [thalweg, *arguments],
            env=environ, cwd=home, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
            timeout=PATIENCE_S,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        said = (error.stderr or b"").decode(errors="replace")[-3_000:]
        raise WheelUnusableError(f"thalweg {' '.join(arguments)} ran for {PATIENCE_S:.0f} s and said: {said}") from None


def _lock() -> str:
    return REQUIREMENTS_LOCK.read_text(encoding="utf-8")


def _uv() -> list[str | Path]:
    uv = virtualenv.pinned_uv()
    if uv is None:
        raise SetupIncompleteError("The pinned uv cannot be installed.", "See conf/installer.lock")
    return [uv]


def _run(command: Sequence[str | Path]) -> None:
    environ = {**os.environ, **virtualenv.uv_settings()}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise WheelUnusableError(f"{' '.join(map(str, command))} failed: {(done.stdout + done.stderr)[-3_000:]}")


if __name__ == "__main__":
    sys.exit(main())
