"""Which tests execute which lines: made once, folder of tests by folder of tests, and gone on with after a stop."""

import ast
import json
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from thalweg.benchmarks.mutants.sampling import ROOMS

FOLDERS: Final = (
    "tests/unit/scheduling",
    "tests/unit/streams",
    "tests/unit/sync/protocol",
    "tests/unit/sync/centre",
    "tests/unit/sync/replica",
    "tests/unit/sync/delta",
    "tests/unit/sync/ledger",
    "tests/unit/sync/tables",
    "tests/unit/thalweg/agent",
    "tests/unit/jobs",
    "tests/contracts",
    "tests/properties/test_*.py",
    "tests/unit/sync/proof",
    "tests/unit/thalweg/edge",
    "tests/unit/thalweg/client",
    "tests/unit/thalweg/audit",
    "tests/unit/thalweg/federation",
    "tests/unit/thalweg/window",
    "tests/unit/cli",
)
"""Tests that need neither broker nor Spark, but for some that are left out one by one; the nearest first. A pattern
stands for the files that fit it, each traced in a process of its own."""
OPTIONS: Final = (
    "-q",
    "-p",
    "no:cacheprovider",
    "--hypothesis-seed=0",
    "-m",
    "not spark and not acceptance and not benchmark",
)
_TRACING: Final = Path(__file__).with_name("tracing.py")


@dataclass(slots=True)
class CoverageMap:
    """Tests with what they take, and the tests of each line."""

    seconds: dict[str, float] = field(default_factory=dict)
    lines: dict[str, dict[int, set[str]]] = field(default_factory=dict)
    """Path → line → tests."""
    failed: set[str] = field(default_factory=set)
    """Tests that fail without any mistake; never asked."""

    def add(self, part: Mapping[str, object]) -> None:
        """Take in what one run of `tracing.py` has written."""
        tests: Sequence[tuple[str, float]] = part["tests"]  # type: ignore[assignment]
        files: Mapping[str, Mapping[str, Sequence[int]]] = part["files"]  # type: ignore[assignment]
        self.seconds |= dict(tests)
        self.failed |= set(part["failed"])  # type: ignore[call-overload]
        for path, lines in files.items():
            known = self.lines.setdefault(path, {})
            for line, numbers in lines.items():
                known.setdefault(int(line), set()).update(tests[number][0] for number in numbers)

    def tests_of(self, path: str, line: int, root: Path) -> list[str]:
        """Name the tests that execute a line, the fastest first.

        What runs at import belongs to nobody (or to the test that imports it first), and compiled code leaves no trace:
        there it is every test that executes any line of the module, else of a module that imports it.
        """
        source = (root / path).read_text(encoding="utf-8")
        of_file = self.lines.get(path, {})
        called_at_import = line in of_file and not of_file[line]
        at_import = called_at_import or line not in in_functions(source)
        found = set() if at_import else of_file.get(line, set())
        is_compiled = "scheduling.compiled" in source
        if not found and (at_import or is_compiled):
            found = set().union(*of_file.values())
        if not found and is_compiled:
            found = set().union(
                *(tests for user in users_of(path, root) for tests in self.lines.get(user, {}).values())
            )
        return sorted(found, key=lambda test: (self.seconds[test], test))


def in_functions(source: str) -> set[int]:
    """Number the lines that lie in bodies of functions: the others are executed when the module is imported."""
    functions = [
        node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    return {line for one in functions for line in range(one.body[0].lineno, (one.end_lineno or one.lineno) + 1)}


def users_of(path: str, root: Path) -> list[str]:
    """List the product's modules that import one."""
    package, _, name = path.removesuffix(".py").replace("/", ".").rpartition(".")
    package = f"thalweg.{package.removeprefix('thalweg.')}"
    wanted = re.compile(rf"from {re.escape(package)}\.{name} import|from {re.escape(package)} import [^\n]*\b{name}\b")
    folders = [root / folder for folder in ROOMS.values()]
    files = sorted(file for folder in folders for file in folder.rglob("*.py"))
    return [file.relative_to(root).as_posix() for file in files if wanted.search(file.read_text(encoding="utf-8"))]


def read_map(folder: Path) -> CoverageMap:
    """Read what is there of the map."""
    whole = CoverageMap()
    for part in sorted(folder.glob("*.json")):
        whole.add(json.loads(part.read_text(encoding="utf-8")))
    return whole


def make_map(root: Path, folder: Path, say: Callable[[str], None], only: Sequence[str] = FOLDERS) -> None:
    """Make the parts that are not there yet.

    Args:
        root: of the tree.
        folder: for the parts.
        say: told what is done.
        only: folders of tests, or patterns of such.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for tests in (path.relative_to(root).as_posix() for pattern in only for path in sorted(root.glob(pattern))):
        part = folder / f"{tests.replace('/', '-')}.json"
        if part.exists():
            continue
        say(f"tracing {tests}")
        draft = part.with_suffix(".new")
        command = [sys.executable, str(_TRACING), str(draft), *ROOMS.values(), "--", *OPTIONS, tests]
        subprocess.run(command, cwd=root, check=False, stdout=subprocess.DEVNULL)
        if draft.exists():
            draft.replace(part)
        else:
            say(f"{tests}: the run left nothing behind")
