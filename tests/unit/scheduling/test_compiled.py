"""Machine code that is kept between processes must never be the reason why one fails."""

import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

from thalweg.scheduling.compiled import compiles, telling

ROOT = Path(__file__).parents[3]
MODULE = """
from typing import NamedTuple
from thalweg.scheduling.compiled import compiled, compiles

class {name}(NamedTuple):
    value: int

@compiled
def doubled(pair):
    return pair.value * 2

compiles()
print(doubled({name}(21)))
"""


def run(folder: Path, name: str) -> str:
    (folder / "kernels_of_a_test.py").write_text(MODULE.format(name=name), "utf-8")
    done = subprocess.run(
        [sys.executable, "-c", "import kernels_of_a_test"],
        env={"PYTHONPATH": f"{folder}:{ROOT}", "PATH": "", "HOME": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.skipif(not compiles(), reason="numba cannot compile here: nothing is kept")
def test_machine_code_kept_by_a_version_that_named_a_type_otherwise_is_made_anew(tmp_path: Path) -> None:
    assert run(tmp_path, "Pair") == "42"
    assert list(tmp_path.rglob("*.nbi")), "it is kept"
    assert run(tmp_path, "Couple") == "42"


ROOM = """
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from thalweg.scheduling import compiled

compiled._KERNELS = Path(__file__).parent
from room_callee import base
from thalweg.scheduling.compiled import compiled as kernel

@kernel
def raised(value):
    return base(value) + 1

compiled.compiles()
print(raised(20))
"""
CALLEE = """
from thalweg.scheduling.compiled import compiled

@compiled
def base(value):
    return value * {factor}
"""


@pytest.mark.skipif(not compiles(), reason="numba cannot compile here: nothing is kept")
def test_machine_code_is_kept_by_what_the_room_says_wherever_it_lies(tmp_path: Path) -> None:
    def raised(folder: str, factor: int) -> str:
        room = tmp_path / folder
        room.mkdir(exist_ok=True)
        (room / "room_caller.py").write_text(ROOM, "utf-8")
        (room / "room_callee.py").write_text(CALLEE.format(factor=factor), "utf-8")
        done = subprocess.run(
            [sys.executable, "-c", "import room_caller"],
            env={
                "PYTHONPATH": f"{room}:{Path(__file__).parents[3]}",
                "PATH": "",
                "THALWEG_CACHE": str(tmp_path / "kept"),
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def kept() -> dict[Path, int]:
        return {file: file.stat().st_mtime_ns for file in (tmp_path / "kept").rglob("*.nbc")}

    assert raised("one", 2) == "41"
    first = kept()
    assert first, "it is kept"
    assert raised("another clone", 2) == "41"
    assert kept() == first, "and found by another clone"
    assert raised("one", 3) == "61", "the caller's file is the same, and what it calls is not"
    assert not list((tmp_path / "one").rglob("*.nbi"))


_TRIPLED = """
from thalweg.scheduling.compiled import compiled

@compiled
def tripled(value):
    return value * 3
"""


@pytest.mark.skipif(not compiles(), reason="numba cannot compile here: nothing is told")
def test_what_is_compiled_is_told_as_it_begins(tmp_path: Path) -> None:
    told: list[str] = []
    (tmp_path / "kernel.py").write_text(_TRIPLED)  # a new file: a run before this one has kept no machine code of it
    spec = spec_from_file_location("kernel", tmp_path / "kernel.py")
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    compiles()  # the kernel above is younger than the last time somebody asked
    with telling(told.append):
        assert module.tripled(2) == 6
    assert module.tripled(2.0) == 6.0  # compiled again, and told nobody
    assert told.count("tripled") == 1
