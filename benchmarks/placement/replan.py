"""`thalweg bench replan`: what the place job does with what runs (`look`), and the yardstick: everything planned anew.

    python -m thalweg.benchmarks.placement.replan           prints JSON, writes benchmarks/results/replan.json

The yardstick changes a world of running tasks by 1 % again and again. Nodes stand for the capacity of pools there
(packing onto them is `bench pack`): every cycle sums the nodes up again.
"""

from __future__ import annotations

import json
import os
import resource
import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from thalweg.benchmarks.placement import look
from thalweg.benchmarks.placement.plan import RESULTS, synthetic
from thalweg.scheduling.arrays import FloatArray, IntArray
from thalweg.scheduling.problem.model import Problem
from thalweg.scheduling.problem.solution import LIVE_LIMITS, Solution, WarmStart
from thalweg.scheduling.solve.replan import RunningProblem, as_running, moved_tasks, replan
from thalweg.scheduling.solve.solve import solve
from thalweg.stack.machine import describe

CHANGED = 0.01
MOVED = 0.01
MOVE_USD = 0.5
STANDING = (
    "No job calls `scheduling.solve.replan` yet: it is the yardstick. What the place job runs beside its micro-batches "
    "is `scheduling.again.look_again`, which moves single copies by what each has left and would lose. So this is what "
    "the engine can do, not what a region sees."
)
"""What the pages say beside every figure that was measured with `replan`."""


@dataclass(slots=True)
class World:
    """Tasks by class and pool, nodes by pool; changed in place from cycle to cycle."""

    problem: Problem
    node_pool: IntArray
    node_gpus: FloatArray
    running: IntArray

    def next_problem(self, arriving: IntArray) -> RunningProblem:
        """Sum the nodes and name what runs and what arrives."""
        pools = self.problem.pools
        capacity = np.bincount(self.node_pool, self.node_gpus, len(pools)).astype(np.float64)[:, None]
        problem = replace(self.problem, pools=replace(pools, capacity=capacity))
        return as_running(problem, self.running, arriving)

    def follow(self, planned: RunningProblem, solution: Solution) -> None:
        """Run what the plan says."""
        self.running[:] = 0
        np.add.at(self.running, (planned.class_of[solution.class_index], solution.pool_index), solution.count)


def world(*, classes: int, pools: int, regions: int, nodes: int, tasks: int) -> World:
    """A world whose nodes of 8 GPUs are spread over the pools as their capacity asks, nothing running yet."""
    problem = synthetic(5, classes=classes, pools=pools, regions=regions, tasks=tasks)
    problem = replace(problem, weights=replace(problem.weights, move=MOVE_USD))
    share = problem.pools.capacity[:, 0] / problem.pools.capacity[:, 0].sum()
    number = np.maximum(1, np.round(share * nodes)).astype(np.int64)
    gpus = problem.pools.capacity[:, 0].sum() / number.sum()
    size = len(problem.classes)
    return World(
        problem=problem,
        node_pool=np.repeat(np.arange(pools), number),
        node_gpus=np.full(int(number.sum()), float(np.ceil(gpus))),
        running=np.zeros((size, pools), np.int64),
    )


def cycles(start: World, number: int) -> dict[str, Any]:
    """Fill the world cold, then change 1 % of the running tasks `number` times; wall seconds of every cycle."""
    rng = np.random.default_rng(1)
    began = time.perf_counter()
    planned = start.next_problem(start.problem.classes.count)
    solution = solve(planned.problem)
    cold_s = time.perf_counter() - began
    start.follow(planned, solution)
    warm_start: WarmStart = solution.warm_start
    seconds, cpu_seconds, moved, against_cold, gaps = [], [], [], [], []
    for cycle in range(number):
        running = int(start.running.sum())
        gone = rng.binomial(start.running, CHANGED)
        start.running -= gone
        arriving = rng.multinomial(int(gone.sum()), start.problem.classes.count / start.problem.classes.count.sum())
        began, cpu = time.perf_counter(), time.process_time()
        planned = start.next_problem(arriving.astype(np.int64))
        solution = replan(planned.problem, warm_start, int(MOVED * running), LIVE_LIMITS)
        seconds.append(time.perf_counter() - began)
        cpu_seconds.append(time.process_time() - cpu)
        moved.append(moved_tasks(planned.problem, solution) / running)
        gaps.append(solution.gap)
        if cycle % max(1, number // 5) == 0:
            against_cold.append(solution.objective / solve(planned.problem).objective - 1.0)
        warm_start = solution.warm_start
        start.follow(planned, solution)
    return {
        "nodes": len(start.node_pool),
        "pools": len(start.problem.pools),
        "regions": len(start.problem.regions),
        "classes": len(start.problem.classes),
        "running_tasks": int(start.running.sum()),
        "changed_percent": 100 * CHANGED,
        "cycles": number,
        "cold_seconds": round(cold_s, 3),
        "replan_p50_ms": round(float(np.percentile(seconds, 50)) * 1e3, 1),
        "replan_p99_ms": round(float(np.percentile(seconds, 99)) * 1e3, 1),
        "replan_cpu_p50_ms": round(float(np.percentile(cpu_seconds, 50)) * 1e3, 1),
        "replan_cpu_p99_ms": round(float(np.percentile(cpu_seconds, 99)) * 1e3, 1),
        "replan_worst_ms": round(max(seconds) * 1e3, 1),
        "moved_worst_percent": round(100 * max(moved), 4),
        "moved_mean_percent": round(100 * float(np.mean(moved)), 4),
        "objective_above_cold_worst_percent": round(100 * max(against_cold), 5),
        "gap_worst": max(gaps),
    }


def run(*, scale_proof: bool = True) -> dict[str, Any]:
    """Measure the regional size of the issue, and its scale proof."""
    solve(synthetic(0, classes=20, pools=10, regions=5, tasks=100))  # compile, so that no figure holds a compiler
    result: dict[str, Any] = {
        "benchmark": "replan",
        "machine": describe(),
        "load_average": round(os.getloadavg()[0], 2),
        "look": look.run(),
    }
    result["replan"] = cycles(world(classes=1_500, pools=120, regions=20, nodes=12_500, tasks=150_000), 100)
    if scale_proof:
        result["scale"] = cycles(world(classes=5_000, pools=1_000, regions=100, nodes=500_000, tasks=2_000_000), 3)
        result["scale"]["peak_memory_gb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2)
    return result


def main() -> None:
    """Run, print and keep the result."""
    result = run()
    print(json.dumps(result, indent=2))
    RESULTS.mkdir(exist_ok=True)
    for name, part in (("look", result.pop("look")), ("replan", result)):
        (RESULTS / f"{name}.json").write_text(json.dumps(part, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
