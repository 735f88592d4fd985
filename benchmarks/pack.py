"""`thalweg bench pack`: the published packing experiment on every openb pod list, beside the reference FGD.

python -m benchmarks.pack            prints one JSON document and writes benchmarks/results/pack.json
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import describe
from benchmarks.real_graph import published_folder
from scheduling import pack_run
from scheduling.nodes import Nodes, Pool
from scheduling.pack import Packer, Rule
from scheduling.pack_ceiling import allocation_ceiling
from scheduling.pack_run import PackRun, draw_arrivals
from thalweg.pack_command import REGION, as_nodes, as_requests, popularity_of
from thalweg.traces import OpenbNode, OpenbPod, read_openb_nodes, read_openb_pods

# Means of seeds 42-51 from the public results of the FGD paper's simulator: at 130 % arrived, at 100 % arrived.
PUBLISHED_FGD = {
    "default": (95.39, 95.23),
    "cpu100": (95.35, 95.21),
    "gpushare40": (94.15, 93.96),
    "gpuspec10": (94.95, 94.66),
    "multigpu20": (95.65, 95.53),
}
EXTRA_SEEDS = 3  # joint batches, moves and the ceiling are run on the first seeds only
RESULT = Path(__file__).parent / "results" / "pack.json"
NODE_LIST = "openb_node_list_gpu_node.csv.gz"


def bench_pack(
    openb: Path, *, seeds: Sequence[int] = range(42, 52), moves: float = 0.01, batch: int = 64
) -> dict[str, Any]:
    """Measure allocation, refusals and speed, one by one, jointly, with moves, and of FGD; one JSON-able object.

    Args:
        openb: folder of the openb lists.
        seeds: of the arrival orders; the published figures are means of 42 to 51.
        moves: share of running pods that may move in the run with moves.
        batch: size of the joint micro-batches.
    """
    machines = read_openb_nodes(openb / NODE_LIST)
    lists = sorted(openb.glob("openb_pod_list_*.csv.gz"))
    _warm(machines, read_openb_pods(lists[0]))
    traces = {}
    for path in lists:
        name = path.name.removeprefix("openb_pod_list_").removesuffix(".csv.gz")
        traces[name] = _trace(machines, read_openb_pods(path), name, seeds, moves, batch)
    return {
        "benchmark": "pack",
        "machine": describe(),
        "parameters": {
            "seeds": list(seeds),
            "arrive": 1.3,
            "batch": batch,
            "moves": moves,
            "seeds_of_batch_moves_and_ceiling": list(seeds)[:EXTRA_SEEDS],
        },
        "traces": traces,
        "at_12500_nodes": _large(machines, read_openb_pods(openb / "openb_pod_list_default.csv.gz")),
    }


def _trace(
    machines: Sequence[OpenbNode], pods: Sequence[OpenbPod], name: str, seeds: Sequence[int], moves: float, batch: int
) -> dict[str, Any]:
    ways: dict[str, dict[str, Any]] = {
        "fill": {"rule": Rule.FILL},
        f"fill_batch_{batch}": {"rule": Rule.FILL, "batch": batch},
        "fill_moves": {"rule": Rule.FILL, "moves": moves},
        "fgd": {"rule": Rule.FGD},
    }
    figures: dict[str, Any] = {way: [] for way in ways}
    ceilings: list[float] = []
    for seed in seeds:
        for way, options in ways.items():
            if way not in ("fill", "fgd") and len(figures[way]) == EXTRA_SEEDS:
                continue
            measured, result, requests = _one(machines, pods, seed, **options)
            figures[way].append(measured)
            if way == "fill" and len(ceilings) < EXTRA_SEEDS:
                shares = [n.gpus == 1 and n.gpu_milli < 1000 for n, _ in requests]
                kept = [s is not None and share for s, share in zip(result.slots, shares, strict=True)]
                ceiling = allocation_ceiling(
                    [n for (n, _), k in zip(requests, kept, strict=True) if k],
                    [n for (n, _), k in zip(requests, kept, strict=True) if not k],
                    gpus=result.capacity_gpu_milli // 1000,
                )
                ceilings.append(100 * ceiling / result.capacity_gpu_milli)
    means = {way: {key: statistics.fmean(f[key] for f in rows) for key in rows[0]} for way, rows in figures.items()}
    published = PUBLISHED_FGD.get(name)
    return {
        **{way: {key: round(value, 3) for key, value in row.items()} for way, row in means.items()},
        "ceiling_allocation_percent_same_shares_accepted": round(statistics.fmean(ceilings), 3),
        "published_fgd_allocation_percent": published and published[0],
        "published_fgd_allocation_at_100_percent": published and published[1],
        "unallocated_gpus_ratio_to_fgd": round(means["fill"]["unallocated_gpus"] / means["fgd"]["unallocated_gpus"], 3),
    }


def _one(
    machines: Sequence[OpenbNode],
    pods: Sequence[OpenbPod],
    seed: int,
    *,
    rule: Rule,
    batch: int = 1,
    moves: float = 0.0,
) -> tuple[dict[str, float], PackRun, list[Any]]:
    nodes = as_nodes(machines)
    listed = as_requests(nodes, sorted(pods, key=lambda pod: pod.name))
    capacity = int(nodes.gpus.sum()) * 1000
    order = draw_arrivals([need.total_gpu_milli for need, _ in listed], seed=seed, limit=1.3 * capacity)
    requests = [listed[index] for index in order]
    packer = Packer(nodes, rule=rule)
    packer.expect(REGION, popularity_of(listed))
    started, cpu_started = time.perf_counter(), time.process_time()
    result = pack_run.run(packer, requests, batch=batch, moves=moves)
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
    figures = {
        "allocation_percent": 100 * result.allocated_gpu_milli / capacity,
        "allocation_at_100_percent": 100 * (result.allocated_at_full_gpu_milli or 0) / capacity,
        "unallocated_gpus": (capacity - result.allocated_gpu_milli) / 1000,
        "failed_pods": result.failed,
        "failed_gang_pods": sum(
            slot is None and need.gpus > 1 for (need, _), slot in zip(requests, result.slots, strict=True)
        ),
        "moved_pods": result.moved,
        "placements_per_second": len(requests) / seconds,
        "placements_per_cpu_second": len(requests) / max(cpu_seconds, 1e-9),
    }
    return figures, result, requests


def _large(machines: Sequence[OpenbNode], pods: Sequence[OpenbPod]) -> dict[str, Any]:
    """Fill a cluster of 12,500 nodes to 100 % with pods drawn from the same list."""
    many = [machines[i % len(machines)] for i in range(12_500)]
    models = sorted({machine.gpu_model for machine in many})
    nodes = Nodes.from_columns(
        ids=[f"node-{i:05d}" for i in range(len(many))],
        pools=[Pool(REGION, model) for model in models],
        pool=np.array([models.index(machine.gpu_model) for machine in many], np.int64),
        gpus=np.array([machine.gpus for machine in many], np.int64),
        cpu_milli=np.array([machine.cpu_milli for machine in many], np.int64),
        memory_mib=np.array([machine.memory_mib for machine in many], np.int64),
    )
    listed = as_requests(nodes, sorted(pods, key=lambda pod: pod.name))
    capacity = int(nodes.gpus.sum()) * 1000
    order = draw_arrivals([need.total_gpu_milli for need, _ in listed], seed=42, limit=1.0 * capacity)
    requests = [listed[index] for index in order]
    packer = Packer(nodes)
    packer.expect(REGION, popularity_of(listed))
    packer.place_each(requests[:1000])  # values every kind of empty node once
    started = time.perf_counter()
    placed = packer.place_each(requests[1000:])
    seconds = time.perf_counter() - started
    packer.release_each(requests[1000::4], placed[::4])
    latencies_ms = []
    for need, pools in requests[1000:4000:4]:
        at = time.perf_counter()
        packer.place(need, sorted(pools))
        latencies_ms.append(1e3 * (time.perf_counter() - at))
    return {
        "nodes": len(nodes),
        "gpus": capacity // 1000,
        "placements": len(placed),
        "failed_pods": sum(slot is None for slot in placed),
        "seconds": round(seconds, 3),
        "placements_per_second": round(len(placed) / seconds, 1),
        "single_placement_ms_p50": round(float(np.percentile(latencies_ms, 50)), 4),
        "single_placement_ms_p99": round(float(np.percentile(latencies_ms, 99)), 4),
    }


def _warm(machines: Sequence[OpenbNode], pods: Sequence[OpenbPod]) -> None:
    """Compile before the clock starts."""
    for rule in Rule:
        _one(machines[:20], pods, 0, rule=rule, batch=8, moves=0.5)


def run() -> dict[str, Any]:
    """Run the whole experiment on the published lists."""
    return bench_pack(published_folder() / "openb")


def main() -> None:
    """Measure and keep the result beside the code."""
    text = json.dumps(run(), indent=1)
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
