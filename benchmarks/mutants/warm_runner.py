"""Runs pytest again and again without importing the libraries each time: `python warm_runner.py`, a request a line.

It is started by its path, in the copy of the tree that is tried, and knows nothing of the product, so that each run
imports that anew. For each request, a JSON object on standard input, it forks; the child runs the tests until one
fails, the parent answers with a JSON object. A child that takes too much of the processor, or far
too long, is killed with all that it started.
"""

import contextlib
import importlib
import json
import os
import resource
import signal
import sys
import time
from typing import Any

# Their import takes seconds; none of them imports the product or starts a thread that a fork would miss.
HEAVY = (
    "numpy",
    "scipy.sparse",
    "scipy.optimize",
    "numba",
    "pyarrow.compute",
    "pyarrow.parquet",
    "deltalake",
    "msgspec",
    "pydantic",
    "yaml",
    "click",
    "rich.console",
    "kafka",
    "prometheus_client",
    "ortools.graph.python.min_cost_flow",
    "ortools.linear_solver.pywraplp",
    "hypothesis",
    "hypothesis.stateful",
    "pytest",
)


class Noted:
    """A plugin of pytest: which test failed first, and how many ran."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._ran = 0
        self._failed = ""

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Note a test's outcome."""
        self._ran += report.when == "call"
        if report.failed and not self._failed:
            self._failed = report.nodeid

    def pytest_collectreport(self, report: Any) -> None:
        """Note a file that cannot be imported."""
        if report.failed and not self._failed:
            self._failed = report.nodeid or "collection"

    def pytest_sessionfinish(self) -> None:
        """Leave it for the parent."""
        with open(self._path, "w", encoding="utf-8") as file:
            json.dump({"failed": self._failed, "ran": self._ran}, file)


def main() -> None:
    """Serve requests until the input ends."""
    sys.path.insert(0, os.getcwd())
    for name in HEAVY:
        try:
            importlib.import_module(name)
        except ImportError:
            continue  # only slower
    assert not [name for name in sys.modules if name.split(".")[0] == "thalweg"]
    for line in sys.stdin:
        request = json.loads(line)
        print(json.dumps(_run(**request)), flush=True)


def _run(arguments: list[str], seconds: float, cpu_seconds: int, note: str, kernels: str) -> dict[str, Any]:
    if os.path.exists(note):
        os.unlink(note)
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds))
        if kernels:  # where machine code is kept
            importlib.import_module("numba.core.config").CACHE_DIR = kernels  # type: ignore[attr-defined]
        _be_pytest(arguments, note)
    code = _wait(child, began + seconds)
    answer: dict[str, Any] = {"code": code, "seconds": round(time.monotonic() - began, 2), "failed": "", "ran": 0}
    if os.path.exists(note):
        with open(note, encoding="utf-8") as file:
            answer |= json.load(file)
    return answer


def _wait(child: int, deadline: float) -> int | None:
    """Wait for a child; None where it had to be killed. What it has started goes with it either way."""
    code: int | None = None
    signal.signal(signal.SIGTERM, lambda *_: _end_with(child))
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            code = os.waitstatus_to_exitcode(status)
            break
        time.sleep(0.02)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    if code is None:
        os.waitpid(child, 0)
    return code


def _end_with(child: int) -> None:
    """End, and what was started too: it has a session of its own."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    os._exit(1)


def _be_pytest(arguments: list[str], note: str) -> None:
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    quiet = os.open(note + ".log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    import pytest

    code = 99
    try:
        code = int(pytest.main(arguments, plugins=[Noted(note)]))
    finally:
        os._exit(code)


if __name__ == "__main__":
    main()
