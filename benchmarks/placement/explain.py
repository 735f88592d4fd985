"""How long an answer takes in a full world of 150,000 running tasks: why one waits, what else a placed one could have.

The world is warm, as a service's would be: it is made once, and one explainer is asked again and again.
"""

import json
import time
from typing import Any

import numpy as np

from thalweg.conf.environment import results_folder
from thalweg.scheduling.explain.reasons import Explainer
from thalweg.scheduling.ids import NodeId, PoolId, RegionId, TaskId
from thalweg.scheduling.live.live_plan import PlanSettings
from thalweg.scheduling.pack.nodes import Need
from thalweg.scheduling.problem.model import Weights
from thalweg.scheduling.world.tasks import Change, Part, Share, TaskSpec, Transition
from thalweg.scheduling.world.world import NodeFacts, World
from thalweg.stack.machine import describe

REGIONS = tuple(RegionId(f"region-{index:02d}") for index in range(20))
NODES_PER_REGION = 938
GPUS_PER_NODE = 8
HOUR_MS = 3_600_000
NOW_MS = 10 * HOUR_MS
WAITING = 5_000
QUESTIONS = 60


def full_world(rng: np.random.Generator) -> World:
    """150,080 GPUs, each held by a task of its own, and 5,000 tasks that wait."""
    world = World()
    world.set_nodes(
        NodeFacts(
            region=region,
            node_id=NodeId(f"n{index}"),
            gpu_model=("A100", "H100")[index % 2],
            spot=index % 5 == 0,
            gpus=GPUS_PER_NODE,
            cpus=96.0,
            memory_gb=512.0,
            ready=True,
        )
        for region in REGIONS
        for index in range(NODES_PER_REGION)
    )
    world.set_links({(a, b): (20.0 + 5 * abs(i - j), 5.0, 0.05) for i, a in enumerate(REGIONS)
                     for j, b in enumerate(REGIONS) if i != j})  # fmt: skip
    world.set_prices(
        {
            (region, model, spot): (2.0 + number / 10) * (0.4 if spot else 1.0)
            for number, region in enumerate(REGIONS)
            for model in ("A100", "H100")
            for spot in (False, True)
        }
    )
    for region in REGIONS:
        world.hear(region, NOW_MS)
    specs = [_spec(1, 300 + 100 * (index % 3), 1 + index % 6) for index in range(18)]
    number = 0
    for region in REGIONS:
        for index in range(NODES_PER_REGION):
            pool_id = PoolId(f"{region}/{('A100', 'H100')[index % 2]}/{'spot' if index % 5 == 0 else 'on-demand'}")
            for device in range(GPUS_PER_NODE):
                _place(
                    world,
                    TaskId(f"t{number}"),
                    specs[number % len(specs)],
                    region,
                    NodeId(f"n{index}"),
                    pool_id,
                    device,
                    rng,
                )
                number += 1
    for index in range(WAITING):
        _submit(world, TaskId(f"w{index}"), _waiting(index), NOW_MS - int(rng.integers(HOUR_MS)))
    return world


def _spec(gpus: int, priority: int, hours: int, workers: int = 1, **more: Any) -> TaskSpec:
    need = Need(gpus=gpus, cpu_milli=4_000 * gpus, memory_mib=16_000 * gpus)
    part = Part(workers=workers, need=need)
    return TaskSpec(parts=(part,), priority=priority, expected_s=3_600.0 * hours, spot_ok=True, **more)


def _waiting(index: int) -> TaskSpec:
    """Different kinds of tasks that have no place."""
    kinds: tuple[dict[str, Any], ...] = (
        {"gpus": 1},
        {"gpus": 8},
        {"gpus": 8, "workers": 8},
        {"gpus": 4, "gpu_models": ("H100",), "allowed_regions": REGIONS[:2]},
        {"gpus": 2, "origin_region": REGIONS[3], "max_rtt_ms": 30.0},
        {"gpus": 2, "replicas": 2},
    )
    return _spec(**{"priority": 300 + 100 * (index % 4), "hours": 1 + index % 5, **kinds[index % len(kinds)]})


def _submit(world: World, name: TaskId, spec: TaskSpec, at_ms: int) -> None:
    world.follow(Transition(change=Change.SUBMITTED, task_id=name, decided_ms=at_ms, spec=spec, request="{}"))


def _place(
    world: World,
    name: TaskId,
    spec: TaskSpec,
    region: RegionId,
    node: NodeId,
    pool_id: PoolId,
    device: int,
    rng: np.random.Generator,
) -> None:
    at_ms = NOW_MS - int(rng.integers(5 * HOUR_MS))
    _submit(world, name, spec, at_ms)
    share = Share(node_id=node, workers=1, gpus=1, gpu_milli=0, devices=(device,))
    world.follow(
        Transition(
            change=Change.ASSIGNED,
            task_id=name,
            decided_ms=at_ms,
            epoch=1,
            region=region,
            pool_id=pool_id,
            shares=(share,),
            usd_per_hour=2.0,
        )
    )


def run() -> dict[str, Any]:
    """Ask about waiting and placed tasks."""
    rng = np.random.default_rng(0)
    world = full_world(rng)
    explainer = Explainer(world, PlanSettings(weights=Weights(risk=1.0, rtt=0.0001, move=1.0)))
    free = world.nodes.gpu_milli_free.copy()
    waits_ms, placed_ms, remedies = list[float](), list[float](), list[int]()
    for index in range(-6, QUESTIONS):  # the first of each kind compile and fill the packer's boards
        started = time.perf_counter()
        wait = explainer.wait(world.tasks[TaskId(f"w{index % WAITING}")], NOW_MS)
        if index >= 0:
            waits_ms.append((time.perf_counter() - started) * 1e3)
            remedies.append(len(wait.remedies))
    for index in range(-3, QUESTIONS):
        name = TaskId(f"t{(index * 2_501) % 150_000}")
        started = time.perf_counter()
        explainer.options(world.tasks[name].spec, NOW_MS, instead_of=(name, 0))
        if index >= 0:
            placed_ms.append((time.perf_counter() - started) * 1e3)
    assert (world.nodes.gpu_milli_free == free).all(), "questions leave the world as it was"
    return {
        "benchmark": "explain",
        "machine": describe(),
        "nodes": len(world.nodes),
        "running_tasks": len(world.occupancy),
        "waiting_tasks": len(world.waiting),
        "questions": QUESTIONS,
        "wait_p50_ms": round(float(np.percentile(waits_ms, 50)), 1),
        "wait_p99_ms": round(float(np.percentile(waits_ms, 99)), 1),
        "wait_max_ms": round(max(waits_ms), 1),
        "remedies_mean": round(float(np.mean(remedies)), 1),
        "placed_p50_ms": round(float(np.percentile(placed_ms, 50)), 1),
        "placed_max_ms": round(max(placed_ms), 1),
    }


def main() -> None:
    """Run, print and keep the result."""
    result = run()
    (results_folder() / "explain.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
