"""`thalweg bench plan`: cost against naive rules on the real graph, a million tasks cold, the strategies side by side.

python -m benchmarks.plan            prints one JSON document and writes benchmarks/results/plan.json
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import describe
from benchmarks.real_graph import published_folder, real_problem
from scheduling.cost import arc_costs, plan_usd
from scheduling.model import Network, Problem, Weights, local_network, make_classes, make_pools
from scheduling.solution import LIVE, Limits, Solution
from scheduling.solve import STRATEGIES, solve

RESULTS = Path(__file__).parent / "results"
SEEDS = (42, 43, 44)


def run() -> dict[str, Any]:
    """Measure everything; the load average tells whether wall-clock or processor seconds are to be believed."""
    solve(synthetic(0, classes=20, pools=10, regions=5, tasks=100))  # compile, so that no figure holds a compiler
    result: dict[str, Any] = {"benchmark": "plan", "machine": describe(), "load_average": round(os.getloadavg()[0], 2)}
    if published_folder().exists():
        result["real_graph"] = [real_graph(seed) for seed in SEEDS]
        result["real_graph_by_data"] = [real_graph(SEEDS[0], median_gb) for median_gb in (5.0, 50.0, 500.0, 5_000.0)]
    result["million_tasks"] = million()
    result["strategies"] = strategies()
    result["micro_batch"] = micro_batch()
    return result


def real_graph(seed: int, median_gb: float = 150.0) -> dict[str, Any]:
    """Realised cost of `flow` and of two naive planners on 62 regions.

    `price_alone` looks at the GPU price only. `rule` plans exactly as well as `flow` does, with the prices it believes
    in: egress free inside a cloud, 10 Gbit/s everywhere.
    """
    problem = real_problem(seed, median_gb=median_gb)
    arcs = arc_costs(problem)
    # Without the integer program: it takes a minute for the last half per cent, for the naive planners as for ours.
    quick = Limits(mip_arcs=0)
    ours = solve(problem, limits=quick)
    # What the rule believes: egress is free inside a cloud and every link carries 10 Gbit/s.
    cloud = np.array([region.partition(":")[0] for region in problem.regions])
    same = cloud[:, None] == cloud[None, :]
    network, size = problem.network, len(problem.regions)
    gbps = np.where(np.eye(size, dtype=bool), np.inf, np.where(network.gbps > 0, 10.0, 0.0))
    listed = np.where(same & np.isfinite(network.usd_per_gb), 0.0, network.usd_per_gb)
    nothing = np.where(np.isfinite(network.usd_per_gb), 0.0, np.inf)
    rules = {
        "rule_usd": replace(network, gbps=gbps, usd_per_gb=listed),
        "price_alone_usd": replace(network, gbps=np.where(network.gbps > 0, np.inf, 0.0), usd_per_gb=nothing),
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
    }
    for name, believed in rules.items():
        links = Network(rtt_ms=network.rtt_ms, gbps=believed.gbps, usd_per_gb=believed.usd_per_gb)
        plan = solve(replace(problem, network=links), limits=quick)
        realised = plan_usd(problem, arcs, plan.class_index, plan.pool_index, plan.count)
        figures[name] = round(realised, 2)
        figures[name.replace("_usd", "_saved_percent")] = round(100.0 * (1.0 - ours.objective / realised), 2)
    return figures


def million() -> dict[str, Any]:
    """1,000,000 tasks in 5,000 classes over 600 pools, cold and with the prices of the solve before."""
    problem = synthetic(7, classes=5_000, pools=600, regions=62, tasks=1_000_000)
    cold_s, cold_cpu_s, solution = _timed(problem)
    warm_s, warm_cpu_s, _ = _timed(problem, solution)
    return {
        "tasks": int(problem.classes.count.sum()),
        "classes": len(problem.classes),
        "pools": len(problem.pools),
        "cold_seconds": round(cold_s, 3),
        "cold_cpu_seconds": round(cold_cpu_s, 3),
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


def micro_batch() -> dict[str, Any]:
    """A live micro-batch: 300 classes over 200 pools, with the prices of the batch before and live limits."""
    figures: dict[str, Any] = {"classes": 300, "pools": 200}
    for name, load in (("roomy", 0.25), ("contended", 0.9)):
        problem = synthetic(3, classes=300, pools=200, regions=60, tasks=600, load=load)
        warm = solve(problem, limits=LIVE).warm
        times, cpu_times = [], []
        for _ in range(100):
            started, cpu = time.perf_counter(), time.process_time()
            solve(problem, limits=LIVE, warm=warm)
            cpu_times.append((time.process_time() - cpu) * 1e3)
            times.append((time.perf_counter() - started) * 1e3)
        figures[f"{name}_p50_ms"] = round(float(np.percentile(times, 50)), 2)
        figures[f"{name}_p99_ms"] = round(float(np.percentile(times, 99)), 2)
        figures[f"{name}_cpu_p50_ms"] = round(float(np.percentile(cpu_times, 50)), 2)
    return figures


def _timed(problem: Problem, before: Solution | None = None) -> tuple[float, float, Solution]:
    started, cpu = time.perf_counter(), time.process_time()
    solution = solve(problem, limits=Limits(), warm=before.warm if before else None)
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
    """Run, print and keep the result."""
    document = json.dumps(run(), indent=2)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "plan.json").write_text(document + "\n", encoding="utf-8")
    print(document)


if __name__ == "__main__":
    main()
