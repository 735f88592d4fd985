"""Gap and time of live micro-batches on small random worlds whose nodes are partly taken.

python -m thalweg.benchmarks.placement.live_gap [first] [last]     prints JSON, writes benchmarks/results/live_gap.json

6 to 12 regions, 10 to 40 pools, nodes of 8 GPUs with 0 to 8 of them free, 3 to 40 classes of 1, 2, 4, 8 GPUs a worker
and 1 to 4 workers, replicas and data now and then; asked for are 0.5 to 1.3 times the GPUs that are free. The plan
measured is the live one (`scheduling.live.micro_batch.plan`): classes to pools, workers to nodes, and the bound of
both.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import numpy as np

from thalweg.benchmarks.placement.plan import RESULTS
from thalweg.scheduling.decisions.decide import RequestOrigin, submit
from thalweg.scheduling.ids import NodeId, RegionId, TaskId
from thalweg.scheduling.live.live_plan import Plan, PlanSettings
from thalweg.scheduling.live.micro_batch import plan
from thalweg.scheduling.pack.nodes import Need, Slot
from thalweg.scheduling.problem.model import Weights
from thalweg.scheduling.world.tasks import DataNeed, Part, TaskSpec, Transition
from thalweg.scheduling.world.world import NodeFacts, World
from thalweg.stack.machine import describe

SHAPES = ((1, 1), (1, 2), (1, 4), (2, 1), (2, 2), (4, 1), (4, 2), (8, 1), (8, 2))
SHARES = (0.3, 0.08, 0.05, 0.15, 0.05, 0.15, 0.04, 0.15, 0.03)


def live_world(seed: int) -> World:
    """A nearly full world with tasks waiting; the seed decides all."""
    rng = np.random.default_rng(seed)
    regions = [RegionId(f"r{i:02d}") for i in range(int(rng.integers(6, 13)))]
    pools = rng.integers(10, 41)
    kinds = [(region, model, spot) for region in regions for model in ("A100", "H100", "T4") for spot in (False, True)]
    chosen = [kinds[i] for i in sorted(rng.choice(len(kinds), min(int(pools), len(kinds)), replace=False))]
    facts = [
        NodeFacts(region=region, node_id=NodeId(f"{model}-{spot}-{n}"), gpu_model=model, spot=spot, gpus=8, cpus=96.0,
                  memory_gb=768.0, ready=True)
        for region, model, spot in chosen for n in range(int(rng.integers(1, 7)))
    ]  # fmt: skip
    world = World()
    world.set_nodes(facts)
    world.set_links(
        {
            (a, b): (float(rng.uniform(5, 250)), float(rng.uniform(0.5, 10)), float(rng.choice([0.0, 0.02, 0.09])))
            for a in regions
            for b in regions
            if a != b
        }
    )
    world.set_prices({kind: float(rng.uniform(0.5, 4.0)) for kind in chosen})
    for region in regions:
        world.hear(region, 0)
    for row in range(len(world.nodes)):
        held = 8 - int(rng.choice([0, 1, 2, 3, 4, 6, 8], p=[0.2, 0.1, 0.1, 0.1, 0.15, 0.15, 0.2]))
        if held:
            need = Need(gpus=held, cpu_milli=held * 4_000, memory_mib=held * 16_000)
            world.nodes.allocate(Slot(row, tuple(range(held))), need)
    free = float(world.nodes.gpu_milli_free.clip(min=0).sum()) / 1_000
    wanted, asked, load = int(rng.integers(3, 41)), 0.0, float(rng.uniform(0.5, 1.3))
    specs = [_spec(rng, regions) for _ in range(wanted)]
    number = 0
    while asked < load * free:
        spec = specs[int(rng.integers(wanted))]
        asked += spec.gpus * spec.replicas
        name, number = TaskId(f"t{number:05d}"), number + 1
        rows = submit(world, name, spec, "{}", name, RequestOrigin(topic="r", partition=0, offset=0, timestamp_ms=0), 0)
        for entry in rows if isinstance(rows, list) else []:
            assert isinstance(entry, Transition)
            world.follow(entry)
    return world


def _spec(rng: np.random.Generator, regions: list[RegionId]) -> TaskSpec:
    gpus, workers = SHAPES[int(rng.choice(len(SHAPES), p=SHARES))]
    need = Need(gpus=gpus, cpu_milli=gpus * 4_000, memory_mib=gpus * 16_000)
    some = [RegionId(name) for name in rng.choice(regions, 3, replace=False)]
    return TaskSpec(
        parts=(Part(workers=workers, need=need),),
        gpu_models=(None, ("A100", "H100"), ("H100",))[int(rng.choice(3, p=[0.5, 0.35, 0.15]))],
        expected_s=float(rng.lognormal(8.0, 1.0)),
        priority=int(rng.choice([300, 500, 700])),
        data=(DataNeed(dataset=None, region=some[0], size_gb=float(rng.lognormal(4, 1))),)
        if rng.random() < 0.6
        else (),
        allowed_regions=tuple(some) if rng.random() < 0.15 else None,
        replicas=2 if rng.random() < 0.1 else 1,
        spot_ok=bool(rng.random() < 0.5),
    )


def run(first: int, last: int) -> dict[str, Any]:
    """Plan the worlds of these seeds."""
    settings = PlanSettings(weights=Weights(risk=1.0, rtt=0.001))
    for seed in range(3):
        plan(live_world(first + seed), settings, 0, seed=0)  # compile, so that no figure holds a compiler
    gaps, cpu_ms, waiting, classes = [], [], [], []
    for seed in range(first, last):
        world = live_world(seed)
        started = time.process_time()
        made = plan(world, settings, 0, seed=0)
        cpu_ms.append((time.process_time() - started) * 1e3)
        assert isinstance(made, Plan)
        gaps.append(made.gap)
        waiting.append(len(made.held))
        classes.append(len({task.spec for task in world.tasks.values()}))
    return {
        "benchmark": "live_gap",
        "machine": describe(),
        "worlds": last - first,
        "classes_p50": float(np.median(classes)),
        "worlds_with_waiting_percent": round(100 * float(np.mean(np.array(waiting) > 0)), 1),
        "gap_up_to_1_percent_of_worlds_percent": round(100 * float(np.mean(np.array(gaps) <= 0.01)), 1),
        "gap_mean": round(float(np.mean(gaps)), 5),
        "gap_p50": round(float(np.median(gaps)), 5),
        "gap_p90": round(float(np.percentile(gaps, 90)), 5),
        "gap_p99": round(float(np.percentile(gaps, 99)), 5),
        "gap_worst": round(max(gaps), 5),
        "worst_seeds": [first + int(i) for i in np.argsort(gaps)[::-1][:8]],
        "cpu_ms_p50": round(float(np.percentile(cpu_ms, 50)), 2),
        "cpu_ms_p90": round(float(np.percentile(cpu_ms, 90)), 2),
        "cpu_ms_p99": round(float(np.percentile(cpu_ms, 99)), 2),
        "cpu_ms_worst": round(max(cpu_ms), 2),
    }


def main() -> None:
    """Run, print and keep the result."""
    first, last = (int(value) for value in sys.argv[1:3]) if len(sys.argv) > 2 else (0, 1_000)
    document = json.dumps(run(first, last), indent=2)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "live_gap.json").write_text(document + "\n", encoding="utf-8")
    print(document)


if __name__ == "__main__":
    main()
