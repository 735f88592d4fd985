from dataclasses import replace

import numpy as np
import pytest

from tests.unit.scheduling.problems import linked, problem
from thalweg.scheduling.problem.check import ProblemError
from thalweg.scheduling.problem.model import Weights, local_network
from thalweg.scheduling.problem.solution import Reason, SolveLimits
from thalweg.scheduling.solve.solve import STRATEGIES, solve

SHORT = SolveLimits(rounds=2)


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ({"prices": [float("nan")]}, r"pools.usd_per_gpu_hour\[0\] is nan; allowed: a number from 0"),
        ({"prices": [-1.0]}, r"pools.usd_per_gpu_hour\[0\] is -1.0"),
        ({"prices": [float("inf")]}, r"pools.usd_per_gpu_hour\[0\] is inf"),
        ({"gpus": [float("nan")]}, r"pools.capacity\[0\] is nan"),
        ({"gpus": [-8.0]}, r"pools.capacity\[0\] is -8.0"),
        ({"gpus": [1e300]}, r"pools.capacity\[0\] is 1e\+300"),
        ({"need": [float("nan")]}, r"classes.need\[0\] is nan"),
        ({"need": [1e300]}, r"classes.need\[0\] is 1e\+300"),
        ({"need": [1e9], "count": [10**9]}, r"classes.count\[0\] is 1000000000; allowed: at most 1e\+15 GPUs"),
        ({"count": [-1]}, r"classes.count\[0\] is -1"),
        ({"hours": [float("nan")]}, r"classes.expected_h\[0\] is nan"),
        ({"wait_usd": float("inf")}, r"classes.wait_usd\[0\] is inf"),
        ({"replicas": np.array([0])}, r"classes.replicas\[0\] is 0"),
        ({"region": [7], "network": linked(3)}, "pools.region"),
        ({"weights": Weights(balance=float("nan"))}, r"weights.balance\[0\] is nan"),
    ],
)
def test_a_value_without_meaning_is_refused_by_name(case, message):
    base = {"gpus": [8.0], "prices": [1.0], "need": [1.0]}
    odd = problem(**(base | case))
    if "region" in case:
        odd = replace(odd, regions=("r0", "r1", "r2"))
    for strategy in STRATEGIES:
        with pytest.raises(ProblemError, match=message):
            solve(odd, strategy, SHORT)


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
def test_a_missing_link_keeps_a_task_from_its_data_and_says_so(strategy):
    one = problem(gpus=[0, 8], prices=[1, 1], need=[1.0], network=local_network(2),
                  items=(np.array([0, 1]), np.array([10.0]), np.array([0, 1]), np.array([0])))  # fmt: skip
    (waiting,) = solve(one, strategy, SHORT).unplaced
    assert waiting.reason is Reason.CAPACITY  # its data's own region, the only one it reaches, has no GPU
    one = replace(one, pools=replace(one.pools, region=np.array([1, 1])))
    (waiting,) = solve(one, strategy, SHORT).unplaced
    assert waiting.reason is Reason.DATA


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
@pytest.mark.parametrize(
    ("case", "placed"),
    [
        ({"gpus": [5], "prices": [2.0], "need": [1.0], "count": [7]}, 5),  # one region
        ({"gpus": [10**6, 10**6], "prices": [1.0, 2.0], "need": [2.0], "count": [10**6]}, 10**6),
        ({"gpus": [0.0, 0.0], "prices": [1.0, 2.0], "need": [1.0], "count": [3]}, 0),
        ({"gpus": [1e15], "prices": [1e15], "need": [1e15], "wait_usd": 1e15}, 0),  # dearer than waiting
        ({"gpus": [8], "prices": [1.0], "need": [1e15]}, 0),  # larger than the world
        ({"gpus": [8, 8], "prices": [1.0, 1.0], "need": [4.0], "count": [4], "weights": Weights(balance=1e6)}, 4),
        ({"gpus": [0], "prices": [1.0], "need": [1.0], "weights": Weights(balance=1.0)}, 0),
    ],
)
def test_extreme_problems_have_the_result_they_should(case, placed, strategy):
    solution = solve(problem(**case), strategy, SHORT)
    assert solution.placed.tolist() == [placed]
    assert 0.0 <= solution.bound <= solution.objective
    assert np.isfinite(solution.objective)
    assert sum(entry.count for entry in solution.unplaced) == int(problem(**case).classes.count[0]) - placed
