"""What a partial plan keeps of the copies that it is loaded with: whole tasks, and as many as the limits allow."""

import numpy as np

from tests.unit.scheduling.problems import problem
from thalweg.scheduling.arrays import IntArray
from thalweg.scheduling.problem.cost import arc_costs
from thalweg.scheduling.problem.model import GPUS, Problem, Tenants
from thalweg.scheduling.solve.partial_plan import PartialPlan

AMPLE = 1e6
REGION = [0, 0, 1, 2, 3]
SLACK = 1.0 + 1e-6


def loaded(asked: Problem, counts: IntArray) -> PartialPlan:
    plan = PartialPlan(asked, arc_costs(asked))
    rows, pools = np.nonzero(counts)
    plan.load(rows, pools, counts[rows, pools])
    assert (plan.counts <= counts).all(), "it is loaded with no more than there is"
    return plan


def holds(asked: Problem, counts: IntArray) -> bool:
    """Whether every pool has so much, and every tenant may have it."""
    gpus = counts * asked.classes.need[:, [GPUS]]
    of_tenant = [gpus[asked.classes.tenant == one] for one in range(len(asked.tenants))]
    quota = np.array([one.sum() for one in of_tenant])
    budget = np.array([(one * asked.pools.usd_per_gpu_hour).sum() for one in of_tenant])
    return bool(
        (gpus.sum(axis=0) <= asked.pools.capacity[:, GPUS] * SLACK).all()
        and (quota <= asked.tenants.quota_gpus * SLACK).all()
        and (budget <= asked.tenants.budget_usd_per_hour * SLACK).all()
    )


def test_of_copies_the_most_tasks_are_kept_that_have_each_of_theirs_in_a_region_of_its_own() -> None:
    draw = np.random.default_rng(0)
    for _ in range(100):
        replicas, counts = int(draw.integers(2, 4)), draw.integers(0, 4, (1, len(REGION)))
        prices = draw.permutation(len(REGION)) + 1.0
        asked = problem(
            gpus=[AMPLE] * len(REGION),
            prices=prices.tolist(),
            need=[1.0],
            count=[99],
            region=REGION,
            replicas=np.array([replicas]),
        )
        plan = loaded(asked, counts)
        held = np.bincount(REGION, counts[0])
        most = max(tasks for tasks in range(20) if np.minimum(held, tasks).sum() >= replicas * tasks)
        assert plan.placed.tolist() == [most]
        assert plan.counts.sum() == replicas * most
        assert np.bincount(REGION, plan.counts[0]).max() <= most


def test_of_copies_beyond_a_limit_some_leave_until_it_holds_and_within_all_limits_nobody_does() -> None:
    draw = np.random.default_rng(0)
    for _ in range(100):
        need, tenant, counts = draw.integers(1, 4, 3), draw.integers(-1, 2, 3), draw.integers(0, 4, (3, 4))
        usd = draw.integers(1, 4, 4).astype(float)
        limits = Tenants(
            tenant_ids=("a", "b"),
            quota_gpus=draw.choice([5.0, 20.0, np.inf], 2),
            budget_usd_per_hour=draw.choice([9.0, 40.0, np.inf], 2),
        )
        asked = problem(
            gpus=draw.choice([5.0, 20.0, AMPLE], 4).tolist(),
            prices=usd.tolist(),
            need=need.astype(float).tolist(),
            count=[99] * 3,
            tenants=limits,
            tenant=tenant,
        )
        plan = loaded(asked, counts)

        assert holds(asked, plan.counts)
        assert plan.placed.tolist() == plan.counts.sum(axis=1).tolist()
        assert not holds(asked, counts) or (plan.counts == counts).all()


def test_where_a_pool_has_too_little_the_least_important_leave_it() -> None:
    asked = problem(gpus=[AMPLE, 4.0], prices=[1.0, 1.0], need=[2.0, 2.0], count=[9, 9], priority=np.array([900, 100]))
    assert loaded(asked, np.array([[2, 2], [3, 2]])).counts.tolist() == [[2, 2], [3, 0]]
