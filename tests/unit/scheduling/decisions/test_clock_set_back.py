"""A clock that was minutes ahead and was set right: nothing that was to wait for seconds waits for these minutes."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.scheduling.again.stage import TEN_HOURS, moved, of_two, priced, runs
from tests.unit.scheduling.worlds import applied, ask, node, placed, spec, where, world_of
from thalweg.scheduling.decisions import decide
from thalweg.scheduling.passed import has_passed
from thalweg.scheduling.world.image import image_of
from thalweg.scheduling.world.image import world_of as from_image
from thalweg.scheduling.world.tasks import RetryTerms, RunReport, TaskTerms
from thalweg.scheduling.world.world import World

AHEAD_MS = 600_000
"""How far the clock was ahead."""
THEN_MS = 1_000
"""What it says after it was set right."""


def is_placed(world: World, now_ms: int) -> bool:
    placed(world, now_ms=now_ms, resize_every_ms=5_000)
    return where(world, "t") != []


def given_back() -> World:
    """A task that its region gave back, once it had accepted it: it is barred there for a second."""
    world = world_of(node("east", "n"))
    ask(world, "t", now_ms=AHEAD_MS)
    placed(world, now_ms=AHEAD_MS)
    for said in ("accepted", "evicted"):
        applied(world, decide.report(world, "east", said, "t", world.tasks["t"].epoch, "", 3, AHEAD_MS))
    return world


def refused_by_all() -> World:
    """A region that has given back without ever accepting: it is closed for a second."""
    world = world_of(node("east", "n"))
    ask(world, "t", now_ms=AHEAD_MS)
    for at_ms in (AHEAD_MS, AHEAD_MS + 2_000):
        placed(world, now_ms=at_ms)
        applied(world, decide.report(world, "east", "evicted", "t", world.tasks["t"].epoch, "", 3, at_ms))
    return world


def failed() -> World:
    """A task that failed, and is tried again after two seconds."""
    world = world_of(node("east", "n"))
    ask(world, "t", spec(terms=TaskTerms(retries=RetryTerms(at_most=3, back_off_ms=2_000))), now_ms=AHEAD_MS)
    placed(world, now_ms=AHEAD_MS)
    epoch = world.tasks["t"].epoch
    rows = decide.report(world, "east", "failed", "t", epoch, "", 3, AHEAD_MS, RunReport(cause="exit", exit_code=1))
    applied(world, rows)
    return world


WAITS = [(given_back, 1_000), (refused_by_all, 2_000), (failed, 2_000)]


@pytest.mark.parametrize(("waiting", "wait_ms"), WAITS)
@pytest.mark.parametrize("restart", [False, True])
def test_a_short_wait_is_not_as_long_as_the_clock_was_ahead(
    waiting: Callable[[], World], wait_ms: int, restart: bool
) -> None:
    world = waiting()
    if restart:
        asked = world.tasks["t"].spec
        again = from_image(image_of(world), lambda _: asked, THEN_MS)
        again.set_nodes([node("east", "n")])
        again.set_prices({("east", "A100", False): 2.0})
        again.hear("east", THEN_MS)
        world = again
    assert is_placed(world, THEN_MS) or is_placed(world, THEN_MS + 2 * wait_ms)


@pytest.mark.parametrize(("waiting", "wait_ms"), WAITS)
def test_a_step_of_some_milliseconds_cuts_no_wait_short(waiting: Callable[[], World], wait_ms: int) -> None:
    world = waiting()
    began_ms = world.tasks["t"].reason_ms
    assert not is_placed(world, began_ms - 50)
    assert not is_placed(world, began_ms + wait_ms // 2)


def test_idle_gpus_are_lent_at_once_after_the_clock_was_set_back() -> None:
    elastic = replace(spec(), min_workers=1, max_workers=4)
    world = world_of(node("east", "n", 8))
    ask(world, "t", elastic, now_ms=AHEAD_MS)
    assert is_placed(world, AHEAD_MS)
    ask(world, "other", replace(elastic, max_workers=2), now_ms=AHEAD_MS)
    placed(world, now_ms=AHEAD_MS, resize_every_ms=5_000)
    before = world.tasks["t"].copies[0].workers
    for second in range(12):
        placed(world, now_ms=THEN_MS + 1_000 * second, resize_every_ms=5_000)
    assert world.tasks["t"].copies[0].workers > before


def test_what_was_placed_ahead_of_time_is_looked_at_again() -> None:
    world = of_two(TEN_HOURS)
    priced(world, a=2.0, b=0.5)
    assert moved(world, AHEAD_MS * 2)
    runs(world)
    priced(world, a=0.1, b=2.0)
    assert moved(world, THEN_MS), "a copy placed in twenty minutes was placed before the clock was set back"


@given(since=st.integers(0, 10**13), now=st.integers(0, 10**13), length=st.integers(1, 10**9))
def test_nothing_waits_for_more_than_twice_its_time_from_any_moment_on(since: int, now: int, length: int) -> None:
    assert has_passed(since, now, length) or has_passed(since, now + 2 * length, length)
    assert not has_passed(since, since + length - 1, length)
    assert has_passed(np.array([since]), now, length).tolist() == [has_passed(since, now, length)]
