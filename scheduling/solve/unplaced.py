"""Why a task waits: the first constraint, in a fixed order, that leaves it no place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from thalweg.scheduling.arrays import distinct
from thalweg.scheduling.counted import counted
from thalweg.scheduling.problem.cost import Arcs
from thalweg.scheduling.problem.model import GPUS, NOWHERE, Problem
from thalweg.scheduling.problem.solution import Reason, Unplaced
from thalweg.scheduling.solve.partial_plan import PartialPlan

if TYPE_CHECKING:
    from thalweg.scheduling.arrays import FloatArray, IntArray


def unplaced(problem: Problem, arcs: Arcs, plan: PartialPlan) -> tuple[Unplaced, ...]:
    """Reasons for every class with waiting tasks, by class."""
    left = problem.classes.count - plan.placed
    # Where one region is enough, a place that has a price has passed every test of what is forbidden.
    allowed = (problem.classes.replicas == 1) & np.isfinite(arcs.usd).any(axis=1)
    found = []
    for row in np.flatnonzero(left > 0):
        forbidden = None if allowed[row] else _forbidden(problem, arcs, int(row))
        reason, detail = forbidden or _contended(problem, arcs, plan, int(row))
        found.append(Unplaced(class_index=int(row), count=int(left[row]), reason=reason, detail=detail))
    return tuple(found)


def _forbidden(problem: Problem, arcs: Arcs, row: int) -> tuple[Reason, str] | None:
    """The constraint that alone, with those before it, leaves fewer regions than copies."""
    pools, classes, route = problem.pools, problem.classes, arcs.routes
    replicas = int(classes.replicas[row])
    gpus = classes.need[row, GPUS]
    if not len(pools):
        return Reason.CAPACITY, "there is no pool at all"
    open_ = classes.gpu_models[row][pools.gpu_model]
    if not open_.any():
        wanted = [problem.gpu_models[m] for m in np.flatnonzero(classes.gpu_models[row])]
        return Reason.GPU_MODEL, f"no pool has one of the GPU models {wanted or 'asked for'}"
    here = pools.region
    # What needs nothing is kept out of silent regions by its mask: without capacity they would still hold it.
    elsewhere = "an allowed region" if classes.need[row].any() else "an allowed region that is heard"
    steps = (
        (Reason.RESIDENCY, classes.allowed_regions[row][here], f"no pool for it lies in {elsewhere}"),
        (Reason.LATENCY, route.rtt_allows[row][here], f"none left within {classes.max_rtt_ms[row]:g} ms of its origin"),
        (Reason.DATA, route.data_reaches[row][here], "no region left can be reached from all of its data"),
        (Reason.SPOT, ~pools.spot | classes.spot_ok[row], "only spot pools are left and the task refuses spot"),
        (Reason.PRICE_LIMIT, gpus * pools.usd_per_gpu_hour <= classes.max_usd_per_hour[row] * (1 + 1e-9),
         f"every pool left costs more than its {classes.max_usd_per_hour[row]:g} USD an hour"),
    )  # fmt: skip
    for reason, allowed, detail in steps:
        open_ = open_ & allowed
        if not open_.any():
            return reason, detail
    fits = open_ & (classes.need[row] <= pools.capacity * (1 + 1e-9)).all(axis=1)
    if not fits.any():
        largest = pools.capacity[open_].max(axis=0)
        if not largest.any():
            silent = "no node of theirs is ready, or their regions are silent"
            return Reason.CAPACITY, f"the pools it may use have no capacity now: {silent}"
        short = np.flatnonzero(classes.need[row] > largest)
        if short.size and GPUS not in short:
            return Reason.CAPACITY, _short_of(classes.need[row], largest, short)
        return (
            Reason.CAPACITY,
            f"one copy needs {counted(gpus, 'GPU')} in one pool; the pools it may use have at most {largest[GPUS]:g} "
            "free",
        )
    regions = len(distinct(pools.region[fits]))
    if regions < replicas:
        copies = counted(replicas, "copy needs", "copies need")
        return Reason.REPLICAS, f"{copies} {replicas} distinct regions; {regions} can hold one"
    return None


_DIMENSIONS: Final = ("GPUs", "CPUs", "GB of memory")
"""As `live_problem` has them; further ones are of nodes (`node_limits`, `node_cuts`)."""


def _short_of(need: FloatArray, most: FloatArray, short: IntArray) -> str:
    if len(short) and short.max() >= len(_DIMENSIONS):
        return "it does not fit: what is free lies in pieces, and no node holds it beside what goes before it"
    names = [_DIMENSIONS[d] for d in short.tolist()]
    lacks = (
        f"{need[d]:g} {name}, at most {max(round(float(most[d]), 3), 0.0):g} are free"
        for d, name in zip(short.tolist(), names, strict=True)
    )
    return f"one copy needs in one pool that it may use {'; '.join(lacks)}"


def _contended(problem: Problem, arcs: Arcs, plan: PartialPlan, row: int) -> tuple[Reason, str]:
    pools, classes, tenants = problem.pools, problem.classes, problem.tenants
    gpus, replicas, tenant = classes.need[row, GPUS], int(classes.replicas[row]), int(classes.tenant[row])
    open_ = np.isfinite(arcs.usd[row])
    starts = np.flatnonzero(np.diff(pools.region, prepend=-1))
    cheapest = float(np.sort(np.minimum.reduceat(arcs.usd[row], starts))[:replicas].sum())
    if not np.isfinite(cheapest) and classes.closed_pools is not None and classes.closed_pools[row].any():
        return Reason.CAPACITY, "the room that there is is kept for a larger task that comes first"
    if cheapest >= classes.wait_usd[row]:
        return Reason.COST, f"its cheapest place costs {cheapest:.6g} USD, waiting {classes.wait_usd[row]:.6g}"
    fits = open_ & (classes.need[row] <= plan.free).all(axis=1)
    if len(distinct(pools.region[fits])) >= replicas and tenant != NOWHERE:
        name = tenants.tenant_ids[tenant]
        if plan.quota[tenant] < gpus * replicas:
            left = max(round(plan.quota[tenant], 6), 0.0)
            return (
                Reason.QUOTA,
                f"tenant {name} has {counted(left, 'GPU')} of quota left, the task needs {gpus * replicas:g}",
            )
        left = max(round(plan.budget[tenant], 6), 0.0)
        cheapest_rate = float((gpus * pools.usd_per_gpu_hour[fits]).min()) * replicas
        return Reason.BUDGET, f"tenant {name} has {left:g} USD an hour of budget left, the task needs {cheapest_rate:g}"
    free = float(plan.free[open_, GPUS].max())
    if fits.any():
        copies = counted(replicas, "copy needs", "copies need")
        return Reason.REPLICAS, f"{copies} {replicas} distinct regions with room; fewer have it"
    short = np.flatnonzero((classes.need[row] > plan.free[open_]).all(axis=0))
    if short.size and GPUS not in short:
        return Reason.CAPACITY, _short_of(classes.need[row], plan.free[open_].max(axis=0), short)
    return (
        Reason.CAPACITY,
        f"it needs {counted(gpus, 'GPU')} in one pool; the pools it may use have at most {max(round(free, 3), 0.0):g} "
        "free",
    )
