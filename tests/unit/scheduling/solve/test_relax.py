"""The relaxed optimum: at once where nothing is scarce, and by a linear program where it says more than a flow."""

from itertools import product
from typing import Any

import numpy as np
import pytest

from tests.unit.scheduling.problems import problem
from thalweg.scheduling.problem.cost import arc_costs, plan_usd
from thalweg.scheduling.problem.model import Problem, Tenants, Weights
from thalweg.scheduling.problem.solution import SolveLimits
from thalweg.scheduling.solve.relax import relax_all, relax_gpus, uncontended
from thalweg.scheduling.solve.strategies import flow


def tenths(*, gpus: float = 9.0, quota: float = np.inf, budget: float = np.inf) -> Problem:
    """Ten tasks of a tenth of a GPU, at 2 USD an hour for a whole one."""
    limits = Tenants(tenant_ids=("a",), quota_gpus=np.array([quota]), budget_usd_per_hour=np.array([budget]))
    return problem(gpus=[gpus], prices=[2.0], need=[0.1], count=[10], tenants=limits, tenant=np.array([0]))


@pytest.mark.parametrize(("limit", "enough"), [("gpus", 1.0), ("quota", 1.0), ("budget", 2.0)])
def test_what_fills_a_limit_exactly_is_within_it(limit: str, enough: float) -> None:
    for of, is_within in ((1.0, True), (1.001, True), (0.999, False)):
        one = tenths(**{limit: enough * of})
        assert (uncontended(one, arc_costs(one)) is not None) is is_within, of


def balanced(**columns: Any) -> Problem:
    return problem(
        gpus=[6, 6, 8],
        prices=[1.0, 1.2, 1.1],
        need=[1.0, 2.0],
        count=[5, 2],
        weights=Weights(balance=3.0),
        pool_columns=columns,
    )


@pytest.mark.parametrize("busy", [(0, 0, 0), (4, 0, 1), (0, 9, 2)])
def test_whoever_is_busy_counts_in_the_balance_and_the_bound_is_below_the_best_of_all_plans(
    busy: tuple[int, ...],
) -> None:
    one = balanced(busy_gpus=np.array(busy, float))
    arcs, rows, pools = arc_costs(one), np.repeat([0, 1], 3), np.tile(np.arange(3), 2)
    best = min(
        plan_usd(one, arcs, rows, pools, np.array(small + large, float))
        for small, large in product(product(range(6), repeat=3), product(range(3), repeat=3))
        if sum(small) == 5
        and sum(large) == 2
        and (np.array(small) + 2 * np.array(large) <= one.pools.capacity[:, 0]).all()
    )
    bound = relax_all(one, arcs, relax_gpus(one, arcs, None, SolveLimits()), SolveLimits()).bound(one, arcs)
    assert 0.9 * best < bound <= best + 1e-9


@pytest.mark.parametrize(("compiles", "most_arcs", "asked"), [(True, 6, 1), (True, 5, 0), (False, 5, 1)])
def test_a_balanced_problem_goes_to_the_linear_program_where_it_is_small_or_nothing_else_knows_balance(
    compiles: bool, most_arcs: int, asked: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, seen = balanced(), []
    monkeypatch.setattr(flow, "compiles", lambda: compiles)
    monkeypatch.setattr(flow, "LINEAR_ARCS", most_arcs)
    monkeypatch.setattr(flow, "relax_all", lambda *given: seen.append(given) or given[2])
    flow.relax(one, arc_costs(one), SolveLimits(), None)
    assert len(seen) == asked
