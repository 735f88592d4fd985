"""What the order of the queue promises: the longest wait, a gang's start, a figure for whatever is said of a task."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.scheduling.worlds import applied, ask, node, placed, spec, where, world_of
from thalweg.scheduling.decisions import decide
from thalweg.scheduling.live.demand import rank_of
from thalweg.scheduling.live.reservations import reservations
from thalweg.scheduling.pack.nodes import Need
from thalweg.scheduling.problem.model import GPUS
from thalweg.scheduling.world.hold import as_requested, left_h
from thalweg.scheduling.world.tasks import Part, TaskSpec
from thalweg.scheduling.world.value import (
    DEFAULT_RULE,
    MOST_VALUE,
    RankRule,
    deadline_times,
    rank,
    value_usd_per_hour,
    wait_usd,
)
from thalweg.scheduling.world.waiting import ClassKey
from thalweg.scheduling.world.world import World

HOUR_MS = 3_600_000
ANY = st.floats(allow_nan=True, allow_infinity=True)


@given(ANY, st.integers(0, 1_000), st.floats(0, 1e9), ANY, st.integers(-(2**62), 2**62), st.integers(-(2**62), 2**62))
def test_whatever_is_said_of_a_task_it_has_a_rank_and_a_price(
    value: float, priority: int, gpus: float, hours: float, slack_ms: int, age_ms: int
) -> None:
    worth = value_usd_per_hour(priority, gpus, value) * deadline_times(slack_ms)
    assert 0 < worth <= MOST_VALUE * 16
    estimate = as_requested(TaskSpec(parts=(Part(workers=1, need=Need(gpus=1)),), expected_s=hours))
    assert 0 < estimate.least_h <= estimate.hours <= estimate.most_h < math.inf
    ranked = rank(worth, max(gpus, 1.0) * estimate.hours, age_ms, DEFAULT_RULE)
    assert np.isfinite(ranked)
    assert ranked > 0
    assert 0 < wait_usd(ranked, gpus, 1e6) < math.inf


@given(st.lists(st.tuples(st.floats(1e-3, 1e6), st.floats(0.02, 8_000), st.integers(0, 200)), min_size=2, max_size=9))
def test_who_was_promised_a_start_comes_before_all_who_were_not_and_those_in_their_order(
    tasks: list[tuple[float, float, int]],
) -> None:
    rule = RankRule(longest_wait_ms=100.0 * HOUR_MS)
    worth, hours, ages_h = (np.array(column, np.float64) for column in zip(*tasks, strict=True))
    ranks = rank(worth, hours, ages_h * HOUR_MS, rule)
    overdue = ages_h >= 100
    if overdue.any() and not overdue.all():
        assert ranks[overdue].min() >= ranks[~overdue].max()
    by_rank = ages_h[overdue][np.argsort(-ranks[overdue], kind="stable")]
    assert (np.diff(by_rank) <= 0).all()


@given(st.floats(0.02, 8_000), st.floats(0, 1e5), st.floats(0, 1e5))
def test_an_estimate_that_was_outlived_grows_with_what_was_attained(expected: float, less: float, more: float) -> None:
    less, more = sorted((less, more))
    left = left_h(np.full(2, expected), np.array([less, more]))
    assert (left > 0).all()
    assert left[0] + less <= left[1] + more + 1e-6, "when it ends is never expected sooner than before"


def test_a_task_that_waited_as_long_as_was_promised_is_the_next_to_start() -> None:
    world = world_of(node("east", "n1", 1))
    ask(world, "long", spec(priority=0, expected_s=360_000.0))
    rule = RankRule(longest_wait_ms=6 * HOUR_MS)
    started = None
    for step in range(24):
        now_ms = step * HOUR_MS
        world.hear("east", now_ms)
        for name, task in list(world.tasks.items()):
            if name != "long" and task.copies:
                applied(world, decide.report(world, "east", "succeeded", name, task.copies[0].epoch, "", 3, now_ms))
        ask(world, f"short{step}", spec(priority=1_000, expected_s=3_600.0), now_ms=now_ms)
        placed(world, now_ms=now_ms, rule=rule, most_preempted=0)
        if where(world, "long"):
            started = step
            break
    assert started == 6


def full_of(*hours: float) -> World:
    """Eight GPUs, each taken for so many hours."""
    world = world_of(node("east", "n1", 8))
    for index, held in enumerate(hours):
        ask(world, f"runs{index}", spec(expected_s=3_600.0 * held))
    placed(world)
    assert all(where(world, f"runs{index}") for index in range(len(hours)))
    return world


def test_who_ranks_below_a_gang_does_not_take_the_room_that_becomes_free_for_it() -> None:
    world = full_of(1, 2, 3, 4, 50, 50, 50)
    gang = spec(workers=4, expected_s=36_000.0)
    ask(world, "gang", gang)
    ask(world, "below", spec(expected_s=400_000.0))
    placed(world)
    assert not where(world, "gang")
    assert not where(world, "below"), "it would run on when the gang is to start"
    assert world.tasks["below"].reason.startswith("capacity: the room that there is is kept for a larger task")
    ask(world, "gone by then", spec(expected_s=5_000.0, priority=100))
    placed(world)
    assert where(world, "gone by then")


def test_who_may_have_room_that_is_kept_is_looked_at_however_many_rank_above_who_may_not() -> None:
    world = full_of(1, 2, 3, 4, 50, 50, 50, 50)
    ask(world, "gang", spec(workers=4, expected_s=36_000.0))
    for index in range(20):
        ask(world, f"long{index}", spec(expected_s=3_600.0 * (12.0 + index / 4)))
    ask(world, "gone by then", spec(expected_s=5_000.0, priority=100))
    placed(world)  # everybody has been looked at once
    assert not where(world, "gone by then")
    applied(world, decide.report(world, "east", "succeeded", "runs0", 1, "", 3, 1))
    placed(world)
    assert where(world, "gone by then")


def test_a_gang_that_may_not_go_where_another_has_its_room_gets_room_of_its_own() -> None:
    world = world_of(node("east", "n1", 8), node("west", "n1", 4))
    for index in range(2):
        ask(world, f"east{index}", spec(expected_s=36_000.0, allowed_regions=("east",)))
    for index in range(4):
        ask(world, f"west{index}", spec(expected_s=72_000.0, allowed_regions=("west",)))
    placed(world)
    ask(world, "first", spec(workers=8, expected_s=36_000.0))
    ask(
        world, "second", spec(workers=4, expected_s=72_000.0)
    )  # there are six free GPUs in the east, kept for the first
    placed(world)
    assert not where(world, "second")
    kept = reservations(world, world.pools().capacity[:, GPUS], 0, DEFAULT_RULE)
    rooms = {one.task_id: (world.nodes.pools[one.pool].region, one.starts_in_h) for one in kept}
    assert rooms == {"first": ("east", pytest.approx(10.0)), "second": ("west", pytest.approx(20.0))}


def test_the_promise_raises_a_rank_late() -> None:
    rule = RankRule(longest_wait_ms=100.0 * HOUR_MS)
    ages_ms = np.array([0.0, 50.0, 75.0, 99.0]) * HOUR_MS
    ranks = rank(2.0, 1.0, ages_ms, rule)
    assert ranks == pytest.approx([2.0, 2.0 * 2**0.5, 4.0, 20.0])


@given(
    st.lists(st.floats(0.1, 100.0), min_size=4, max_size=8),
    st.lists(st.tuples(st.floats(0.1, 300.0), st.integers(1, 4)), min_size=1, max_size=6),
)
def test_what_is_let_in_before_a_gang_leaves_its_start_where_it_was(
    running: list[float], others: list[tuple[float, int]]
) -> None:
    world = full_of(*running)
    ask(world, "gang", spec(workers=8, expected_s=3_600.0))
    key = ClassKey(spec=world.tasks["gang"].spec, missing=1, taken=frozenset(), avoid=frozenset())  # type: ignore[index]
    mine = rank_of(key, 0, 0, DEFAULT_RULE)

    def start() -> float:
        (kept,) = reservations(world, world.pools().capacity[:, GPUS], 0, DEFAULT_RULE)
        return kept.starts_in_h

    before = start()
    for index, (hours, workers) in enumerate(others):
        other = spec(workers=workers, expected_s=3_600.0 * hours, priority=300)
        below = ClassKey(spec=other, missing=1, taken=frozenset(), avoid=frozenset())
        if rank_of(below, 0, 0, DEFAULT_RULE) < mine:
            ask(world, f"other{index}", other)
    placed(world, most_preempted=0)
    assert start() <= before + 1e-9


def test_a_value_that_a_request_gives_counts_before_its_priority() -> None:
    world = world_of(node("east", "n1", 1))
    ask(world, "important", spec(priority=700))
    ask(world, "dear", spec(priority=100, value_usd_per_hour=100.0))
    rows = placed(world)
    assert next(row.task_id for row in rows if str(row.change) == "assigned") == "dear"


@pytest.mark.parametrize(("longest_h", "kept_from_all"), [(100, True), (400, False)])
def test_a_gang_that_can_just_be_started_in_time_is_passed_by_nobody(longest_h: int, kept_from_all: bool) -> None:
    world = world_of(node("east", "n1", 8))
    ask(world, "gang", spec(workers=4, expected_s=36_000.0, priority=0))
    for index, hours in enumerate((95, 95, 95, 300, 300, 300, 300)):
        ask(world, f"runs{index}", spec(expected_s=3_600.0 * hours, priority=900))
    rule = RankRule(longest_wait_ms=float(longest_h * HOUR_MS))
    placed(world, rule=rule, most_preempted=0)
    assert not where(world, "gang")
    now_ms = 50 * HOUR_MS  # three of its four GPUs come in 45 hours: at 95 of 100
    world.hear("east", now_ms)
    ask(world, "dear", spec(expected_s=720_000.0, priority=1_000), now_ms=now_ms)
    placed(world, now_ms=now_ms, rule=rule, most_preempted=0)
    assert bool(where(world, "dear")) is not kept_from_all
