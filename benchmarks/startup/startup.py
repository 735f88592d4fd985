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
    "explain placed": 500.0,
    "explain waiting": 500.0,
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
                measured[name].append(_once(command))
    return {
        "machine": describe(),
        "runs": runs,
        "load": os.getloadavg()[0],
        "commands": {name: _summary(name, rounds[1:]) for name, rounds in measured.items()},
    }


def _once(command: Sequence[str]) -> tuple[float, float]:
    """Run a command; return wall and CPU time in milliseconds."""
    before, started = os.times(), time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    wall, after = time.perf_counter() - started, os.times()
    used = after.children_user - before.children_user + after.children_system - before.children_system
    return wall * 1_000, used * 1_000


def _summary(name: str, rounds: Sequence[tuple[float, float]]) -> dict[str, float]:
    walls, cpus = [wall for wall, _ in rounds], [cpu for _, cpu in rounds]
    found = {
        "min_ms": round(min(walls), 1),
        "median_ms": round(statistics.median(walls), 1),
        "max_ms": round(max(walls), 1),
        "cpu_median_ms": round(statistics.median(cpus), 1),
    }
    return found | ({"goal_ms": GOALS_MS[name]} if name in GOALS_MS else {})
