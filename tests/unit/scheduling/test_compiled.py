"""Machine code that is kept between processes must never be the reason why one fails."""

import subprocess
import sys
from pathlib import Path

import pytest

from thalweg.scheduling.compiled import compiles

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
        env={"PYTHONPATH": f"{folder}:{Path(__file__).parents[3]}", "PATH": "", "HOME": str(folder)},
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
