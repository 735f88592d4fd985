"""Who waits for room near its data, for how long, and what it is told."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.scheduling.worlds import applied, ask, node, placed, planned, spec, where, world_of
from thalweg.scheduling.decisions import decide
from thalweg.scheduling.explain.reasons import Explainer
from thalweg.scheduling.live.live_plan import PlanSettings
from thalweg.scheduling.live.near_data import in_line
from thalweg.scheduling.world.tasks import DataNeed, TaskSpec
from thalweg.scheduling.world.world import World

HOUR_MS = 3_600_000
USD_PER_GB = 0.05


def with_data(usd: float, region: str = "east", **more: object) -> TaskSpec:
    """One GPU, and data that cost so much to bring anywhere else."""
    return spec(data=(DataNeed(dataset=None, region=region, size_gb=usd / USD_PER_GB),), **more)


def busy_east(hours: float, west: int = 1) -> World:
    """One GPU in the east, taken for so many hours, and free ones in the west."""
    world = world_of(node("east", "n1", 1), node("west", "n1", west))
    ask(world, "runs", spec(expected_s=3_600.0 * hours, allowed_regions=("east",)))
    placed(world)
    assert where(world, "runs") == ["east"]
    return world


# An hour's delay of one GPU costs 2 USD, and a dollar of egress counts as three.
@pytest.mark.parametrize(("hours", "egress_usd", "goes"), [(1.0, 1.0, False), (1.6, 1.0, True), (1.6, 2.0, False)])
def test_a_task_waits_for_room_near_its_data_while_that_costs_less_than_carrying_them(
    hours: float, egress_usd: float, goes: bool
) -> None:
    world = busy_east(hours)
    ask(world, "task", with_data(egress_usd))
    placed(world)
    assert where(world, "task") == (["west"] if goes else [])


def test_who_ranks_above_it_and_belongs_there_too_is_counted() -> None:
    world = busy_east(1.0)
    ask(world, "shorter", with_data(100.0, expected_s=3_000.0))
    ask(world, "task", with_data(1.0, expected_s=3_600.0))
    placed(world)
    assert where(world, "shorter") == []
    assert where(world, "task") == ["west"], "the hour and fifty minutes are worth more than its dollar"


def test_who_ranks_below_it_is_not_counted_and_neither_is_who_belongs_elsewhere() -> None:
    world = busy_east(1.0)
    ask(world, "longer", with_data(100.0, expected_s=300_000.0))
    ask(world, "of the west", with_data(100.0, region="west", expected_s=60.0))
    ask(world, "task", with_data(1.0))
    placed(world)
    assert where(world, "of the west") == ["west"]
    assert where(world, "task") == []


def test_it_is_told_what_it_waits_for_and_that_carrying_would_cost_more() -> None:
    world = busy_east(1.0)
    ask(world, "task", with_data(1.0))
    placed(world)
    reason = world.tasks["task"].reason
    assert reason == (
        "capacity: it waits for room near its data, which is expected in 60 min; the room that there is lies where "
        "bringing them costs 1.00 USD more"
    )


def test_nobody_gives_way_to_who_has_room_elsewhere() -> None:
    world = busy_east(1.0)
    ask(world, "task", with_data(5.0, priority=600))
    assert not planned(world, now_ms=60_000).preempted


def test_it_is_looked_at_again_when_it_should_have_started_though_nothing_has_changed() -> None:
    world = busy_east(1.0)
    ask(world, "task", with_data(1.0))
    placed(world)
    asked = 0
    for minute in range(1, 400):
        now_ms = minute * 60_000
        for region in ("east", "west"):
            world.hear(region, now_ms)
        asked += len(world.waiting.window(world.loosened, 10, 10, now_ms)) > 0
        placed(world, now_ms)
        if where(world, "task"):
            break
    # What outlives its hour is expected to run on for half as long as it has: at three hours another half of that.
    assert where(world, "task") == ["west"]
    assert 2.9 <= minute / 60 <= 4.5
    assert asked < 8, "it costs no plan a batch"


def test_whoever_was_held_back_for_long_goes_whatever_is_expected() -> None:
    world = busy_east(0.5)
    ask(world, "task", with_data(1.0))
    for half_hour in range(1, 20):
        now_ms = half_hour * HOUR_MS // 2
        for region in ("east", "west"):
            world.hear(region, now_ms)
        for name, task in list(world.tasks.items()):
            if task.copies:
                applied(world, decide.report(world, "east", "succeeded", name, task.copies[0].epoch, "", 3, now_ms))
        # Half an hour is all that it ever has to wait, and another one comes before it each time.
        ask(world, f"first {half_hour}", with_data(1000.0, expected_s=1_800.0), now_ms=now_ms)
        placed(world, now_ms)
        if where(world, "task"):
            break
    assert where(world, "task") == ["west"]
    assert half_hour / 2 == pytest.approx(6.0), "four times three dollars' worth of delay, at two an hour"


@pytest.mark.parametrize("closed", [True, False])
def test_nobody_waits_for_a_region_that_takes_nothing(closed: bool) -> None:
    world = busy_east(1.0)
    if closed:
        world.close_region("east")
    ask(world, "task", with_data(1.0))
    placed(world)
    assert where(world, "task") == (["west"] if closed else [])


def test_a_task_whose_copies_lie_in_several_regions_waits_for_none_of_them() -> None:
    world = world_of(node("east", "n1", 1), node("west", "n1", 1), node("north", "n1", 1))
    ask(world, "runs", spec(allowed_regions=("east",)))
    placed(world)
    ask(world, "task", with_data(1.0, replicas=2))
    placed(world)
    assert where(world, "task") == ["north", "west"]


@given(
    st.lists(st.tuples(st.floats(0.1, 50.0), st.integers(1, 4)), max_size=6),
    st.lists(st.tuples(st.integers(1, 6), st.floats(0.1, 50.0), st.integers(1, 3)), min_size=1, max_size=8),
    st.integers(0, 3),
)
def test_in_line_everybody_starts_when_so_many_gpus_are_free_and_nobody_before_who_came_first(
    ends: list[tuple[float, int]], asks: list[tuple[int, float, int]], free: int
) -> None:
    ends = sorted(ends)
    listed = sum(tasks for _, _, tasks in asks)
    ends_h, ends_gpus = (np.zeros((1, len(ends) + listed)) for _ in range(2))
    for at, (hours, gpus) in enumerate(ends):
        ends_h[0, at], ends_gpus[0, at] = hours, gpus
    starts, later = in_line(
        np.ones((len(asks), 1), bool),
        np.array([gpus for gpus, _, _ in asks], np.float64),
        np.array([hours for _, hours, _ in asks]),
        np.array([tasks for _, _, tasks in asks], np.int64),
        np.array([float(free)]),
        ends_h,
        ends_gpus,
        np.array([len(ends)], np.int64),
        listed,
    )
    # Plainly: all moments at which something ends, and what is free at each.
    runs, clock, expected, expected_later = list(ends), 0.0, [], []
    room = float(free)
    for gpus, hours, tasks in asks:
        for task in range(tasks):
            runs.sort()
            while room < gpus and runs:
                clock = max(clock, runs[0][0])
                room += runs.pop(0)[1]
            start = clock if room >= gpus else np.inf
            if task == 0:
                expected.append(start)
                expected_later.append(np.inf)
            if 0.0 < start < expected_later[-1]:
                expected_later[-1] = start
            if start == np.inf:
                # Who does not fit takes nothing, and those who end are there for the next.
                break
            room -= gpus
            runs.append((start + hours, gpus))
        if start == np.inf:
            break
    assert starts[: len(expected)] == pytest.approx(expected)
    assert later[: len(expected)] == pytest.approx(expected_later)


def test_of_a_crowd_of_which_some_are_placed_the_others_are_told_when_these_end() -> None:
    world = world_of(node("east", "n1", 2), node("west", "n1", 8))
    for at in range(4):
        ask(world, f"task-{at}", with_data(300.0, expected_s=20 * 3_600.0))
    placed(world)
    assert [where(world, f"task-{at}") for at in range(4)] == [["east"], ["east"], [], []]
    assert "which is expected in 20.0 h; the room that there is lies where" in (world.tasks["task-2"].reason or "")


def test_explain_says_so_too_and_when() -> None:
    world = busy_east(10.0)
    ask(world, "task", with_data(300.0))
    placed(world)
    reason = world.tasks["task"].reason
    wait = Explainer(world, PlanSettings()).wait(world.tasks["task"], 0)
    assert wait.reason == reason
    assert wait.start is not None
    assert wait.start.p10_h < wait.start.p50_h < wait.start.p90_h
    assert wait.start.p50_h == pytest.approx(10.0)


def test_explain_says_nothing_of_data_where_the_next_plan_carries_them() -> None:
    world = busy_east(10.0)
    ask(world, "task", with_data(1.0))
    wait = Explainer(world, PlanSettings()).wait(world.tasks["task"], 0)
    assert wait.reason is None
