"""Irreducible infeasible sets: what is named cannot be kept, and without any one of it can."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.properties.random_problems import random_problem
from tests.properties.reference_mip import arc_usd
from thalweg.scheduling.problem.model import Problem
from thalweg.scheduling.problem.named_limits import LimitKind, NamedLimit, limits_of, loosened
from thalweg.scheduling.solve.irreducible import can_place_all, infeasible_sets, irreducible


def all_can_be_placed(problem: Problem) -> bool:
    """Try every way to place every copy, a task after the other: no solver, and no code of the engine's."""
    k, pools, tenants = problem.classes, problem.pools, problem.tenants
    tasks = [c for c in range(len(k)) for _ in range(k.count[c])]
    ways = {
        c: [
            chosen
            for chosen in itertools.combinations(
                [p for p in range(len(pools)) if arc_usd(problem, c, p) is not None], int(k.replicas[c])
            )
            if len({pools.region[p] for p in chosen}) == k.replicas[c]
        ]
        for c in set(tasks)
    }

    def placed(at: int, free: np.ndarray, quota: np.ndarray, budget: np.ndarray, first: int) -> bool:
        if at == len(tasks):
            return True
        c = tasks[at]
        begin = first if at and tasks[at - 1] == c else 0  # equal tasks take their ways in order
        for way in range(begin, len(ways[c])):
            left, quota_left, budget_left = free.copy(), quota.copy(), budget.copy()
            for p in ways[c][way]:
                left[p] -= k.need[c]
                if k.tenant[c] >= 0:
                    quota_left[k.tenant[c]] -= k.need[c, 0]
                    budget_left[k.tenant[c]] -= k.need[c, 0] * pools.usd_per_gpu_hour[p]
            if min(left.min(), quota_left.min(initial=0), budget_left.min(initial=0)) < -1e-9:
                continue
            if placed(at + 1, left, quota_left, budget_left, way):
                return True
        return False

    return placed(0, pools.capacity, tenants.quota_gpus, tenants.budget_usd_per_hour, 0)


def keeping(problem: Problem, kept: set[NamedLimit]) -> Problem:
    return loosened(problem, (limit for limit in limits_of(problem) if limit not in kept))


def small_problem(seed: int) -> Problem:
    return random_problem(seed, classes=3, pools=3, tasks=2)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_a_set_cannot_be_kept_and_without_any_one_of_its_limits_it_can(seed: int) -> None:
    problem = small_problem(seed)
    found = infeasible_sets(problem)
    assert found.complete
    assert bool(found.found) is not all_can_be_placed(problem)
    for one in found.found:
        assert one.irreducible
        limits = set(one.limits)
        assert not all_can_be_placed(keeping(problem, limits))
        for limit in limits:
            assert all_can_be_placed(keeping(problem, limits - {limit})), limit


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_no_two_sets_demand_the_same_class_and_all_other_tasks_can_be_placed(seed: int) -> None:
    problem = small_problem(seed)
    demands = [
        limit for one in infeasible_sets(problem).found for limit in one.limits if limit.kind is LimitKind.DEMAND
    ]
    assert len(set(demands)) == len(demands)
    assert all_can_be_placed(loosened(problem, demands))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), drops=st.integers(0, 2**31 - 1))
def test_letting_limits_go_never_takes_a_place_away(seed: int, drops: int) -> None:
    problem = small_problem(seed)
    limits = limits_of(problem)
    dropped = [limit for bit, limit in enumerate(limits) if drops >> bit & 1]
    if can_place_all(problem):
        assert can_place_all(loosened(problem, dropped))
    assert can_place_all(loosened(problem, limits))


@given(
    width=st.integers(1, 12),
    cores=st.lists(st.frozensets(st.integers(0, 11), min_size=1), min_size=1, max_size=4),
)
def test_deletion_ends_at_a_core_of_a_family(width: int, cores: list[frozenset[int]]) -> None:
    members = range(max(width, max(map(max, cores)) + 1))
    left = set(irreducible(members, lambda kept: any(core <= set(kept) for core in cores)))
    assert any(left == core for core in cores)
