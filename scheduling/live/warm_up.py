"""Have every kernel of a live plan compiled before somebody waits for one.

The first plan on a machine compiles for seconds; later ones find the machine code in the user's cache. Where
nothing can be written, every process compiles anew.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import scipy.optimize  # noqa: F401 (here, so that no plan is the first to import it)

from thalweg.scheduling.compiled import compiles, telling
from thalweg.scheduling.ids import NodeId, RegionId, TaskId
from thalweg.scheduling.live.live_plan import PlanSettings
from thalweg.scheduling.live.micro_batch import plan
from thalweg.scheduling.pack.nodes import Need
from thalweg.scheduling.world.tasks import MILLI, Change, DataNeed, Part, TaskSpec, Transition
from thalweg.scheduling.world.world import NodeFacts, World

compiles()  # with the import: a job does that while its JVM starts


def warm_up(settings: PlanSettings, tell: Callable[[str], None] = lambda _: None) -> None:
    """Plan a few tasks of different kinds, more than fit, for two nodes.

    Args:
        settings: of the plans to come.
        tell: told the name of each kernel as its compiling begins.
    """
    world, (a, b) = World(), (RegionId("a"), RegionId("b"))
    world.set_nodes(
        NodeFacts(
            region=region,
            node_id=NodeId("n"),
            gpu_model="A100",
            spot=False,
            gpus=2,
            cpus=8.0,
            memory_gb=64.0,
            ready=True,
        )
        for region in (a, b)
    )
    world.set_links({(a, b): (10.0, 10.0, 0.01), (b, a): (10.0, 10.0, 0.01)})
    world.set_prices({(region, "A100", False): usd for region, usd in ((a, 1.0), (b, 2.0))})
    for region in (a, b):
        world.hear(region, 0)
    whole = Need(gpus=1, cpu_milli=1_000, memory_mib=1_024)
    shared = Need(gpus=1, gpu_milli=MILLI // 2, cpu_milli=1_000, memory_mib=1_024)
    kinds = [
        TaskSpec(parts=(Part(workers=workers, need=need),), replicas=replicas)
        for workers, need, replicas in ((1, whole, 1), (1, shared, 1), (2, whole, 1), (1, whole, 2), (4, whole, 1))
    ]
    kinds.append(replace(kinds[0], data=(DataNeed(dataset=None, region=a, size_gb=100.0),)))
    for index, spec in enumerate(kinds * 2):
        world.follow(
            Transition(change=Change.SUBMITTED, task_id=TaskId(f"t{index}"), decided_ms=0, spec=spec, request="{}")
        )
    with telling(tell):
        plan(world, settings, 0, seed=0)
