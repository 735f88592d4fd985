"""Why the tasks of a plan document are not all placed, and how far its plan holds: answers as plain rows."""

from collections.abc import Mapping
from math import isfinite
from typing import Any, Final

from thalweg.scheduling.problem.document import ReadProblem
from thalweg.scheduling.problem.limit_words import limit_subject, limit_words
from thalweg.scheduling.problem.named_limits import LimitKind, NamedLimit
from thalweg.scheduling.problem.solution import Solution
from thalweg.scheduling.solve.irreducible import infeasible_sets
from thalweg.scheduling.solve.ranges import PriceRange, ranges

_OF: Final[Mapping[LimitKind, str]] = {
    LimitKind.CAPACITY: "pool",
    LimitKind.QUOTA: "tenant",
    LimitKind.BUDGET: "tenant",
}
"""Whose limit it is; all others are of tasks."""


def why_not(read: ReadProblem) -> dict[str, Any]:
    """Name the limits that keep the tasks of a document from being all placed, whatever that would cost.

    Returns:
        `complete`: whether all tasks that are in none of them can be placed together. `sets`: of each, whether it
        is proven `irreducible`, and its `limits`.
    """
    found = infeasible_sets(read.problem)
    return {
        "complete": found.complete,
        "sets": [
            {
                "irreducible": one.irreducible,
                "limits": [_limit(read, limit) for limit in one.limits],
            }
            for one in found.found
        ],
    }


def _limit(read: ReadProblem, limit: NamedLimit) -> dict[str, Any]:
    of = _OF.get(limit.kind, "task")
    named = {"kind": limit.kind.value, "of": of, "name": limit_subject(read.problem, limit)}
    words = limit_words(read.problem, limit, read.dimensions)
    if of == "task":
        return named | {"tasks": list(read.members[limit.row]), "words": words}
    if limit.kind is LimitKind.CAPACITY:
        named["dimension"] = read.dimensions[limit.dimension]
    return named | {"words": words}


def plan_ranges(read: ReadProblem, solution: Solution) -> dict[str, Any]:
    """Tell within which prices a plan stays optimal, and what capacity is worth how far; None stands for no end.

    Returns:
        `prices` by pool, `arcs` by task and pool (US dollars per GPU-hour), `capacities` by pool and dimension.

    Raises:
        RangesError: they cannot be told of this plan.
    """
    told = ranges(read.problem, solution)
    pool_ids = read.problem.pools.pool_ids
    return {
        "prices": [_price(pool_ids, entry) for entry in told.prices],
        "arcs": [{"task": read.members[entry.class_index or 0][0]} | _price(pool_ids, entry) for entry in told.arcs],
        "capacities": [
            {
                "pool": pool_ids[entry.pool_index],
                "dimension": read.dimensions[entry.dimension],
                "capacity": entry.capacity,
                "more_usd": entry.more_usd,
                "more_until": _finite(entry.more_until),
                "fewer_usd": entry.fewer_usd,
                "fewer_until": entry.fewer_until,
            }
            for entry in told.capacities
        ],
    }


def _price(pool_ids: tuple[str, ...], entry: PriceRange) -> dict[str, Any]:
    return {
        "pool": pool_ids[entry.pool_index],
        "usd_per_gpu_hour": entry.usd_per_gpu_hour,
        "low": entry.low,
        "high": _finite(entry.high),
    }


def _finite(value: float) -> float | None:
    return value if isfinite(value) else None
