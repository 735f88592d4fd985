"""How soon `thalweg explain` answers among 230,000 tasks, as a whole process: `thalweg bench questions`.

Beside the answers, in the same rounds, runs what no answer can do without: a bare Python; one that loads the engine;
one that loads what computes, too; and one that reads the rows an answer needs and makes nothing of them.
"""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from thalweg.benchmarks.startup.crowd import ARRAY, ELEMENTS, GATED, REFUSED, CrowdSize, make_crowd
from thalweg.benchmarks.startup.startup import run_once, summary
from thalweg.conf.environment import results_folder
from thalweg.stack.machine import describe
from thalweg.sync.ledger.live_rows import FACTS, LIVE_TASKS, NEWEST_SAMPLES, PLACEMENTS

GOAL_MS: Final = 300.0
_WRONG_CALL: Final = 2
_READ: Final = """
import sys
from deltalake import DeltaTable, QueryBuilder
session = QueryBuilder()
for name in ("tasks", "placements", "nodes", "links", "prices", "decisions"):
    session.register(name, DeltaTable(sys.argv[1] + "/" + name))
for statement in sys.argv[2:]:
    session.execute(statement).read_all()
"""
_WAITING: Final = {
    "one GPU": "waiting-774",
    "a node of 8": "waiting-775",
    "8 nodes of 8": "waiting-776",
    "two regions allowed": "waiting-777",
    "a round trip": "waiting-778",
    "two copies": "waiting-779",
}


def questions(runs: int = 15, ended: int = 200_000, running: int = 20_000, waiting: int = 10_000) -> dict[str, Any]:
    """Measure.

    Args:
        runs: how often each question is asked; the first round, which reads from disk, is not counted.
        ended: tasks that have ended.
        running: tasks that run.
        waiting: tasks that wait, at least 800.
    """
    size = CrowdSize(ended=ended, running=running, waiting=waiting)
    with TemporaryDirectory(prefix="questions-") as warehouse:
        make_crowd(warehouse, datetime.now(UTC), size)
        commands = _commands(warehouse, size)
        measured: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
        load = os.getloadavg()[0]
        for _ in range(runs + 1):
            for name, (command, exit_code) in commands.items():
                measured[name].append(run_once(command, exit_code))
    return {
        "benchmark": "questions",
        "machine": describe(),
        "runs": runs,
        "load": {"before": round(load, 2), "after": round(os.getloadavg()[0], 2)},
        "tasks": {"ended": ended, "running": running, "waiting": waiting},
        "nodes": size.nodes_per_region * 20,
        "commands": {
            name: summary(rounds[1:], GOAL_MS if name.startswith("explain") else None)
            for name, rounds in measured.items()
        },
    }


def _commands(warehouse: str, size: CrowdSize) -> dict[str, tuple[Sequence[str], int]]:
    """Command and exit code by name."""
    python, thalweg = sys.executable, str(Path(sys.executable).parent / "thalweg")
    found = {
        "explain, runs": (f"running-{size.running // 2}", 0),
        "explain, has ended": (f"ended-{size.ended // 2}", 0),
    }
    found |= {f"explain, waits for {name}": (task, 0) for name, task in _WAITING.items()}
    found |= {
        "explain, waits for a parent": (GATED, 0),
        "explain, element of an array": (f"{ARRAY}[{ELEMENTS // 20}]", 0),
        "explain, element that is not its turn": (f"{ARRAY}[{ELEMENTS // 2}]", 0),
    }
    found |= {"explain, was refused": (REFUSED, _WRONG_CALL), "explain, unknown": ("nobody", _WRONG_CALL)}
    of_one = [f"SELECT * FROM {table} WHERE task_id = 'waiting-774'" for table in ("tasks", "decisions", "placements")]
    return {
        "bare python": ([python, "-c", "pass"], 0),
        "loads deltalake": ([python, "-c", "import deltalake"], 0),
        "loads deltalake, pyarrow, numpy": ([python, "-c", "import deltalake, pyarrow, numpy"], 0),
        "reads an ended task's rows": ([python, "-c", _READ, warehouse, *of_one[:2]], 0),
        "reads all rows that matter": (
            [python, "-c", _READ, warehouse, *of_one, LIVE_TASKS, PLACEMENTS, *FACTS, NEWEST_SAMPLES],
            0,
        ),
        **{name: ([thalweg, "explain", task, "--warehouse", warehouse], code) for name, (task, code) in found.items()},
    }


def table_of(result: Mapping[str, Any]) -> list[str]:
    """The figures as a table of Markdown."""
    columns = {"min_ms": "least", "median_ms": "median", "max_ms": "most", "cpu_min_ms": "processor, least",
               "cpu_median_ms": "processor, median"}  # fmt: skip
    lines = [f"| milliseconds | {' | '.join(columns.values())} |", f"|---|{'---:|' * len(columns)}"]
    for name, found in result["commands"].items():
        lines.append(f"| {name} | {' | '.join(f'{found[column]:,.0f}' for column in columns)} |")
    return lines


def main() -> None:
    """Measure, keep the result, and print it as a table."""
    result = questions()
    (results_folder() / "questions.json").write_text(json.dumps(result, indent=1) + "\n")
    print("\n".join(table_of(result)))


if __name__ == "__main__":
    main()
