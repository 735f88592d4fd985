"""What outcomes say of a new version, as e-values: numbers that may be looked at any time, and after any time.

Each request on an edge of the wave is answered by the new version (a) with the chance s, as if a coin fell, else by the
last good one (b). An outcome is bad with the chance θa or θb. A *null* is a set of pairs (θa, θb); against it we hold
another pair (θa*, θb*), and the point (θa°, θb°) of the null that is nearest to it, in s KL(θa*‖θa) + (1-s) KL(θb*‖θb).
A request then multiplies the e-value by P*(outcome of its arm) / P°(the same). Under every point of the null the
expected factor is at most 1: it is linear in (θa, θb), 1 at the nearest point, and its gradient there is minus that of
the distance, which falls nowhere in a convex null (Grünwald, de Heide and Koolen 2024, "Safe testing"; Turner, Ly and
Grünwald 2024 for tables of two by two). So the product is a supermartingale, and by Ville's inequality it ever reaches
1/α with a chance of at most α, however often and for whatever reason somebody looks.

The other pair is a mixture over a grid, fixed beforehand, as in a mixture sequential probability ratio test (Robbins
1970; Johari, Koomen, Pekelis and Walsh 2022): a mean of e-values is one. Nothing is estimated on the way, so the
e-value is a function of four sums: no order of reports, no repetition and no restart changes it.

For `harm`, "no worse", s alone makes it hold: if the new version does no worse on each single request, then whatever
the requests are, however edges differ and times change, the coin makes the expected factor at most 1.
"""

from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

Sums = tuple[int, int, int, int]
"""Of one measure: outcomes and bad ones of the new version, outcomes and bad ones of the last good one."""
Matrix = npt.NDArray[np.float64]

RATES: Final = tuple(1 / (1 + np.exp(-np.linspace(np.log(0.001 / 0.999), np.log(0.6 / 0.4), 14))))
"""Shares of bad outcomes of the last good version that are held possible."""
WORSE: Final = (0.25, 0.5, 1.0, 2.0, 4.0)
"""How much worse the new one may be, in margins."""
NOT_WORSE: Final = (-0.5, 0.0, 0.5)


def log_harm(sums: Sums, share: float, margin: float) -> float:
    """Return the logarithm of the e-value against "the new version is no worse".

    Args:
        sums: of one measure; what cannot be is no evidence.
        share: chance that the new version answers, s above.
        margin: in whose multiples the other pairs are worse.
    """
    return _log_mean(_harm_terms(share, margin), sums)


def log_safe(sums: Sums, share: float, margin: float) -> float:
    """Return the logarithm of the e-value against "the new version is worse by the margin or more"."""
    return _log_mean(_safe_terms(share, margin), sums)


def log_mean_exp(logs: Matrix) -> float:
    """Return the logarithm of the mean of numbers whose logarithms are given."""
    top = logs.max()
    return float(top + np.log(np.exp(logs - top).sum() / logs.size))


def _log_mean(terms: Matrix, sums: Sums) -> float:
    new, bad_new, last, bad_last = sums
    counts = (bad_new, new - bad_new, bad_last, last - bad_last)
    if min(counts) < 0:
        return 0.0  # outcomes were there that are not there any more
    return log_mean_exp(terms @ np.array(counts, dtype=np.float64))


@lru_cache(maxsize=256)
def _harm_terms(share: float, margin: float) -> Matrix:
    pairs = [(rate + times * margin, rate) for rate in RATES for times in WORSE if rate + times * margin < 0.999]
    return np.array([_terms(pair, _nearest(pair, share, 0.0)) for pair in pairs])


@lru_cache(maxsize=256)
def _safe_terms(share: float, margin: float) -> Matrix:
    pairs = [(rate + times * margin, rate) for rate in RATES for times in NOT_WORSE if rate + times * margin > 0.0005]
    return np.array([_terms(pair, _nearest(pair, share, margin)) for pair in pairs if pair[1] + margin < 0.999])


def _terms(pair: tuple[float, float], null: tuple[float, float]) -> list[float]:
    """Return what each bad and each good outcome of either arm adds to the logarithm."""
    return [float(np.log(p / q)) for one, of in zip(pair, null, strict=True) for p, q in ((one, of), (1 - one, 1 - of))]


def _nearest(pair: tuple[float, float], share: float, margin: float) -> tuple[float, float]:
    """Return the point of θa = θb + margin that is nearest to a pair.

    The distance is convex along this line: its slope is halved in until floats end.
    """
    new, last = pair

    def slope(rate: float) -> float:
        above = rate + margin
        return float(share * (above - new) / (above * (1 - above)) + (1 - share) * (rate - last) / (rate * (1 - rate)))

    least, most = 1e-12, 1 - margin - 1e-12
    for _ in range(80):
        middle = (least + most) / 2
        least, most = (least, middle) if slope(middle) > 0 else (middle, most)
    rate = (least + most) / 2
    return rate + margin, rate
