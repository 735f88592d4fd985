"""Room: how much would have to become free for a task that waits, and when it does as those leave who run."""

import numpy as np

from tests.unit.scheduling.worlds import ask, node, placed, spec, world_of
from thalweg.scheduling.explain.reasons import Explainer, Wait
from thalweg.scheduling.live.live_plan import PlanSettings
from thalweg.scheduling.pack.nodes import Need
from thalweg.scheduling.world.tasks import Part, TaskSpec
from thalweg.scheduling.world.world import World


def full(*gpus: int, regions: str = "a") -> World:
    """Nodes of so many GPUs, of which tasks of an hour hold all; each region has the same."""
    world = world_of(*(node(region, f"{region}{at}", many) for region in regions for at, many in enumerate(gpus)))
    for number, many in enumerate(gpus * len(regions)):
        ask(world, f"runs{number}", spec(many, expected_s=3_600.0))
    placed(world)
    assert not world.nodes.gpu_milli_free.any()
    return world


def wait(world: World, wanted: TaskSpec) -> Wait:
    ask(world, "t", wanted)
    return Explainer(world, PlanSettings()).wait(world.tasks["t"], 0)


def rooms(world: World, wanted: TaskSpec) -> list[str]:
    """What is said of room, of all that would let it in."""
    return [remedy.change for remedy in wait(world, wanted).remedies if " more free " in remedy.change]


def test_one_who_waits_for_a_node_starts_when_those_leave_who_run_there_whichever_it_is() -> None:
    for needed in ((8, 1), (1, 8), (8,), (8, 8)):
        start = wait(full(*needed), spec(8)).start
        assert start is not None
        assert 0.0 < start.p10_h <= start.p50_h <= start.p90_h < np.inf, needed


def test_room_is_told_by_all_the_workers_of_a_node_and_of_one_pool() -> None:
    assert rooms(full(8, 8), spec(2, workers=3, expected_s=60.0)) == ["6 GPUs more free on 1 node of a/A100/on-demand"]
    assert rooms(full(4, 4), spec(3, workers=2, expected_s=60.0)) == ["6 GPUs more free on 2 nodes of a/A100/on-demand"]
    assert rooms(full(4, 4), spec(3, workers=3, expected_s=60.0)) == [], "it never has so much"


def test_room_in_one_pool_is_promised_to_nobody_who_needs_more_than_that() -> None:
    assert rooms(full(8, regions="ab"), spec(2)) == ["2 GPUs more free on 1 node of a/A100/on-demand"]
    assert rooms(full(8, regions="ab"), spec(2, replicas=2)) == [], "its copies start together, in two regions"
    unlike = tuple(Part(workers=1, need=Need(gpus=gpus)) for gpus in (1, 2))
    assert rooms(full(8), TaskSpec(parts=unlike)) == []
    assert rooms(full(8, 8), spec(2, workers=2, spread_workers=True)) == []
