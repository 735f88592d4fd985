"""A plugin of pytest that notes which lines each test executes: `python tracing.py OUT FOLDER … -- ARGUMENT …`.

Started by its path, so that nothing of the product is imported before it is traced. Tests that need a broker or Spark
are left out. What is executed while modules are imported belongs to no test, and is noted under "".
"""

import json
import os
import resource
import sys
import time
from collections.abc import Generator
from typing import Any

import coverage
import pytest

ELSEWHERE = frozenset({"broker", "spark"})
"""Fixtures of tests that need more than a process."""


def cpu_s() -> float:
    """Tell what this process and those it has waited for have taken."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


class Traced:
    """Switches the context with each test, and writes the map in the end."""

    def __init__(self, out: str, folders: list[str]) -> None:
        self._out = out
        self._root = os.getcwd()
        self._cover = coverage.Coverage(data_file=None, source=folders, messages=False)
        self._cover.start()
        self._seconds: dict[str, float] = {}
        self._failed: set[str] = set()

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Leave out what needs a broker or Spark."""
        kept = [item for item in items if not ELSEWHERE & set(getattr(item, "fixturenames", ()))]
        config.hook.pytest_deselected(items=[item for item in items if item not in set(kept)])
        items[:] = kept

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, Any, None]:
        """Give a test a context of its own, and note what it takes of the processor: a clock tells of others, too."""
        self._cover.switch_context(item.nodeid)
        before = cpu_s()
        yield
        self._seconds[item.nodeid] = cpu_s() - before
        self._cover.switch_context("")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note who fails."""
        if report.failed:
            self._failed.add(report.nodeid)

    def pytest_sessionfinish(self) -> None:
        """Write what was seen: tests with their seconds, and for each line the numbers of its tests."""
        self._cover.stop()
        tests = sorted(name for name in self._seconds if name not in self._failed)
        number = {name: place for place, name in enumerate(tests)}
        found = self._cover.get_data()
        files = {}
        for path in sorted(found.measured_files()):
            lines = {
                str(line): sorted(number[name] for name in contexts if name in number)
                for line, contexts in sorted(found.contexts_by_lineno(path).items())
            }
            files[os.path.relpath(os.path.realpath(path), self._root)] = lines
        document = {
            "tests": [[name, round(self._seconds[name], 3)] for name in tests],
            "failed": sorted(self._failed),
            "files": files,
        }
        with open(self._out, "w", encoding="utf-8") as file:
            json.dump(document, file)


def main() -> int:
    """Run pytest with the plugin."""
    at = sys.argv.index("--")
    sys.path.insert(0, os.getcwd())
    return int(pytest.main(sys.argv[at + 1 :], plugins=[Traced(sys.argv[1], sys.argv[2:at])]))


if __name__ == "__main__":
    sys.exit(main())
