"""What a plan says in money, and what a GPU more would be worth: never a price of waiting."""

import pytest

from tests.unit.scheduling.worlds import applied, ask, node, planned, spec, world_of
from thalweg.scheduling.decisions import decide
from thalweg.scheduling.live.live_plan import Plan, PlanSettings, PoolPrice
from thalweg.scheduling.live.plan_money import PlanMoney, plan_money
from thalweg.scheduling.live.pool_prices import pool_prices
from thalweg.scheduling.live.whole_pools import whole_pools
from thalweg.scheduling.world.world import TenantLimits, World

HOUR_MS = 3_600_000


def followed(world: World, now_ms: int = 0) -> tuple[Plan, PlanMoney, tuple[PoolPrice, ...]]:
    """Plan, follow the plan, and say what its row would."""
    made = planned(world, now_ms)
    applied(world, decide.place(world, made, "plan", now_ms))
    money = plan_money(made, whole_pools(world))
    return made, money, pool_prices(world, PlanSettings(), money.rather, now_ms)


def test_money_is_what_is_placed_and_not_what_waits() -> None:
    world = world_of(node("east", "n1", 4))
    for name in "abcdef":
        ask(world, name, spec(gpus=2, expected_s=7_200.0))
    made, money, prices = followed(world)
    assert made.objective > 4e6  # four wait, at a million for each GPU and more
    assert (len(made.assignments), len(world.waiting)) == (2, 4)
    # Two copies of two GPUs at 2 USD, for two hours.
    assert (money.placed_usd_per_hour, money.placed_usd, money.least_usd) == (8.0, 16.0, 16.0)
    # Four tasks of two GPUs, at 2 USD a GPU and hour of delay.
    assert world.waiting.delay_usd_per_hour(0) == 16.0
    assert [(price.pool_id, price.saves_usd_per_hour, price.saves_usd) for price in prices] == [
        ("east/A100/on-demand", 2.0, 4.0)
    ]


def test_a_delay_is_dearer_where_it_is_given_so_or_a_deadline_is_near_and_none_where_nothing_waits() -> None:
    world = world_of(node("east", "n1", 1))
    ask(world, "runs", spec())
    followed(world)
    ask(world, "given", spec(value_usd_per_hour=40.0, priority=0))
    ask(world, "due", spec(start_by_ms=10 * HOUR_MS))
    followed(world)
    assert world.waiting.delay_usd_per_hour(0) == pytest.approx(42.0)
    assert world.waiting.delay_usd_per_hour(10 * HOUR_MS) == pytest.approx(40.0 + 2.0 * 16.0)
    assert world_of(node("east", "n1")).waiting.delay_usd_per_hour(0) == 0.0


def test_what_fits_a_pool_by_its_sum_and_no_node_of_it_makes_no_gap_of_the_money() -> None:
    world = world_of(node("east", "n1", 4), node("east", "n2", 4))
    for name, gpus in (("a", 3), ("b", 3), ("c", 2)):
        ask(world, name, spec(gpus=gpus))
    made, money, prices = followed(world)
    assert made.gap < 1e-6  # the bound has learned what the nodes hold together
    assert len(world.waiting) == 1
    assert money.placed_usd == money.least_usd == money.placed_usd_per_hour > 0
    # GPUs enough are free, in pieces: one more is worth nothing for sure.
    assert prices == ()


def test_a_pool_that_is_full_is_worth_what_who_had_to_go_elsewhere_would_save_there() -> None:
    world = world_of(node("east", "n1", 2), node("west", "n1", 8), usd={"east": 1.0, "west": 2.5})
    for name in "abcde":
        ask(world, name, spec(gpus=1, expected_s=36_000.0))
    _, money, (price,) = followed(world)
    assert (price.pool_id, price.saves_usd_per_hour, price.saves_usd) == ("east/A100/on-demand", 1.5, 15.0)
    # Three at 2.50 and two at 1.00, which no plan of the same five can do for less.
    assert (money.placed_usd_per_hour, money.placed_usd, money.least_usd) == (9.5, 95.0, pytest.approx(95.0))


def test_a_pool_that_is_just_full_is_worth_no_price_of_waiting() -> None:
    # The dual of a pool whose last GPU is taken is anything up to the price of waiting: that was shown once.
    world = world_of(node("east", "n1", 4), node("west", "n1", 4), usd={"east": 1.0, "west": 2.0})
    ask(world, "a", spec(gpus=4, priority=1_000))
    ask(world, "b", spec(gpus=4, priority=1_000))
    *_, (price,) = followed(world)
    assert price.saves_usd_per_hour == pytest.approx(1.0)


def test_a_gpu_is_worth_nothing_to_who_may_not_have_it_or_lacks_something_else() -> None:
    world = world_of(node("east", "n1", 8))
    world.set_tenants({"intern": TenantLimits(quota_gpus=4.0)})
    ask(world, "runs", spec(gpus=4, tenant="intern"))
    ask(world, "runs, too", spec(gpus=4))
    followed(world)
    ask(world, "over quota", spec(gpus=2, tenant="intern", value_usd_per_hour=900.0))
    ask(world, "too dear", spec(gpus=2, max_usd_per_hour=1.0, value_usd_per_hour=500.0))
    ask(world, "not here", spec(gpus=2, allowed_regions=("west",), value_usd_per_hour=500.0))
    assert followed(world)[2] == ()
    ask(world, "others", spec(gpus=8, value_usd_per_hour=80.0))
    assert [price.saves_usd_per_hour for price in followed(world, 1)[2]] == [10.0]


def test_prices_are_of_all_that_waits_and_not_of_what_one_plan_looked_at() -> None:
    world = world_of(node("east", "n1", 4), node("west", "n1", 4, model="H100"))
    ask(world, "runs", spec(gpus=4, gpu_models=("A100",)))
    followed(world)
    ask(world, "waits", spec(gpus=4, gpu_models=("A100",), value_usd_per_hour=12.0))
    assert [price.saves_usd_per_hour for price in followed(world)[2]] == [3.0]
    ask(world, "elsewhere", spec(gpus=1, gpu_models=("H100",)))
    made, _, prices = followed(world, 1_000)
    assert [copy.task_id for copy in made.assignments] == ["elsewhere"]
    assert [price.saves_usd_per_hour for price in prices] == [3.0]


def test_who_was_let_in_by_others_giving_way_counts_as_placed_and_waits_no_more() -> None:
    world = world_of(node("east", "n1", 4))
    ask(world, "low", spec(gpus=4, priority=100))
    followed(world)
    ask(world, "urgent", spec(gpus=4, priority=900), now_ms=1_000)
    made, money, prices = followed(world, 1_000)
    assert [one.task_id for one in made.preempted] == ["low"]
    assert (money.placed_usd_per_hour, money.placed_usd, money.least_usd) == (8.0, 8.0, 8.0)
    # It is "low" that waits now: 2 USD a GPU and hour, halved four times.
    assert world.waiting.delay_usd_per_hour(1_000) == 0.5
    assert [price.saves_usd_per_hour for price in prices] == [0.125]
