"""Limits as sentences, with their figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np

from thalweg.scheduling.arrays import BoolArray
from thalweg.scheduling.counted import counted
from thalweg.scheduling.problem.model import NOWHERE, Problem
from thalweg.scheduling.problem.named_limits import LimitKind, NamedLimit

_UNITS: Final = {"gpus": "GPU", "cpus": "CPU", "memory_gb": "GB of memory"}


def limit_words(problem: Problem, limit: NamedLimit, dimensions: Sequence[str]) -> str:
    """Say what a pool has, a class asks for or a tenant may hold: a sentence without its subject.

    Args:
        problem: whose limit it is.
        limit: one of `limits_of`.
        dimensions: the field of each dimension in a plan document.
    """
    if limit.kind is LimitKind.CAPACITY:
        has = float(problem.pools.capacity[limit.row, limit.dimension])
        return f"has {_amount(has, dimensions[limit.dimension])}"
    if limit.kind is LimitKind.DEMAND:
        need = problem.classes.need[limit.row]
        asks = [_amount(float(need[d]), name) for d, name in enumerate(dimensions) if need[d] > 0]
        return f"placed, a copy needs {' and '.join(asks)} in one pool" if asks else "placed"
    return _WORDS[limit.kind](problem, limit.row)


def limit_subject(problem: Problem, limit: NamedLimit) -> str:
    """Name whose limit it is: a pool's, a tenant's or a class's id."""
    match limit.kind:
        case LimitKind.CAPACITY:
            return problem.pools.pool_ids[limit.row]
        case LimitKind.QUOTA | LimitKind.BUDGET:
            return problem.tenants.tenant_ids[limit.row]
        case _:
            return problem.classes.class_ids[limit.row]


def _amount(amount: float, dimension: str) -> str:
    unit = _UNITS[dimension]
    many = unit if dimension == "memory_gb" else f"{unit}s"
    return counted(amount, unit, many) if amount else f"no {many}"


def _origin(problem: Problem, row: int) -> str:
    origin = int(problem.classes.origin[row])
    where = "its origin" if origin == NOWHERE else problem.regions[origin]
    most = float(problem.classes.max_rtt_ms[row])
    return f"within {most:g} ms of {where}" if np.isfinite(most) else f"where {where} reaches it"


def _names(names: tuple[str, ...], mask: BoolArray, none: str) -> str:
    return ", ".join(names[i] for i in np.flatnonzero(mask)) or none


_WORDS: Final[Mapping[LimitKind, Callable[[Problem, int], str]]] = {
    LimitKind.GPU_MODEL: lambda p, row: (
        f"only on {_names(p.gpu_models, p.classes.gpu_models[row], 'GPU models that no pool has')}"
    ),
    LimitKind.RESIDENCY: lambda p, row: (
        f"only in {_names(p.regions, p.classes.allowed_regions[row], 'regions that nobody names')}"
    ),
    LimitKind.LATENCY: _origin,
    LimitKind.DATA: lambda p, row: "where all of its data can be brought",
    LimitKind.SPOT: lambda p, row: "not on spot",
    LimitKind.PRICE_LIMIT: lambda p, row: f"a copy for at most {p.classes.max_usd_per_hour[row]:g} USD an hour",
    LimitKind.REPLICAS: lambda p, row: (
        f"{counted(p.classes.replicas[row], 'copy', 'copies')}, each in a region of its own"
    ),
    LimitKind.QUOTA: lambda p, row: f"may hold {counted(p.tenants.quota_gpus[row], 'GPU')}",
    LimitKind.BUDGET: lambda p, row: f"may spend {p.tenants.budget_usd_per_hour[row]:g} USD an hour",
}
