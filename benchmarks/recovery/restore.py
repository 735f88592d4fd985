"""What a start and the loss of a region cost the core, in a process of its own: no broker, no JVM.

    python -m thalweg.benchmarks.recovery.restore WAREHOUSE

Times are of the processor, so that a crowded machine says the same as an idle one.
"""

import gc
import json
import resource
import sys
import time
from typing import Any

from thalweg.conf.settings import PlaceSettings
from thalweg.jobs.placement.recovery import follow
from thalweg.jobs.placement.settings import plan_settings
from thalweg.scheduling.decisions import decide
from thalweg.scheduling.live.micro_batch import plan
from thalweg.scheduling.live.warm_up import warm_up
from thalweg.scheduling.pack.packer import Packer
from thalweg.scheduling.world.world import World
from thalweg.sync.ledger.ledger import Ledger
from thalweg.sync.tables.world_tables import WorldTables


def run(warehouse: str) -> dict[str, Any]:
    """Restore the world of a warehouse, and let its first region fall silent."""
    figures: dict[str, Any] = {"imports_cpu_s": _cpu_s()}
    ledger = Ledger.claim(warehouse).now()
    figures["claim_cpu_s"] = _cpu_s() - sum(figures.values())
    began = time.process_time()
    follower = follow(warehouse, ledger, {}, 0)
    figures |= {
        "world_cpu_s": time.process_time() - began,
        "used_snapshot": follower.unused is None,
        "rows": follower.rows,
        "rows_read": follower.read,
        "live": len(follower.world.tasks),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3),
        "region": _lose_region(follower.world, warehouse),
    }
    return {name: round(value, 2) if isinstance(value, float) else value for name, value in figures.items()}


def _lose_region(world: World, warehouse: str) -> dict[str, Any]:
    now_ms, settings = 10**12, plan_settings(PlaceSettings())
    world.learn(WorldTables(warehouse, 10**12).read())
    for region in sorted(world.regions):
        world.hear(region, now_ms)
    warm_up(settings)
    packer = Packer(world.nodes)
    plan(world, settings, now_ms, 0, packer)  # its caches are those of a job that runs
    gc.collect()
    gc.freeze()
    lost = min(world.regions)
    began = time.process_time()
    world.lose_region(lost)
    rows = decide.lose_region(world, lost, 10_000, now_ms)
    plans, spread = 0, dict[str, int]()
    while rows:
        for row in rows:
            world.follow(row)
        made = plan(world, settings, now_ms, 0, packer)
        plans += made is not None
        rows = [] if made is None else decide.place(world, made, "p", now_ms)
        for one in () if made is None else made.assignments:
            spread[one.region] = spread.get(one.region, 0) + 1
    return {
        "tasks": sum(spread.values()),
        "plans": plans,
        "all_cpu_s": round(time.process_time() - began, 2),
        "spread": dict(sorted(spread.items())),
        "left": len(world.copies_in(lost)),
    }


def _cpu_s() -> float:
    return time.process_time()


if __name__ == "__main__":
    json.dump(run(sys.argv[1]), sys.stdout)
