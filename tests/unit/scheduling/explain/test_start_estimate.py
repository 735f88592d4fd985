"""When room is expected: the chance that what runs has ended by then, against the textbook's log-normal curve."""

import math
from statistics import NormalDist

import numpy as np
import pytest

from thalweg.scheduling.explain.start_estimate import estimate_start


def lives(hours: float, expected_h: float, spread: float) -> float:
    """Chance that a task runs longer than so many hours, where the mean of its log-normal time is what was expected."""
    middle = math.log(expected_h) - spread**2 / 2
    return 1.0 - NormalDist(middle, spread).cdf(math.log(hours))


def ended(hours: float, elapsed_h: float, expected_h: float, spread: float) -> float:
    """Chance that it ends within so many hours from now, given that it runs now."""
    return 1 - lives(elapsed_h + hours, expected_h, spread) / lives(elapsed_h, expected_h, spread)


@pytest.mark.parametrize("alike", [1.0, 1.000001])  # drawn, and along the curve
@pytest.mark.parametrize(("elapsed_h", "expected_h", "spread"), [(1.0, 4.0, 0.5), (3.0, 2.0, 0.3), (10.0, 8.0, 1.5)])
def test_one_task_in_the_way_ends_as_the_log_normal_curve_says(
    alike: float, elapsed_h: float, expected_h: float, spread: float
) -> None:
    told = estimate_start(
        need_gpus=4.0,
        usable=np.array([True]),
        free_gpus=np.array([0.0]),
        running_place=np.array([0]),
        running_gpus=np.array([4.0]),
        elapsed_h=np.array([elapsed_h]),
        expected_h=np.array([expected_h]),
        spread=spread,
        alike=alike,
    )
    for share, hours in ((0.1, told.p10_h), (0.5, told.p50_h), (0.9, told.p90_h)):
        assert ended(hours, elapsed_h, expected_h, spread) == pytest.approx(share, abs=0.1)  # of 200 draws
