from dataclasses import replace

import numpy as np
import pytest

from tests.unit.scheduling.problems import linked, problem
from thalweg.scheduling.problem.check import ProblemError, check_problem
from thalweg.scheduling.problem.cost import arc_costs, balance_usd, components
from thalweg.scheduling.problem.model import Weights


def test_each_component_is_the_formula_of_the_design_worked_by_hand():
    one = problem(
        gpus=[8, 8],
        prices=[1.0, 2.0],
        need=[4.0],
        hours=[10.0],
        network=linked(2, rtt_ms=30.0, gbps=2.0, usd_per_gb=0.05),
        weights=Weights(rtt=0.01, risk=1.0, move=7.0),
        pool_columns={"spot": np.array([False, True])},
        spot_ok=np.array([True]),
        checkpoint_h=np.array([2.0]),
        origin=np.array([0]),
        items=(np.array([0, 1]), np.array([900.0]), np.array([0, 1]), np.array([0])),
        current=(np.array([0, 1]), np.array([0])),
    )
    parts = components(one, np.array([0, 0]), np.array([0, 1]))
    assert parts[0].tolist() == [40.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    # 4·2·10; 900·0.05; 4·2·(900·8/2)/3600; 0.01·30·10; 4·2·0.05·10·min(10, 2)/2; one move.
    assert parts[1].tolist() == pytest.approx([80.0, 45.0, 8.0, 3.0, 4.0, 7.0])
    assert arc_costs(one).usd[0].tolist() == pytest.approx(parts.sum(axis=1).tolist())


def test_the_cheapest_copy_of_an_item_counts_and_the_fastest_among_equals():
    network = linked(3, usd_per_gb=0.1, gbps=1.0)
    network.usd_per_gb[1, 2], network.gbps[1, 2] = 0.02, 8.0
    one = problem(
        gpus=[0, 0, 8],
        prices=[1, 1, 1],
        need=[1.0],
        network=network,
        items=(np.array([0, 1]), np.array([360.0]), np.array([0, 2]), np.array([0, 1])),
    )
    assert components(one, np.array([0]), np.array([2]))[0, 1:3].tolist() == pytest.approx([7.2, 0.1])


def test_balance_is_the_gpu_weighted_variance_of_utilisation():
    one = problem(gpus=[10, 30], prices=[1, 1], need=[1.0], weights=Weights(balance=2.0))
    # 8 of 10 and 8 of 30: the fleet is at 16/40.
    assert balance_usd(one, np.array([8.0, 8.0])) == pytest.approx(2.0 * (10 * 0.4**2 + 30 * (8 / 30 - 0.4) ** 2))


def test_what_is_unreachable_is_forbidden_and_never_nan():
    network = linked(2)
    network.rtt_ms[0, 1], network.gbps[0, 1], network.usd_per_gb[0, 1] = np.inf, 0.0, np.inf
    item = (np.array([0, 1]), np.array([1.0]), np.array([0, 1]), np.array([0]))
    for columns in ({"items": item}, {"origin": np.array([0])}):
        usd = arc_costs(problem(gpus=[8, 8], prices=[0.0, 0.0], need=[1.0], network=network, **columns)).usd
        assert usd.tolist() == [[0.0, np.inf]]


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("usd_per_gpu_hour", np.nan, r"pools.usd_per_gpu_hour\[1\] is nan; allowed: a number from 0 to 1e\+15"),
        ("usd_per_gpu_hour", -1.0, r"pools.usd_per_gpu_hour\[1\] is -1.0"),
        ("capacity", np.inf, r"pools.capacity\[1\] is inf"),
    ],
)
def test_a_value_without_meaning_is_refused_by_name(column, value, message):
    one = problem(gpus=[8, 8], prices=[1, 1], need=[1.0])
    changed = getattr(one.pools, column).copy()
    changed[1] = value
    with pytest.raises(ProblemError, match=message):
        check_problem(replace(one, pools=replace(one.pools, **{column: changed})))
