"""`thalweg bench plan`: cost against naive rules on the real graph, a million tasks cold, the strategies side by side.

python -m thalweg.benchmarks.placement.plan [part ...]     prints JSON, writes benchmarks/results/plan.json
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import click
import numpy as np

from thalweg.benchmarks.placement.real_graph import published_folder, real_problem
from thalweg.conf.environment import results_folder
from thalweg.scheduling.arrays import IntArray
from thalweg.scheduling.ids import RegionId
from thalweg.scheduling.pack.nodes import Nodes, Pool
from thalweg.scheduling.problem.cost import arc_costs, plan_usd
from thalweg.scheduling.problem.model import Network, Problem, Weights, local_network, make_classes, make_pools
from thalweg.scheduling.problem.solution import LIVE_LIMITS, Solution, SolveLimits
from thalweg.scheduling.solve.solve import STRATEGIES, solve
from thalweg.stack.machine import describe

RESULTS = results_folder()
SEEDS = (42, 43, 44)


def run(parts: str = "") -> dict[str, Any]:
    """Measure PARTS, named with commas between, all without a name; load averages tell whether to believe seconds.

    Raises:
        click.UsageError: a part is unknown.
    """
    wanted = [part for part in parts.split(",") if part] or list(PARTS)
    if unknown := sorted(set(wanted) - PARTS.keys()):
        raise click.UsageError(f"parts={unknown[0]!r}: there are {', '.join(PARTS)}")
    solve(synthetic(0, classes=20, pools=10, regions=5, tasks=100))  # compile, so that no figure holds a compiler
    loads: dict[str, float] = {}
    result: dict[str, Any] = {"benchmark": "plan", "machine": describe(), "load_average_by_part": loads}
    for name, measure in PARTS.items():
        if name in wanted and (not name.startswith("real_graph") or published_folder().exists()):
            loads[name] = round(os.getloadavg()[0], 2)
            result[name] = measure()
    return result


def real_graph(seed: int, median_gb: float = 150.0) -> dict[str, Any]:
    """Realised cost of `flow` and of those who believe less of the network, on 62 regions.

    `price_alone` looks at the GPU price only. `rule` believes egress free inside a cloud, listed between clouds, and
    10 Gbit/s everywhere. Each is measured twice: as a rule (`_in_turn`: every task in turn takes its cheapest place
    with room) and as exactly planned as `flow` plans (`_planned`), so that what the network and what planning is worth
    can be told apart. Everything is paid at the real prices and links.
    """
    problem = real_problem(seed, median_gb=median_gb)
    arcs = arc_costs(problem)
    quick = SolveLimits(mip_arcs=0)
    started = time.process_time()
    ours = solve(problem, limits=quick)
    cpu_s = time.process_time() - started
    cloud = np.array([region.partition(":")[0] for region in problem.regions])
    same = cloud[:, None] == cloud[None, :]
    network, size = problem.network, len(problem.regions)
    reached = np.isfinite(network.usd_per_gb)
    believed = {
        "rule": Network(
            rtt_ms=network.rtt_ms,
            gbps=np.where(np.eye(size, dtype=bool), np.inf, np.where(network.gbps > 0, 10.0, 0.0)),
            usd_per_gb=np.where(same & reached, 0.0, network.usd_per_gb),
        ),
        "price_alone": Network(
            rtt_ms=network.rtt_ms,
            gbps=np.where(network.gbps > 0, np.inf, 0.0),
            usd_per_gb=np.where(reached, 0.0, np.inf),
        ),
    }
    figures: dict[str, Any] = {
        "seed": seed,
        "median_gb": median_gb,
        "regions": size,
        "pools": len(problem.pools),
        "tasks": int(problem.classes.count.sum()),
        "flow_usd": round(ours.objective, 2),
        "flow_bound_usd": round(ours.bound, 2),
        "flow_gap": ours.gap,
        "flow_waiting": sum(entry.count for entry in ours.unplaced),
        "flow_cpu_seconds": round(cpu_s, 2),
    }
    for name, links in believed.items():
        other = replace(problem, network=links)
        plan = solve(other, limits=quick)
        planned = plan_usd(problem, arcs, plan.class_index, plan.pool_index, plan.count)
        in_turn = plan_usd(problem, arcs, *each_in_turn(other))
        for way, usd in (("in_turn", in_turn), ("planned", planned)):
            figures[f"{name}_{way}_usd"] = round(usd, 2)
            figures[f"{name}_{way}_saved_percent"] = round(100.0 * (1.0 - ours.objective / usd), 2)
    return figures


def each_in_turn(problem: Problem) -> tuple[IntArray, IntArray, IntArray]:
    """Every class (of one task) in turn in the cheapest pool with room: (class, pool, count)."""
    usd, free = arc_costs(problem).usd, problem.pools.capacity[:, 0].copy()
    found = []
    for row, gpus in enumerate(problem.classes.need[:, 0]):
        open_usd = np.where(free >= gpus, usd[row], np.inf)
        pool = int(open_usd.argmin())
        if open_usd[pool] < np.inf:
            free[pool] -= gpus
            found.append((row, pool))
    table = np.array(found, np.int64).reshape(-1, 2)
    return table[:, 0], table[:, 1], np.ones(len(table), np.int64)


def built() -> dict[str, Any]:
    """Seconds to build the columns of a million tasks in 5,000 classes, and of 100,000 nodes."""
    started = time.perf_counter()
    problem = synthetic(7, classes=5_000, pools=600, regions=62, tasks=1_000_000)
    problem_s = time.perf_counter() - started
    number = 100_000
    pools = [Pool(RegionId(f"region-{i // 10:03d}"), f"model-{i % 10}") for i in range(600)]
    started = time.perf_counter()
    nodes = Nodes.from_columns(
        ids=[f"node-{i:06d}" for i in range(number)],
        pools=pools,
        pool=np.arange(number) % len(pools),
        gpus=np.full(number, 8),
        cpu_milli=np.full(number, 96_000),
        memory_mib=np.full(number, 786_432),
    )
    return {
        "tasks": int(problem.classes.count.sum()),
        "tasks_seconds": round(problem_s, 3),
        "nodes": len(nodes),
        "nodes_seconds": round(time.perf_counter() - started, 3),
    }


def balanced() -> dict[str, Any]:
    """The million tasks with a load-balance weight of 100 USD."""
    problem = synthetic(7, classes=5_000, pools=600, regions=62, tasks=1_000_000)
    problem = replace(problem, weights=replace(problem.weights, balance=100.0))
    seconds, cpu_s, solution = _timed(problem)
    return {
        "balance_weight": 100.0,
        "cold_seconds": round(seconds, 3),
        "cold_cpu_seconds": round(cpu_s, 3),
        "gap": solution.gap,
    }


def million() -> dict[str, Any]:
    """1,000,000 tasks in 5,000 classes over 600 pools, cold and with the prices of the solve before."""
    problem = synthetic(7, classes=5_000, pools=600, regions=62, tasks=1_000_000)
    # The same work takes half as long again when the machine is slow: the median of several, and all of them.
    runs = sorted((_timed(problem) for _ in range(7)), key=lambda timed: timed[0])
    cold_s, cold_cpu_s, solution = runs[len(runs) // 2]
    warm_s, warm_cpu_s, _ = _timed(problem, solution)
    return {
        "tasks": int(problem.classes.count.sum()),
        "classes": len(problem.classes),
        "pools": len(problem.pools),
        "cold_seconds": round(cold_s, 3),
        "cold_cpu_seconds": round(cold_cpu_s, 3),
        "cold_seconds_of_each": [round(seconds, 3) for seconds, _, _ in runs],
        "warm_seconds": round(warm_s, 3),
        "warm_cpu_seconds": round(warm_cpu_s, 3),
        "gap": solution.gap,
        "waiting": sum(entry.count for entry in solution.unplaced),
    }


def strategies() -> list[dict[str, Any]]:
    """Every strategy on the same three problems, with its default effort."""
    rows = []
    for name, size in (
        ("small", (40, 15, 6, 120)),
        ("medium", (300, 200, 60, 1_500)),
        ("large", (1_000, 100, 20, 25_000)),
    ):
        classes, pools, regions, tasks = size
        problem = synthetic(11, classes=classes, pools=pools, regions=regions, tasks=tasks)
        for strategy in STRATEGIES:
            started, cpu = time.perf_counter(), time.process_time()
            solution = solve(problem, strategy)
            cpu_s = time.process_time() - cpu
            rows.append(
                {
                    "problem": name,
                    "classes": classes,
                    "pools": pools,
                    "tasks": int(problem.classes.count.sum()),
                    "strategy": strategy,
                    "objective_usd": round(solution.objective, 2),
                    "bound_usd": round(solution.bound, 2),
                    "gap": solution.gap,
                    "waiting": sum(entry.count for entry in solution.unplaced),
                    "seconds": round(time.perf_counter() - started, 3),
                    "cpu_seconds": round(cpu_s, 3),
                    "stopped_because": solution.stopped_because.value,
                }
            )
    return rows


def convergence() -> dict[str, Any]:
    """Traces of the strategies that work in steps, on a problem with a balance weight: [step, USD, bound] each."""
    problem = synthetic(11, classes=40, pools=15, regions=6, tasks=120, load=0.6)
    problem = replace(problem, weights=replace(problem.weights, balance=100.0))
    traces: dict[str, Any] = {name: solve(problem, name).trace for name in ("lp", "genetic", "anneal")}
    return {"traces": traces, "flow_usd": solve(problem).objective}


def micro_batch() -> dict[str, Any]:
    """A live micro-batch: 300 classes over 200 pools, with the prices of the batch before and live limits."""
    figures: dict[str, Any] = {"classes": 300, "pools": 200}
    for name, load in (("roomy", 0.25), ("contended", 0.9)):
        problem = synthetic(3, classes=300, pools=200, regions=60, tasks=600, load=load)
        warm_start = solve(problem, limits=LIVE_LIMITS).warm_start
        times, cpu_times = [], []
        for _ in range(100):
            started, cpu = time.perf_counter(), time.process_time()
            solve(problem, limits=LIVE_LIMITS, warm_start=warm_start)
            cpu_times.append((time.process_time() - cpu) * 1e3)
            times.append((time.perf_counter() - started) * 1e3)
        figures[f"{name}_p50_ms"] = round(float(np.percentile(times, 50)), 2)
        figures[f"{name}_p99_ms"] = round(float(np.percentile(times, 99)), 2)
        figures[f"{name}_cpu_p50_ms"] = round(float(np.percentile(cpu_times, 50)), 2)
    return figures


PARTS: dict[str, Callable[[], Any]] = {
    "real_graph": lambda: [real_graph(seed) for seed in SEEDS],
    "real_graph_by_data": lambda: [real_graph(SEEDS[0], median_gb) for median_gb in (5.0, 50.0, 500.0, 5_000.0)],
    "built": built,
    "million_tasks": million,
    "balanced_million": balanced,
    "strategies": strategies,
    "convergence": convergence,
    "micro_batch": micro_batch,
}


def _timed(problem: Problem, before: Solution | None = None) -> tuple[float, float, Solution]:
    started, cpu = time.perf_counter(), time.process_time()
    solution = solve(problem, limits=SolveLimits(), warm_start=before.warm_start if before else None)
    return time.perf_counter() - started, time.process_time() - cpu, solution


def synthetic(seed: int, *, classes: int, pools: int, regions: int, tasks: int, load: float = 0.9) -> Problem:
    """Random classes over random pools: sizes 1-8 GPUs, data in random regions, a third of the pools spot."""
    rng = np.random.default_rng(seed)
    own = np.eye(regions, dtype=bool)
    network = replace(
        local_network(regions),
        rtt_ms=np.where(own, 0.0, rng.uniform(5, 250, own.shape)),
        gbps=np.where(own, np.inf, rng.uniform(0.5, 10, own.shape)),
        usd_per_gb=np.where(own, 0.0, rng.uniform(0.01, 0.12, own.shape)),
    )
    count = np.maximum(1, np.round(rng.dirichlet(np.full(classes, 2.0)) * tasks)).astype(np.int64)
    count[0] += max(0, tasks - int(count.sum()))
    gpus = rng.choice([1.0, 2.0, 4.0, 8.0], classes)
    models = rng.random((classes, 4)) < 0.6
    models[np.arange(classes), rng.integers(0, 4, classes)] = True
    capacity = np.ceil(rng.dirichlet(np.full(pools, 2.0)) * float((gpus * count).sum()) / load)
    items = rng.integers(0, 3, classes)
    start = np.concatenate([[0], np.cumsum(items)])
    return Problem(
        regions=tuple(f"region-{i:03d}" for i in range(regions)),
        gpu_models=tuple(f"model-{i}" for i in range(4)),
        pools=make_pools(
            [f"pool-{i:04d}" for i in range(pools)],
            region=np.sort(rng.integers(0, regions, pools)),
            gpu_model=rng.integers(0, 4, pools),
            capacity=capacity,
            usd_per_gpu_hour=rng.uniform(0.5, 4.0, pools),
            spot=rng.random(pools) < 1 / 3,
        ),
        network=network,
        classes=make_classes(
            [f"class-{i:05d}" for i in range(classes)],
            count=count,
            need=gpus,
            expected_h=rng.lognormal(1.0, 1.0, classes),
            wait_usd=1_000_000.0,
            regions=regions,
            gpu_model_count=4,
            gpu_models=models,
            spot_ok=rng.random(classes) < 0.7,
            checkpoint_h=np.full(classes, 1.0),
            origin=rng.integers(-1, regions, classes),
            max_rtt_ms=np.where(rng.random(classes) < 0.2, 150.0, np.inf),
            items=(
                start,
                rng.uniform(1, 400, start[-1]),
                np.arange(start[-1] + 1),
                rng.integers(0, regions, start[-1]),
            ),
        ),
        weights=Weights(risk=1.0, rtt=0.001),
    )


def main() -> None:
    """Run, print and keep the result, part by part; parts named on the command line leave the others as they were."""
    parts = sys.argv[1:] or list(PARTS)
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / "plan.json"
    for part in parts:
        now = run(part)
        before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        loads = before.get("load_average_by_part", {}) | now["load_average_by_part"]
        document = json.dumps(before | now | {"load_average_by_part": loads}, indent=2)
        path.write_text(document + "\n", encoding="utf-8")
    print(document)


if __name__ == "__main__":
    main()
