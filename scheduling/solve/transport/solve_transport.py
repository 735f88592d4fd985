"""The door of the one-dimensional relaxation: a compiled simplex where it compiles, else OR-Tools; one optimum."""

from __future__ import annotations

from collections.abc import Callable

from thalweg.scheduling.arrays import FloatArray, IntArray
from thalweg.scheduling.compiled import compiles
from thalweg.scheduling.solve.transport.column_generation import by_column_generation
from thalweg.scheduling.solve.transport.transport import Transport, TransportFlow, sample_of, worth_sampling
from thalweg.scheduling.solve.transport.transport_simplex import MAX_PIVOTS, by_simplex

SAMPLE = 4
"""Every how many-th class is in the sample that gives the first prices."""
PIVOTS_PER_SECOND = 60_000
"""Pivots counted on before a deadline; a flow stopped early is a plan, only not the best."""


def solve_transport(
    problem: Transport,
    start_prices: FloatArray | None,
    remaining_s: Callable[[], float] | None,
    keep: tuple[IntArray, IntArray],
    region_prices: FloatArray | None = None,
) -> TransportFlow:
    """Solve to optimality over all arcs: by the compiled simplex where it compiles, else by OR-Tools.

    Args:
        problem: see Transport.
        start_prices: [P] prices to choose the first arcs with, None for zero.
        remaining_s: seconds left, or None for no deadline; at the deadline it ends with what there is.
        keep: (class, pool) arcs to start with besides the cheapest ones, such as where tasks run now.
        region_prices: [R] what the balance is expected to charge a unit, to start near.
    """
    if compiles():
        if start_prices is None and worth_sampling(problem):
            sample, _ = sample_of(problem, SAMPLE)
            guess = solve_transport(sample, None, remaining_s, keep)
            start_prices, region_prices = guess.prices, guess.region_prices
        pivots = MAX_PIVOTS if remaining_s is None else int(max(remaining_s(), 0.0) * PIVOTS_PER_SECOND)
        return by_simplex(problem, start_prices, region_prices, pivots)
    return by_column_generation(problem, start_prices, remaining_s, keep)
