"""When a waiting task will probably start: an estimate with an 80 % interval.

Running times are taken as log-normal around what was expected, given how long each copy runs already; the spread is an
argument. Few copies are drawn again and again, and the task starts in each of these futures where enough is free first.
Of many copies, what has ended by a moment is a normal sum whose mean and variance are known: no need to draw.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from thalweg.scheduling.arrays import BoolArray, FloatArray, IntArray

_MOMENTS_H = np.concatenate([[0.0], np.logspace(-3, 4, 85)])
"""From four seconds to a year, a fifth longer each: finer than any estimate deserves."""

MOST_DRAWN = 512
"""Up to so many copies futures are drawn. Above, a sum of their GPUs is normal enough."""

DRAWS = 200
"""The 10th and 90th percentile of 200 are known to about 2 percentage points."""

MOST_COPIES = 2_048
"""Copies looked at; each stands for as many as there are more of them. A mean over 2,048 is known to 3 %."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StartEstimate:
    """Hours from now; inf when in that share of the futures it never starts."""

    p10_h: float
    p50_h: float
    p90_h: float

    def later(self, hours: float) -> StartEstimate:
        """So much later."""
        return StartEstimate(p10_h=self.p10_h + hours, p50_h=self.p50_h + hours, p90_h=self.p90_h + hours)

    def at_least(self, other: StartEstimate) -> StartEstimate:
        """The later of two conditions that both have to come true."""
        return StartEstimate(
            p10_h=max(self.p10_h, other.p10_h),
            p50_h=max(self.p50_h, other.p50_h),
            p90_h=max(self.p90_h, other.p90_h),
        )


def estimate_start(
    *,
    need_gpus: float,
    usable: BoolArray,
    free_gpus: FloatArray,
    running_place: IntArray,
    running_gpus: FloatArray,
    elapsed_h: FloatArray,
    expected_h: FloatArray,
    ahead_gpus: float = 0.0,
    spread: float = 1.0,
    alike: float = 1.0,
) -> StartEstimate:
    """Estimate when one of the places has enough GPUs free.

    Args:
        need_gpus: all in one place.
        usable: [P] places it may use: pools, or nodes.
        free_gpus: [P] free now.
        running_place: [K] place of each running copy.
        running_gpus: [K].
        elapsed_h: [K] hours it runs already.
        expected_h: [K] hours it was expected to run in all.
        ahead_gpus: GPUs that waiting tasks before it will take, shared over the usable places by their size.
        spread: standard deviation of the logarithm of true over expected hours.
        alike: how many places each of these stands for (a sample of nodes).
    """
    places = len(free_gpus)
    held = np.bincount(running_place, running_gpus, places) if len(running_place) else np.zeros(places)
    able = usable & (free_gpus + held >= need_gpus - 1e-9)
    if not able.any():
        return StartEstimate(p10_h=np.inf, p50_h=np.inf, p90_h=np.inf)
    size = np.where(able, free_gpus + held, 0.0)
    short = need_gpus + ahead_gpus * size / max(float(size.sum()), 1e-9) - free_gpus
    if (able & (short <= 1e-9)).any():
        return StartEstimate(p10_h=0.0, p50_h=0.0, p90_h=0.0)
    later_h = 0.0
    beyond = short - held
    if (beyond[able] > 1e-9).all():
        # More is asked before it than all that runs now gives back; what comes after it runs as long as what is there.
        hours = (
            np.bincount(running_place, running_gpus * expected_h, places) if len(running_place) else np.zeros(places)
        )
        turnover_h = np.divide(hours, held, out=np.full(places, np.inf), where=held > 0)
        later_h = float((beyond[able] / size[able] * turnover_h[able]).min())
        short = np.minimum(short, held)
    mine = np.flatnonzero(able[running_place])
    if len(mine) <= MOST_DRAWN and alike == 1.0:
        starts = _drawn(short, running_place[mine], running_gpus[mine], elapsed_h[mine], expected_h[mine], spread)
        p10, p50, p90 = (float(starts[int(q * (DRAWS - 1))]) for q in (0.1, 0.5, 0.9))
        return StartEstimate(p10_h=p10, p50_h=p50, p90_h=p90).later(later_h)
    from thalweg.scheduling.explain.normal_curve import ndtr  # here and below late: most waits are answered without it

    stands_for = max(len(mine) / MOST_COPIES, 1.0)
    mine = mine[(np.arange(min(len(mine), MOST_COPIES)) * stands_for).astype(np.int64)]
    ended = _ended(elapsed_h[mine], expected_h[mine], spread)
    place, gpus = running_place[mine], running_gpus[mine, None]
    mean, variance = np.zeros((places, len(_MOMENTS_H))), np.zeros((places, len(_MOMENTS_H)))
    np.add.at(mean, place, stands_for * gpus * ended)
    np.add.at(variance, place, stands_for * gpus**2 * ended * (1.0 - ended))
    count = np.bincount(place, minlength=places)
    # GPUs come back a copy at a time: half a copy is what the normal curve misses of the step.
    step = np.bincount(place, gpus[:, 0], places) / np.maximum(count, 1)
    target = np.maximum(short - step / 2, short / 2)[:, None]
    enough = ndtr((mean - target) / np.sqrt(np.maximum(variance, 1e-12)))
    enough[~able | (count == 0)] = 0.0
    never = np.prod((1.0 - enough) ** alike, axis=0)
    chance = np.maximum.accumulate(1.0 - never)
    p10, p50, p90 = (
        float(np.interp(share, chance, _MOMENTS_H)) if chance[-1] >= share else np.inf for share in (0.1, 0.5, 0.9)
    )
    return StartEstimate(p10_h=p10, p50_h=p50, p90_h=p90).later(later_h)


def _drawn(
    short: FloatArray, place: IntArray, gpus: FloatArray, elapsed_h: FloatArray, expected_h: FloatArray, spread: float
) -> FloatArray:
    """[DRAWS] first moment, in rising order, at which some place has given back what it is short of."""
    from thalweg.scheduling.explain.normal_curve import log_ndtr, ndtri_exp

    share = np.random.default_rng(0).random((DRAWS, len(place)))
    log_median = np.log(np.maximum(expected_h, 1e-6)) - spread**2 / 2
    lives_now = log_ndtr((log_median - np.log(np.maximum(elapsed_h, 1e-9))) / spread)
    ends_h = np.exp(log_median - spread * ndtri_exp(lives_now + np.log(1.0 - share))) - elapsed_h
    starts = np.full(DRAWS, np.inf)
    for draw in range(DRAWS):
        order = np.lexsort((ends_h[draw], place))
        where, end, freed = place[order], ends_h[draw, order], np.cumsum(gpus[order])
        before = np.concatenate([[0.0], freed])[np.searchsorted(where, where)]
        starts[draw] = end[freed - before >= short[where] - 1e-9].min(initial=np.inf)
    return np.sort(np.maximum(starts, 0.0))


def _ended(elapsed_h: FloatArray, expected_h: FloatArray, spread: float) -> FloatArray:
    """[K, moments] chance that each copy has ended by then, given that it runs now; its mean is what was expected."""
    from thalweg.scheduling.explain.normal_curve import log_ndtr

    middle = np.log(np.maximum(expected_h, 1e-6)) - spread**2 / 2

    def lives_on(hours: FloatArray, log_median: FloatArray) -> FloatArray:
        return np.asarray(log_ndtr((log_median - np.log(np.maximum(hours, 1e-9))) / spread))

    later = lives_on(elapsed_h[:, None] + _MOMENTS_H, middle[:, None])
    return np.asarray(-np.expm1(later - lives_on(elapsed_h, middle)[:, None])).clip(0.0, 1.0)
