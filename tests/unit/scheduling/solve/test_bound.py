"""No plan costs less than the bound, whatever prices are put on what is scarce."""

from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from tests.unit.scheduling.problems import problem
from thalweg.scheduling.problem.cost import arc_costs
from thalweg.scheduling.problem.model import Problem, Tenants, Weights
from thalweg.scheduling.problem.order import in_order
from thalweg.scheduling.problem.solution import LIVE_LIMITS
from thalweg.scheduling.solve.bound import balance_slope, free_prices, lagrangian_bound
from thalweg.scheduling.solve.solve import solve

PRICE = st.just(0.0) | st.floats(0.0, 9.0)
LIMITED = Tenants(
    tenant_ids=("quota", "budget", "free"),
    quota_gpus=np.array([3.0, np.inf, np.inf]),
    budget_usd_per_hour=np.array([np.inf, 4.0, np.inf]),
)
SCARCE = problem(
    gpus=[4, 6, 2],
    prices=[1.0, 2.0, 0.5],
    need=[1.0, 2.0, 1.0],
    count=[5, 3, 4],
    region=[0, 0, 1],
    wait_usd=[9.0, 15.0, 3.0],
    tenants=LIMITED,
    tenant=np.array([0, 1, 2]),
    weights=Weights(balance=0.5),
)
BEST_KNOWN = solve(SCARCE, limits=LIVE_LIMITS)


@settings(max_examples=200)
@given(
    st.lists(PRICE, min_size=3, max_size=3),
    st.lists(PRICE, min_size=3, max_size=3),
    st.lists(PRICE, min_size=3, max_size=3),
    st.lists(st.floats(0.0, 6.0), min_size=3, max_size=3),
)
def test_no_plan_costs_less_whatever_the_prices(
    pool: list[float], quota: list[float], budget: list[float], point: list[float]
) -> None:
    one = in_order(SCARCE).problem
    prices = free_prices(one)
    prices.pool[:, 0] = pool
    # Nobody pays for a limit that does not bind: a price on what is without end would be one of nothing.
    prices.quota[:] = np.where(np.isfinite(one.tenants.quota_gpus), quota, 0.0)
    prices.budget[:] = np.where(np.isfinite(one.tenants.budget_usd_per_hour), budget, 0.0)
    at = np.minimum(np.array(point), one.pools.capacity[:, 0])
    prices.slope[:] = balance_slope(one, at)
    assert lagrangian_bound(one, arc_costs(one), prices, at) <= BEST_KNOWN.objective + 1e-9


def one_limit(*, gpus: float = 99.0, **limit: float) -> Problem:
    """Five tasks of a GPU at 1 USD, of which one kind of limit lets three run; waiting costs 9."""
    tenants = Tenants(
        tenant_ids=("t",),
        quota_gpus=np.array([limit.get("quota", np.inf)]),
        budget_usd_per_hour=np.array([limit.get("budget", np.inf)]),
    )
    return problem(
        gpus=[gpus], prices=[1.0], need=[1.0], count=[5], wait_usd=[9.0], tenants=tenants, tenant=np.array([0])
    )


@pytest.mark.parametrize("price", [0.0, 1.0, 4.0, 8.0, 9.0, 20.0])
@pytest.mark.parametrize("limit", [{"gpus": 3.0}, {"quota": 3.0}, {"budget": 3.0}], ids=["pool", "quota", "budget"])
def test_by_hand_each_kind_of_limit_is_rented_at_its_price(limit: dict[str, Any], price: float) -> None:
    one = one_limit(**limit)
    prices = free_prices(one)
    kind = {"gpus": prices.pool[:, 0], "quota": prices.quota, "budget": prices.budget}[next(iter(limit))]
    kind[:] = price
    bound = lagrangian_bound(one, arc_costs(one), prices, np.zeros(1))
    # All five where they are cheapest at that price, less the price of all three that there are.
    by_hand = 5 * min(1.0 + price, 9.0) - 3 * price
    if limit.get("gpus") and price < 8.0:
        assert bound >= by_hand - 1e-9, "what cannot fit in the pool anyhow is not asked to"
    else:
        assert bound == pytest.approx(max(by_hand, 0.0))
    assert bound <= 3 * 1.0 + 2 * 9.0 + 1e-9 == solve(one).objective + 1e-9
