"""Malleable and splittable tasks: grow into idle GPUs, give them back under pressure, or start in parts.

A malleable task is planned at the least it can run with, so pressure shrinks it by itself: every plan starts from the
minimum, and what is idle afterwards is lent out again, most needed first.
"""

from __future__ import annotations

import numpy as np

from scheduling.arrays import FloatArray, IntArray


def grow(
    *, idle_gpus: FloatArray, pool: IntArray, least_gpus: FloatArray, most_gpus: FloatArray, step_gpus: FloatArray,
    weight: FloatArray,
) -> FloatArray:  # fmt: skip
    """GPUs each task holds after idle ones were lent out: max-min fair by weight, in whole steps.

    Args:
        idle_gpus: [P] left by the plan, which holds every task at its least.
        pool: [K] where each task runs.
        least_gpus: [K].
        most_gpus: [K].
        step_gpus: [K] growth comes in multiples of this.
        weight: [K]; a task of weight 2 is grown to twice the GPUs of one of weight 1, demand permitting.
    """
    held = least_gpus.astype(float).copy()
    for place in np.unique(pool):
        left = float(idle_gpus[place])
        rows = np.flatnonzero(pool == place)
        while True:
            can = rows[(held[rows] + step_gpus[rows] <= most_gpus[rows] + 1e-9) & (step_gpus[rows] <= left + 1e-9)]
            if not can.size:
                break
            # The one that has least for its weight; position breaks ties.
            row = int(can[np.lexsort((can, held[can] / weight[can]))[0]])
            held[row] += step_gpus[row]
            left -= float(step_gpus[row])
    return held


def parts(gpus: float, least_share: float, largest_gap: float) -> tuple[float, ...]:
    """Sizes of the parts a splittable task starts in when no pool holds it whole; () when it cannot start.

    The parts are equal, as few as fit, and none is below the least share. They are placed together or not at all.

    Args:
        gpus: whole need.
        least_share: smallest part, as a fraction of the whole (0, 1].
        largest_gap: GPUs free in the roomiest pool it may use.
    """
    if not 0.0 < least_share <= 1.0:
        raise ValueError(f"least_share is {least_share}; allowed: above 0, up to 1")
    if gpus <= largest_gap:
        return (gpus,)
    for number in range(2, int(np.floor(1.0 / least_share + 1e-9)) + 1):
        size = gpus / number
        if gpus == np.floor(gpus) and size != np.floor(size):
            continue  # whole GPUs stay whole
        if size <= largest_gap:
            return (size,) * number
    return ()
