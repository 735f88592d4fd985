"""The published packing experiment: openb machines as nodes, pods as requests, packed as they arrive."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from thalweg.replay.traces import OpenbNode, OpenbPod
from thalweg.scheduling.ids import RegionId
from thalweg.scheduling.pack.arrivals import count_violations, draw_arrivals, outcome
from thalweg.scheduling.pack.nodes import Nodes, Pool, Slot
from thalweg.scheduling.pack.packer import Request, ScoringRule
from thalweg.scheduling.pack.regions import RegionSlots, RegionWork, pack_region, region_work, requests_by_region

REGION = RegionId("openb")

PackAll = Callable[[Sequence[RegionWork]], list[RegionSlots]]
"""Packs every region; where it does so makes no difference to the result."""


def as_nodes(machines: Sequence[OpenbNode], regions: int = 1) -> Nodes:
    """Return the machines as empty nodes, dealt one by one to so many regions; one pool per region and GPU model."""
    models = sorted({machine.gpu_model for machine in machines})
    index = {model: i for i, model in enumerate(models)}
    names = [REGION] if regions == 1 else [RegionId(f"{REGION}-{region:03d}") for region in range(regions)]
    return Nodes.from_columns(
        ids=[machine.name for machine in machines],
        pools=[Pool(name, model) for name in names for model in models],
        pool=np.array(
            [at % regions * len(models) + index[machine.gpu_model] for at, machine in enumerate(machines)], np.int64
        ),
        gpus=np.array([machine.gpus for machine in machines], np.int64),
        cpu_milli=np.array([machine.cpu_milli for machine in machines], np.int64),
        memory_mib=np.array([machine.memory_mib for machine in machines], np.int64),
    )


def as_requests(nodes: Nodes, pods: Sequence[OpenbPod]) -> list[Request]:
    """Return each pod as a request; one that names no model may use every pool, and so may one without GPU."""
    everywhere = frozenset(range(len(nodes.pools)))
    by_models = {
        models: frozenset(i for i, pool in enumerate(nodes.pools) if pool.gpu_model in models)
        for models in {pod.gpu_models for pod in pods}
        if models
    }
    return [(pod.need, by_models[pod.gpu_models] if pod.gpu_models and pod.need.gpus else everywhere) for pod in pods]


def popularity_of(requests: Sequence[Request]) -> dict[Request, float]:
    """Count how often each shape occurs."""
    counted: dict[Request, float] = {}
    for request in requests:
        counted[request] = counted.get(request, 0.0) + 1.0
    return counted


def dealt(nodes: Nodes, requests: Sequence[Request]) -> list[Request]:
    """Deal requests to the regions in turn: each keeps its pools in the next region that has any for it."""
    names = sorted({pool.region for pool in nodes.pools})
    members = [
        frozenset(at for at, pool in enumerate(nodes.pools) if pool.region == name and len(nodes.members(at)))
        for name in names
    ]
    result: list[Request] = []
    for at, (need, pools) in enumerate(requests):
        turns = (pools & members[(at + turn) % len(names)] for turn in range(len(names)))
        result.append((need, next((here for here in turns if here), frozenset())))
    return result


def pack_here(works: Sequence[RegionWork]) -> list[RegionSlots]:
    """Pack one region after the other in this process."""
    return [pack_region(work) for work in works]


def pack_trace(
    machines: Sequence[OpenbNode],
    pods: Sequence[OpenbPod],
    *,
    seed: int,
    arrive: float = 1.3,
    batch: int = 1,
    moves: float = 0.0,
    rule: ScoringRule = ScoringRule.FILL,
    regions: int = 1,
    pack_all: PackAll = pack_here,
) -> dict[str, Any]:
    """Run one experiment and return the fields of formats.md, `thalweg pack`."""
    nodes = as_nodes(machines, regions)
    listed = as_requests(nodes, sorted(pods, key=lambda pod: pod.name))
    capacity = int(nodes.gpus.sum()) * 1000
    order = draw_arrivals([need.total_gpu_milli for need, _ in listed], seed=seed, limit=arrive * capacity)
    requests = dealt(nodes, [listed[index] for index in order])
    popularity = popularity_of(listed)
    positions = requests_by_region(nodes, requests)
    works = [
        region_work(nodes, region, [requests[at] for at in places], popularity, rule=rule, batch=batch, moves=moves)
        for region, places in sorted(positions.items())
    ]
    started = time.perf_counter()
    packed = pack_all(works)
    seconds = time.perf_counter() - started
    slots: list[Slot | None] = [None] * len(requests)
    for one in packed:
        for at, slot in zip(positions[one.region], one.slots, strict=True):
            slots[at] = slot
    result = outcome(nodes, requests, slots, sum(one.moved for one in packed))
    at_full = result.allocated_at_full_gpu_milli
    return {
        "nodes": len(nodes),
        "gpus": capacity // 1000,
        "pods": len(requests),
        "failed_pods": result.failed,
        "moved_pods": result.moved,
        "allocation_at_100": None if at_full is None else round(100 * at_full / capacity, 4),
        "allocation": round(100 * result.allocated_gpu_milli / max(1, capacity), 4),
        "unallocated_gpus": round((capacity - result.allocated_gpu_milli) / 1000, 3),
        "seconds": round(seconds, 4),
        "placements_per_second": round(len(requests) / max(seconds, 1e-9), 1),
        "violations": count_violations(nodes, requests, result.slots),
        "rule": rule.value,
        "seed": seed,
        "regions": regions,
    }
