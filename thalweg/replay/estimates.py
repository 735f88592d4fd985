"""What a replay's planner is told of how long jobs run: the truth, or something far from it."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Final

import numpy as np

MOST_TIMES_OFF: Final = 100.0
"""A hostile estimate is as much as so many times too long or too short."""


class Estimates(StrEnum):
    """How true they are."""

    EXACT = "exact"
    HOSTILE = "hostile"
    """Each off by a factor of its own, as likely too long as too short, its logarithm even between the bounds."""


def expected_s(run_s: Sequence[float], estimates: Estimates, seed: int) -> list[float]:
    """What each job is said to take, in seconds.

    Args:
        run_s: what each takes, in order of submission.
        estimates: how true it is.
        seed: of the factors, drawn in that order.
    """
    if estimates is Estimates.EXACT:
        return list(run_s)
    # A stream of its own: data sizes are drawn from the seed itself, and are to stay as they are.
    most = np.log(MOST_TIMES_OFF)
    times = np.exp(np.random.default_rng([seed, 1]).uniform(-most, most, len(run_s)))
    return [float(one) for one in np.array(run_s, np.float64) * times]
