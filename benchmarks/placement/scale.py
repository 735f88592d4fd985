"""`thalweg bench scale`: one placement cycle of a world of 100 regions, 500,000 nodes and 2,000,000 running tasks.

    thalweg bench scale                                            whole cycles
    thalweg bench scale --set cycles=0 --set spark_regions=100     one cycle's packing, in Spark tasks, too
    python -m thalweg.benchmarks.placement.scale [spark]        keeps the figures in benchmarks/results/scale.json

A cycle: what ended and which nodes were lost is folded in, all tasks are planned anew (what runs may move), and what
the plan changed is packed onto the nodes of each region. The world is made up (`benchmarks.placement.plan.synthetic`
has the rules of its classes, pools and links); its tasks have the sizes and needs of common shapes of the openb trace.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from thalweg.benchmarks.placement.plan import synthetic
from thalweg.conf.environment import results_folder
from thalweg.scheduling.arrays import IntArray
from thalweg.scheduling.ids import RegionId
from thalweg.scheduling.pack.arrivals import count_violations
from thalweg.scheduling.pack.nodes import Need, Nodes, Pool, Slot
from thalweg.scheduling.pack.packer import Packer, Request
from thalweg.scheduling.pack.regions import RegionWork, pack_region, region_work
from thalweg.scheduling.problem.model import Problem
from thalweg.scheduling.problem.solution import LIVE_LIMITS, Solution, WarmStart
from thalweg.scheduling.solve.replan import RunningProblem, as_running, replan
from thalweg.scheduling.solve.solve import solve
from thalweg.stack.machine import describe

# (share of the classes, need of one task): the common GPU sizes of openb, its gangs on one node drawn more often.
SHAPES = (
    (0.20, Need(gpus=1, gpu_milli=250, cpu_milli=3_000, memory_mib=12_288)),
    (0.20, Need(gpus=1, gpu_milli=500, cpu_milli=6_000, memory_mib=24_576)),
    (0.16, Need(gpus=1, cpu_milli=8_000, memory_mib=32_768)),
    (0.16, Need(gpus=1, cpu_milli=11_000, memory_mib=49_152)),
    (0.10, Need(gpus=2, cpu_milli=20_000, memory_mib=98_304)),
    (0.10, Need(gpus=4, cpu_milli=40_000, memory_mib=163_840)),
    (0.08, Need(gpus=8, cpu_milli=88_000, memory_mib=327_680)),
)
GPUS_PER_NODE = 8
CPU_MILLI_PER_NODE = 96_000
MEMORY_MIB_PER_NODE = 393_216
CHANGED = 0.01  # of the running tasks end, and as many arrive
LOST = 0.001  # of the nodes are lost, and come back with the cycle after
HEADROOM = 0.97  # of a pool's GPUs are planned for: whole pools never pack to the last device
MOVED = 0.01  # of the running tasks may move in a cycle
MOVE_USD = 0.5
SPARK_REGIONS = 100
RESULT = results_folder() / "scale.json"


Changes = dict[int, tuple[list[int], list[int]]]
"""What a plan changes, by region: tasks, and the pool of each."""


@dataclass(slots=True, kw_only=True)
class Fleet:
    """Nodes, and tasks as columns by task: class, node row (-1 waits) and slot."""

    problem: Problem
    needs: tuple[Need, ...]  # by class
    nodes: Nodes
    packer: Packer
    task_class: IntArray
    task_row: IntArray
    slots: list[Slot | None]
    lost: IntArray

    def running(self) -> IntArray:
        """Tasks by class and pool."""
        runs = self.task_row >= 0
        table = np.zeros((len(self.problem.classes), len(self.problem.pools)), np.int64)
        np.add.at(table, (self.task_class[runs], self.nodes.pool[self.task_row[runs]]), 1)
        return table

    def leave(self, tasks: Sequence[int]) -> None:
        """Give back what these tasks hold."""
        for task in tasks:
            slot = self.slots[task]
            assert slot is not None
            self.nodes.release(slot, self.needs[int(self.task_class[task])])
            self.slots[task] = None
            self.task_row[task] = -1

    def sit(self, tasks: Sequence[int], slots: Sequence[Slot | None]) -> None:
        """Note where tasks were placed."""
        for task, slot in zip(tasks, slots, strict=True):
            self.slots[task] = slot
            self.task_row[task] = -1 if slot is None else slot.node


def fleet(*, classes: int, pools: int, regions: int, nodes: int, tasks: int) -> Fleet:
    """Nodes spread over the pools as the pools' capacity asks, and tasks that all wait."""
    problem = synthetic(5, classes=classes, pools=pools, regions=regions, tasks=tasks)
    rng = np.random.default_rng(9)
    shape = rng.choice(len(SHAPES), classes, p=[share for share, _ in SHAPES])
    needs = tuple(SHAPES[at][1] for at in shape.tolist())
    size = np.array([need.total_gpu_milli / 1000 for need in needs])
    share = problem.pools.capacity[:, 0] / problem.pools.capacity[:, 0].sum()
    number = np.maximum(1, np.round(share * nodes)).astype(np.int64)
    number[int(np.argmax(number))] += nodes - int(number.sum())
    pool = np.repeat(np.arange(pools), number)
    all_nodes = Nodes.from_columns(
        ids=[f"node-{row:06d}" for row in range(len(pool))],
        # The id of a pool stands for its GPU model: two pools of one region may have the same model here.
        pools=[
            Pool(RegionId(problem.regions[int(problem.pools.region[at])]), problem.pools.pool_ids[at])
            for at in range(pools)
        ],
        pool=pool,
        gpus=np.full(len(pool), GPUS_PER_NODE),
        cpu_milli=np.full(len(pool), CPU_MILLI_PER_NODE),
        memory_mib=np.full(len(pool), MEMORY_MIB_PER_NODE),
    )
    task_class = np.repeat(np.arange(classes), problem.classes.count)
    rng.shuffle(task_class)
    made = Fleet(
        problem=replace(
            problem,
            classes=replace(problem.classes, need=size[:, None]),
            weights=replace(problem.weights, move=MOVE_USD),
        ),
        needs=needs,
        nodes=all_nodes,
        packer=Packer(all_nodes),
        task_class=task_class,
        task_row=np.full(len(task_class), -1),
        slots=[None] * len(task_class),
        lost=np.zeros(0, np.int64),
    )
    for region in range(regions):
        made.packer.expect(RegionId(problem.regions[region]), expected_in(made, region))
    return made


def expected_in(world: Fleet, region: int) -> dict[Request, float]:
    """What arrives in a region: every shape by its share of the tasks, in each of the region's pools alike."""
    mine = frozenset(np.flatnonzero(world.problem.pools.region == region).tolist())
    return {(need, mine): share for share, need in SHAPES}


@dataclass(slots=True, kw_only=True)
class Cycle:
    """One cycle's seconds by step, and what it did."""

    fold_seconds: float = 0.0
    plan_seconds: float = 0.0
    pack_seconds: float = 0.0
    ended: int = 0
    arrived: int = 0
    displaced: int = 0
    moved: int = 0
    packed: int = 0
    unpacked: int = 0
    gap: float = 0.0

    def figures(self) -> dict[str, Any]:
        """As one JSON object."""
        total = self.fold_seconds + self.plan_seconds + self.pack_seconds
        return {
            "cycle_seconds": round(total, 3),
            "fold_seconds": round(self.fold_seconds, 3),
            "plan_seconds": round(self.plan_seconds, 3),
            "pack_seconds": round(self.pack_seconds, 3),
            "ended_tasks": self.ended,
            "arrived_tasks": self.arrived,
            "displaced_tasks": self.displaced,
            "moved_tasks": self.moved,
            "packed_tasks": self.packed,
            "tasks_without_room_on_nodes": self.unpacked,
            "plan_gap": self.gap,
        }


def change(world: Fleet, rng: np.random.Generator) -> tuple[IntArray, Cycle]:
    """Let tasks end, nodes be lost and lost ones come back; return the tasks that wait now.

    A task that ends leaves its place to a new one of a random class, so the number of tasks stays.
    """
    noted = Cycle()
    started = time.perf_counter()
    nodes = world.nodes
    for row in world.lost.tolist():
        nodes.set_node(
            str(nodes.ids[row]),
            nodes.pools[int(nodes.pool[row])],
            gpus=GPUS_PER_NODE,
            cpu_milli=CPU_MILLI_PER_NODE,
            memory_mib=MEMORY_MIB_PER_NODE,
        )
    runs = np.flatnonzero(world.task_row >= 0)
    ended = runs[rng.random(len(runs)) < CHANGED]
    world.leave(ended.tolist())
    world.lost = np.flatnonzero(rng.random(len(nodes)) < LOST)
    for row in world.lost.tolist():
        nodes.lose(row)
    displaced = np.flatnonzero(np.isin(world.task_row, world.lost))
    world.leave(displaced.tolist())
    share = world.problem.classes.count / world.problem.classes.count.sum()
    world.task_class[ended] = rng.choice(len(share), len(ended), p=share)
    noted.ended = noted.arrived = len(ended)
    noted.displaced = len(displaced)
    noted.fold_seconds = time.perf_counter() - started
    return np.flatnonzero(world.task_row < 0), noted


def plan_all(world: Fleet, waiting: IntArray, warm_start: WarmStart | None) -> tuple[RunningProblem, Solution]:
    """Sum the nodes up and plan what runs and what waits."""
    nodes, base = world.nodes, world.problem
    capacity = np.bincount(nodes.pool, np.where(nodes.ready, nodes.gpus, 0), len(base.pools)).astype(np.float64)
    problem = replace(base, pools=replace(base.pools, capacity=HEADROOM * capacity[:, None]))
    arriving = np.bincount(world.task_class[waiting], minlength=len(base.classes))
    running = world.running()
    planned = as_running(problem, running, arriving)
    if warm_start is None:
        return planned, solve(planned.problem)
    return planned, replan(planned.problem, warm_start, int(MOVED * running.sum()), LIVE_LIMITS)


def wanted(world: Fleet, planned: RunningProblem, solution: Solution) -> Changes:
    """Name the tasks that the plan's counts by class and pool mean.

    Of the equal tasks of a class in a pool the first by number move, of those that wait the first are placed.
    """
    problem, owner = planned.problem, planned.class_of
    pool_count = len(problem.pools)
    runs = np.diff(problem.classes.current_start) > 0
    home = np.full(len(problem.classes), -1)
    home[runs] = problem.classes.current_pool[problem.classes.current_start[:-1][runs]]
    goes = solution.pool_index != home[solution.class_index]
    rows, pools, counts = solution.class_index[goes], solution.pool_index[goes], solution.count[goes]
    # Tasks by where they are now: pool, or none; a plan takes from the front of each group.
    place = np.where(world.task_row >= 0, world.nodes.pool[world.task_row], pool_count)
    group = world.task_class * (pool_count + 1) + place
    asked = owner[rows] * (pool_count + 1) + np.where(home[rows] >= 0, home[rows], pool_count)
    members = np.flatnonzero(np.isin(group, np.unique(asked)))
    members = members[np.argsort(group[members], kind="stable")]
    first = np.searchsorted(group[members], asked)
    taken: dict[int, int] = {}
    result: Changes = {}
    for key, start, pool, count in zip(asked.tolist(), first.tolist(), pools.tolist(), counts.tolist(), strict=True):
        at = start + taken.get(key, 0)
        taken[key] = taken.get(key, 0) + count
        tasks, targets = result.setdefault(int(problem.pools.region[pool]), ([], []))
        tasks += members[at : at + count].tolist()
        targets += [pool] * count
    return result


def requests_in(world: Fleet, changes: Changes, region: int) -> tuple[list[int], list[Request]]:
    """Tasks to place in a region with their requests, in a fixed order: the largest first."""
    tasks, pools = changes[region]
    needs = [world.needs[int(world.task_class[task])] for task in tasks]
    order = sorted(range(len(tasks)), key=lambda at: (-needs[at].total_gpu_milli, tasks[at]))
    return [tasks[at] for at in order], [(needs[at], frozenset((pools[at],))) for at in order]


def free_movers(world: Fleet, changes: Changes) -> int:
    """Let tasks that move leave where they run; return how many."""
    movers = [task for tasks, _ in changes.values() for task in tasks if world.task_row[task] >= 0]
    world.leave(movers)
    return len(movers)


def pack_changes(world: Fleet, changes: Changes) -> tuple[int, int]:
    """Place region by region; what finds no node waits for the next cycle. Return how many did and did not."""
    packed = asked = 0
    for region in sorted(changes):
        tasks, requests = requests_in(world, changes, region)
        slots = world.packer.place_each(requests, learn=False)
        world.sit(tasks, slots)
        packed += sum(slot is not None for slot in slots)
        asked += len(slots)
    return packed, asked - packed


def one_cycle(world: Fleet, rng: np.random.Generator, warm_start: WarmStart) -> tuple[Cycle, WarmStart]:
    """Fold, plan and pack once."""
    waiting, noted = change(world, rng)
    started = time.perf_counter()
    planned, solution = plan_all(world, waiting, warm_start)
    changes = wanted(world, planned, solution)
    noted.plan_seconds = time.perf_counter() - started
    started = time.perf_counter()
    noted.moved = free_movers(world, changes)
    noted.packed, noted.unpacked = pack_changes(world, changes)
    noted.pack_seconds = time.perf_counter() - started
    noted.gap = solution.gap
    assert solution.warm_start is not None
    return noted, solution.warm_start


def on_spark(world: Fleet, rng: np.random.Generator, warm_start: WarmStart, regions: int) -> dict[str, Any]:
    """Pack one more cycle's changes three ways: by the packer that knows the nodes, afresh, afresh in Spark tasks."""
    # Imported here: the rest of the measurement needs no JVM.
    from thalweg.conf.settings import load_settings
    from thalweg.jobs.placement.pack_regions import pack_on_spark
    from thalweg.jobs.runtime.job import spark_session

    waiting, _ = change(world, rng)
    planned, solution = plan_all(world, waiting, warm_start)
    changes = wanted(world, planned, solution)
    free_movers(world, changes)
    chosen = {region: changes[region] for region in sorted(changes)[:regions]}
    works = [
        region_work(
            world.nodes,
            RegionId(planned.problem.regions[region]),
            requests_in(world, changes, region)[1],
            expected_in(world, region),
        )
        for region in chosen
    ]
    with spark_session("bench-scale", load_settings()) as spark:
        pack_on_spark(spark, _small(works))  # starts the Python workers, which then compile or load the kernels
        started = time.perf_counter()
        spread = pack_on_spark(spark, works)
        spark_seconds = time.perf_counter() - started
        cores = spark.sparkContext.defaultParallelism
    started = time.perf_counter()
    alone = [pack_region(work) for work in works]
    alone_seconds = time.perf_counter() - started
    started = time.perf_counter()
    pack_changes(world, chosen)
    warm_seconds = time.perf_counter() - started
    kept = [[world.slots[task] for task in requests_in(world, changes, region)[0]] for region in chosen]
    return {
        "regions": len(works),
        "requests": sum(len(work.requests) for work in works),
        "spark_default_parallelism": cores,
        "spark_seconds": round(spark_seconds, 3),
        "one_process_seconds": round(alone_seconds, 3),
        "one_process_that_packed_before_seconds": round(warm_seconds, 3),
        "same_slots": [one.slots for one in spread] == [one.slots for one in alone] == [tuple(one) for one in kept],
    }


def main(parts: Sequence[str]) -> None:
    """Measure and keep the figures beside the code: whole cycles, or (`spark`) the ways to pack one cycle's changes."""
    if "spark" in parts:
        document = json.loads(RESULT.read_text(encoding="utf-8"))
        document["spark"] = scale(cycles=0, spark_regions=SPARK_REGIONS)["spark"]
    else:
        document = scale()
    text = json.dumps(document, indent=1)
    RESULT.write_text(text + "\n", encoding="utf-8")
    print(text)


def _small(works: Sequence[RegionWork]) -> list[RegionWork]:
    return [replace(work, requests=work.requests[:1]) for work in works[:2]]


def scale(
    *,
    regions: int = 100,
    pools: int = 1_000,
    nodes: int = 500_000,
    classes: int = 5_000,
    tasks: int = 2_000_000,
    cycles: int = 3,
    spark_regions: int = 0,
) -> dict[str, Any]:
    """Fill the world, then measure whole cycles.

    Args:
        regions: of the world.
        pools: of the world, spread over the regions at random.
        nodes: of the world, of 8 GPUs each.
        classes: of equal tasks.
        tasks: that want to run.
        cycles: how many cycles are measured.
        spark_regions: pack so many regions of one more cycle in Spark tasks, too, and compare; 0 starts no Spark.
    """
    solve(synthetic(0, classes=20, pools=10, regions=5, tasks=100))  # compile, so that no figure holds a compiler
    load = round(os.getloadavg()[0], 2)
    rng = np.random.default_rng(1)
    began = time.perf_counter()
    world = fleet(classes=classes, pools=pools, regions=regions, nodes=nodes, tasks=tasks)
    built = time.perf_counter()
    planned, solution = plan_all(world, np.arange(len(world.task_class)), None)
    changes = wanted(world, planned, solution)
    decided = time.perf_counter()
    packed, unpacked = pack_changes(world, changes)
    first = {
        "build_seconds": round(built - began, 3),
        "plan_seconds": round(decided - built, 3),
        "pack_seconds": round(time.perf_counter() - decided, 3),
        "packed_tasks": packed,
        "tasks_without_room_on_nodes": unpacked,
    }
    warm_start, measured = solution.warm_start, []
    for _ in range(cycles):
        noted, warm_start = one_cycle(world, rng, warm_start)
        measured.append(noted.figures())
    result = {
        "benchmark": "scale",
        "machine": describe(),
        "load_average": load,
        "parameters": {
            "regions": regions,
            "pools": pools,
            "nodes": nodes,
            "gpus": nodes * GPUS_PER_NODE,
            "classes": classes,
            "tasks": len(world.task_class),
            "changed_percent": 100 * CHANGED,
            "lost_nodes_percent": 100 * LOST,
        },
        "running_tasks": int((world.task_row >= 0).sum()),
        "allocated_gpus_percent": round(100 - world.nodes.gpu_milli_free.sum() / (nodes * GPUS_PER_NODE * 10), 2),
        "first_fill": first,
        "cycles": measured,
        "worst_cycle_seconds": max((one["cycle_seconds"] for one in measured), default=None),
        "peak_memory_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
        "violations": violations(world),
    }
    if spark_regions:
        result["spark"] = on_spark(world, rng, warm_start, spark_regions)
    return result


def violations(world: Fleet) -> int:
    """Count broken limits of nodes, recomputed from the tasks' slots alone."""
    held = [task for task, slot in enumerate(world.slots) if slot is not None]
    everywhere = frozenset(range(len(world.nodes.pools)))
    return count_violations(
        world.nodes,
        [(world.needs[int(world.task_class[task])], everywhere) for task in held],
        [world.slots[task] for task in held],
    )


if __name__ == "__main__":
    main(sys.argv[1:])
