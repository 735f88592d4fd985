"""What an hour's delay of a task costs, and who therefore comes first.

Two figures, both of which a person can check. The *value* of a task is what an hour's delay of it costs, in US dollars;
its *rank* is that value by the GPU-hours that it holds a place for (Smith's rule: of two tasks, doing the one with the
greater ratio first leaves less delay in all). Age is no value: that a task has waited makes its delay no dearer. What
age does is keep a promise, the longest wait: the rank rises as the time to it runs out, and whoever has waited so long
comes before everybody who has not.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from thalweg.scheduling.arrays import FloatArray, IntArray

HOUR_MS: Final = 3_600_000.0
MIDDLE_PRIORITY: Final = 500
POINTS_PER_DOUBLING: Final = 100.0
"""A hundred points of priority make an hour's delay twice as dear."""

USD_PER_GPU_HOUR: Final = 2.0
"""An hour's delay of a task of middle priority that needs one GPU: about what the GPU itself costs."""

DEADLINE_TIMES: Final = 16.0
DEADLINE_RAMP_MS: Final = 4 * HOUR_MS
"""A deadline counts as nothing until four hours before the last moment to start. From then on the value rises, to
sixteen times at that moment and after it: as much as 400 points of priority."""

LEAST_VALUE: Final = 1e-6
MOST_VALUE: Final = 1e9
"""US dollars an hour: beyond these a request's own figure is taken for them, so that no ratio is lost in rounding."""

LEAST_HOLD_H: Final = 1.0 / 60.0
MOST_HOLD_H: Final = 24.0 * 366.0
"""A place is held for a minute at least, by starting and ending alone, and nothing is expected to take a year."""

MOST_TIMES: Final = 65_536.0
"""The price of waiting lies within so many times the middle one: beyond it sums of prices would lose cents."""

BEYOND_SHARE_TIMES: Final = 16.0
"""What is above its tenant's fair share ranks as if an hour's delay of it cost a sixteenth."""

PROMISE_POWER: Final = 0.5
"""A rank is divided by this power of the share of the longest wait that is left. With 1 the old ones rise so early that
many of them come at once and hold up all that is short; later than with the root, they come all at the last moment."""

OVERDUE: Final = 1e12
"""Ranks of those to whom the promise was broken begin here, above all others."""

NO_DEADLINE_MS: Final = 2**62
"""Stands for "no deadline" in integer columns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RankRule:
    """How ranks are made from what is known of a task.

    Attributes:
        longest_wait_ms: nothing that could start waits longer while others that came later start; the promise.
    """

    longest_wait_ms: float = 45 * 24 * HOUR_MS


DEFAULT_RULE: Final = RankRule()


def value_usd_per_hour(
    priority: IntArray | int, gpus: FloatArray | float, given: FloatArray | float = np.nan
) -> FloatArray:
    """What an hour's delay costs, deadlines aside.

    Args:
        priority: 0 to 1,000.
        gpus: of one task, all its missing copies; at most one counts as one, so that a gang of eight is worth eight.
        given: what the request itself says; NaN where it says nothing.
    """
    own = USD_PER_GPU_HOUR * np.maximum(gpus, 1.0)
    own = own * np.exp2((np.asarray(priority, np.float64) - MIDDLE_PRIORITY) / POINTS_PER_DOUBLING)
    return np.asarray(np.clip(np.where(np.isnan(given), own, given), LEAST_VALUE, MOST_VALUE), np.float64)


def deadline_times(slack_ms: FloatArray | IntArray | float) -> FloatArray:
    """How many times dearer a delay is that close to the last moment to start; negative slack is past it."""
    near = np.clip(1.0 - np.asarray(slack_ms, np.float64) / DEADLINE_RAMP_MS, 0.0, 1.0)
    return np.asarray(DEADLINE_TIMES**near, np.float64)


def rank(
    value: FloatArray | float, gpu_hours: FloatArray | float, age_ms: FloatArray | IntArray | float, rule: RankRule
) -> FloatArray:
    """Order tasks: US dollars of delay an hour, by GPU-hour held; more comes first.

    Args:
        value: `value_usd_per_hour` times `deadline_times`.
        gpu_hours: that it will hold, and what fetching its data is worth in them.
        age_ms: since it was submitted.
        rule: the promise.
    """
    aged = np.maximum(np.asarray(age_ms, np.float64), 0.0) / max(rule.longest_wait_ms, 1.0)
    left = np.maximum(1.0 - aged, 1e-6) ** PROMISE_POWER
    fair = np.asarray(value, np.float64) / np.maximum(gpu_hours, LEAST_HOLD_H) / left
    return np.asarray(np.where(aged >= 1.0, OVERDUE * aged, np.minimum(fair, OVERDUE)), np.float64)


def wait_usd(ranks: FloatArray | float, gpus: FloatArray | float, base_usd: float) -> FloatArray:
    """Price, within a plan, of leaving tasks waiting: by GPU, since it is GPUs that a plan hands out.

    Args:
        ranks: see `rank`.
        gpus: of all copies that wait; at most one counts as one.
        base_usd: for one GPU, at the rank of a fresh task of middle priority that is expected to take an hour.
    """
    times = np.clip(np.asarray(ranks, np.float64) / USD_PER_GPU_HOUR, 1.0 / MOST_TIMES, MOST_TIMES)
    return np.asarray(base_usd * np.maximum(gpus, 1.0) * times, np.float64)
