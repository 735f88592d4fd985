"""Try one mistake: put it into a copy of the tree, run the tests that pass there, and take it out again."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import cache_from_source
from pathlib import Path
from typing import Final

import msgspec

from thalweg.benchmarks.mutants.mutations import Mutation

FIRST_S: Final = 10.0
"""Of the nearest tests, which are run before all others."""
MOST_TEST_S: Final = 120.0
"""Of tests for one mistake, by what they take without it; what is left out then is said."""
PATIENCE: Final = 2.0
"""A run that takes so many times as much of the processor as its tests took by the clock without the mistake does not
end: the mistake is found."""
START_CPU_S: Final = 45
"""Of the processor, for imports and some machine code."""
ANEW_CPU_S: Final = 45
"""On top of it, where all machine code is made anew."""
WAITS: Final = 20.0
"""So many times as long it may take by the clock: a crowded machine, and tests that wait."""
OPTIONS: Final = ("-x", "-q", "-p", "no:cacheprovider", "--hypothesis-seed=0", "-m", "not benchmark")
_RUNNER: Final = Path(__file__).with_name("warm_runner.py")
_INTERNAL: Final = frozenset({2, 3, 4, 99})
"""Exit codes of pytest that say nothing of tests: interrupted, broken inside, called wrongly; 99 is our own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """What came of a run of tests."""

    found: bool
    by: str
    """The first test that failed, or why it counts as found."""
    seconds: float
    ran: int


class RunnerAnswer(msgspec.Struct):
    """What the runner says of one run."""

    code: int | None
    """Exit code of pytest; negative where a signal ended it, None where it had to be killed."""
    seconds: float
    failed: str
    """The first test that failed."""
    ran: int


class TreeCopy:
    """A copy of the tree, and a process in it that runs tests again and again."""

    def __init__(self, root: Path, folder: Path) -> None:
        """Copy what version control knows."""
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, check=True).stdout
        self.root = folder / "tree"
        for name in filter(None, listed.decode().split("\0")):
            source, target = root / name, self.root / name
            if source.is_symlink() or source.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, target, follow_symlinks=False)
        (self.root / ".venv").symlink_to(root / ".venv")
        self._kernels = folder / "kernels"
        self._note = folder / "note.json"
        self._runner: subprocess.Popen[str] | None = None

    def close(self) -> None:
        """End the process."""
        if self._runner is not None:
            self._runner.terminate()
            self._runner.wait()
            self._runner = None

    @contextmanager
    def with_mistake(self, path: str, mutation: Mutation) -> Iterator[None]:
        """Put a mistake in for as long as the block lasts."""
        file = self.root / path
        source = file.read_text(encoding="utf-8")
        if may_change_kernels(source):
            self._kernels = self._kernels.with_name("kernels-with-mistake")
        try:
            self._write(file, mutation.apply(source))
            yield
        finally:
            self._write(file, source)
            shutil.rmtree(self._kernels.with_name("kernels-with-mistake"), ignore_errors=True)
            self._kernels = self._kernels.with_name("kernels")

    @staticmethod
    def _write(file: Path, text: str) -> None:
        file.write_text(text, encoding="utf-8")
        # Python takes a compiled file for current by size and second: two mistakes may agree in both.
        Path(cache_from_source(str(file))).unlink(missing_ok=True)

    def run(self, tests: Sequence[str], expected_s: float) -> Tried:
        """Run tests until one fails.

        Args:
            tests: their ids, in this order.
            expected_s: what they take without a mistake.

        Raises:
            RuntimeError: pytest itself did not get on, which says nothing of the mistake.
        """
        shutil.rmtree(self.root / ".hypothesis", ignore_errors=True)  # no example of an earlier mistake
        cpu_s = START_CPU_S + math.ceil(PATIENCE * expected_s) + (0 if self._kernels.exists() else ANEW_CPU_S)
        answer = self._ask(
            {
                "arguments": [*OPTIONS, *tests],
                "seconds": cpu_s * WAITS,
                "cpu_seconds": cpu_s,
                "note": str(self._note),
                "kernels": "" if _look_at_kernels(tests) else str(self._kernels),
            }
        )
        code, failed = answer.code, answer.failed
        if code in _INTERNAL and not failed:
            raise RuntimeError(f"pytest ended with {code}: {Path(f'{self._note}.log').read_text()[-2_000:]}")
        endless = code is None or code in (-signal.SIGXCPU, -signal.SIGKILL)
        by = failed or ("did not end" if endless else f"ended with {code}" if code else "")
        return Tried(found=bool(by), by=by, seconds=answer.seconds, ran=answer.ran)

    def _ask(self, request: dict[str, object]) -> RunnerAnswer:
        if self._runner is None:
            environ = os.environ | {"PYTHONPATH": str(self.root)}
            self._runner = subprocess.Popen(
                [sys.executable, str(_RUNNER)],
                cwd=self.root,
                env=environ,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        assert self._runner.stdin is not None and self._runner.stdout is not None
        self._runner.stdin.write(json.dumps(request) + "\n")
        self._runner.stdin.flush()
        return msgspec.json.decode(self._runner.stdout.readline(), type=RunnerAnswer)


def may_change_kernels(source: str) -> bool:
    """Tell a module that has kernels: only there does a mistake change machine code.

    The product keeps that by all of its room's text (0148): each mistake would have it made anew, a minute each, and
    push out what others on this machine use. So it is kept in a folder of the copy, and for such modules in another.
    """
    return "scheduling.compiled" in source or "def compiled(" in source


def _look_at_kernels(tests: Sequence[str]) -> bool:
    """Tell tests of where machine code is kept."""
    return any("/test_compiled" in test for test in tests)


def nearest(tests: Sequence[str], path: str) -> list[str]:
    """Choose the tests that lie where a module's own do, of the two files that have most: to import few is quick."""
    folder = f"tests/unit/{path.rpartition('/')[0]}"
    near = [test for test in tests if test.startswith(f"{folder}/")]
    files = Counter(test.partition("::")[0] for test in near)
    chosen = {file for file, _ in files.most_common(2)}
    return [test for test in near if test.partition("::")[0] in chosen]


def within(tests: Sequence[str], seconds: dict[str, float], most_s: float = MOST_TEST_S) -> list[str]:
    """Take tests, in their order, until they would take too long together."""
    taken, sum_s = [], 0.0
    for test in tests:
        sum_s += seconds[test]
        if sum_s > most_s:
            break
        taken.append(test)
    return taken
