"""`thalweg bench pack`: the published packing experiment on every openb pod list, beside the reference FGD.

python -m thalweg.benchmarks.packing.pack [PART ...]     measures parts (all without a name), puts them into
                                         benchmarks/results/pack.json and prints that

Parts are the names of the openb lists, `made-up` (lists made from the public ones) and `large` (12,500 nodes).
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import click
import numpy as np

from thalweg.benchmarks.packing.pack_lists import made_up_lists
from thalweg.benchmarks.placement.real_graph import published_folder
from thalweg.conf.environment import results_folder
from thalweg.replay.openb import REGION, as_nodes, as_requests, popularity_of
from thalweg.replay.traces import OpenbNode, OpenbPod, read_openb_nodes, read_openb_pods
from thalweg.scheduling.compiled import compiles
from thalweg.scheduling.pack import arrivals as pack_run
from thalweg.scheduling.pack.arrivals import PackRun, draw_arrivals
from thalweg.scheduling.pack.ceiling import allocation_ceiling
from thalweg.scheduling.pack.nodes import GPU_MILLI, Need, Nodes, Pool
from thalweg.scheduling.pack.packer import Packer, Request, ScoringRule
from thalweg.stack.machine import describe

# Means of seeds 42-51 from the public results of the FGD paper's simulator: at 130 % arrived, at 100 % arrived.
PUBLISHED_FGD: Final = {
    "default": (95.39, 95.23),
    "cpu100": (95.35, 95.21),
    "gpushare40": (94.15, 93.96),
    "gpuspec10": (94.95, 94.66),
    "multigpu20": (95.65, 95.53),
}
SEEDS: Final = range(42, 52)
FEW_SEEDS: Final = SEEDS[:3]  # of what is slow, or only compared with itself
ARRIVE: Final = 1.3
BATCHES: Final = (16, 64, 256)
MOVES: Final = 0.01
MOVES_BATCH: Final = 64
NOTHING_REFUSED_BEFORE: Final = (90, 92, 94, 96)  # percent of the GPUs arrived
RESULT: Final = results_folder() / "pack.json"
NODE_LIST: Final = "openb_node_list_gpu_node.csv.gz"
MADE_UP: Final = "made-up"
LARGE: Final = "large"


def run(parts: str = "") -> dict[str, Any]:
    """Measure parts of the experiment, named with commas between; all without a name."""
    openb = published_folder() / "openb"
    machines = read_openb_nodes(openb / NODE_LIST)
    known = _parts(openb, machines)
    wanted = [part for part in parts.split(",") if part] or list(known)
    unknown = sorted(set(wanted) - known.keys())
    if unknown:
        raise click.UsageError(f"parts={unknown[0]!r}: there are {', '.join(known)}")
    _warm(machines, read_openb_pods(openb / "openb_pod_list_default.csv.gz"))
    return {
        "benchmark": "pack",
        "machine": describe(),
        "parameters": {
            "arrive": ARRIVE,
            "seeds": list(SEEDS),
            "seeds_of_batches_moves_and_made_up_lists": list(FEW_SEEDS),
            "moves": MOVES,
            "batch_with_moves": MOVES_BATCH,
            "compiled": compiles(),
        },
        "parts": {part: {"load_average": round(os.getloadavg()[0], 2), **known[part]()} for part in wanted},
    }


def _parts(openb: Path, machines: Sequence[OpenbNode]) -> dict[str, Callable[[], dict[str, Any]]]:
    paths = {
        path.name.removeprefix("openb_pod_list_").removesuffix(".csv.gz"): path
        for path in sorted(openb.glob("openb_pod_list_*.csv.gz"))
    }
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        name: lambda name=name, path=path: measure_list(machines, read_openb_pods(path), name)  # type: ignore[misc]
        for name, path in paths.items()
    }
    parts[MADE_UP] = lambda: measure_made_up(
        machines, read_openb_pods(paths["default"]), read_openb_pods(paths["gpuspec10"])
    )
    parts[LARGE] = lambda: measure_large(machines, read_openb_pods(paths["default"]))
    return parts


def measure_list(machines: Sequence[OpenbNode], pods: Sequence[OpenbPod], name: str) -> dict[str, Any]:
    """Measure one list: expected fill and FGD one by one, joint batches, moves, and the ceilings."""
    requests_of = Arrivals(machines, pods)
    fill = [one_run(requests_of, seed, rule=ScoringRule.FILL) for seed in SEEDS]
    figures: dict[str, Any] = {
        "fill": _means([one.figures for one in fill]),
        "fgd": _means([one_run(requests_of, seed, rule=ScoringRule.FGD).figures for seed in SEEDS]),
        "moves": _means([one_run(requests_of, seed, moves=MOVES, batch=MOVES_BATCH).figures for seed in FEW_SEEDS]),
        "fill_of_few_seeds": _means([one.figures for one in fill[: len(FEW_SEEDS)]]),
    }
    for batch in BATCHES:
        figures[f"batch_{batch}"] = _means([one_run(requests_of, seed, batch=batch).figures for seed in FEW_SEEDS])
    ceilings = [ceilings_of(one) for one in fill]
    figures["ceiling_percent"] = {key: _mean([one[key] for one in ceilings]) for key in ceilings[0]}
    published = PUBLISHED_FGD.get(name)
    if published is not None:
        figures["published_fgd"] = dict(
            zip(("allocation_percent", "allocation_at_100_percent"), published, strict=True)
        )
    figures["unallocated_gpus_ratio_to_fgd"] = round(
        figures["fill"]["unallocated_gpus"] / figures["fgd"]["unallocated_gpus"], 3
    )
    return figures


class Arrivals:
    """A list of pods on the cluster, ready to be drawn from."""

    def __init__(self, machines: Sequence[OpenbNode], pods: Sequence[OpenbPod]) -> None:
        """Read the pods as requests, in order of their names."""
        self.machines = machines
        nodes = as_nodes(machines)
        self.capacity_gpu_milli = int(nodes.gpus.sum()) * 1000
        self.listed = as_requests(nodes, sorted(pods, key=lambda pod: pod.name))
        self.popularity = popularity_of(self.listed)

    def draw(self, seed: int) -> list[Request]:
        """Return the arrivals of one seed."""
        sizes = [need.total_gpu_milli for need, _ in self.listed]
        return [self.listed[at] for at in draw_arrivals(sizes, seed=seed, limit=ARRIVE * self.capacity_gpu_milli)]


def is_share(need: Need) -> bool:
    """Whether it takes a part of one GPU."""
    return need.gpus == 1 and need.gpu_milli < GPU_MILLI


class Run:
    """One run: its arrivals, its outcome, and the figures of both."""

    def __init__(self, requests: list[Request], outcome: PackRun, seconds: float, cpu_seconds: float) -> None:
        """Derive the figures."""
        self.requests, self.outcome = requests, outcome
        capacity = outcome.capacity_gpu_milli
        refused = [at for at, slot in enumerate(outcome.slots) if slot is None]
        shares = [at for at in refused if is_share(requests[at][0])]
        arrived = np.cumsum([need.total_gpu_milli for need, _ in requests])
        self.figures = {
            "allocation_percent": 100 * outcome.allocated_gpu_milli / capacity,
            "allocation_at_100_percent": 100 * (outcome.allocated_at_full_gpu_milli or 0) / capacity,
            "unallocated_gpus": (capacity - outcome.allocated_gpu_milli) / 1000,
            "failed_pods": float(outcome.failed),
            "failed_gang_pods": float(sum(requests[at][0].gpus > 1 for at in refused)),
            "arrived_percent_at_first_refused_share": 100.0 * int(arrived[shares[0]]) / capacity if shares else 130.0,
            "moved_pods": float(outcome.moved),
            "moved_percent_of_running": 100.0 * outcome.moved / max(1, len(requests) - outcome.failed),
            "placements_per_second": len(requests) / seconds,
            "placements_per_cpu_second": len(requests) / max(cpu_seconds, 1e-9),
        }


def one_run(
    arrivals: Arrivals, seed: int, *, rule: ScoringRule = ScoringRule.FILL, batch: int = 1, moves: float = 0.0
) -> Run:
    """Pack the arrivals of one seed onto the empty cluster with a new packer; the clock runs while packing."""
    requests = arrivals.draw(seed)
    packer = Packer(as_nodes(arrivals.machines), rule=rule)
    packer.expect(REGION, arrivals.popularity)
    started, cpu_started = time.perf_counter(), time.process_time()
    outcome = pack_run.run(packer, requests, batch=batch, moves=moves)
    return Run(requests, outcome, time.perf_counter() - started, time.process_time() - cpu_started)


def ceilings_of(run_of_seed: Run) -> dict[str, float]:
    """Most that any packing could allocate of these arrivals, in percent of the GPUs.

    `same_shares_accepted`: any that ends with the shares of GPUs that this run accepted, arranged at will.
    `nothing_refused_before_N`: any that takes every share of a GPU among the arrivals until N % of the GPUs have
    arrived, and of all others what it likes. This one knows nothing of how the run packed.
    """
    requests, outcome = run_of_seed.requests, run_of_seed.outcome
    capacity = outcome.capacity_gpu_milli
    share = [is_share(need) for need, _ in requests]
    kept = [slot is not None and small for slot, small in zip(outcome.slots, share, strict=True)]
    bounds = {"same_shares_accepted": _ceiling(requests, kept, capacity)}
    arrived = np.cumsum([need.total_gpu_milli for need, _ in requests])
    for percent in NOTHING_REFUSED_BEFORE:
        early = (100 * arrived <= percent * capacity).tolist()
        taken = [small and soon for small, soon in zip(share, early, strict=True)]
        bounds[f"nothing_refused_before_{percent}"] = _ceiling(requests, taken, capacity)
    return bounds


def _ceiling(requests: Sequence[Request], taken: Sequence[bool], capacity_gpu_milli: int) -> float:
    must = [need for (need, _), yes in zip(requests, taken, strict=True) if yes]
    may = [need for (need, _), yes in zip(requests, taken, strict=True) if not yes]
    return 100 * allocation_ceiling(must, may, gpus=capacity_gpu_milli // 1000) / capacity_gpu_milli


def measure_made_up(
    machines: Sequence[OpenbNode], default: Sequence[OpenbPod], with_models: Sequence[OpenbPod]
) -> dict[str, Any]:
    """Measure expected fill and FGD on lists that nobody published figures for."""
    figures: dict[str, Any] = {}
    for title, pods in made_up_lists(default, with_models).items():
        arrivals = Arrivals(machines, pods)
        figures[title] = {
            rule.value: _means([one_run(arrivals, seed, rule=rule).figures for seed in FEW_SEEDS])
            for rule in (ScoringRule.FILL, ScoringRule.FGD)
        }
    return figures


def measure_large(
    machines: Sequence[OpenbNode], pods: Sequence[OpenbPod], nodes_wanted: int = 12_500
) -> dict[str, Any]:
    """Fill 12,500 nodes until 100 % have arrived, then let one worker go and place the next, many times."""
    many = [machines[i % len(machines)] for i in range(nodes_wanted)]
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
    order = draw_arrivals([need.total_gpu_milli for need, _ in listed], seed=SEEDS[0], limit=1.0 * capacity)
    requests = [listed[index] for index in order]
    packer = Packer(nodes)
    packer.expect(REGION, popularity_of(listed))
    started = time.perf_counter()
    slots = packer.place_each(requests)
    seconds = time.perf_counter() - started
    rng = np.random.default_rng(SEEDS[0])
    running = [at for at, slot in enumerate(slots) if slot is not None]
    latencies_ms = []
    for at in rng.choice(running, 4_000, replace=False).tolist():
        slot = slots[at]
        assert slot is not None
        nodes.release(slot, requests[at][0])
        need, allowed = listed[int(rng.integers(len(listed)))]
        began = time.perf_counter()
        packer.place(need, sorted(allowed))
        latencies_ms.append(1e3 * (time.perf_counter() - began))
    return {
        "nodes": len(nodes),
        "gpus": capacity // 1000,
        "placements": len(slots),
        "failed_pods": sum(slot is None for slot in slots),
        "seconds": round(seconds, 3),
        "placements_per_second": round(len(slots) / seconds, 1),
        "single_placement_ms_p50": round(float(np.percentile(latencies_ms, 50)), 4),
        "single_placement_ms_p99": round(float(np.percentile(latencies_ms, 99)), 4),
        "single_placements_per_second": round(1e3 * len(latencies_ms) / sum(latencies_ms), 1),
    }


def _means(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    return {key: _mean([row[key] for row in rows]) for key in rows[0]}


def _mean(values: Sequence[float]) -> float:
    return round(statistics.fmean(values), 3)


def _warm(machines: Sequence[OpenbNode], pods: Sequence[OpenbPod]) -> None:
    """Compile before the clock starts."""
    arrivals = Arrivals(machines[:20], pods)
    for rule in ScoringRule:
        one_run(arrivals, 0, rule=rule, batch=8, moves=0.5)


def main(parts: Sequence[str]) -> None:
    """Measure part after part and keep each beside the code at once; parts measured before stay."""
    openb = published_folder() / "openb"
    for part in parts or list(_parts(openb, [])):
        measured = run(part)
        if RESULT.exists():
            measured["parts"] = json.loads(RESULT.read_text(encoding="utf-8"))["parts"] | measured["parts"]
        RESULT.parent.mkdir(exist_ok=True)
        RESULT.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
    print(RESULT.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main(sys.argv[1:])
