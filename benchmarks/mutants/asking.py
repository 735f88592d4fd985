"""Which tests are asked about a mistake, in which order, and what they say."""

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from thalweg.benchmarks.mutants.coverage_map import CoverageMap
from thalweg.benchmarks.mutants.mutations import Mutation
from thalweg.benchmarks.mutants.record import FOUND, SURVIVED, UNREACHED, Entry
from thalweg.benchmarks.mutants.trial import FIRST_S, TreeCopy, Tried, nearest, within

FOREIGN_S: Final = 60.0
"""What a test may take that the map does not know."""


@dataclass(frozen=True, slots=True)
class Passed:
    """Notes of tests that ran with a mistake and did not notice it, so that a longer look begins where one ended."""

    folder: Path
    version: str
    """Of the tree: its tests may say something else in another one."""

    @classmethod
    def of_tree(cls, root: Path, folder: Path) -> "Passed":
        """Open the notes of a tree."""
        version = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=True)
        return cls(folder, version.stdout.strip())

    def read(self, entry: Entry) -> set[str]:
        """Name the tests that passed with a mistake."""
        file = self._file(entry)
        known = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        return set(known["tests"]) if known.get("of") == self._of(entry) else set()

    def add(self, entry: Entry, tests: Sequence[str]) -> None:
        """Note more of them."""
        self.folder.mkdir(parents=True, exist_ok=True)
        document = {"of": self._of(entry), "tests": sorted(self.read(entry) | set(tests))}
        self._file(entry).write_text(json.dumps(document), encoding="utf-8")

    def _file(self, entry: Entry) -> Path:
        return self.folder / f"{entry.number}.json"

    def _of(self, entry: Entry) -> list[str]:
        return [self.version, entry.path, entry.text, entry.before, entry.after]


def ask(
    copy: TreeCopy, entry: Entry, mutation: Mutation, covered: CoverageMap, passed: Passed, most_s: float
) -> dict[str, Any]:
    """Ask the tests that execute a mistake's line and have not passed with it yet: the nearest, then the fastest.

    Returns:
        What changes in the record's entry.
    """
    every = covered.tests_of(entry.path, mutation.line, copy.root)
    known = passed.read(entry)
    tests = within([test for test in every if test not in known], covered.seconds, most_s)
    if not every:
        return {"outcome": UNREACHED, "seconds": 0.0}
    near = within(nearest(tests, entry.path), covered.seconds, FIRST_S)
    others = [test for test in tests if test not in set(near)]
    whole = Tried(found=False, by="", seconds=entry.seconds, ran=entry.ran)
    with copy.with_mistake(entry.path, mutation):
        for group in filter(None, (near, others)):
            tried = copy.run(group, expected_s(group, covered.seconds))
            whole = replace(tried, seconds=round(whole.seconds + tried.seconds, 2), ran=whole.ran + tried.ran)
            if whole.found:
                break
            passed.add(entry, group)
    if whole.found:
        return {"outcome": FOUND, "by": whole.by, "seconds": whole.seconds, "ran": whole.ran, "left_out": 0}
    left = len(set(every) - passed.read(entry))
    return {"outcome": SURVIVED, "by": "", "seconds": whole.seconds, "ran": whole.ran, "left_out": left}


def ask_these(
    copy: TreeCopy, entry: Entry, mutation: Mutation, tests: Sequence[str], seconds: Mapping[str, float], stage: str
) -> dict[str, Any]:
    """Ask tests that somebody names, some of which may be new.

    Returns:
        What changes in the record's entry.
    """
    with copy.with_mistake(entry.path, mutation):
        tried = copy.run(tests, expected_s(tests, seconds))
    return {"later": tried.by, "later_stage": stage} if tried.found else {"later": "", "later_stage": ""}


def expected_s(tests: Sequence[str], seconds: Mapping[str, float]) -> float:
    """Tell what tests take without a mistake."""
    return sum(seconds.get(test, FOREIGN_S) for test in tests)
