"""Strategy `anneal`: simulated annealing over single moves, from the greedy plan (Kirkpatrick et al. 1983).

The temperature falls geometrically from a share of the mean arc cost to a ten-thousandth of it; the walk is a compiled
loop with its own small generator, so a seed gives the same walk on every machine and with every numpy.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from thalweg.scheduling.arrays import FloatArray
from thalweg.scheduling.compiled import compiled, compiles, inlined
from thalweg.scheduling.problem.cost import Arcs, plan_usd, region_gpus
from thalweg.scheduling.problem.model import GPUS, Problem
from thalweg.scheduling.problem.solution import SolveLimits, StopReason
from thalweg.scheduling.solve.improve import movable
from thalweg.scheduling.solve.partial_plan import PartialPlan, greedy_plan
from thalweg.scheduling.solve.strategies.flow import relax
from thalweg.scheduling.solve.strategies.strategy import Found

ROUNDS = 60
STEPS, STEPS_IN_PYTHON = 50_000, 500
"""Moves tried in a round, after each of which the deadline is asked."""
HOT, COLD = 0.3, 3e-5
"""First and last temperature as shares of the mean cost of a placed copy."""


def anneal(problem: Problem, arcs: Arcs, limits: SolveLimits, seed: int, start_prices: FloatArray | None) -> Found:
    """Place by annealing; the bound is that of `flow`."""
    relaxed, bound = relax(problem, arcs, limits, start_prices)
    best = greedy_plan(problem, arcs)
    usd = plan_usd(problem, arcs, *best.arcs_used())
    trace, stopped = [(0, usd, bound)], StopReason.DONE
    free_to_move = np.flatnonzero(movable(problem) & (problem.classes.count > 0))
    rounds = ROUNDS if limits.rounds is None else limits.rounds
    if free_to_move.size and len(problem.pools):
        counts, free = best.counts.copy(), best.free.copy()
        waiting = problem.classes.count - best.placed
        used, total = region_gpus(problem, best.gpus_by_pool())
        class_index, pool_index, copies = best.arcs_used()
        typical = float((arcs.usd[class_index, pool_index] * copies).sum() / max(copies.sum(), 1)) or 1.0
        state = np.array([seed * 2 + 1], np.uint64)
        steps = STEPS if compiles() else STEPS_IN_PYTHON
        for turn in range(rounds):
            if limits.expired():
                stopped = StopReason.DEADLINE
                break
            temperature = typical * HOT * (COLD / HOT) ** (turn / max(rounds - 1, 1))
            run_anneal(
                arcs.usd, problem.classes.wait_usd.astype(float), problem.classes.need, free_to_move, counts, free,
                waiting, problem.pools.region, used, total, problem.weights.balance, temperature, state, steps, GPUS,
            )  # fmt: skip
            plan = PartialPlan(problem, arcs)
            class_index, pool_index = np.nonzero(counts)
            plan.load(class_index, pool_index, counts[class_index, pool_index])
            plan.fill(arcs.usd)
            now = plan_usd(problem, arcs, *plan.arcs_used())
            if now < usd:
                best, usd = plan, now
            trace.append((turn + 1, usd, bound))
        else:
            stopped = StopReason.EFFORT
    return Found(plan=best, bound=bound, prices=relaxed.prices, stopped=stopped, trace=tuple(trace))


@compiled
def _draw(state: Any, limit: int) -> int:
    """Next number of SplitMix64 (Steele et al. 2014), below the limit."""
    state[0] += np.uint64(0x9E3779B97F4A7C15)
    word = state[0]
    word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    word = word ^ (word >> np.uint64(31))
    return int((word >> np.uint64(33)) % np.uint64(limit))


@inlined
def _room_for(free: Any, need: Any, row: int, pool: int, copies: int) -> bool:
    # Not that of `improve`: numba keeps machine code by file, and would not see a change there.
    fits = True
    for dimension in range(free.shape[1]):
        if need[row, dimension] * copies > free[pool, dimension]:
            fits = False
    return fits


@inlined
def _balance_change(used: Any, total: Any, fleet: float, from_region: int, to_region: int, amount: float) -> float:
    """Change of Σ used_r² / G_r − (Σ used)² / G, the balance term: only two regions and the sum change.

    A region of -1 is where tasks wait.
    """
    before = after = 0.0
    summed = used.sum()
    grown = summed + (amount if to_region >= 0 else 0.0) - (amount if from_region >= 0 else 0.0)
    if from_region != to_region:
        if from_region >= 0 and total[from_region] > 0:
            before += used[from_region] ** 2 / total[from_region]
            after += (used[from_region] - amount) ** 2 / total[from_region]
        if to_region >= 0 and total[to_region] > 0:
            before += used[to_region] ** 2 / total[to_region]
            after += (used[to_region] + amount) ** 2 / total[to_region]
    return float(after - before - (grown**2 - summed**2) / fleet)


@compiled
def run_anneal(
    usd: Any, wait_usd: Any, need: Any, rows: Any, counts: Any, free: Any, waiting: Any, region: Any, used: Any,
    total: Any, balance: float, temperature: float, state: Any, steps: int, gpus: int,
) -> None:  # fmt: skip
    """Try `steps` random moves of copies at one temperature; the plan's columns are changed in place."""
    pools = usd.shape[1]
    fleet = total.sum()
    for _ in range(steps):
        row = rows[_draw(state, len(rows))]
        target = _draw(state, pools + 1) - 1
        source = _draw(state, pools + 1) - 1
        # Most classes lie in few pools: walk on to the next place that holds a copy.
        held = waiting[row] if source < 0 else counts[row, source]
        for _ in range(pools):
            if held > 0:
                break
            source = source + 1 if source + 1 < pools else -1
            held = waiting[row] if source < 0 else counts[row, source]
        if held <= 0 or source == target or (target >= 0 and usd[row, target] == np.inf):
            continue
        copies = min(held, 1 << _draw(state, 8)) if _draw(state, 2) else 1
        if target >= 0 and not _room_for(free, need, row, target, copies):
            continue
        change = copies * (
            (wait_usd[row] if target < 0 else usd[row, target]) - (wait_usd[row] if source < 0 else usd[row, source])
        )
        amount = copies * need[row, gpus]
        if balance > 0.0 and fleet > 0.0:
            from_region = region[source] if source >= 0 else -1
            to_region = region[target] if target >= 0 else -1
            change += balance * _balance_change(used, total, fleet, from_region, to_region, amount)
        if change > 0.0 and _draw(state, 1 << 30) / (1 << 30) >= np.exp(-change / temperature):
            continue
        if source >= 0:
            counts[row, source] -= copies
            used[region[source]] -= amount
            for dimension in range(free.shape[1]):
                free[source, dimension] += need[row, dimension] * copies
        else:
            waiting[row] -= copies
        if target >= 0:
            counts[row, target] += copies
            used[region[target]] += amount
            for dimension in range(free.shape[1]):
                free[target, dimension] -= need[row, dimension] * copies
        else:
            waiting[row] += copies
