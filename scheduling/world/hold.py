"""How long a task holds its place: an estimate with an interval, and what becomes of it as time goes by.

For now around what the request says. Whoever learns durations from history hands out another `HoldEstimator`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from thalweg.scheduling.arrays import FloatArray
from thalweg.scheduling.world.tasks import TaskSpec
from thalweg.scheduling.world.value import LEAST_HOLD_H, MOST_HOLD_H

SIGMA: Final = 1.0
"""Standard deviation of the logarithm of a duration around what was expected, as explanations take it, too."""
EIGHTY_PERCENT: Final = 1.2816
"""So many standard deviations lie on each side of the middle 80 %."""
OUTLIVED_SHARE: Final = 0.5
"""What has run longer than expected is expected to run on for half as long again as it has: an estimate that was wrong
once says nothing more, and of durations with heavy tails the longer one has lasted, the longer it lasts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldEstimate:
    """Hours for which a copy holds its place: expected, and where 80 of 100 lie."""

    hours: float
    least_h: float
    most_h: float


HoldEstimator = Callable[[TaskSpec], HoldEstimate]


def as_requested(spec: TaskSpec) -> HoldEstimate:
    """Take the request's word for it; zero, and a year and more, are brought within reason; NaN is an hour."""
    hours = 1.0 if np.isnan(spec.expected_s) else float(np.clip(spec.expected_s / 3_600.0, LEAST_HOLD_H, MOST_HOLD_H))
    spread = float(np.exp(EIGHTY_PERCENT * SIGMA))
    return HoldEstimate(hours=hours, least_h=hours / spread, most_h=hours * spread)


def left_h(expected_h: FloatArray, attained_h: FloatArray) -> FloatArray:
    """Hours for which copies that have run so long will hold their places yet."""
    attained = np.maximum(attained_h, 0.0)
    return np.asarray(
        np.where(attained < expected_h, expected_h - attained, np.maximum(OUTLIVED_SHARE * attained, LEAST_HOLD_H)),
        np.float64,
    )
