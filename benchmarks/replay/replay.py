"""`thalweg bench replay`: the Philly trace through policies, and three promises about the balance measured.

    python -m thalweg.benchmarks.replay.replay           prints JSON, writes benchmarks/results/replay.json

The eight largest clusters are the homes of eight equal regions; every job has data at home. Promised, while jobs wait:
no region gets more than 1.01 times the fleet's demand by supply, 99 % of the GPUs are allocated, and at most a quarter
of the bytes of a balancer without data gravity moves. `gravity` is measured against `spread` at two loads, and with
data drawn from several seeds, since one draw may be lucky. The place job's own planner is measured in
`thalweg.benchmarks.replay.front`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from thalweg.benchmarks.placement.real_graph import published_folder
from thalweg.cli.replay_command import run_policy
from thalweg.conf.environment import results_folder
from thalweg.replay.scenario import philly_scenario
from thalweg.replay.traces import PhillyJob, read_philly_jobs
from thalweg.stack.machine import describe

RESULT = results_folder() / "replay.json"
COMMAND = "python -m thalweg.benchmarks.replay.replay"
MOST_DEMAND_RATIO = 1.01
LEAST_ALLOCATION_PERCENT = 99.0
MOST_BYTES_RATIO = 0.25
POLICIES = ("home", "spread", "gravity")


def balance(trace: Sequence[PhillyJob], *, load: float, seeds: Sequence[int]) -> dict[str, Any]:
    """Compare the policies with data from the first seed, and measure the promises with data from each."""
    scenario = philly_scenario(trace, load=load, seed=seeds[0])
    reports = {policy: run_policy(scenario, policy, (), 0.0) for policy in POLICIES}
    measured = [_promises(seeds[0], reports["gravity"], reports["spread"])]
    for seed in seeds[1:]:
        other = philly_scenario(trace, load=load, seed=seed)
        gravity, spread = (run_policy(other, policy, (), 0.0) for policy in ("gravity", "spread"))
        measured.append(_promises(seed, gravity, spread))
    return {
        **scenario.what,
        "jobs": len(scenario.jobs),
        "policies": list(reports.values()),
        "promises_by_seed": measured,
        "kept_with_every_seed": all(one["kept"] for one in measured),
    }


def all_jobs(trace: Sequence[PhillyJob]) -> dict[str, Any]:
    """Run every usable job twice."""
    scenario = philly_scenario(trace, all_clusters=True)
    first, second = (run_policy(scenario, "gravity", (), 0.0) for _ in range(2))
    return {
        "jobs": first["jobs"],
        "started": first["started"],
        "seconds": [first["replay_seconds"], second["replay_seconds"]],
        "bit_identical": first["fingerprint"] == second["fingerprint"],
    }


def _promises(seed: int, gravity: Mapping[str, Any], spread: Mapping[str, Any]) -> dict[str, Any]:
    ratio = gravity["max_demand_by_supply_ratio_to_fleet"]
    allocation = gravity["allocation_while_waiting_percent"]
    moved = round(gravity["moved_gb"] / spread["moved_gb"], 4)
    return {
        "seed": seed,
        "max_demand_by_supply_ratio_to_fleet": ratio,
        "allocation_while_waiting_percent": allocation,
        "moved_bytes_ratio_to_spread": moved,
        "kept": ratio <= MOST_DEMAND_RATIO and allocation >= LEAST_ALLOCATION_PERCENT and moved <= MOST_BYTES_RATIO,
    }


def run(seeds: int = 4) -> dict[str, Any]:
    """Measure everything.

    Args:
        seeds: how many draws of the data, from 42 on.
    """
    trace = read_philly_jobs(published_folder() / "philly" / "philly_jobs_to_2017-11.csv.gz")
    drawn = range(42, 42 + seeds)
    return {
        "benchmark": "replay",
        "command": COMMAND,
        "machine": describe(),
        "load_average": round(os.getloadavg()[0], 1),
        "promised": {
            "max_demand_by_supply_ratio_to_fleet": MOST_DEMAND_RATIO,
            "allocation_while_waiting_percent": LEAST_ALLOCATION_PERCENT,
            "moved_bytes_ratio_to_spread": MOST_BYTES_RATIO,
        },
        "all_jobs": all_jobs(trace),
        "more_demand_than_supply": balance(trace, load=1.25, seeds=drawn),
        "as_much_demand_as_supply": balance(trace, load=1.0, seeds=drawn),
    }


def main() -> None:
    """Measure and keep the result beside the code."""
    text = json.dumps(run(), indent=1)
    RESULT.write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
