"""No plan costs less than the bound, whatever prices are put on what is scarce."""

import hypothesis.strategies as st
import numpy as np
from hypothesis import given, settings

from tests.unit.scheduling.problems import problem
from thalweg.scheduling.problem.cost import arc_costs
from thalweg.scheduling.problem.model import Tenants, Weights
from thalweg.scheduling.problem.order import in_order
from thalweg.scheduling.problem.solution import LIVE_LIMITS
from thalweg.scheduling.solve.bound import balance_slope, free_prices, lagrangian_bound
from thalweg.scheduling.solve.solve import solve

PRICE = st.floats(0.0, 5.0)
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
