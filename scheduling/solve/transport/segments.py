"""The balance term as parallel arcs: convex pieces of each region's cost of utilisation.

The term is a variance over regions and not separable, but it is the least over the target η of Σ_r G_r (η_r − η)²,
which is. So the pieces are laid around a target, the flow is solved, and both the target and the pieces follow the
solution.
"""

from __future__ import annotations

import numpy as np

from thalweg.scheduling.arrays import FloatArray, IntArray
from thalweg.scheduling.problem.cost import region_gpus
from thalweg.scheduling.problem.model import Problem
from thalweg.scheduling.solve.transport.transport import Segments

PIECES = 16


def first_segments(problem: Problem, capacity: IntArray, scale: float, demand_gpus: float) -> Segments:
    """Equal pieces over each region's capacity, aimed at the utilisation that placing all demand would give.

    Args:
        problem: in canonical order.
        capacity: [P] in units.
        scale: units per GPU.
        demand_gpus: all that is asked for.
    """
    busy, total = region_gpus(problem, np.zeros(len(problem.pools)))
    room = np.bincount(problem.pools.region, capacity, len(problem.regions)).astype(np.int64)
    points = np.floor(np.linspace(0.0, 1.0, PIECES + 1) * room[:, None]).astype(np.int64)
    target = min(1.0, (busy.sum() + demand_gpus) / max(total.sum(), 1e-300))
    return _pieces(problem, points, target, scale)


def finer_segments(problem: Problem, segments: Segments, gpus_by_pool: FloatArray, scale: float) -> Segments:
    """Pieces an eighth as wide around where each region's use now lies, aimed at the utilisation now reached."""
    used, total = region_gpus(problem, gpus_by_pool)
    busy, _ = region_gpus(problem, np.zeros(len(problem.pools)))
    regions = len(problem.regions)
    at = np.rint((used - busy) * scale).astype(np.int64)
    ends = np.bincount(segments.region, segments.length, regions).astype(np.int64)
    # The piece each region stops in, and its neighbours, are cut finer; what lies outside stays one piece.
    lengths = segments.length.reshape(regions, -1)
    starts = np.cumsum(lengths, axis=1) - lengths
    inside = np.minimum((starts <= at[:, None]).sum(axis=1) - 1, lengths.shape[1] - 1)
    width = np.maximum(lengths[np.arange(regions), inside], 1)
    low, high = np.maximum(at - width, 0), np.minimum(at + width, ends)
    fine = low[:, None] + np.floor((high - low)[:, None] * np.linspace(0.0, 1.0, PIECES - 1)).astype(np.int64)
    points = np.column_stack([np.zeros(regions, np.int64), fine, ends])
    return _pieces(problem, points, float(used.sum()) / max(float(total.sum()), 1e-300), scale)


def _pieces(problem: Problem, points: IntArray, target: float, scale: float) -> Segments:
    busy, total = region_gpus(problem, np.zeros(len(problem.pools)))
    gpus = np.maximum(total, 1e-300)[:, None]
    usd = problem.weights.balance * gpus * ((busy[:, None] + points / scale) / gpus - target) ** 2
    length = np.diff(points, axis=1)
    slope = np.diff(usd, axis=1) / np.maximum(length, 1)
    # A piece of no length keeps the order of slopes, so that convexity survives rounding.
    slope = np.maximum.accumulate(np.where(length > 0, slope, -np.inf), axis=1)
    region = np.repeat(np.arange(len(total)), length.shape[1])
    return Segments(region=region, length=length.ravel(), unit_usd=np.where(np.isfinite(slope), slope, 0.0).ravel())
