"""The small worked cases of docs/tutorial/examples: their problems and their numbers.

Placing (a, b, d) is put to the same strategies that place live tasks; what to rent (c) is a question of which nodes
there are, not of where a task goes, and is answered by looking at every combination. The tests check the numbers
against enumeration by hand, and `benchmarks.placement.worked_pages` writes them into the pages.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from thalweg.scheduling.problem.model import Network, Problem, Weights, local_network, make_classes, make_pools
from thalweg.scheduling.solve.solve import solve

# (a) five nodes, GPUs and TB held; three subtasks of two GPUs read all the data
NODE_GPUS = (8, 4, 6, 4, 5)
NODE_TB = (1.0, 2.0, 1.0, 1.5, 1.2)
USD_PER_GPU = 1.0
USD_PER_TB = 1.0

# (b) three cities, round trips in ms, tasks by origin, places by city, service time on top of the round trip
CITIES = ("Beijing", "Shanghai", "Guangzhou")
RTT_MS = ((0.0, 50.0, 100.0), (50.0, 0.0, 150.0), (100.0, 150.0, 0.0))
ORIGINS = (0, 0, 0, 0, 1, 2)
PLACES = (2, 2, 2)
SERVICE_MS = 20.0

# (c) nodes by tasks an hour, GB, GB/s and USD an hour, against a demand in tasks an hour
OFFERS = {"large": (200, 500, 10, 1000), "medium": (150, 300, 5, 800), "small": (100, 200, 2, 500)}
DEMAND_PER_HOUR = 100

# (d) units of work on nodes of different capacity, with a balance term
WORK = (12.0, 8.0, 6.0, 5.0, 4.0, 3.0, 3.0, 2.0, 2.0, 1.0, 1.0, 1.0)
SPEED = (4.0, 2.0, 1.0)
SLOTS = (6, 6, 6)
BALANCE_USD = 2.0
STRATEGIES = ("lp", "genetic", "anneal")


def data_on_nodes() -> dict[str, Any]:
    """Place three subtasks of two GPUs on five nodes, USD per GPU plus USD per TB that must come from elsewhere."""
    nodes = len(NODE_GPUS)
    network = local_network(nodes)
    usd_per_gb = np.full((nodes, nodes), USD_PER_TB / 1000)
    np.fill_diagonal(usd_per_gb, 0.0)
    network = Network(rtt_ms=np.zeros((nodes, nodes)), gbps=np.full((nodes, nodes), np.inf), usd_per_gb=usd_per_gb)
    problem = Problem(
        regions=tuple(f"node {i + 1}" for i in range(nodes)),
        gpu_models=("gpu",),
        pools=_pools(NODE_GPUS, [USD_PER_GPU] * nodes),
        network=network,
        classes=make_classes(
            ["subtask"],
            count=np.array([3]),
            need=np.array([2.0]),
            expected_h=np.ones(1),
            wait_usd=1e6,
            regions=nodes,
            gpu_model_count=1,
            items=(np.array([0, nodes]), np.array(NODE_TB) * 1000, np.arange(nodes + 1), np.arange(nodes)),
        ),
    )
    solution = solve(problem)
    used = np.bincount(solution.pool_index, 2 * solution.count, nodes)
    return {
        "cost_usd": round(solution.objective, 6),
        "bound_usd": round(solution.bound, 6),
        "used_gpus": used.tolist(),
        "utilisation": [round(float(u) / c, 4) for u, c in zip(used, NODE_GPUS, strict=True)],
    }


def three_cities() -> dict[str, Any]:
    """Assign each task to one city with least total round trip and at most so many tasks a city."""
    cities = len(CITIES)
    rtt_ms = np.array(RTT_MS)
    problem = Problem(
        regions=CITIES,
        gpu_models=("gpu",),
        pools=_pools(PLACES, [0.0] * cities),
        network=Network(rtt_ms=rtt_ms, gbps=np.full((cities, cities), np.inf), usd_per_gb=np.zeros((cities, cities))),
        classes=make_classes(
            [f"t{i + 1}" for i in range(len(ORIGINS))],
            count=np.ones(len(ORIGINS), np.int64),
            need=np.ones(len(ORIGINS)),
            expected_h=np.ones(len(ORIGINS)),
            wait_usd=1e6,
            regions=cities,
            gpu_model_count=1,
            origin=np.array(ORIGINS),
        ),
        weights=Weights(rtt=1.0),
    )
    solution = solve(problem)
    where = {int(c): int(p) for c, p in zip(solution.class_index, solution.pool_index, strict=True)}
    response_ms = [float(rtt_ms[origin, where[i]]) + SERVICE_MS for i, origin in enumerate(ORIGINS)]
    return {
        "total_rtt_ms": round(solution.objective, 6),
        "bound_ms": round(solution.bound, 6),
        "city_of_task": [CITIES[where[i]] for i in range(len(ORIGINS))],
        "response_ms": response_ms,
        "mean_response_ms": round(sum(response_ms) / len(response_ms), 3),
    }


def what_to_rent() -> dict[str, Any]:
    """Weigh what is served against the price for every set of nodes; rent the cheapest that serves the demand."""
    rows = []
    for size in range(1, len(OFFERS) + 1):
        for names in itertools.combinations(OFFERS, size):
            capacity = sum(OFFERS[name][0] for name in names)
            usd = sum(OFFERS[name][3] for name in names)
            served = min(capacity, DEMAND_PER_HOUR)
            rows.append(
                {
                    "nodes": " + ".join(names),
                    "tasks_per_hour": capacity,
                    "storage_gb": sum(OFFERS[name][1] for name in names),
                    "gb_per_s": sum(OFFERS[name][2] for name in names),
                    "usd_per_hour": usd,
                    "served_per_hour": served,
                    "served_per_usd": round(served / usd, 4),
                    "capacity_per_usd": round(capacity / usd, 4),
                    "gb_per_usd": round(sum(OFFERS[name][1] for name in names) / usd, 4),
                    "mb_per_s_per_usd": round(1000 * sum(OFFERS[name][2] for name in names) / usd, 4),
                }
            )
    enough = [row for row in rows if row["served_per_hour"] == DEMAND_PER_HOUR]
    rented = min(enough, key=lambda row: (row["usd_per_hour"], row["nodes"]))
    return {"combinations": rows, "rented": rented["nodes"], "usd_per_hour": rented["usd_per_hour"]}


def work_on_nodes(strategy: str, seed: int = 1) -> dict[str, Any]:
    """Place units of work: hours are work / speed, plus the balance term; and what there was after each step."""
    nodes = len(SPEED)
    problem = Problem(
        regions=tuple(f"node {i + 1}" for i in range(nodes)),
        gpu_models=("gpu",),
        pools=_pools(SLOTS, [1.0 / speed for speed in SPEED]),
        network=local_network(nodes),
        classes=make_classes(
            [f"w{i + 1:02d}" for i in range(len(WORK))],
            count=np.ones(len(WORK), np.int64),
            need=np.ones(len(WORK)),
            expected_h=np.array(WORK),
            wait_usd=1e6,
            regions=nodes,
            gpu_model_count=1,
        ),
        weights=Weights(balance=BALANCE_USD),
    )
    solution = solve(problem, strategy=strategy, seed=seed)
    return {
        "objective": round(solution.objective, 6),
        "bound": round(solution.bound, 6),
        "tasks_per_node": np.bincount(solution.pool_index, solution.count, nodes).astype(int).tolist(),
        "trace": [(step, round(usd, 6), round(bound, 6)) for step, usd, bound in solution.trace],
    }


def steps_to_best(found: dict[str, Any]) -> int:
    """First step after which the strategy had its final objective."""
    return next(int(step) for step, usd, _ in found["trace"] if usd <= found["objective"] + 1e-6)


def numbers() -> dict[str, Any]:
    """Return the numbers of all four cases."""
    return {
        "a": data_on_nodes(),
        "b": three_cities(),
        "c": what_to_rent(),
        "d": {name: work_on_nodes(name) for name in STRATEGIES},
    }


def _pools(gpus: tuple[int, ...], usd_per_gpu_hour: list[float]) -> Any:
    return make_pools(
        [f"pool {i + 1}" for i in range(len(gpus))],
        region=np.arange(len(gpus)),
        gpu_model=np.zeros(len(gpus), np.int64),
        capacity=np.array(gpus, np.float64),
        usd_per_gpu_hour=np.array(usd_per_gpu_hour),
    )
