"""How urgent a waiting task is, and what its waiting therefore costs.

One scale for priority, age and deadline: doublings of the price of waiting. Because age is on the same scale as
priority, whatever waits long enough overtakes everything that is submitted later, so nothing starves.
"""

from typing import Final

import numpy as np

from thalweg.scheduling.arrays import FloatArray, IntArray

HOUR_MS: Final = 3_600_000.0
MIDDLE_PRIORITY: Final = 500
POINTS_PER_DOUBLING: Final = 100.0

DEADLINE_DOUBLINGS: Final = 4.0
DEADLINE_RAMP_MS: Final = 4 * HOUR_MS
"""A deadline counts as nothing until four hours before the last moment to start and as 400 points from then on: with
ageing alone a task gains as much in four hours, so a deadline never waits behind equals that came after it."""

MOST_DOUBLINGS: Final = 16.0
"""65,536 times the middle price: beyond it sums of prices would lose cents next to it."""

BEYOND_SHARE_DOUBLINGS: Final = 4.0
"""What is above its tenant's fair share waits at a sixteenth of the price, as if it had 400 points less."""

NO_DEADLINE_MS: Final = 2**62
"""Stands for "no deadline" in integer columns."""


def urgency(
    priority: IntArray | int, age_ms: FloatArray | IntArray | float, slack_ms: FloatArray | IntArray | float
) -> FloatArray:
    """Doublings of the price of waiting, against a fresh task of middle priority without a deadline.

    Args:
        priority: 0 to 1,000.
        age_ms: since it was submitted.
        slack_ms: until the last moment at which it can start and meet its deadline; negative once that has passed.
    """
    near = np.clip(1.0 - np.asarray(slack_ms, np.float64) / DEADLINE_RAMP_MS, 0.0, 1.0)
    points = (np.asarray(priority, np.float64) - MIDDLE_PRIORITY) / POINTS_PER_DOUBLING
    aged = np.maximum(np.asarray(age_ms, np.float64), 0.0) / HOUR_MS
    return np.asarray(np.minimum(points + aged + DEADLINE_DOUBLINGS * near, MOST_DOUBLINGS), np.float64)


def wait_usd(doublings: FloatArray | float, gpus: FloatArray | float, base_usd: float) -> FloatArray:
    """Price of leaving tasks waiting.

    By GPU, so that a gang of eight weighs as much as eight single tasks; a task of at most one GPU counts as one.

    Args:
        doublings: see `urgency`.
        gpus: of all copies that wait.
        base_usd: for one GPU, fresh, of middle priority.
    """
    return np.asarray(base_usd * np.maximum(gpus, 1.0) * np.exp2(doublings), np.float64)
