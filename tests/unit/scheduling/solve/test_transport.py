"""The transport problem: whoever solves it finds the optimum that a linear program finds, and keeps every limit."""

from collections.abc import Callable
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from scipy.optimize import linprog

from thalweg.scheduling.arrays import FloatArray, IntArray
from thalweg.scheduling.solve.transport.column_generation import by_column_generation
from thalweg.scheduling.solve.transport.transport import Transport, TransportFlow
from thalweg.scheduling.solve.transport.transport_simplex import by_simplex

NO_ARCS = np.zeros(0, np.int64), np.zeros(0, np.int64)
SOLVERS: dict[str, Callable[[Transport], TransportFlow]] = {
    "simplex": lambda problem: by_simplex(problem, None),
    "column generation": lambda problem: by_column_generation(problem, None, None, NO_ARCS),
}


def drawn(seed: int) -> Transport:
    """Classes of single units; some may not have all of them in one region."""
    draw = np.random.default_rng(seed)
    classes, pools = int(draw.integers(1, 6)), int(draw.integers(1, 7))
    copies, region = draw.integers(1, 6, classes), np.sort(draw.integers(0, 3, pools))
    usd = draw.integers(0, 50, (classes, pools)).astype(float)
    usd[draw.random((classes, pools)) < 0.2] = np.inf
    return Transport(
        units=np.ones(classes, np.int64),
        copies=copies,
        unit_usd=usd,
        wait_usd=draw.integers(20, 90, classes).astype(float),
        capacity=draw.integers(0, 9, pools),
        region_limit=draw.integers(1, copies + 1),
        region=region,
        regions=3,
    )


def limits(problem: Transport, used: IntArray) -> list[tuple[float, float]]:
    """What is used, and the most that may be: of each pool, each class, and each class in each region."""
    classes, regions = range(len(problem.units)), range(problem.regions)
    return [
        *zip(used.sum(axis=0), problem.capacity, strict=True),
        *zip(used.sum(axis=1), problem.copies, strict=True),
        *((used[c, problem.region == r].sum(), problem.region_limit[c]) for c, r in product(classes, regions)),
    ]


def optimum(problem: Transport) -> float:
    """Least cost, by a linear program over all arcs that there are."""
    arcs = np.argwhere(np.isfinite(problem.unit_usd))
    rows, most = [], [limit for _, limit in limits(problem, np.zeros(problem.unit_usd.shape))]
    for c, p in arcs:
        one = np.zeros(problem.unit_usd.shape)
        one[c, p] = 1.0
        rows.append([used for used, _ in limits(problem, one)])
    waits = float((problem.wait_usd * problem.copies).sum())
    if not len(arcs):
        return waits
    saves = problem.unit_usd[arcs[:, 0], arcs[:, 1]] - problem.wait_usd[arcs[:, 0]]
    return waits + float(linprog(saves, A_ub=np.array(rows).T, b_ub=most).fun)


@pytest.mark.parametrize("solver", SOLVERS)
def test_the_flow_costs_no_more_than_a_linear_program_finds_and_keeps_every_limit(solver: str) -> None:
    for problem in map(drawn, range(30)):
        flow = SOLVERS[solver](problem)
        used = np.zeros(problem.unit_usd.shape)
        used[flow.class_index, flow.pool_index] = flow.units
        assert all(here <= most for here, most in limits(problem, used))
        usd = (problem.unit_usd[flow.class_index, flow.pool_index] * flow.units).sum()
        waits = ((problem.copies - used.sum(axis=1)) * problem.wait_usd).sum()
        assert usd + waits == pytest.approx(optimum(problem), rel=1e-9, abs=1e-6)


def proven(problem: Transport, prices: FloatArray) -> float:
    """What no flow can cost less than, by these prices: each class has the cheapest, each pool is paid for."""
    usd = -float((prices * problem.capacity).sum())
    for c, copies in enumerate(problem.copies):
        priced, left, in_region = problem.unit_usd[c] + prices, int(copies), np.zeros(problem.regions, np.int64)
        for p in np.argsort(priced):
            if priced[p] < problem.wait_usd[c]:
                region = problem.region[p]
                more = min(left, problem.capacity[p], problem.region_limit[c] - in_region[region])
                usd, left = usd + more * priced[p], left - more
                in_region[region] += more
        usd += left * problem.wait_usd[c]
    return usd


@pytest.mark.parametrize("solver", SOLVERS)
def test_prices_of_pools_prove_no_more_than_is_so_and_all_of_it_where_a_region_may_hold_all_of_a_class(
    solver: str,
) -> None:
    for problem in map(drawn, range(60)):
        assert proven(problem, SOLVERS[solver](problem).prices) <= optimum(problem) + 1e-6
        anywhere = replace(problem, region_limit=problem.copies)
        assert proven(anywhere, SOLVERS[solver](anywhere).prices) == pytest.approx(
            optimum(anywhere), rel=1e-9, abs=1e-6
        )
