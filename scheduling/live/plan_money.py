"""What a plan's copies cost, what they could have cost at the least, and where they would rather have been.

Objective and bound of a plan hold the prices of waiting, which nobody pays and which are larger than any money. Here is
what is left of both once the same tasks wait: US dollars.
"""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from thalweg.scheduling.arrays import FloatArray, IntArray
from thalweg.scheduling.ids import PoolId
from thalweg.scheduling.live.live_plan import IntoFree, Plan, PoolPrice
from thalweg.scheduling.problem.cost import arc_costs
from thalweg.scheduling.problem.model import GPUS, Pools, Problem
from thalweg.scheduling.problem.order import reordered

_SLACK: Final = 1e-9
_ROUNDING: Final = 1e-15
"""What a sum of prices of waiting may be wrong by, as a share of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanMoney:
    """US dollars of the copies that a plan starts.

    Attributes:
        placed_usd_per_hour: what they cost an hour together.
        placed_usd: what they cost over the time that they are expected to run, by the cost model.
        least_usd: no plan that places the same, and leaves as much waiting, costs less. For what others gave way to,
            which no bound is about, it is what that costs.
        rather: pools that were too full for copies which went elsewhere for more money.
    """

    placed_usd_per_hour: float
    placed_usd: float
    least_usd: float
    rather: tuple[PoolPrice, ...]


def plan_money(made: Plan, whole: Pools) -> PlanMoney:
    """Take the money out of a plan.

    Args:
        made: the plan.
        whole: the pools of its world with all that they have, taken or not.
    """
    placed_usd = sum(copy.usd for copy in made.assignments)
    saved_usd, rather = 0.0, tuple[PoolPrice, ...]()
    if made.into_free is not None and made.into_free.row.size:
        above_bound_usd = made.objective - made.bound + _ROUNDING * abs(made.objective)
        saved_usd, rather = _most_saved(made.into_free, whole, above_bound_usd)
    return PlanMoney(
        placed_usd_per_hour=sum(copy.usd_per_hour for copy in made.assignments),
        placed_usd=placed_usd,
        least_usd=max(placed_usd - saved_usd, 0.0),
        rather=rather,
    )


def _most_saved(into_free: IntoFree, whole: Pools, above_bound_usd: float) -> tuple[float, tuple[PoolPrice, ...]]:
    """Bound what the same copies could cost less, and name the pools that they would rather have been in."""
    problem = into_free.problem
    regions, pools = np.arange(len(problem.regions)), np.arange(len(problem.pools))
    arcs, copies = np.unique(into_free.row * len(pools) + into_free.pool, return_counts=True)
    rows, row = np.unique(arcs // len(pools), return_inverse=True)
    pool = arcs % len(pools)
    among = reordered(replace(problem, pools=replace(problem.pools, capacity=whole.capacity)), regions, rows, pools)
    usd = arc_costs(among).usd
    need, room = among.classes.need, problem.pools.capacity
    here = usd[row, pool]
    free = room[:, GPUS] - np.bincount(pool, copies * need[row, GPUS], len(pools))
    saved = _saved_by_gpu(among, usd, row, pool, free)
    could = np.where((need[:, None, :] <= room * (1.0 + _SLACK)).all(axis=2), usd, np.inf)
    could[row, pool] = here
    count = np.bincount(row, copies, len(rows))
    # As much waits in every plan that is compared with, so its price stands on both sides of the bound. Where that says
    # little, because somebody waits who is not in the bound: the Lagrangian dual of the room (`solve.bound`) of these
    # copies alone, at prices that are nothing, or what a GPU there would have saved them. Any price gives a bound.
    placed_usd = float(copies @ here)
    proven = [placed_usd - above_bound_usd]
    for price in (np.zeros(len(pools)), saved.max(axis=0), np.where(free > _SLACK, 0.0, saved.max(axis=0))):
        rented = could + need[:, [GPUS]] * price
        proven.append(float(count @ rented.min(axis=1) - price @ room[:, GPUS]))
    return max(placed_usd - max(proven), 0.0), _rather(among, row, saved)


def _saved_by_gpu(problem: Problem, usd: FloatArray, row: IntArray, pool: IntArray, free: FloatArray) -> FloatArray:
    """Tell what a copy of each arc would have saved by GPU in each pool that has no room for it: [K, P].

    Args:
        problem: of the classes that were placed.
        usd: [C, P] of one copy.
        row: [K] class of each arc.
        pool: [K] where its copies went.
        free: [P] GPUs that are left.
    """
    gpus = problem.classes.need[row, GPUS]
    with np.errstate(invalid="ignore", divide="ignore"):
        saved = (usd[row, pool][:, None] - usd[row]) / gpus[:, None]
    short = (gpus[:, None] > free * (1.0 + _SLACK)) & np.isfinite(saved) & (saved > _SLACK)
    return np.where(short, saved, 0.0)


def _rather(problem: Problem, row: IntArray, saved: FloatArray) -> tuple[PoolPrice, ...]:
    """Say of each pool that is short of room what a GPU more would save: by the hour, the most that one copy would."""
    pools, hours = problem.pools, np.maximum(problem.classes.expected_h[row], _SLACK)
    best = (saved / hours[:, None]).argmax(axis=0)
    return tuple(
        PoolPrice(
            pool_id=PoolId(pools.pool_ids[at]),
            saves_usd=float(saved[best[at], at]),
            saves_usd_per_hour=float(saved[best[at], at] / hours[best[at]]),
            usd_per_gpu_hour=float(pools.usd_per_gpu_hour[at]),
        )
        for at in np.flatnonzero(saved.any(axis=0)).tolist()
    )
