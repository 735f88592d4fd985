"""What one copy of each class costs in each pool, in US dollars, and where it may not go at all.

    gpus · usd_per_gpu_hour · expected_h                                  compute
  + Σ_d size_gb_d · usd_per_gb(region_d → r)                              egress
  + gpus · usd_per_gpu_hour · max_d(size_gb_d · 8 / gbps(region_d → r)) / 3600   GPUs waiting for data
  + w_rtt · rtt_ms(origin, r) · expected_h                                latency
  + w_risk · expected loss on spot                                        risk
  + w_move · (the copy runs elsewhere now)                                move

Some terms depend on the region only. They are computed once for each region and then spread to its pools: 5,000 classes
over 600 pools take a tenth of a second that way.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from thalweg.scheduling.arrays import BoolArray, FloatArray, IntArray
from thalweg.scheduling.problem.model import GPUS, NOWHERE, Problem

COMPONENTS = ("compute", "egress", "stall", "latency", "risk", "move")
_FIT_SLACK = 1e-9
"""A need may pass the capacity by this share of it, because both are floats: ten copies of 0.1 GPU fit one GPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Routes:
    """How far each region is from a class's data and from its callers.

    Attributes:
        egress_usd: [C, R] price of bringing all data; 0 where some of it cannot be brought.
        stall_h: [C, R] hours until the slowest item has arrived; 0 where it cannot arrive.
        rtt_ms: [C, R] from the class's origin; 0 where it has none, or where the region is too far or unreachable.
        data_reaches: [C, R] whether every item has a copy that reaches the region.
        rtt_allows: [C, R] whether the origin reaches the region within `max_rtt_ms`.
    """

    egress_usd: FloatArray
    stall_h: FloatArray
    rtt_ms: FloatArray
    data_reaches: BoolArray
    rtt_allows: BoolArray


def routes(problem: Problem) -> Routes:
    """Compute what bringing the data costs and takes, and the round trip, for each class and region."""
    classes, network = problem.classes, problem.network
    size, regions = len(classes), len(problem.regions)
    egress, stall_h = np.zeros((size, regions)), np.zeros((size, regions))
    reaches = np.ones((size, regions), bool)
    if classes.item_size_gb.size:
        usd, gbps = _cheapest_copies(problem)
        linked = np.isfinite(usd) & (gbps > 0)
        gb = classes.item_size_gb[:, None]
        with_items = np.flatnonzero(np.diff(classes.item_start))
        starts = classes.item_start[with_items]
        egress[with_items] = np.add.reduceat(np.where(linked, usd, 0.0) * gb, starts)
        stall_h[with_items] = np.maximum.reduceat(gb * 8.0 / np.where(linked, gbps, np.inf) / 3600.0, starts)
        reaches[with_items] = np.logical_and.reduceat(linked, starts)
    rtt = np.zeros((size, regions))
    called = np.flatnonzero(classes.origin != NOWHERE)
    rtt[called] = network.rtt_ms[classes.origin[called]]
    rtt_allows = (rtt <= classes.max_rtt_ms[:, None]) & np.isfinite(rtt)
    rtt[~rtt_allows] = 0.0
    return Routes(egress_usd=egress, stall_h=stall_h, rtt_ms=rtt, data_reaches=reaches, rtt_allows=rtt_allows)


def _cheapest_copies(problem: Problem) -> tuple[FloatArray, FloatArray]:
    """For each data item and region: the price per GB of the cheapest copy, and its gbps (of equals, the fastest)."""
    classes, network = problem.classes, problem.network
    usd, gbps = network.usd_per_gb[classes.copy_region], network.gbps[classes.copy_region]
    if classes.copy_region.size == classes.item_size_gb.size:
        return usd, gbps
    usd = np.where(gbps > 0, usd, np.inf)
    cheapest = np.minimum.reduceat(usd, classes.copy_start[:-1])
    among = np.where(usd == np.repeat(cheapest, np.diff(classes.copy_start), axis=0), gbps, 0.0)
    return cheapest, np.maximum.reduceat(among, classes.copy_start[:-1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Arcs:
    """Cost of each class in each pool; inf where the class may not go, whatever else is placed."""

    usd: FloatArray  # [C, P]
    routes: Routes


def arc_costs(problem: Problem) -> Arcs:
    """Cost of one copy of each class in each pool, inf where forbidden."""
    pools, classes, weights = problem.pools, problem.classes, problem.weights
    route = routes(problem)
    gpus, hours = classes.need[:, GPUS], classes.expected_h
    region, price = pools.region, pools.usd_per_gpu_hour
    by_region = route.egress_usd + (weights.rtt * hours)[:, None] * route.rtt_ms
    # Regional terms were computed once for each region; `take` gives each pool its region's column.
    usd = np.take(route.stall_h + hours[:, None], region, axis=1)
    usd *= price
    usd *= gpus[:, None]
    usd += np.take(by_region, region, axis=1)
    if weights.risk and pools.interruptions_per_hour.any():
        usd += (
            weights.risk
            * (gpus * hours * np.minimum(hours, classes.checkpoint_h) / 2.0)[:, None]
            * (price * pools.interruptions_per_hour)
        )
    if weights.move and classes.current_pool.size:
        running = np.diff(classes.current_start)
        usd += (weights.move * (running > 0))[:, None]
        here = classes.current_pool != NOWHERE
        usd[np.repeat(np.arange(len(classes)), running)[here], classes.current_pool[here]] -= weights.move
    usd[~_allowed(problem, route)] = np.inf
    return Arcs(usd=usd, routes=route)


def _allowed(problem: Problem, route: Routes) -> BoolArray:
    pools, classes = problem.pools, problem.classes
    by_region = classes.allowed_regions & route.data_reaches & route.rtt_allows
    allowed = np.take(by_region, pools.region, axis=1)
    allowed &= np.take(classes.gpu_models, pools.gpu_model, axis=1)
    if classes.closed_pools is not None:
        allowed &= ~classes.closed_pools
    if pools.spot.any() and not classes.spot_ok.all():
        allowed &= classes.spot_ok[:, None] | ~pools.spot
    if np.isfinite(classes.max_usd_per_hour).any():
        limit = classes.max_usd_per_hour * (1.0 + _FIT_SLACK)
        allowed &= classes.need[:, [GPUS]] * pools.usd_per_gpu_hour <= limit[:, None]
    for dimension in range(problem.dimensions):
        allowed &= classes.need[:, [dimension]] <= pools.capacity[:, dimension] * (1.0 + _FIT_SLACK)
    return allowed


def components(problem: Problem, class_index: IntArray, pool_index: IntArray) -> FloatArray:
    """Split the cost of chosen arcs by COMPONENTS: [K, 6] in USD. A row's sum is the cost of its arc.

    Forbidden arcs are priced as well: what is unreachable then counts as 0.
    """
    pools, classes, weights = problem.pools, problem.classes, problem.weights
    route = routes(problem)
    region = pools.region[pool_index]
    gpus, hours = classes.need[class_index, GPUS], classes.expected_h[class_index]
    rate = gpus * pools.usd_per_gpu_hour[pool_index]
    loss_h = (
        pools.interruptions_per_hour[pool_index] * hours * np.minimum(hours, classes.checkpoint_h[class_index]) / 2.0
    )
    running = np.diff(classes.current_start) > 0
    here = set(
        zip(np.repeat(np.arange(len(classes)), np.diff(classes.current_start)), classes.current_pool, strict=True)
    )
    stays = np.array([pair in here for pair in zip(class_index, pool_index, strict=True)], bool)
    return np.stack(
        [
            rate * hours,
            route.egress_usd[class_index, region],
            rate * route.stall_h[class_index, region],
            weights.rtt * route.rtt_ms[class_index, region] * hours,
            weights.risk * rate * loss_h,
            weights.move * (running[class_index] & ~stays),
        ],
        axis=1,
    )


def balance_usd(problem: Problem, gpus_by_pool: FloatArray) -> float:
    """Price of uneven load: w_balance · Σ_r gpus_r · (utilisation of r − utilisation of the fleet)²."""
    if not problem.weights.balance:
        return 0.0
    used, total = region_gpus(problem, gpus_by_pool)
    held = total > 0
    fleet = used.sum() / max(total.sum(), 1e-300)
    return problem.weights.balance * float((total[held] * (used[held] / total[held] - fleet) ** 2).sum())


def region_gpus(problem: Problem, gpus_by_pool: FloatArray) -> tuple[FloatArray, FloatArray]:
    """GPUs in use (busy before, and placed by the plan) and GPUs in all, by region."""
    pools, regions = problem.pools, len(problem.regions)
    used = _sum_by(pools.region, gpus_by_pool + pools.busy_gpus, regions)
    return used, _sum_by(pools.region, pools.capacity[:, GPUS] + pools.busy_gpus, regions)


def _sum_by(index: IntArray, amount: FloatArray, size: int) -> FloatArray:
    return np.bincount(index, amount, size).astype(np.float64)


def plan_usd(
    problem: Problem, arcs: Arcs, class_index: IntArray, pool_index: IntArray, count: IntArray | FloatArray
) -> float:
    """The objective of a plan: the cost of its arcs, the price of uneven load, and the price of every task that waits.

    A task that misses some of its copies waits for that share of it.
    """
    classes = problem.classes
    copies = _sum_by(class_index, count.astype(np.float64), len(classes))
    waiting = classes.count - copies / classes.replicas
    gpus = _sum_by(pool_index, count * classes.need[class_index, GPUS], len(problem.pools))
    placed = float((arcs.usd[class_index, pool_index] * count).sum())
    return placed + balance_usd(problem, gpus) + float((waiting * classes.wait_usd).sum())


def hourly_usd(problem: Problem, rows: IntArray, pools: IntArray) -> FloatArray:
    """Price of one copy an hour on each arc."""
    return np.asarray(problem.classes.need[rows, GPUS] * problem.pools.usd_per_gpu_hour[pools])
