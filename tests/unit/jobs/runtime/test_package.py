"""The package as one file: an interpreter that has our dependencies and none of our code runs jobs from it."""

import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from thalweg.cli.pyfiles_command import pyfiles
from thalweg.jobs.runtime.package import give_to_executors, write_package

PROGRAM = """
import sys
sys.path[:0] = [{package!r}, {dependencies!r}]
from thalweg.conf.environment import TELEMETRY_RULES
from thalweg.jobs import maintain, observe, place, replicate
from thalweg.jobs.placement import pack_regions
from thalweg.streams.telemetry.parse import PARSED
from thalweg.streams.telemetry.rules import load_rules
print(len(load_rules(TELEMETRY_RULES, PARSED.names, {{"future_limit_ms": 1}})))
print({{module.__file__.partition(".zip")[0] for name, module in sys.modules.items() if name.startswith("thalweg")}})
"""


def run_alone(program: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    """Run a program where the tree is not on the path: without site-packages' .pth files, and from elsewhere."""
    command = [sys.executable, "-I", "-S", "-c", program]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=120)


def test_jobs_and_their_rules_come_from_the_file_alone(tmp_path: Path) -> None:
    packages = sysconfig.get_path("purelib")
    alone = f"import sys; sys.path.append({packages!r}); import thalweg"
    assert "ModuleNotFoundError" in run_alone(alone, tmp_path).stderr, "the test would find the tree"
    package = str(write_package(tmp_path / "thalweg.zip"))
    told = run_alone(PROGRAM.format(package=package, dependencies=packages), tmp_path)
    assert told.returncode == 0, told.stderr
    rules, origins = told.stdout.splitlines()
    assert int(rules) > 5
    assert origins == str({package.removesuffix(".zip")})


def test_the_same_code_makes_the_same_file(tmp_path: Path) -> None:
    first, second = write_package(tmp_path / "1.zip"), write_package(tmp_path / "2.zip")
    assert first.read_bytes() == second.read_bytes()
    names = zipfile.ZipFile(first).namelist()
    assert len(names) == len(set(names)) and "thalweg/conf/jars/jars.lock" in names
    assert not [name for name in names if "__pycache__" in name or name.startswith("thalweg/cli/")]


@pytest.mark.parametrize(("name", "words"), [("out.whl", "ends in .zip"), ("no/such/folder/out.zip", "No such file")])
def test_a_file_that_spark_or_the_disk_would_not_take_is_refused(name: str, words: str, tmp_path: Path) -> None:
    refused = CliRunner().invoke(pyfiles, [str(tmp_path / name)])
    assert refused.exit_code == 2 and words in refused.output


@pytest.mark.parametrize(("master", "given"), [("spark://host:7077", 1), ("local[2]", 0), ("local", 0), (None, 1)])
def test_executors_elsewhere_are_given_the_package_and_those_of_this_process_are_not(
    tmp_path: Path, master: str | None, given: int
) -> None:
    files: list[str] = []
    context: Any = SimpleNamespace(master=master, addPyFile=files.append)
    give_to_executors(context, tmp_path)
    assert len(files) == given
    for file in files:
        assert "thalweg/__init__.py" in zipfile.ZipFile(file).namelist()
