"""A command that a region does not have is not asked of it again."""

import pytest

from tests.unit.scheduling.worlds import applied, ask, node, placed, spec, where, world_of
from thalweg.scheduling.decisions import decide
from thalweg.scheduling.world.tasks import RetryTerms, RunReport, TaskTerms, Transition
from thalweg.scheduling.world.world import World

IN_A_WHILE_MS = 1_000_000


def fails(world: World, cause: str, exit_code: int) -> list[Transition]:
    (region,) = where(world, "t")
    epoch, told = world.tasks["t"].epoch, RunReport(cause=cause, exit_code=exit_code)
    return applied(world, decide.report(world, region, "failed", "t", epoch, "", 3, 5, told))  # type: ignore[arg-type]


@pytest.mark.parametrize("cause", ["start", "exit"])
def test_what_was_found_nowhere_it_may_run_is_given_up_at_once(cause: str) -> None:
    world = world_of(node("east", "n1"), node("west", "n1", model="T4"))
    ask(world, "t", spec(gpu_models=("A100",)))
    placed(world)
    (row,) = fails(world, cause, 127)
    assert row.reason is not None
    assert "after 1 attempt because a command that was not found is not tried again where it was tried" in row.reason
    assert "t" not in world.tasks


def test_another_region_is_tried_once() -> None:
    world = world_of(node("east", "n1"), node("west", "n1"))
    ask(world, "t")
    placed(world)
    (first,) = where(world, "t")
    fails(world, "start", 127)
    placed(world)
    assert where(world, "t") == [{"east": "west", "west": "east"}[first]]
    (row,) = fails(world, "start", 127)
    assert "after 2 attempts because a command that was not found" in (row.reason or "")


def test_who_asks_for_tries_of_that_kind_gets_them_and_other_codes_are_as_they_were() -> None:
    terms = TaskTerms(retries=RetryTerms(by_cause=(("start", 1),)))
    for wanted, code, tries in ((spec(terms=terms), 127, 2), (spec(), 1, 3), (spec(), 126, 3)):
        world = world_of(node("east", "n1"))
        ask(world, "t", wanted)
        for _ in range(tries):
            world.wake(IN_A_WHILE_MS)  # what could not be started twice waits before it is tried again
            placed(world)
            (row,) = fails(world, "start", code)
        assert f"after {tries} attempts" in (row.reason or "")
