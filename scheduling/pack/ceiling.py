"""An upper bound on what any packing could allocate that accepts the same first pods.

Only GPU is looked at: CPU, memory, models and the binding of a gang to one node are left out, and devices may be
filled in fractions of patterns (the linear relaxation of cutting stock). Each of these can only raise the bound. What
stays is the arithmetic of shares: a GPU with a pod of 0.81 has 0.19 left, and hardly any pod is that small.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog

from thalweg.scheduling.pack.nodes import GPU_MILLI, IntArray, Need

_FIRST = 10_000.0  # worth of holding one accepted worker, above any GPU-milli that leaving it out could free
_TOLERANCE_GPU_MILLI = 1e-7


def allocation_ceiling(accepted: Sequence[Need], later: Sequence[Need], *, gpus: int) -> float:
    """Return the most GPU-milli that `gpus` devices can hold when all of `accepted` is held and any of `later` may be.

    Returns:
        GPU-milli; NaN when even `accepted` cannot be held.
    """
    must, may = _by_size(accepted), _by_size(later)
    sizes = np.array(sorted(must.keys() | may.keys()), np.int64)
    if not len(sizes):
        return 0.0
    kinds = len(sizes)
    least = np.array([must[s] for s in sizes.tolist()], np.float64)
    extra = np.array([may[s] for s in sizes.tolist()], np.float64)
    # Per size: hold of `accepted` (worth so much that it always comes first) and of `later`.
    held_worth = np.concatenate([sizes + _FIRST, sizes]).astype(np.float64)
    held_most = np.concatenate([least, extra])
    patterns = [np.eye(kinds, dtype=np.int64)[i] * (GPU_MILLI // int(size)) for i, size in enumerate(sizes)]
    while True:
        columns = np.array(patterns, np.float64).T
        result = linprog(
            np.concatenate([np.zeros(len(patterns)), -held_worth]),
            A_ub=np.block(
                [[-columns, np.eye(kinds), np.eye(kinds)], [np.ones((1, len(patterns))), np.zeros((1, 2 * kinds))]]
            ),
            b_ub=np.concatenate([np.zeros(kinds), [float(gpus)]]),
            bounds=[(0, None)] * len(patterns) + [(0, float(most)) for most in held_most],
            method="highs",
        )
        if result.status != 0:
            raise ArithmeticError(f"the linear program of the packing ceiling ended with: {result.message}")
        prices = -result.ineqlin.marginals
        pattern, worth = _best_pattern(sizes, prices[:-1])
        missing = max(0.0, worth - prices[-1])
        if missing <= _TOLERANCE_GPU_MILLI or any((pattern == known).all() for known in patterns):
            break
        patterns.append(pattern)
    if result.x[len(patterns) : len(patterns) + kinds].sum() < least.sum() - 1e-6:
        return float("nan")
    # What the tolerance may hide is added for every device, so that the bound stays a bound.
    return float(-result.fun - _FIRST * least.sum() + gpus * missing)


def _by_size(needs: Sequence[Need]) -> Counter[int]:
    """Count the devices needed by GPU-milli per device; a gang of whole GPUs is so many devices."""
    counted: Counter[int] = Counter()
    for need in needs:
        if need.gpus:
            counted[need.gpu_milli] += need.gpus
    return counted


def _best_pattern(sizes: IntArray, prices: NDArray[np.float64]) -> tuple[IntArray, float]:
    """Fill one device with the sizes of the highest total price (unbounded knapsack)."""
    step = int(np.gcd.reduce(np.append(sizes, GPU_MILLI)))
    weights = sizes // step
    room = GPU_MILLI // step
    best = np.zeros(room + 1)
    choice = np.full(room + 1, -1)
    for width in range(1, room + 1):
        best[width], choice[width] = best[width - 1], -1
        for index, weight in enumerate(weights):
            if weight <= width and best[width - weight] + prices[index] > best[width]:
                best[width], choice[width] = best[width - weight] + prices[index], index
    pattern = np.zeros(len(sizes), np.int64)
    width = room
    while width > 0:
        index = int(choice[width])
        if index < 0:
            width -= 1
            continue
        pattern[index] += 1
        width -= int(weights[index])
    return pattern, float(best[room])
