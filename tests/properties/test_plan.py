"""What must hold for every plan of every problem, and equality with an independent exact solver on small ones."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.properties.random_problems import random_problem
from tests.properties.reference_mip import arc_usd, best_usd
from thalweg.scheduling.problem.model import Problem, Weights, make_classes
from thalweg.scheduling.problem.order import in_order, reordered
from thalweg.scheduling.problem.solution import Solution, SolveLimits, spread_copies
from thalweg.scheduling.solve.solve import STRATEGIES, left_by_greedy, solve

SEEDS = st.integers(0, 2**32 - 1)
FEW = settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
SHORT = SolveLimits(rounds=5)


def violations(problem: Problem, solution: Solution) -> list[str]:
    """Every hard constraint, counted again from the plan alone."""
    k, pools, found = problem.classes, problem.pools, []
    used, gpus, usd = np.zeros(pools.capacity.shape), np.zeros(2), np.zeros(2)
    for c, p, n in zip(solution.class_index, solution.pool_index, solution.count, strict=True):
        used[p] += n * k.need[c]
        if arc_usd(problem, c, p) is None:
            found.append(f"class {c} may not lie in pool {p}")
        if k.tenant[c] >= 0:
            gpus[k.tenant[c]] += n * k.need[c, 0]
            usd[k.tenant[c]] += n * k.need[c, 0] * pools.usd_per_gpu_hour[p]
    if (used > pools.capacity * (1 + 1e-8)).any():
        found.append("a pool is over its capacity")
    if len(problem.tenants):
        if (gpus > problem.tenants.quota_gpus * (1 + 1e-8)).any():
            found.append("a tenant is over its quota")
        if (usd > problem.tenants.budget_usd_per_hour * (1 + 1e-8)).any():
            found.append("a tenant is over its budget")
    for c in range(len(k)):
        arcs = solution.class_index == c
        if solution.count[arcs].sum() != solution.placed[c] * k.replicas[c]:
            found.append(f"class {c} has a task with some copies only")
        region = pools.region[solution.pool_index[arcs]]
        dealt = spread_copies(region, solution.count[arcs], int(solution.placed[c]), int(k.replicas[c]))
        if any(len(set(region[copies])) != k.replicas[c] for copies in dealt):
            found.append(f"class {c} has two copies of a task in one region")
    waiting = {entry.class_index: entry.count for entry in solution.unplaced}
    if any(waiting.get(c, 0) != k.count[c] - solution.placed[c] for c in range(len(k))):
        found.append("a task is neither placed nor explained")
    if not all(entry.detail for entry in solution.unplaced):
        found.append("a reason without detail")
    return found


def objective(problem: Problem, solution: Solution) -> float:
    """The design's formula, summed arc by arc."""
    total = sum(
        n * (arc_usd(problem, c, p) or 0.0)
        for c, p, n in zip(solution.class_index, solution.pool_index, solution.count, strict=True)
    )
    total += float(((problem.classes.count - solution.placed) * problem.classes.wait_usd).sum())
    if problem.weights.balance:
        used, size = np.zeros(len(problem.regions)), np.zeros(len(problem.regions))
        np.add.at(size, problem.pools.region, problem.pools.capacity[:, 0])
        region = problem.pools.region[solution.pool_index]
        np.add.at(used, region, solution.count * problem.classes.need[solution.class_index, 0])
        mean = used.sum() / size.sum() if size.sum() else 0.0
        total += sum(problem.weights.balance * g * (u / g - mean) ** 2 for u, g in zip(used, size, strict=True) if g)
    return float(total)


@FEW
@given(SEEDS, st.sampled_from(sorted(STRATEGIES)))
def test_no_plan_of_any_strategy_breaks_a_constraint_or_lies_about_its_cost(seed: int, strategy: str) -> None:
    problem = random_problem(seed, classes=8, pools=7, tasks=20, balance=float(seed % 3 == 0) * 10.0)
    solution = solve(problem, strategy, SHORT)
    assert violations(problem, solution) == []
    assert solution.objective == pytest.approx(objective(problem, solution), rel=1e-9, abs=1e-6)
    assert solution.bound <= solution.objective


@FEW
@given(SEEDS)
def test_flow_equals_an_independent_mip_on_small_problems(seed: int) -> None:
    problem = random_problem(seed)
    best = best_usd(problem)
    if best is None:
        return
    solution = solve(problem)
    assert solution.objective == pytest.approx(best, rel=2e-6, abs=1e-6)
    assert solution.bound <= best + 1e-7 * max(1.0, abs(best))


@FEW
@given(SEEDS, st.sampled_from(sorted(set(STRATEGIES) - {"flow"})))
def test_no_strategy_claims_a_bound_above_the_best_plan_or_a_plan_below_it(seed: int, strategy: str) -> None:
    problem = random_problem(seed)
    best = best_usd(problem)
    if best is None:
        return
    solution = solve(problem, strategy, SHORT)
    slack = 1e-7 * max(1.0, abs(best))
    assert solution.bound <= best + slack
    assert solution.objective >= best - slack


@FEW
@given(SEEDS, SEEDS)
def test_the_order_of_the_input_does_not_change_the_plan(seed: int, shuffle: int) -> None:
    problem = in_order(random_problem(seed, classes=8, pools=7, tasks=20, balance=float(seed % 2))).problem
    rng = np.random.default_rng(shuffle)
    orders = [rng.permutation(n) for n in (len(problem.regions), len(problem.classes), len(problem.pools))]
    mixed = reordered(problem, *orders)
    one, other = solve(problem, limits=SolveLimits(mip_arcs=0)), solve(mixed, limits=SolveLimits(mip_arcs=0))

    def named(p: Problem, s: Solution) -> set[tuple[str, str, int]]:
        rows = zip(s.class_index, s.pool_index, s.count, strict=True)
        return {(p.classes.class_ids[c], p.pools.pool_ids[q], int(n)) for c, q, n in rows}

    assert named(problem, one) == named(mixed, other)


@FEW
@given(SEEDS)
def test_planning_again_from_a_plan_moves_nothing(seed: int) -> None:
    problem = random_problem(seed, classes=5, pools=5, tasks=6)
    k = problem.classes
    nowhere: dict[str, Any] = {"current_start": np.zeros(len(k) + 1, np.int64), "current_pool": np.zeros(0, np.int64)}
    problem = replace(problem, classes=replace(k, replicas=np.ones_like(k.replicas), **nowhere))
    first = solve(problem)
    again = as_running(problem, first)
    second = solve(again)
    held = {(row, int(again.classes.current_pool[i])) for row, i in enumerate(again.classes.current_start[:-1])
            if again.classes.current_start[row + 1] > again.classes.current_start[row]}  # fmt: skip
    for c, p, n in zip(second.class_index, second.pool_index, second.count, strict=True):
        if again.classes.current_start[c + 1] > again.classes.current_start[c]:
            assert (c, p) in held, "a running task was moved although nothing changed"
        assert n <= again.classes.count[c]


def as_running(problem: Problem, solution: Solution) -> Problem:
    """The problem a moment later: what was placed runs where it was placed, moving costs a little."""
    k = problem.classes
    rows = [(c, p, n) for c, p, n in zip(solution.class_index, solution.pool_index, solution.count, strict=True)]
    rows += [(u.class_index, -1, u.count) for u in solution.unplaced]
    owner = np.array([c for c, _, _ in rows], np.int64)
    runs = np.array([p >= 0 for _, p, _ in rows], bool)
    columns = {
        name: getattr(k, name)[owner]
        for name in ("need", "expected_h", "wait_usd", "priority", "gpu_models", "allowed_regions", "spot_ok",
                     "checkpoint_h", "origin", "max_rtt_ms", "max_usd_per_hour", "replicas", "tenant")
    }  # fmt: skip
    item_start, copy_start, sizes, regions = [0], [0], [], []
    for c in owner:
        for item in range(k.item_start[c], k.item_start[c + 1]):
            sizes.append(k.item_size_gb[item])
            regions += list(k.copy_region[k.copy_start[item] : k.copy_start[item + 1]])
            copy_start.append(len(regions))
        item_start.append(len(sizes))
    classes = make_classes(
        [f"{i:03d}" for i in range(len(rows))],
        count=np.array([n for _, _, n in rows], np.int64),
        regions=len(problem.regions),
        gpu_model_count=len(problem.gpu_models),
        items=(np.array(item_start), np.array(sizes, float), np.array(copy_start), np.array(regions, np.int64)),
        current=(np.concatenate([[0], np.cumsum(runs)]), np.array([p for _, p, _ in rows if p >= 0], np.int64)),
        **columns,
    )
    # More than a plan called optimal may be away from the optimum, so that no move can pay.
    weights = replace(problem.weights, move=50.0)
    assert isinstance(weights, Weights)
    return replace(problem, classes=classes, weights=weights)


@FEW
@given(SEEDS)
def test_what_greedy_leaves_is_told_without_a_bound(seed: int) -> None:
    one = random_problem(seed)
    assert left_by_greedy(one) == solve(one, "greedy").unplaced
