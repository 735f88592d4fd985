"""Elastic tasks: who of them gets how many of the idle GPUs.

Starting smaller and shrinking under pressure is part of making room (`scheduling.live.making_room`).
"""

from __future__ import annotations

import numpy as np

from thalweg.scheduling.arrays import FloatArray, IntArray


def grown_gpus(
    *, idle_gpus: FloatArray, pool: IntArray, least_gpus: FloatArray, most_gpus: FloatArray, step_gpus: FloatArray,
    weight: FloatArray,
) -> FloatArray:  # fmt: skip
    """GPUs each task holds after idle ones were lent out: max-min fair by weight, in whole steps.

    Args:
        idle_gpus: [P] left by the plan.
        pool: [K] where each task runs.
        least_gpus: [K] held now.
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
