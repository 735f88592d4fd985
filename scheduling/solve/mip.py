"""Finish a plan exactly: an integer program over the arcs that can still be part of a better plan.

At the relaxed prices every arc has a reduced cost: what any plan that uses it costs at least above the bound. Those
whose reduced cost exceeds the gap between plan and bound cannot be in a better plan, and usually few are left. Where
still too many are left, a program over the most promising ones first narrows the gap.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from thalweg.scheduling.arrays import FloatArray
from thalweg.scheduling.problem.cost import Arcs, plan_usd
from thalweg.scheduling.problem.model import GPUS, Problem
from thalweg.scheduling.problem.solution import OPTIMAL_GAP, SolveLimits, StopReason
from thalweg.scheduling.solve.bound import least_usd, priced_usd
from thalweg.scheduling.solve.formulation import formulate, solve_integer
from thalweg.scheduling.solve.improve import improve
from thalweg.scheduling.solve.partial_plan import PartialPlan
from thalweg.scheduling.solve.relax import Relaxed

PROMISING_ARCS = 1_500
"""Integer variables of the narrowing program: HiGHS ends such programs in about a second."""
WORTH_NARROWING = 5e-3
"""A plan too large to finish exactly is narrowed only when its gap is above half a per cent."""
NODE_WORK = 500_000
"""Nodes times arcs that branch and bound may spend: keeps a hopeless proof to some ten seconds, without a clock."""
BALANCE_ROUNDS = 6
"""Tangents added to the balance term's lower approximation before a plan is taken as it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Polished:
    """A partial plan at least as good as before, and a bound at least as high."""

    plan: PartialPlan
    objective: float
    bound: float
    stopped: StopReason


def polish(
    problem: Problem, arcs: Arcs, relaxed: Relaxed, plan: PartialPlan, bound: float, limits: SolveLimits
) -> Polished:
    """Improve a partial plan by integer programs until it is optimal or the limits are reached."""
    objective = plan_usd(problem, arcs, *plan.arcs_used())
    now = Polished(plan=plan, objective=objective, bound=bound, stopped=StopReason.DONE)
    narrows = objective - bound > WORTH_NARROWING * abs(objective) and limits.mip_arcs >= PROMISING_ARCS
    stopped = _reason_to_stop(now, limits)
    # The plan's own arcs can all be in a better plan: where they are too many already, no program is small enough.
    if stopped is None and not narrows and len(plan.arcs_used()[0]) > limits.mip_arcs:
        stopped = StopReason.EFFORT
    if stopped is not None:
        return replace(now, stopped=stopped)
    reduced = reduced_usd(problem, arcs, relaxed)
    # The bound may come from other prices; reduced costs count from that of their own.
    own = relaxed.bound(problem, arcs)
    for narrowing in (True, True, False):
        stopped = _reason_to_stop(now, limits)
        if stopped is not None:
            return replace(now, stopped=stopped)
        gap = now.objective - now.bound
        possible = reduced <= (now.objective - own) * (1.0 + 1e-9) + 1e-9
        number = int(possible.sum())
        if narrowing:
            if number <= PROMISING_ARCS:
                continue
            if gap <= WORTH_NARROWING * abs(now.objective) or limits.mip_arcs < PROMISING_ARCS:
                continue
            threshold = np.partition(reduced[possible], PROMISING_ARCS - 1)[PROMISING_ARCS - 1]
            now = _solve(problem, arcs, relaxed, now, reduced <= threshold, limits, proves=False)
        elif number <= limits.mip_arcs:
            now = _solve(problem, arcs, relaxed, now, possible, limits, proves=True)
        else:
            now = replace(now, stopped=StopReason.EFFORT)
    return now


def _reason_to_stop(now: Polished, limits: SolveLimits) -> StopReason | None:
    gap = now.objective - now.bound
    if gap <= OPTIMAL_GAP * max(abs(now.objective), 1e-9):
        return StopReason.OPTIMAL
    if gap <= limits.mip_gap * abs(now.objective):
        return StopReason.EFFORT
    return StopReason.DEADLINE if limits.expired() else None


def reduced_usd(problem: Problem, arcs: Arcs, relaxed: Relaxed) -> FloatArray:
    """[C, P] what a plan with a copy on the arc costs at least above the Lagrangian bound of the relaxed prices."""
    priced = priced_usd(problem, arcs, relaxed.prices)
    classes, pools = problem.classes, problem.pools
    # A copy on the arc takes the place of the class's dearest one in the bound.
    _, dearest = least_usd(problem, priced)
    others = np.zeros(len(classes))
    several = np.flatnonzero(classes.replicas > 1)
    if several.size and len(pools):
        starts = np.flatnonzero(np.diff(pools.region, prepend=-1))
        by_region = np.sort(np.minimum.reduceat(priced[several], starts, axis=1), axis=1)
        total = np.cumsum(by_region, axis=1)
        beside = np.minimum(classes.replicas[several], by_region.shape[1]) - 2
        others[several] = total[np.arange(len(several)), np.maximum(beside, 0)]
    return np.asarray(priced + (others - dearest)[:, None])


def _solve(
    problem: Problem,
    arcs: Arcs,
    relaxed: Relaxed,
    now: Polished,
    chosen: np.ndarray,
    limits: SolveLimits,
    *,
    proves: bool,
) -> Polished:
    class_index, pool_index, _ = now.plan.arcs_used()
    chosen = chosen & np.isfinite(arcs.usd)
    chosen[class_index, pool_index] = True
    class_index, pool_index = np.nonzero(chosen)
    nodes = max(10, min(limits.mip_nodes, NODE_WORK // max(len(class_index), 1)))
    tangents = []
    if problem.weights.balance:
        tangents = [np.zeros(len(problem.pools)), problem.pools.capacity[:, GPUS], relaxed.gpus_by_pool(problem)]
        tangents.append(now.plan.gpus_by_pool())
    for _ in range(BALANCE_ROUNDS if problem.weights.balance else 1):
        program = formulate(problem, arcs, class_index, pool_index, tangents)
        answer = solve_integer(
            program, replace(limits, mip_nodes=nodes), max(OPTIMAL_GAP, limits.mip_gap) / 2 if proves else 1e-4
        )
        # Whatever uses an arc left out costs more than the plan at hand, so the lesser of the two is a bound.
        bound = max(now.bound, min(answer.bound, now.objective)) if proves else now.bound
        stopped = StopReason.DEADLINE if limits.expired() else StopReason.DONE if answer.complete else StopReason.EFFORT
        now = replace(now, bound=bound, stopped=stopped)
        if answer.copies is None:
            break
        plan = PartialPlan(problem, arcs)
        plan.load(class_index, pool_index, np.rint(answer.copies).astype(np.int64))
        plan.fill(priced_usd(problem, arcs, relaxed.prices))
        plan = improve(plan, limits.evaluations)
        objective = plan_usd(problem, arcs, *plan.arcs_used())
        if objective < now.objective:
            now = replace(now, plan=plan, objective=objective)
        if now.objective - now.bound <= OPTIMAL_GAP * max(abs(now.objective), 1e-9) or limits.expired():
            break
        if problem.weights.balance:
            tangents.append(plan.gpus_by_pool())
    return now
