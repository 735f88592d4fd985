"""A true lower bound on every plan, from any prices: the Lagrangian dual of capacity, quotas and budgets.

Whatever prices >= 0 are put on what is scarce, no plan can cost less than: each class takes its cheapest arcs at those
prices, less the prices of all there is. It holds for any prices and is computed in plain sums of the exact costs, so no
solver's tolerance, rounding or early stop can make it wrong; good prices only make it tight. The balance term is convex
and is replaced by a tangent, which lies below it everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from thalweg.scheduling.arrays import FloatArray, IntArray
from thalweg.scheduling.problem.cost import Arcs, balance_usd, region_gpus
from thalweg.scheduling.problem.model import GPUS, NOWHERE, Problem

_FLOAT_NOISE = 1e-12
"""Relative error of summing 10^6 doubles in pairs is below this; the bound is lowered by it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """What one more unit of each scarce thing would save, in USD.

    Attributes:
        pool: [P, D] per unit of capacity.
        quota: [T] per GPU of quota.
        budget: [T] per USD an hour of budget.
        slope: [R] balance: marginal USD per GPU used in the region, at the point of the tangent.
    """

    pool: FloatArray
    quota: FloatArray
    budget: FloatArray
    slope: FloatArray


def free_prices(problem: Problem) -> Prices:
    """Prices when nothing is scarce."""
    tenants = len(problem.tenants)
    return Prices(
        pool=np.zeros(problem.pools.capacity.shape),
        quota=np.zeros(tenants),
        budget=np.zeros(tenants),
        slope=np.zeros(len(problem.regions)),
    )


def balance_slope(problem: Problem, gpus_by_pool: FloatArray) -> FloatArray:
    """Marginal USD of one more GPU used in each region, by the balance term."""
    used, total = region_gpus(problem, gpus_by_pool)
    held = total > 0
    fleet = used.sum() / max(total.sum(), 1e-300)
    slope = np.zeros(len(total))
    slope[held] = 2.0 * problem.weights.balance * (used[held] / total[held] - fleet)
    return slope


def point_of_slope(problem: Problem, slope: FloatArray) -> FloatArray:
    """[P] GPUs in each pool at which the balance term has this slope, up to a constant (which no plan can change).

    The point need not be a plan: a tangent of a convex function lies below it wherever it is taken.
    """
    pools = problem.pools
    busy, total = region_gpus(problem, np.zeros(len(pools)))
    mean = float((total * slope).sum()) / max(float(total.sum()), 1e-300)
    point = np.zeros(len(pools))
    first = np.flatnonzero(np.diff(pools.region, prepend=-1))
    region = pools.region[first]
    point[first] = (total * ((slope - mean) / (2.0 * problem.weights.balance) + 0.5) - busy)[region]
    return point


def priced_usd(problem: Problem, arcs: Arcs, prices: Prices) -> FloatArray:
    """[C, P] cost of one copy with the prices of everything scarce that it uses."""
    classes, pools = problem.classes, problem.pools
    priced = arcs.usd
    gpu_price = prices.pool[:, GPUS] + prices.slope[pools.region]
    if gpu_price.any():
        priced = priced + classes.need[:, [GPUS]] * gpu_price
    for dimension in range(1, problem.dimensions):
        if prices.pool[:, dimension].any():
            priced = priced + classes.need[:, [dimension]] * prices.pool[:, dimension]
    if prices.quota.any() or prices.budget.any():
        gpus = classes.need[:, GPUS]
        priced = priced + (gpus * _of_tenant(problem, prices.quota))[:, None]
        priced = priced + (gpus * _of_tenant(problem, prices.budget))[:, None] * pools.usd_per_gpu_hour
    return priced


def _of_tenant(problem: Problem, price: FloatArray) -> FloatArray:
    tenant = problem.classes.tenant
    return np.where(tenant == NOWHERE, 0.0, np.append(price, 0.0)[tenant])


def lagrangian_bound(problem: Problem, arcs: Arcs, prices: Prices, gpus_by_pool: FloatArray) -> float:
    """Lower bound on the objective of every plan.

    Args:
        problem: in canonical order (pools of a region together).
        arcs: costs of that problem.
        prices: any prices, all >= 0 except slope, which must be `balance_slope(problem, gpus_by_pool)`.
        gpus_by_pool: [P] the point of the balance term's tangent.
    """
    pools, tenants = problem.pools, problem.tenants
    priced = priced_usd(problem, arcs, prices)
    least, _ = least_usd(problem, priced)
    limited = np.isfinite(tenants.quota_gpus)
    rented = float((prices.pool * pools.capacity).sum())
    rented += float((prices.quota[limited] * tenants.quota_gpus[limited]).sum())
    limited = np.isfinite(tenants.budget_usd_per_hour)
    rented += float((prices.budget[limited] * tenants.budget_usd_per_hour[limited]).sum())
    bound = float(least.sum()) - rented
    if problem.weights.balance:
        placed = np.bincount(pools.region, gpus_by_pool, len(problem.regions))
        bound += balance_usd(problem, gpus_by_pool) - float((prices.slope * placed).sum())
    # No cost is negative, so nothing is a bound as well: prices of a plan where gangs wait can prove less than that.
    return max(0.0, bound - _FLOAT_NOISE * (float(np.abs(least).sum()) + abs(rented)))


def least_usd(problem: Problem, priced: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Least cost of each class: its tasks in the cheapest places that can hold them, regions distinct, or waiting.

    Returns:
        ([C] cost of the class, [C] the part of it that its dearest task has).
    """
    classes, pools = problem.classes, problem.pools
    if not len(pools):
        return np.asarray(classes.count * classes.wait_usd), classes.wait_usd
    cheapest = priced.argmin(axis=1)
    dearest = np.minimum(priced[np.arange(len(classes)), cheapest], classes.wait_usd)
    least = classes.count * dearest
    single = classes.replicas == 1
    crowded = np.flatnonzero(single & (_whole_copies(problem, np.arange(len(classes)), cheapest) < classes.count))
    if crowded.size:
        # The cheapest pool alone cannot hold the class whatever else is placed: fill up the next ones, then wait.
        usd = np.minimum(priced[crowded], classes.wait_usd[crowded, None])
        order = np.argsort(usd, axis=1)
        fit = _whole_copies(problem, np.repeat(crowded, len(pools)), order.ravel()).reshape(order.shape)
        count = classes.count[crowded, None]
        taken = np.diff(np.minimum(np.cumsum(np.minimum(fit, count), axis=1), count), prepend=0.0, axis=1)
        filled = (taken * np.take_along_axis(usd, order, axis=1)).sum(axis=1)
        left = classes.count[crowded] - taken.sum(axis=1)
        least[crowded] = filled + left * classes.wait_usd[crowded]
        reached = np.where(taken > 0, np.take_along_axis(usd, order, axis=1), -np.inf).max(axis=1)
        dearest[crowded] = np.where(left > 0, classes.wait_usd[crowded], reached)
    several = np.flatnonzero(~single)
    if several.size:
        starts = np.flatnonzero(np.diff(pools.region, prepend=-1))
        by_region = np.sort(np.minimum.reduceat(priced[several], starts, axis=1), axis=1)
        replicas = np.minimum(classes.replicas[several], by_region.shape[1])
        total = np.cumsum(by_region, axis=1)[np.arange(len(several)), replicas - 1]
        total[replicas < classes.replicas[several]] = np.inf
        dearest[several] = np.minimum(total, classes.wait_usd[several])
        least[several] = classes.count[several] * dearest[several]
    return np.asarray(least), np.asarray(dearest)


def _whole_copies(problem: Problem, class_index: IntArray, pool_index: IntArray) -> FloatArray:
    """Copies of a class that fit a pool when it is empty; inf for a class that needs nothing."""
    need = problem.classes.need[class_index]
    with np.errstate(divide="ignore", invalid="ignore"):
        fit = np.floor(problem.pools.capacity[pool_index] / need * (1.0 + 1e-9))
    return np.asarray(np.where(need > 0, fit, np.inf).min(axis=1))
