"""GPUs that nobody names a price of: the words say so, and a price that is assumed makes them usable."""

import math

import pytest

from tests.unit.scheduling.worlds import ask, node, placed, planned, spec, where, world_of
from thalweg.scheduling.explain.reasons import Explainer
from thalweg.scheduling.live.live_plan import PlanSettings
from thalweg.scheduling.world.world import World


def machine_room(*, gpus: int = 8) -> World:
    world = world_of(node("home", "n", gpus))
    world.set_prices({})
    return world


def reasons(world: World) -> list[str]:
    return [held.reason for held in planned(world).held]


def test_a_task_that_would_fit_where_no_price_is_known_is_told_that() -> None:
    world = machine_room()
    ask(world, "t", spec(1))
    (reason,) = reasons(world)
    assert reason.startswith("price: no price is known of home/A100/on-demand, which it could use")
    assert "place.assumed_usd_per_gpu_hour" in reason


def test_who_explains_says_the_same_and_promises_no_start() -> None:
    world = machine_room()
    ask(world, "t", spec(1))
    wait = Explainer(world, PlanSettings()).wait(world.tasks["t"], 0)
    assert wait.reason is not None and wait.reason.startswith("price: no price is known of home/A100/on-demand")
    assert wait.start is not None and math.isinf(wait.start.p10_h)


def test_an_assumed_price_makes_them_usable_and_a_real_one_counts_before_it() -> None:
    world = machine_room()
    world.assume_price(3.0)
    ask(world, "t", spec(1))
    (row,) = placed(world)
    assert where(world, "t") == ["home"]
    assert row.usd_per_hour == pytest.approx(3.0)
    world.set_prices({("home", "A100", False): 1.0})
    ask(world, "u", spec(1))
    (row,) = placed(world)
    assert row.usd_per_hour == pytest.approx(1.0)


def test_what_is_priced_and_full_is_not_blamed_on_a_price() -> None:
    world = world_of(node("home", "n", 1))
    ask(world, "a", spec(1))
    ask(world, "b", spec(1))
    placed(world)
    assert where(world, "b") == []
    assert world.tasks["b"].reason.startswith("capacity:")


def test_a_region_that_is_silent_is_not_blamed_on_a_price() -> None:
    world = world_of(node("home", "n"), node("away", "m"), heard=False)
    world.set_prices({})
    world.hear("away", 0)
    ask(world, "t", spec(1, allowed_regions=("home",)))
    assert "no price" not in " ".join(reasons(world))
