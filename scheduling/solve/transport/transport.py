"""The relaxed global problem in one dimension, in integer units, and the flow that solves it.

Copies become GPU units, so gangs may split: the optimum is the optimum of the linear relaxation and a lower bound of
the plan.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from thalweg.scheduling.arrays import FloatArray, IntArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Transport:
    """Supply, capacity and cost, all in integer units of one resource.

    Attributes:
        units: [C] of one copy, at least 1.
        copies: [C].
        unit_usd: [C, P] cost of one unit; inf forbids.
        wait_usd: [C] cost of one unit left unplaced.
        capacity: [P] units.
        region_limit: [C] most copies in one region, less than `copies` for classes with replicas.
        region: [P] region of each pool; pools of a region lie together.
        regions: how many there are, with pools or without.
        balance: convex price of a region's units, or None.
    """

    units: IntArray
    copies: IntArray
    unit_usd: FloatArray
    wait_usd: FloatArray
    capacity: IntArray
    region_limit: IntArray
    region: IntArray
    regions: int
    balance: Segments | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Segments:
    """Piecewise-linear convex price of the units a region uses: rows (region, length in units, USD per unit)."""

    region: IntArray
    length: IntArray
    unit_usd: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class TransportFlow:
    """An optimal flow: units per arc, and the price of one unit of each pool (beside its region's) that proves it."""

    class_index: IntArray
    pool_index: IntArray
    units: IntArray
    prices: FloatArray
    region_prices: FloatArray | None
    rounds: int


def worth_sampling(problem: Transport) -> bool:
    """Whether a sample's prices save more time than they take."""
    classes, pools = problem.unit_usd.shape
    return bool(classes >= max(1000, pools))


def sample_of(problem: Transport, every: int) -> tuple[Transport, float]:
    """Every so many-th class on proportionally smaller pools, and the share of the units that it has.

    Its prices are nearly those of the whole, at a fraction of the time.
    """
    rows = np.arange(0, len(problem.units), every)
    supply = problem.units * problem.copies
    whole = problem.balance
    share = float(supply[rows].sum() / max(supply.sum(), 1))
    sample = replace(
        problem,
        units=np.ones(len(rows), np.int64),
        copies=supply[rows],
        unit_usd=problem.unit_usd[rows],
        wait_usd=problem.wait_usd[rows],
        capacity=np.floor(problem.capacity * share).astype(np.int64),
        region_limit=supply[rows],
        balance=None if whole is None else replace(whole, length=np.ceil(whole.length * share).astype(np.int64)),
    )
    return sample, share
