"""How good a forecast was: its error, how often the truth lay in its interval, and both in one figure."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from thalweg.learning.forecast.columns import Numbers

QUANTILES: Final = (0.1, 0.5, 0.9)
"""A forecast is a median between the ends of an interval that is to hold 80 of 100."""
COVERED: Final = 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastScore:
    """Of a forecast against what came.

    Attributes:
        rows: that it was judged by.
        error: mean absolute error of the median.
        coverage: share of the truths within the interval.
        width: mean width of the interval.
        pinball: mean over the three quantiles; the smaller the better, and only the true quantiles have the least
            (Koenker, Bassett 1978).
    """

    rows: int
    error: float
    coverage: float
    width: float
    pinball: float


def pinball(truth: Numbers, quantiles: Numbers) -> float:
    """Mean pinball loss of [N, 3] quantiles."""
    above = truth[:, None] - quantiles
    levels = np.array(QUANTILES)
    return float(np.maximum(levels * above, (levels - 1.0) * above).mean())


def scored(truth: Numbers, quantiles: Numbers) -> ForecastScore:
    """Judge [N, 3] quantiles by [N] truths."""
    least, middle, most = quantiles.T
    return ForecastScore(
        rows=len(truth),
        error=float(np.abs(truth - middle).mean()),
        coverage=float(((truth >= least) & (truth <= most)).mean()),
        width=float((most - least).mean()),
        pinball=pinball(truth, quantiles),
    )
