"""How soon a command answers, as a whole process: `python -m thalweg.benchmarks.startup`.

Each command runs so often, in turn with the others, beside a bare `python -c pass`, which no command can beat.
On a crowded machine the wall clock tells of the crowd; `cpu` is what the process itself used, on all cores.
"""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from thalweg.benchmarks.startup.warehouse import PLACED, WAITING, make_warehouse
from thalweg.stack.machine import describe

GOALS_MS: Final[Mapping[str, float]] = {
    "help": 150.0,
    "tasks": 500.0,
    "explain placed": 300.0,
    "explain waiting": 300.0,
}


def startup(runs: int = 15) -> dict[str, Any]:
    """Measure.

    Args:
        runs: how often each command runs; the first round, which reads from disk, is not counted.
    """
    thalweg = str(Path(sys.executable).parent / "thalweg")
    with TemporaryDirectory(prefix="startup-") as warehouse:
        make_warehouse(warehouse)
        commands = {
            "bare python": [sys.executable, "-c", "pass"],
            "help": [thalweg, "--help"],
            "version": [thalweg, "--version"],
            "tables": [thalweg, "tables"],
            "tasks": [thalweg, "tasks", "--warehouse", warehouse],
            "explain placed": [thalweg, "explain", PLACED, "--warehouse", warehouse],
            "explain waiting": [thalweg, "explain", WAITING, "--warehouse", warehouse],
        }
        measured: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
        for _ in range(runs + 1):
            for name, command in commands.items():
                measured[name].append(run_once(command))
    return {
        "machine": describe(),
        "runs": runs,
        "load": os.getloadavg()[0],
        "commands": {name: summary(rounds[1:], GOALS_MS.get(name)) for name, rounds in measured.items()},
    }


def run_once(command: Sequence[str], exit_code: int = 0) -> tuple[float, float]:
    """Run a command; return wall and CPU time in milliseconds.

    Python keeps its bytecode, as it does for everybody who has not told it otherwise: without, half of each start would
    be compiling.
    """
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    started = time.perf_counter()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)  # the process's own account: the sum of all children has ticks of 10 ms
    wall = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != exit_code:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}; expected is {exit_code}")
    return wall * 1_000, (used.ru_utime + used.ru_stime) * 1_000


def summary(rounds: Sequence[tuple[float, float]], goal_ms: float | None = None) -> dict[str, float]:
    """Sum up wall and CPU times."""
    walls, cpus = [wall for wall, _ in rounds], [cpu for _, cpu in rounds]
    found = {
        "min_ms": round(min(walls), 1),
        "median_ms": round(statistics.median(walls), 1),
        "max_ms": round(max(walls), 1),
        "cpu_min_ms": round(min(cpus), 1),
        "cpu_median_ms": round(statistics.median(cpus), 1),
    }
    return found if goal_ms is None else found | {"goal_ms": goal_ms}
