"""Reasons to wait that change from plan to plan are not a row of the ledger each time."""

import pytest

from tests.unit.scheduling.worlds import ask, node, spec, world_of
from thalweg.scheduling.decisions.decide import FICKLE_MS, place
from thalweg.scheduling.live.live_plan import LeftWaiting, Plan
from thalweg.scheduling.world.world import World


def told(world: World, reason: str, now_ms: int) -> int:
    """Rows that a plan with this reason writes, obeyed."""
    plan = Plan(
        strategy="flow",
        status="optimal",
        assignments=(),
        held=(LeftWaiting(task_id="t", reason=reason),),
        considered=1,
        objective=0.0,
        bound=0.0,
    )
    rows = place(world, plan, "plan", now_ms)
    for row in rows:
        world.follow(row)
    return len(rows)


@pytest.fixture
def world() -> World:
    made = world_of(node("home", "n"))
    ask(made, "t", spec(16))
    return made


def test_reasons_that_take_turns_are_one_row_in_a_while(world: World) -> None:
    kinds = ["share: a", "replicas: b", "capacity: c", "quota: d", "budget: e"]
    rows = [told(world, kinds[number % 5], number * 100) for number in range(1_000)]
    assert sum(rows) == 1
    assert told(world, "share: still", FICKLE_MS) == 0
    assert told(world, "capacity: for a long time now", FICKLE_MS) == 1
    assert world.tasks["t"].reason == "capacity: for a long time now"


@pytest.mark.parametrize("news", ["impossible: x", "refused: x", "price: x", "gpu_model: x", "residency: x"])
def test_what_does_not_follow_from_others_is_told_at_once(world: World, news: str) -> None:
    assert told(world, "capacity: full", 0) == 1
    assert told(world, news, 1) == 1
    assert told(world, "capacity: full", 2) == 1


def test_a_clock_that_was_set_back_does_not_silence_it_for_longer(world: World) -> None:
    assert told(world, "capacity: full", 10 * FICKLE_MS) == 1
    assert told(world, "share: x", 0) == 1
