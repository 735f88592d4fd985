"""Rounds a second of Flower's own simulation, and of the same apps and strategy under our grid, turn by turn."""

import json
import os
import subprocess
from dataclasses import asdict, replace
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Any, Final

import click

from thalweg.conf.environment import PROJECT_ROOT
from thalweg.federation.trial import Trial, carry_out

ALPHA: Final = 0.1
ROUNDS: Final = 30
_PROGRAM: Final = "from thalweg.benchmarks.learning.flower_runs import main; main()"
_ONE_THREAD: Final = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
"""For everybody: Flower's simulation has a process for each core."""
PATIENCE_S: Final = 1_800
_FIGURES: Final = ("rounds_per_second", "processor_s_per_round")


def rounds_beside(python: str, base: Trial, turns: int) -> dict[str, Any]:
    """Measure both in turn, and as often the rounds of ours in this process.

    The first round of each is left out: it brings up what carries the rest, and loads the data.

    Args:
        python: interpreter of an environment with thalweg[flower], `flwr[simulation]` and scikit-learn.
        base: clients and training; of its data the digits are taken.
        turns: of each.

    Raises:
        click.UsageError: no such interpreter was named.
    """
    if not Path(python).is_file():
        raise click.UsageError(
            f"--set flower={python!r}: wanted is the interpreter of an environment with thalweg[flower], "
            "'flwr[simulation]' and scikit-learn"
        )
    raw: dict[str, list[dict[str, Any]]] = {"simulation": [], "grid": []}
    for turn in range(turns):
        for engine in raw:
            raw[engine].append(_run(python, engine, base.clients, turn))
    simulation, grid = (median(one[_FIGURES[0]] for one in raw[engine]) for engine in raw)
    simulation_s, grid_s = (median(one[_FIGURES[1]] for one in raw[engine]) for engine in raw)
    raw["own"] = [_own(replace(base, data="digits", alpha=ALPHA, rounds=ROUNDS, seed=turn)) for turn in range(turns)]
    ours, ours_s = (median(one[figure] for one in raw["own"]) for figure in _FIGURES)
    return {
        "clients": base.clients,
        "alpha": ALPHA,
        "rounds": ROUNDS,
        "training": asdict(base.how),
        "simulation_rounds_per_second": simulation,
        "grid_rounds_per_second": grid,
        "grid_times_simulation": round(grid / simulation, 2),
        "own_rounds_per_second": ours,
        "own_times_simulation": round(ours / simulation, 2),
        "simulation_processor_s_per_round": simulation_s,
        "grid_processor_s_per_round": grid_s,
        "own_processor_s_per_round": round(ours_s, 4),
        "simulation_times_processor_of_grid": round(simulation_s / grid_s, 2),
        "simulation_times_processor_of_own": round(simulation_s / ours_s, 2),
        "raw": raw,
    }


def _own(trial: Trial) -> dict[str, Any]:
    at: list[tuple[float, float]] = []
    tried = carry_out(trial, central=False, watch=lambda version, accuracy: at.append((perf_counter(), process_time())))
    (first, first_s), (last, last_s) = at[0], at[-1]
    return {
        "later_rounds_s": round(last - first, 3),
        "rounds_per_second": round((tried.rounds - 1) / (last - first), 3),
        "processor_s_per_round": round((last_s - first_s) / (tried.rounds - 1), 4),
        "accuracy": round(tried.accuracy, 4),
    }


def _run(python: str, engine: str, clients: int, seed: int) -> dict[str, Any]:
    command = [python, "-P", "-c", _PROGRAM, engine, f"--clients={clients}", f"--alpha={ALPHA}"]
    command += [f"--rounds={ROUNDS}", f"--seed={seed}"]
    environ = {**os.environ, **_ONE_THREAD, "PYTHONPATH": str(PROJECT_ROOT), "FLWR_TELEMETRY_ENABLED": "0"}
    environ["RAY_USAGE_STATS_ENABLED"] = "0"
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    if done.returncode != 0:
        raise click.ClickException(f"{engine} ended with {done.returncode}: {(done.stdout + done.stderr)[-2_000:]}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found
