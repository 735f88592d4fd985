"""Try one mistake: put it into a copy of the tree, run the tests that pass there, and take it out again."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import cache_from_source
from pathlib import Path
from typing import Final

from thalweg.benchmarks.mutants.mutations import Mutation

MOST_TEST_S: Final = 120.0
"""Of tests for one mistake, by what they take without it; what is left out then is said."""
PATIENCE: Final = 6.0
"""A run that takes so many times as long as it should is one that does not end: the mistake is found."""
START_S: Final = 90.0
"""What imports may take on a crowded machine."""
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
        try:
            self._write(file, mutation.apply(source))
            yield
        finally:
            self._write(file, source)

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
        limit_s = START_S + PATIENCE * expected_s
        answer = self._ask({"arguments": [*OPTIONS, *tests], "seconds": limit_s, "note": str(self._note)})
        code, failed = answer["code"], answer["failed"]
        if code in _INTERNAL and not failed:
            raise RuntimeError(f"pytest ended with {code}: {Path(f'{self._note}.log').read_text()[-2_000:]}")
        by = failed or ("did not end" if code is None else f"ended with {code}" if code else "")
        return Tried(found=bool(by), by=by, seconds=answer["seconds"], ran=answer["ran"])

    def _ask(self, request: dict[str, object]) -> dict[str, object]:
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
        answer: dict[str, object] = json.loads(self._runner.stdout.readline())
        return answer


def within(tests: Sequence[str], seconds: dict[str, float], most_s: float = MOST_TEST_S) -> list[str]:
    """Take tests, in their order, until they would take too long together."""
    taken, sum_s = [], 0.0
    for test in tests:
        sum_s += seconds[test]
        if sum_s > most_s:
            break
        taken.append(test)
    return taken
