from dataclasses import replace

import numpy as np
import pytest

from tests.unit.scheduling.problems import problem
from thalweg.benchmarks.placement.plan import synthetic
from thalweg.scheduling.problem.cost import arc_costs
from thalweg.scheduling.problem.model import Tenants, Weights
from thalweg.scheduling.problem.order import in_order
from thalweg.scheduling.problem.solution import LIVE_LIMITS, Reason, SolveLimits, SolveStatus, StopReason, spread_copies
from thalweg.scheduling.solve import mip, relax
from thalweg.scheduling.solve.bound import free_prices
from thalweg.scheduling.solve.formulation import SolverAnswer
from thalweg.scheduling.solve.mip import reduced_usd
from thalweg.scheduling.solve.relax import Relaxed, relax_all, relax_gpus
from thalweg.scheduling.solve.solve import STRATEGIES, solve
from thalweg.scheduling.solve.transport.column_generation import by_column_generation
from thalweg.scheduling.solve.transport.transport_simplex import by_simplex

NOTHING = SolverAnswer(copies=None, bound=-np.inf, complete=False)


def test_the_cheap_pool_fills_first_and_the_rest_goes_on():
    solution = solve(problem(gpus=[4, 8], prices=[1.0, 3.0], need=[2.0], count=[5]))
    assert solution.count.tolist() == [2, 3]
    assert solution.objective == 2 * 2 * 1.0 + 3 * 2 * 3.0
    assert solution.status is SolveStatus.OPTIMAL
    # One more GPU of the cheap pool would bring half a task over: it saves 2 USD.
    assert solution.prices[:, 0].tolist() == pytest.approx([2.0, 0.0])


def test_a_gang_lies_whole_in_one_pool():
    solution = solve(problem(gpus=[3, 3], prices=[1, 1], need=[4.0], region=[0, 0]))
    assert solution.placed.tolist() == [0]
    assert solution.unplaced[0].reason is Reason.CAPACITY
    assert "the pools it may use have at most 3 free" in solution.unplaced[0].detail


def test_room_is_made_for_a_gang_by_moving_a_smaller_one():
    one = problem(gpus=[8, 8], prices=[1.0, 1.0], need=[8.0, 4.0], count=[1, 2], region=[0, 0], wait_usd=[1e3, 1e3])
    assert solve(one, limits=LIVE_LIMITS).placed.tolist() == [1, 2]


def test_copies_lie_in_distinct_regions_all_or_none():
    solution = solve(problem(gpus=[8, 8, 2], prices=[1, 1, 9], need=[2.0], count=[4], region=[0, 0, 1],
                             replicas=np.array([2])))  # fmt: skip
    assert solution.placed.tolist() == [1]
    assert solution.count.sum() == 2
    assert solution.unplaced[0].reason in (Reason.REPLICAS, Reason.CAPACITY)


def test_what_needs_nothing_of_a_kind_fits_where_there_is_nothing_of_it():
    # CPUs alone, in pools without a GPU: the regions are too few, not too small.
    one = problem(gpus=[0, 0], prices=[1, 1], need=[0.0], replicas=np.array([3]))
    classes = replace(one.classes, need=np.array([[0.0, 4.0]]))
    (waiting,) = solve(
        replace(one, classes=classes, pools=replace(one.pools, capacity=np.array([[0.0, 8.0], [0.0, 8.0]])))
    ).unplaced
    assert (waiting.reason, waiting.detail) == (
        Reason.REPLICAS,
        "3 copies need 3 distinct regions; 2 can hold one",
    )


def test_spread_copies_never_gives_a_task_one_region_twice():
    region, count = np.array([0, 1, 1, 2]), np.array([3, 1, 2, 3])
    dealt = spread_copies(region, count, tasks=3, replicas=3)
    assert np.bincount(dealt.ravel()).tolist() == count.tolist()
    assert all(len(set(region[task])) == 3 for task in dealt)


def test_quota_and_budget_hold_and_are_named():
    tenants = Tenants(
        tenant_ids=("a", "b"), quota_gpus=np.array([3.0, np.inf]), budget_usd_per_hour=np.array([np.inf, 2.0])
    )
    solution = solve(
        problem(gpus=[99], prices=[1.0], need=[1.0, 1.0], count=[5, 5], tenants=tenants, tenant=np.array([0, 1]))
    )
    assert solution.placed.tolist() == [3, 2]
    assert [entry.reason for entry in solution.unplaced] == [Reason.QUOTA, Reason.BUDGET]


def test_balance_evens_out_regions_and_is_solved_to_optimality():
    solution = solve(problem(gpus=[10, 10], prices=[1.0, 1.0], need=[1.0], count=[10], weights=Weights(balance=1.0)))
    assert solution.count.tolist() == [5, 5]
    assert solution.objective == pytest.approx(10.0)
    assert solution.gap < 1e-6


@pytest.mark.parametrize(
    ("case", "waiting"),
    [
        ({"gpus": [], "prices": [], "need": []}, 0),
        ({"gpus": [], "prices": [], "need": [1.0]}, 1),
        ({"gpus": [8], "prices": [1.0], "need": []}, 0),
        ({"gpus": [0], "prices": [1.0], "need": [1.0]}, 1),
        ({"gpus": [8], "prices": [1.0], "need": [1e9]}, 1),
        ({"gpus": [8], "prices": [0.0], "need": [0.0]}, 0),
        ({"gpus": [8], "prices": [1.0], "need": [1.0], "count": [0]}, 0),
        ({"gpus": [8], "prices": [1.0], "need": [1.0], "allowed_regions": np.zeros((1, 1), bool)}, 1),
        ({"gpus": [2], "prices": [1.0], "need": [1.0], "replicas": np.array([3])}, 1),
        ({"gpus": [999_999], "prices": [1.0], "need": [1.0], "count": [1_000_000]}, 1),
    ],
)
@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
def test_degenerate_problems_have_a_defined_result(case, waiting, strategy):
    solution = solve(problem(**case), strategy, SolveLimits(rounds=2))
    assert sum(entry.count for entry in solution.unplaced) == waiting
    assert solution.bound <= solution.objective


def test_the_fallback_without_a_compiler_finds_the_same_optimum(monkeypatch):
    one = in_order(synthetic(3, classes=60, pools=25, regions=8, tasks=900, load=0.95)).problem
    arcs = arc_costs(one)
    seen = []

    def both(transport, start, remaining_s, keep, region_prices=None):
        fast, slow = by_simplex(transport, start), by_column_generation(transport, start, remaining_s, keep)
        for flow in (fast, slow):
            placed = np.bincount(flow.class_index, flow.units, len(transport.units))
            usd = (transport.unit_usd[flow.class_index, flow.pool_index] * flow.units).sum()
            seen.append(usd + ((transport.units * transport.copies - placed) * transport.wait_usd).sum())
        return fast

    monkeypatch.setattr(relax, "solve_transport", both)
    relaxed = relax_gpus(one, arcs, None, LIVE_LIMITS)
    assert seen[0] == pytest.approx(seen[1], rel=1e-7)
    # The linear program of another solver agrees as well.
    linear = relax_all(one, arcs, relaxed, LIVE_LIMITS)
    usd = (arcs.usd[linear.class_index, linear.pool_index] * linear.copies).sum()
    waits = one.classes.count - np.bincount(linear.class_index, linear.copies, len(one.classes))
    assert usd + (waits * one.classes.wait_usd).sum() == pytest.approx(seen[0], rel=1e-6)


def test_prices_of_an_earlier_plan_change_the_time_not_the_cost():
    one = synthetic(4, classes=80, pools=30, regions=9, tasks=2_000)
    cold = solve(one, limits=LIVE_LIMITS)
    warm_start = solve(one, limits=LIVE_LIMITS, warm_start=cold.warm_start)
    assert warm_start.objective == pytest.approx(cold.objective, rel=2e-3)
    assert warm_start.bound == pytest.approx(cold.bound, rel=1e-6)


def test_a_deadline_that_has_passed_still_gives_a_plan_within_every_limit():
    one = synthetic(4, classes=80, pools=30, regions=9, tasks=2_000)
    for strategy in STRATEGIES:
        solution = solve(one, strategy, SolveLimits(remaining_s=lambda: 0.0))
        used = np.bincount(solution.pool_index, solution.count * one.classes.need[solution.class_index, 0], 30)
        assert (used <= one.pools.capacity[:, 0]).all()
        assert solution.bound <= solution.objective
        assert solution.stopped_because in (StopReason.DEADLINE, StopReason.DONE, StopReason.EFFORT)


@pytest.mark.parametrize("strategy", ["anneal", "genetic"])
def test_a_seed_decides_all_that_is_drawn(strategy):
    one = synthetic(4, classes=40, pools=12, regions=5, tasks=300)
    runs = [solve(one, strategy, SolveLimits(rounds=8), seed=seed) for seed in (1, 1, 2)]
    assert runs[0].trace == runs[1].trace
    assert runs[0].trace != runs[2].trace
    assert [value for _, value, _ in runs[0].trace] == sorted((v for _, v, _ in runs[0].trace), reverse=True)


@pytest.mark.parametrize("strategy", ["flow", "lp", "genetic", "anneal"])
def test_a_trace_ends_at_the_plan_and_never_gets_worse(strategy):
    one = synthetic(11, classes=40, pools=15, regions=6, tasks=120)
    solution = solve(one, strategy, SolveLimits(rounds=8))
    steps, usd, bounds = (list(column) for column in zip(*solution.trace, strict=True))
    assert steps == list(range(len(steps))) and len(steps) > 2
    assert usd == sorted(usd, reverse=True) and usd[-1] == pytest.approx(solution.objective, rel=1e-9)
    assert bounds == sorted(bounds) and bounds[-1] == pytest.approx(solution.bound, rel=1e-9)
    assert usd[0] > usd[-1] or strategy == "flow"


def test_an_arc_that_the_bound_already_fills_is_never_ruled_out():
    one = in_order(problem(gpus=[4, 4, 8], prices=[1.0, 2.0, 3.0], need=[4.0], count=[3])).problem
    arcs = arc_costs(one)
    free = Relaxed(
        class_index=np.zeros(0, np.int64), pool_index=np.zeros(0, np.int64), copies=np.zeros(0), prices=free_prices(one)
    )
    # One copy fits the cheapest pool and one the next: the bound of 4 + 8 + 12 already uses all three.
    assert free.bound(one, arcs) == pytest.approx(24.0)
    assert (reduced_usd(one, arcs, free) <= 0.0).all()


def test_a_balanced_problem_of_thousands_of_classes_is_near_its_bound_in_seconds():
    one = synthetic(7, classes=1_200, pools=120, regions=20, tasks=60_000)
    one = replace(one, weights=replace(one.weights, balance=100.0))
    relaxed = relax_gpus(in_order(one).problem, arc_costs(in_order(one).problem), None, LIVE_LIMITS)
    assert relaxed.tangent is not None
    assert solve(one, limits=LIVE_LIMITS).gap < 5e-3


def test_live_limits_start_no_program_larger_than_they_allow(monkeypatch):
    sizes = []
    monkeypatch.setattr(mip, "solve_integer", lambda program, *rest: sizes.append(len(program.class_index)) or NOTHING)
    for seed in range(4):
        solve(synthetic(seed, classes=150, pools=60, regions=20, tasks=300), limits=LIVE_LIMITS)
    assert all(size <= LIVE_LIMITS.mip_arcs for size in sizes)


def test_a_task_that_needs_more_than_any_pool_has_is_told_of_what():
    wide = problem(gpus=[3, 3], prices=[1, 1], need=[1.0])
    pools = replace(wide.pools, capacity=np.array([[3.0, 8.0], [3.0, 16.0]]))
    needs = replace(wide.classes, need=np.array([[1.0, 32.0]]))
    (waiting,) = solve(replace(wide, pools=pools, classes=needs)).unplaced
    assert (waiting.reason, waiting.detail) == (
        Reason.CAPACITY,
        "one copy needs in one pool that it may use 32 CPUs, at most 16 are free",
    )
