"""Ranges of prices and capacities: what holds just inside of them holds no more just outside."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from tests.properties.random_problems import random_problem
from tests.properties.reference_mip import arc_usd, best_usd
from thalweg.scheduling.problem.model import Problem, Tenants
from thalweg.scheduling.problem.solution import Solution
from thalweg.scheduling.solve.linear_piece import Tangent, stays_until
from thalweg.scheduling.solve.ranges import PriceRange, RangesError, ranges
from thalweg.scheduling.solve.solve import solve

NEAR = 1e-4  # US dollars per GPU-hour beside an end of a range


def priced_problem(seed: int) -> Problem:
    """Without price limits and budgets, which a range holds as they are; waiting is dear enough to be paid seldom."""
    problem = random_problem(seed, classes=3, pools=4, tasks=2)
    classes = problem.classes
    return replace(
        problem,
        classes=replace(
            classes,
            max_usd_per_hour=np.full(len(classes), np.inf),
            wait_usd=np.minimum(classes.wait_usd, 1e3),
        ),
        tenants=Tenants(
            tenant_ids=problem.tenants.tenant_ids,
            quota_gpus=problem.tenants.quota_gpus,
            budget_usd_per_hour=np.full(len(problem.tenants), np.inf),
        ),
    )


def at_price(problem: Problem, pool: int, usd: float) -> Problem:
    prices = problem.pools.usd_per_gpu_hour.copy()
    prices[pool] = usd
    return replace(problem, pools=replace(problem.pools, usd_per_gpu_hour=prices))


def plan_cost(problem: Problem, plan: Solution) -> float:
    """What a plan costs at a problem's prices, by the formula of the reference."""
    pairs = zip(plan.class_index, plan.pool_index, plan.count, strict=True)
    placed = sum(int(n) * (arc_usd(problem, int(c), int(p)) or 0.0) for c, p, n in pairs)
    return placed + float(((problem.classes.count - plan.placed) * problem.classes.wait_usd).sum())


def above_best(problem: Problem, plan: Solution, entry: PriceRange, usd: float) -> float:
    there = at_price(problem, entry.pool_index, usd)
    best = best_usd(there)
    assume(best is not None)
    return plan_cost(there, plan) - best


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_a_plan_is_the_cheapest_just_inside_its_price_range_and_not_just_outside(seed: int) -> None:
    problem = priced_problem(seed)
    plan = solve(problem)
    assume(len(plan.pool_index))
    try:
        told = ranges(problem, plan)
    except RangesError as error:  # within a millionth of the bound, and not the best
        assert "USD more than the best" in str(error)
        assume(False)
    for entry in told.prices:
        assert entry.low <= entry.usd_per_gpu_hour <= entry.high
        inside = [entry.low, min(entry.high, entry.usd_per_gpu_hour + 50.0)]
        for usd in inside:
            assert above_best(problem, plan, entry, usd) < 1e-5
        if entry.low > NEAR:
            assert above_best(problem, plan, entry, entry.low - NEAR) > 1e-7
        if np.isfinite(entry.high):
            assert above_best(problem, plan, entry, entry.high + NEAR) > 1e-7


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_an_arcs_range_is_no_narrower_than_its_pools_where_only_it_uses_the_pool(seed: int) -> None:
    problem = priced_problem(seed)
    plan = solve(problem)
    try:
        told = ranges(problem, plan)
    except RangesError:
        assume(False)
    assert [(entry.class_index, entry.pool_index) for entry in told.arcs] == list(
        zip(plan.class_index.tolist(), plan.pool_index.tolist(), strict=True)
    )
    of_pool = {entry.pool_index: entry for entry in told.prices}
    for entry in told.arcs:
        assert entry.low <= entry.usd_per_gpu_hour <= entry.high
        if len(problem.classes) == 1:
            pool = of_pool[entry.pool_index]
            assert (entry.low, entry.high) == pytest.approx((pool.low, pool.high))


def relaxed_usd(problem: Problem, capacity: np.ndarray) -> float:
    """Optimum of the relaxation at other capacities, its arcs as now; written anew, for tasks of one copy."""
    k, pools = problem.classes, problem.pools
    pairs = [
        (c, p)
        for c in range(len(k))
        for p in range(len(pools))
        if (k.need[c] <= pools.capacity[p]).all() and arc_usd(problem, c, p) is not None
    ]
    usd = [arc_usd(problem, c, p) - k.wait_usd[c] for c, p in pairs]  # type: ignore[operator]
    rows, most = [], []
    for c in range(len(k)):
        rows.append([float(pair[0] == c) for pair in pairs])
        most.append(float(k.count[c]))
    for p in range(len(pools)):
        for d in range(capacity.shape[1]):
            rows.append([k.need[pair[0], d] * (pair[1] == p) for pair in pairs])
            most.append(capacity[p, d])
    for t in range(len(problem.tenants)):
        rows.append([k.need[pair[0], 0] * (k.tenant[pair[0]] == t) for pair in pairs])
        most.append(min(problem.tenants.quota_gpus[t], 1e9))
    waiting = float((k.count * k.wait_usd).sum())
    if not pairs:
        return waiting
    return waiting + float(linprog(usd, A_ub=np.array(rows), b_ub=np.array(most), method="highs").fun)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_each_unit_of_capacity_is_worth_its_price_within_the_range_and_less_beyond(seed: int) -> None:
    problem = priced_problem(seed)
    classes = problem.classes
    problem = replace(problem, classes=replace(classes, replicas=np.ones(len(classes), np.int64)))
    plan = solve(problem)
    try:
        told = ranges(problem, plan)
    except RangesError:
        assume(False)

    def optimum(pool: int, dimension: int, amount: float) -> float:
        capacity = problem.pools.capacity.copy()
        capacity[pool, dimension] = amount
        return relaxed_usd(problem, capacity)

    for entry in told.capacities:
        pool, dimension, now = entry.pool_index, entry.dimension, entry.capacity
        here = optimum(pool, dimension, now)
        until = entry.more_until if np.isfinite(entry.more_until) else now + 100.0
        assert here - optimum(pool, dimension, until) == pytest.approx(entry.more_usd * (until - now), abs=1e-5)
        lower = entry.fewer_until
        assert optimum(pool, dimension, lower) - here == pytest.approx(entry.fewer_usd * (now - lower), abs=1e-5)
        assert entry.more_until > now
        assert lower < now or not now
        assert entry.fewer_usd >= entry.more_usd - 1e-7 or not now
        if np.isfinite(entry.more_until):
            assert here - optimum(pool, dimension, until + 0.1) < entry.more_usd * (until + 0.1 - now) - 1e-7
        if lower > 0.1:
            assert optimum(pool, dimension, lower - 0.1) - here > entry.fewer_usd * (now - lower + 0.1) + 1e-7


@given(
    lines=st.lists(st.tuples(st.integers(-9, 9), st.integers(-20, 20)), min_size=1, max_size=6),
    at=st.integers(-10, 10),
    far=st.integers(-30, 30),
)
def test_a_line_is_left_where_the_envelope_of_lines_leaves_it(lines: list[tuple[int, int]], at: int, far: int) -> None:
    def tangent(point: float) -> Tangent:
        value, slope = max((slope * point + height, slope) for slope, height in lines)
        return Tangent(at=point, value=value, slope=slope)

    line = tangent(at)
    until, beyond = stays_until(line, far, tangent, 1e-9)
    assert min(at, far) <= until <= max(at, far)
    assert tangent(until).value == pytest.approx(line.height(until), abs=1e-6)
    if until == far:
        assert beyond is None or beyond.at == far
    else:
        assert beyond is not None
        outside = until + (1e-3 if far > at else -1e-3)
        assert tangent(outside).value > line.height(outside) + 1e-9
