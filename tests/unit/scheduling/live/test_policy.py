from dataclasses import replace

import numpy as np
import pytest

from tests.unit.scheduling.problems import problem
from thalweg.scheduling.explain.start_estimate import estimate_start
from thalweg.scheduling.live.elastic import grown_gpus
from thalweg.scheduling.live.fairshare import entitlements, tasks_within_share
from thalweg.scheduling.problem.model import Weights
from thalweg.scheduling.solve.replan import as_running, moved_tasks, replan
from thalweg.scheduling.solve.solve import solve


def test_dominant_shares_are_those_of_the_paper():
    # Ghodsi et al. 2011, section 4: 9 CPUs and 18 GB; A's tasks need <1, 4>, B's <3, 1>: 3 and 2 tasks.
    fair = entitlements(np.array([[100.0, 400.0], [300.0, 100.0]]), np.array([9.0, 18.0]), np.ones(2))
    assert fair.amount.tolist() == [pytest.approx([3.0, 12.0]), pytest.approx([6.0, 2.0])]
    assert fair.dominant_share.tolist() == pytest.approx([2 / 3, 2 / 3])


def test_what_one_tenant_leaves_is_lent_to_the_others_by_weight_and_quotas_stop_it():
    demand = np.array([[2.0], [100.0], [100.0]])
    fair = entitlements(demand, np.array([32.0]), np.array([1.0, 1.0, 2.0]))
    assert fair.amount[:, 0].tolist() == pytest.approx([2.0, 10.0, 20.0])
    assert fair.borrowed_gpus.tolist() == pytest.approx([0.0, 2.0, 4.0])
    capped = entitlements(demand, np.array([32.0]), np.array([1.0, 1.0, 2.0]), np.array([np.inf, np.inf, 8.0]))
    assert capped.amount[:, 0].tolist() == pytest.approx([2.0, 22.0, 8.0])


def test_tasks_lie_within_a_share_until_it_is_reached_and_all_of_them_while_there_is_room():
    def within(count, held=(0.0, 0.0)):
        return tasks_within_share(
            tenant=np.array([0, 1]), need=np.array([[1.0], [4.0]]), count=np.array(count), held=np.array([held]).T,
            capacity=np.array([12.0]), weight=np.array([2.0, 1.0]), quota_gpus=np.full(2, np.inf),
        ).tolist()  # fmt: skip

    assert within([4, 2]) == [4, 2]
    assert within([50, 50]) == [8, 1]
    assert within([50, 50], held=(10.0, 2.0)) == [0, 1]


def test_what_asks_for_something_nobody_has_is_no_matter_of_shares():
    need = np.array([[1.0, 0.0], [0.0, 2.0], [0.0, 2.0]])  # the first tenant's first class wants what is not there
    within = tasks_within_share(
        tenant=np.array([0, 0, 1]), need=need, count=np.array([9, 9, 9]), held=np.zeros((2, 2)),
        capacity=np.array([0.0, 8.0]), weight=np.ones(2), quota_gpus=np.full(2, np.inf),
    )  # fmt: skip
    assert within.tolist() == [9, 2, 2]
    nothing = entitlements(np.ones((2, 2)), np.zeros(2), np.ones(2))
    assert nothing.dominant_share.tolist() == [0.0, 0.0]


def test_elastic_tasks_share_what_is_idle_by_weight_and_keep_their_limits():
    held = grown_gpus(
        idle_gpus=np.array([7.0, 0.0]), pool=np.array([0, 0, 1]), least_gpus=np.array([1.0, 1.0, 2.0]),
        most_gpus=np.array([4.0, 99.0, 8.0]), step_gpus=np.ones(3), weight=np.array([1.0, 1.0, 1.0]),
    )  # fmt: skip
    assert held.tolist() == [4.0, 5.0, 2.0]


def test_replanning_a_running_world_moves_nothing_and_keeps_to_its_budget():
    one = problem(gpus=[10, 10], prices=[1.0, 1.01], need=[1.0], count=[10], weights=Weights(move=0.5))
    running = np.array([[0, 10]])
    still = as_running(one, running, np.array([0])).problem
    assert moved_tasks(still, solve(still)) == 0
    # Twice the price there now: moving is worth it, but only as many as the budget lets.
    dearer = problem(gpus=[10, 10], prices=[1.0, 3.0], need=[1.0], count=[10], weights=Weights(move=0.5))
    drifted = as_running(dearer, running, np.array([0])).problem
    assert moved_tasks(drifted, solve(drifted)) == 10
    assert moved_tasks(drifted, replan(drifted, None, max_moved=3)) <= 3


def test_what_runs_knows_its_class_whatever_the_ids_hold():
    one = problem(gpus=[10, 10], prices=[1.0, 1.0], need=[1.0, 2.0], count=[10, 10])
    one = replace(one, classes=replace(one.classes, class_ids=("team@east", "team@west")))
    divided = as_running(one, np.array([[0, 3], [2, 0]]), np.array([1, 0]))
    assert divided.class_of.tolist() == [0, 1, 0]
    assert divided.problem.classes.count.tolist() == [3, 2, 1]
    assert divided.problem.classes.need[:, 0].tolist() == [1.0, 2.0, 1.0]


def test_an_estimated_start_orders_its_percentiles_and_knows_now_and_never():
    running = {"running_place": np.array([0, 0]), "running_gpus": np.array([4.0, 4.0]),
               "elapsed_h": np.array([1.0, 0.0]), "expected_h": np.array([2.0, 8.0])}  # fmt: skip
    usable = np.array([True, False])
    now = estimate_start(need_gpus=2.0, usable=usable, free_gpus=np.array([2.0, 9.0]), **running)
    assert (now.p10_h, now.p50_h, now.p90_h) == (0.0, 0.0, 0.0)
    later = estimate_start(need_gpus=4.0, usable=usable, free_gpus=np.array([0.0, 9.0]), **running)
    assert 0.0 < later.p10_h <= later.p50_h <= later.p90_h < np.inf
    never = estimate_start(need_gpus=64.0, usable=usable, free_gpus=np.array([0.0, 99.0]), **running)
    assert never.p50_h == np.inf


@pytest.mark.parametrize(("copies", "cases"), [(20, 300), (3_000, 60)])
def test_eighty_of_a_hundred_starts_fall_into_their_interval(copies, cases):
    rng = np.random.default_rng(1)
    inside = 0
    for _ in range(cases):
        place, gpus = rng.integers(0, 3, copies), rng.choice([1.0, 2.0, 4.0], copies)
        expected = rng.lognormal(1, 1, copies)
        elapsed = expected * rng.uniform(0, 0.5, copies)
        need = float(rng.integers(1, 9)) if copies < 100 else float(rng.integers(20, 400))
        need = min(need, float(np.bincount(place, gpus, 3).max()))
        told = estimate_start(
            need_gpus=need, usable=np.ones(3, bool), free_gpus=np.zeros(3), running_place=place, running_gpus=gpus,
            elapsed_h=elapsed, expected_h=expected,
        )  # fmt: skip
        inside += told.p10_h <= _true_start(rng, need, place, gpus, elapsed, expected) <= told.p90_h
    # Three standard errors of a share of 0.8.
    assert inside / cases == pytest.approx(0.8, abs=3 * 0.4 / np.sqrt(cases))


def _true_start(rng, need, place, gpus, elapsed, expected):
    lasts = np.zeros(len(place))
    while (short := lasts <= elapsed).any():
        lasts[short] = expected[short] * np.exp(rng.standard_normal(int(short.sum())) - 0.5)
    starts = []
    for one in range(3):
        mine = np.flatnonzero(place == one)
        mine = mine[np.argsort((lasts - elapsed)[mine])]
        enough = np.flatnonzero(np.cumsum(gpus[mine]) >= need - 1e-9)
        starts += [(lasts - elapsed)[mine[enough[0]]]] if enough.size else []
    return min(starts)
