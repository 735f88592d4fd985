"""A task that failed somewhere goes elsewhere first, and waits for nobody's sake."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.scheduling.worlds import applied, ask, node, placed, spec, where, world_of
from thalweg.scheduling.decisions import decide
from thalweg.scheduling.live.elsewhere import first_fit
from thalweg.scheduling.live.gangs import Search
from thalweg.scheduling.pack.nodes import Need, Nodes, Pool
from thalweg.scheduling.world.tasks import Part, TaskSpec
from thalweg.scheduling.world.world import World


def failed_in(world: World, region: str, wanted: TaskSpec, now_ms: int = 1) -> None:
    """Let a task be placed in a region and fail there once."""
    ask(world, "t", wanted)
    placed(world)
    copy = next(copy for copy in world.tasks["t"].copies.values() if copy.region == region)
    applied(world, decide.report(world, region, "failed", "t", copy.epoch, "", 9, now_ms))


def test_it_goes_elsewhere_first() -> None:
    world = world_of(node("a", "n"), node("b", "n"), usd={"a": 1.0, "b": 3.0})
    failed_in(world, "a", spec())
    placed(world, now_ms=2)
    assert where(world, "t") == ["b"]


def test_it_goes_back_where_the_others_have_no_room() -> None:
    world = world_of(node("a", "n"), node("b", "n", 1), usd={"a": 1.0, "b": 3.0})
    ask(world, "other", spec(allowed_regions=("b",)))
    failed_in(world, "a", spec())
    placed(world, now_ms=2)
    assert where(world, "t") == ["a"]


def test_it_goes_back_where_the_others_are_large_enough_only_in_sum() -> None:
    """Found by `thalweg place-sim`: it waited for ever for a region that could not be packed."""
    pair = TaskSpec(parts=tuple(Part(workers=1, need=Need(gpus=2, memory_mib=size)) for size in (1, 2)))
    world = world_of(node("a", "n", 8), *(node("b", f"n{number}", gpus) for number, gpus in enumerate((1, 1, 2))))
    failed_in(world, "a", pair)
    placed(world, now_ms=2)
    assert where(world, "t") == ["a"]


def test_copies_that_need_the_avoided_region_too_get_it() -> None:
    """Found by `thalweg place-sim`: two copies waited for ever for a second region other than where one had failed."""
    world = world_of(node("a", "n"), node("b", "n"))
    failed_in(world, "a", spec(replicas=2))
    placed(world, now_ms=2)
    assert where(world, "t") == ["a", "b"]


def test_room_elsewhere_that_others_take_in_the_same_plan_is_not_waited_for() -> None:
    world = world_of(node("a", "n"), node("b", "n", 1), usd={"a": 1.0, "b": 3.0})
    failed_in(world, "a", spec(priority=100))
    ask(world, "other", spec(allowed_regions=("b",), priority=900))
    placed(world, now_ms=2)
    placed(world, now_ms=3)
    assert (where(world, "other"), where(world, "t")) == (["b"], ["a"])


def test_what_needs_nothing_is_not_placed_in_a_closed_region() -> None:
    """Found by `thalweg place-sim`: closed meant without capacity, and it needed none."""
    world = world_of(node("a", "n"), node("b", "n"), usd={"a": 1.0, "b": 3.0})
    world.lose_region("a")
    ask(world, "t", TaskSpec(parts=(Part(workers=1, need=Need(gpus=0)),)))
    placed(world)
    assert where(world, "t") == ["b"]


@given(st.data())
@settings(max_examples=150)
def test_first_fit_sees_room_only_where_there_is_some(data: st.DataObject) -> None:
    nodes, pools = Nodes(), [Pool("r", "A"), Pool("s", "A")]
    for number in range(data.draw(st.integers(1, 8))):
        gpus, cpus = data.draw(st.integers(0, 4)), data.draw(st.integers(0, 8))
        pool = data.draw(st.sampled_from(pools))
        nodes.set_node(f"n{number}", pool, gpus=gpus, cpu_milli=1_000 * cpus, memory_mib=10)
    needs = st.builds(Need, gpus=st.integers(0, 3), cpu_milli=st.sampled_from([0, 1_000, 3_000]))
    shares = st.builds(Need, gpus=st.just(1), gpu_milli=st.sampled_from([300, 500]))
    parts = data.draw(st.lists(st.builds(Part, workers=st.integers(1, 3), need=needs | shares), min_size=1, max_size=3))
    holds = first_fit(nodes, TaskSpec(parts=tuple(parts)))
    for pool in np.flatnonzero(holds).tolist():
        assert Search(nodes, 100_000).slots(parts, pool, apart=False) is not None
