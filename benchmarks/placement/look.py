"""What the place job does every minute: look at 150,000 running tasks again, and move some. Beside its micro-batches.

    python -m thalweg.benchmarks.placement.look [BLOCKS]    prints JSON, writes benchmarks/results/look.json

Three measurements of one world of 12,500 nodes that begins at its cold optimum:

- *cycles*: the price of one region falls by 30 %; five looks with their proofs and rows, and how far the running cost
  is from a cold optimum at the new prices after each (placed anew from nothing, nothing lost by it). Once with
  `place.most_moved` as it is by default; then the price of another region falls, with 1 % of what runs. The cost is
  GPUs' money alone, so that both mean the same: the weights of risk and round trip are 0.
- *beside*: a real `Placer` on a real ledger takes micro-batches of requests, in blocks that take turns: one
  look within the block, or none.
- *gang*: 64 GPUs on 8 nodes, in a fleet where every node holds a fragment.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
import pyarrow as pa

from thalweg.benchmarks.placement.plan import RESULTS
from thalweg.conf.settings import PlaceSettings, Settings, WarehouseSettings, WeightSettings
from thalweg.jobs.microbatch.dead_letters import DeadLetters
from thalweg.jobs.microbatch.microbatch import Microbatch
from thalweg.jobs.microbatch.outcome import BatchId
from thalweg.jobs.placement.placer import ORDER, Placer
from thalweg.jobs.placement.settings import look_limits, plan_settings
from thalweg.jobs.placement.tables import PlaceTables
from thalweg.jobs.runtime.job import Stop
from thalweg.scheduling.again.copying import copied
from thalweg.scheduling.again.look import look_again
from thalweg.scheduling.again.proposals import Proposal
from thalweg.scheduling.again.proving import proved, rows_of
from thalweg.scheduling.again.running import ClassBook
from thalweg.scheduling.arrays import FloatArray
from thalweg.scheduling.decisions import decide
from thalweg.scheduling.ids import NodeId, PoolId, RegionId, TaskId
from thalweg.scheduling.live.demand import Demand
from thalweg.scheduling.live.live_problem import live_problem
from thalweg.scheduling.live.micro_batch import plan
from thalweg.scheduling.live.whole_pools import whole_pools
from thalweg.scheduling.liveness.hearing import Hearing
from thalweg.scheduling.pack.need import Pool
from thalweg.scheduling.pack.nodes import Need
from thalweg.scheduling.pack.packer import Packer
from thalweg.scheduling.pack.pool_ids import pool_name
from thalweg.scheduling.problem.model import GPUS, Problem
from thalweg.scheduling.solve.solve import solve
from thalweg.scheduling.world.facts import WorldFacts
from thalweg.scheduling.world.tasks import Change, Part, Share, TaskSpec, Transition
from thalweg.scheduling.world.waiting import ClassKey
from thalweg.scheduling.world.world import NodeFacts, World
from thalweg.stack.machine import describe
from thalweg.streams.broker.publish import OutgoingRecord
from thalweg.streams.broker.range_reader import SCHEMA
from thalweg.sync.ledger.ledger import Ledger

HOUR_MS: Final = 3_600_000
NOW_MS: Final = 1_700_000_000_000
MODELS: Final = ("A100", "H100", "L40S")
GPUS_PER_NODE: Final = 16
FALL: Final = 0.7
"""Of a price that falls by 30 %."""
CYCLES: Final = 5
A_BATCH: Final = 20
"""Requests in one micro-batch."""
BLOCK_S: Final = 60.0
"""As often as the product looks by default."""


def fleet(rng: np.random.Generator, *, regions: int, nodes: int) -> World:
    """Regions of six pools each, whose prices differ by half; links that are fast and cost a little."""
    world = World()
    names = [RegionId(f"r{number:02d}") for number in range(regions)]
    kinds = [(model, spot) for model in MODELS for spot in (False, True)]
    pools = [Pool(region=name, gpu_model=model, spot=spot) for name in names for model, spot in kinds]
    of_node = rng.integers(len(pools), size=nodes)
    world.set_nodes(
        NodeFacts(region=pools[at].region, node_id=NodeId(f"n{number}"), gpu_model=pools[at].gpu_model,
                  spot=pools[at].spot, gpus=GPUS_PER_NODE, cpus=256.0, memory_gb=2_048.0, ready=True)
        for number, at in enumerate(of_node.tolist())
    )  # fmt: skip
    world.set_links({(a, b): (20.0, 25.0, 0.02) for a in names for b in names if a != b})
    world.set_prices(
        {
            (pool.region, pool.gpu_model, pool.spot): float(rng.uniform(1.6, 2.4)) * (0.6 if pool.spot else 1.0)
            for pool in pools
        }
    )
    for name in names:
        world.hear(name, NOW_MS)
    return world


def specs_of(rng: np.random.Generator, world: World, *, classes: int) -> list[TaskSpec]:
    """Needs of 1 to 8 GPUs; some tasks are bound to models, some to half the regions, some do not take spot."""
    regions = [name for name in world.region_names if name in world.regions]
    made = []
    for _ in range(classes):
        gpus = int(rng.choice([1, 2, 4, 8], p=[0.9, 0.07, 0.02, 0.01]))
        need = Need(gpus=gpus, cpu_milli=4_000 * gpus, memory_mib=16_000 * gpus)
        models = tuple(sorted(rng.choice(MODELS, size=int(rng.integers(1, 4)), replace=False).tolist()))
        some = tuple(sorted(RegionId(str(name)) for name in rng.choice(regions, size=len(regions) // 2, replace=False)))
        made.append(
            TaskSpec(
                parts=(Part(workers=1, need=need),),
                gpu_models=models,
                expected_s=float(np.clip(rng.lognormal(2.5, 0.8), 2.0, 96.0)) * 3_600.0,
                allowed_regions=some if rng.random() < 0.5 else None,
                spot_ok=bool(rng.random() < 0.5),
                tenant=f"team{int(rng.integers(8))}",
            )
        )
    return made


def cold(world: World, specs: Sequence[TaskSpec], count: Sequence[int]) -> tuple[Problem, Any]:
    """Place so many of each from nothing, at least cost by the hour."""
    demands = [
        Demand(
            key=ClassKey(spec=replace(spec, expected_s=3_600.0), missing=1, taken=frozenset(), avoid=frozenset()),
            tasks=(TaskId("?"),) * number,
            order=at,
            since_ms=NOW_MS,
        )
        for at, (spec, number) in enumerate(zip(specs, count, strict=True))
    ]
    problem = live_problem(world, demands, plan_settings(place_of(0)), NOW_MS, whole_pools(world))
    return problem, solve(problem)


def usd_per_hour(problem: Problem, solution: Any) -> float:
    """Price of an hour of what a solution places; GPUs alone."""
    gpus = problem.classes.need[solution.class_index, GPUS]
    return float((solution.count * gpus * problem.pools.usd_per_gpu_hour[solution.pool_index]).sum())


def fill(world: World, rng: np.random.Generator, specs: Sequence[TaskSpec], solution: Any, sizes: FloatArray) -> int:
    """Let run what a solution places, the largest first on each node; half of it makes checkpoints."""
    free: dict[int, list[tuple[int, int]]] = {}
    for row in range(len(world.nodes)):
        free.setdefault(int(world.nodes.pool[row]), []).append((row, 0))
    number = 0
    order = np.argsort(-sizes[solution.class_index], kind="stable")
    for arc in order.tolist():
        spec, pool = specs[int(solution.class_index[arc])], int(solution.pool_index[arc])
        gpus = spec.parts[0].need.gpus
        for _ in range(int(solution.count[arc])):
            row, used = free[pool][-1]
            if used + gpus > GPUS_PER_NODE:
                free[pool].pop()
                row, used = free[pool][-1]
            free[pool][-1] = row, used + gpus
            _run(world, rng, TaskId(f"t{number}"), spec, row, tuple(range(used, used + gpus)))
            number += 1
    return number


def _run(
    world: World, rng: np.random.Generator, name: TaskId, spec: TaskSpec, row: int, devices: tuple[int, ...]
) -> None:
    pool = world.nodes.pools[int(world.nodes.pool[row])]
    age_ms = 700_000 + int(rng.random() * 0.9 * (spec.expected_s * 1_000 - 700_000))
    node = NodeId(world.nodes.ids[row].rpartition("\x1f")[2])
    share = Share(node_id=node, workers=1, gpus=len(devices), gpu_milli=0, devices=devices)
    rate = len(devices) * world.geography.price_of(pool)
    common: dict[str, Any] = {"task_id": name, "decided_ms": NOW_MS - age_ms}
    placed: dict[str, Any] = {"epoch": 1, "region": pool.region, "pool_id": PoolId(pool_name(pool))}
    world.follow(Transition(change=Change.SUBMITTED, spec=spec, request="{}", **common))
    world.follow(Transition(change=Change.ASSIGNED, shares=(share,), usd_per_hour=rate, **common, **placed))
    world.follow(Transition(change=Change.RUNNING, **common, **placed))
    if rng.random() < 0.5:
        world.tell(name, pool.region, 1, 0.0, NOW_MS - int(rng.integers(600_000)))


def running_usd(world: World) -> float:
    """Price of an hour of all that runs, at the prices of now."""
    price = np.array([world.geography.price_of(pool) for pool in world.nodes.pools])
    used = world.occupancy.used()
    pools, gpu_milli = world.occupancy.column("pool")[used], world.occupancy.column("gpu_milli")[used]
    return float((price[pools] * gpu_milli).sum() / 1_000)


def falls(world: World, region: RegionId) -> None:
    """Let one region's prices fall."""
    prices = world.geography.prices
    world.set_prices({key: usd * (FALL if key[0] == region else 1.0) for key, usd in prices.items()})


def price_cycles(world: World, book: ClassBook, place: PlaceSettings, optimum: float) -> list[dict[str, float]]:
    """Look five times, a minute apart, and say after each how far the running cost is from a cold optimum."""
    settings, limits, packer = plan_settings(place), look_limits(place), Packer(world.nodes)
    told = []
    for cycle in range(CYCLES):
        now_ms = NOW_MS + 60_000 * (cycle + 1)
        proposals, times = _look(world, place, now_ms, book)
        rows, batches = 0, [0.0]
        for first in range(0, len(proposals), 8):
            cpu = time.thread_time()
            made = rows_of(proved(world, proposals[first:][:8], settings, limits, now_ms, packer), now_ms)
            _follow(world, made)
            rows += len(made)
            batches.append(time.thread_time() - cpu)
        told.append(
            {
                **times,
                "proof_cpu_ms_a_batch_worst": round(max(batches) * 1e3, 1),
                "proposed": len(proposals),
                "moved": rows // 2,
                "above_cold_percent": round(100 * (running_usd(world) / optimum - 1), 3),
            }
        )
    return told


class _Nobody:
    """A broker that takes everything."""

    def publish(self, records: Sequence[OutgoingRecord]) -> None:
        """Take it."""

    def close(self) -> None:
        """End."""


def beside(world: World, blocks: int) -> dict[str, Any]:
    """Take micro-batches in blocks with a look and without one, by turns."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(
            warehouse=WarehouseSettings(path=folder), place=PlaceSettings(look_again_every_s=1e9, most_moved=32)
        )
        stop = Stop()
        placer = Placer(
            settings=settings,
            ledger=Ledger.claim(folder),
            world=world,
            publisher=_Nobody(),
            tables=PlaceTables(folder, 1_000, 0, stop),
            facts=WorldFacts,
            clock=lambda: NOW_MS + 600_000 + int(time.perf_counter() * 1e3),
            packer=Packer(world.nodes),
            hearing=Hearing(timeout_ms=10**9),
        )
        batches = Microbatch(
            job="place", order=ORDER, read=lambda frame, _: frame, decide=placer.decide,
            dead_letters=DeadLetters("thalweg", lambda: placer.publisher), stop=stop,
        )  # fmt: skip
        ended = threading.Event()

        def look() -> None:
            while not ended.wait(0.2):
                placer.again.look()

        thread = threading.Thread(target=look)
        thread.start()
        seconds: dict[bool, list[float]] = {False: [], True: []}
        batch = 0
        for block in range(-1, blocks):
            with_look = block % 2 == 1
            if with_look:
                placer.again.looked_ms = -(10**15)
            until = time.perf_counter() + BLOCK_S
            while time.perf_counter() < until:
                records = _records(batch)
                began = time.perf_counter()
                batches.run(records, BatchId("bench", batch))
                if block >= 0:  # the first block compiles
                    seconds[with_look].append(time.perf_counter() - began)
                batch += 1
                time.sleep(0.02)
        ended.set()
        thread.join()
    off, on = (_percentiles(seconds[which]) for which in (False, True))
    return {
        "block_seconds": BLOCK_S,
        "requests_a_batch": A_BATCH,
        **{f"without_a_look_{name}": value for name, value in off.items()},
        **{f"with_a_look_{name}": value for name, value in on.items()},
        "p99_slower_percent": round(100 * (on["p99_ms"] / off["p99_ms"] - 1), 1),
    }


def _percentiles(seconds: Sequence[float]) -> dict[str, float]:
    at = {f"p{q}_ms": round(float(np.percentile(seconds, q)) * 1e3, 2) for q in (50, 99)}
    return {"batches": len(seconds), **at, "worst_ms": round(max(seconds) * 1e3, 2)}


def _records(batch: int) -> pa.Table:
    """Requests, as they come from the topic."""
    asked = [
        ("thalweg.requests", {"task_id": f"b{batch}-{number}", "per_worker": {"gpus": 1}, "expected_s": 7_200})
        for number in range(A_BATCH)
    ]
    rows = [(topic, json.dumps(value).encode()) for topic, value in asked]
    return pa.Table.from_pylist(
        [
            {"topic": topic, "partition": 0, "offset": batch * A_BATCH + at, "timestamp_ms": NOW_MS, "key": b"k",
             "value": value}
            for at, (topic, value) in enumerate(rows)
        ],
        schema=SCHEMA,
    )  # fmt: skip


def gang() -> dict[str, Any]:
    """Count the looks until a gang of 64 GPUs sits, in a region of 100 nodes that each hold one to three fragments."""
    rng = np.random.default_rng(7)
    world = World()
    world.set_nodes(
        NodeFacts(region=RegionId("r"), node_id=NodeId(f"n{number}"), gpu_model="H100", spot=False, gpus=8, cpus=96.0,
                  memory_gb=512.0, ready=True)
        for number in range(100)
    )  # fmt: skip
    world.set_prices({(RegionId("r"), "H100", False): 2.0})
    world.hear(RegionId("r"), NOW_MS)
    need = Need(gpus=1, cpu_milli=1_000, memory_mib=1_000)
    small = TaskSpec(parts=(Part(workers=1, need=need),), expected_s=36_000.0)
    for row in range(100):
        for device in range(int(rng.integers(1, 4))):
            _run(world, rng, TaskId(f"s{row}-{device}"), small, row, (device,))
    whole = Need(gpus=8, cpu_milli=8_000, memory_mib=8_000)
    asks = TaskSpec(parts=(Part(workers=8, need=whole),), expected_s=36_000.0)
    name = TaskId("gang")
    world.follow(Transition(change=Change.SUBMITTED, task_id=name, decided_ms=NOW_MS, spec=asks, request="{}"))
    place = PlaceSettings()
    settings, limits, packer = plan_settings(place), look_limits(place), Packer(world.nodes)
    moved = cycles = 0
    while cycles < 10:
        made = plan(world, settings, NOW_MS, 0, packer)
        _follow(world, [] if made is None else decide.place(world, made, "p", NOW_MS))
        if world.tasks[name].copies:
            break
        cycles += 1
        copy = copied(world, NOW_MS)
        found = look_again(copy.world, settings, limits, NOW_MS, stuck=copy.stuck)
        moves = proved(world, found, settings, limits, NOW_MS, packer)
        _follow(world, rows_of(moves, NOW_MS))
        moved += len(moves)
    seated = bool(world.tasks[name].copies)
    return {"nodes": 100, "gang_gpus": 64, "seated": seated, "looks": cycles, "moved_each_with_a_new_home": moved}


def _follow(world: World, rows: Sequence[Transition]) -> None:
    for row in rows:
        world.follow(row)


def run(blocks: int = 6) -> dict[str, Any]:
    """Measure all three."""
    rng = np.random.default_rng(3)
    load = round(os.getloadavg()[0], 2)
    result: dict[str, Any] = {"benchmark": "look", "machine": describe(), "load_average": load, "gang": gang()}
    world = fleet(rng, regions=20, nodes=12_500)
    specs = specs_of(rng, world, classes=1_500)
    wanted = rng.multinomial(150_000, rng.dirichlet(np.full(len(specs), 3.0)))
    problem, solution = cold(world, specs, wanted.tolist())
    result |= {
        "nodes": len(world.nodes),
        "pools": len(world.nodes.pools),
        "classes": len(specs),
        "running": fill(world, rng, specs, solution, problem.classes.need[:, GPUS]),
        "gpus_used_percent": round(100 * float(world.occupancy.column("gpu_milli").sum()) / 16e3 / len(world.nodes), 1),
    }
    count = np.bincount(solution.class_index, solution.count, len(specs)).astype(np.int64).tolist()
    book = ClassBook()
    result["first_looks"] = [_look(world, place_of(32), NOW_MS, book)[1] for _ in range(10)]
    looks = []
    for most_moved, region in ((32, "r00"), (1_500, "r01")):
        falls(world, RegionId(region))
        optimum = usd_per_hour(*cold(world, specs, count))
        begin = round(100 * (running_usd(world) / optimum - 1), 3)
        told = price_cycles(world, book, place_of(most_moved), optimum)
        looks += told
        result[f"most_moved_{most_moved}"] = {"above_cold_before_percent": begin, "cycles": told}
    result["beside"] = beside(world, blocks)
    for name in ("look_ms", "look_cpu_ms"):
        result[f"{name}_p99"] = round(float(np.percentile([one[name] for one in looks], 99)), 1)
    result["load_average_at_the_end"] = round(os.getloadavg()[0], 2)
    return result


def place_of(most_moved: int) -> PlaceSettings:
    """The product's settings, but for what would not be money, and how many move."""
    return PlaceSettings(most_moved=most_moved, weights=WeightSettings(rtt=0.0, risk=0.0))


def _look(world: World, place: PlaceSettings, now_ms: int, book: ClassBook) -> tuple[list[Proposal], dict[str, float]]:
    """Copy the world and look at it; what that took by the clock, and by the processor."""
    began = time.perf_counter()
    copy = copied(world, now_ms)
    copied_at, cpu = time.perf_counter(), time.thread_time()
    found = look_again(copy.world, plan_settings(place), look_limits(place), now_ms, stuck=copy.stuck, book=book)
    ended, cpu_ended = time.perf_counter(), time.thread_time()
    times = {"copy_ms": copied_at - began, "look_ms": ended - copied_at, "look_cpu_ms": cpu_ended - cpu}
    return found, {name: round(seconds * 1e3, 1) for name, seconds in times.items()}


def main() -> None:
    """Run, print and keep the result."""
    document = json.dumps(run(*map(int, sys.argv[1:])), indent=2)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "look.json").write_text(document + "\n", encoding="utf-8")
    print(document)


if __name__ == "__main__":
    main()
