"""Strategy `genetic`: a genetic algorithm with random keys (Bean 1994).

A chromosome is one price per pool and one key per class. Decoding places the classes in the order of their keys, each
where its cost plus the pool's price is least and there is room, so every chromosome is a plan that keeps every limit.
Selection by tournament, uniform crossover, Gaussian mutation, and the best quarter survives.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from thalweg.scheduling.arrays import FloatArray, IntArray
from thalweg.scheduling.compiled import compiled
from thalweg.scheduling.problem.cost import Arcs, plan_usd, region_gpus
from thalweg.scheduling.problem.model import GPUS, Problem
from thalweg.scheduling.problem.solution import SolveLimits, StopReason
from thalweg.scheduling.solve.improve import movable
from thalweg.scheduling.solve.partial_plan import PartialPlan, greedy_plan
from thalweg.scheduling.solve.strategies.flow import relax
from thalweg.scheduling.solve.strategies.strategy import Found

GENERATIONS = 80
POPULATION, SURVIVORS = 40, 10
MUTATED = 0.1
"""Share of the keys that change in a child."""


def genetic(problem: Problem, arcs: Arcs, limits: SolveLimits, seed: int, start_prices: FloatArray | None) -> Found:
    """Place by a genetic algorithm; the bound is that of `flow`."""
    relaxed, bound = relax(problem, arcs, limits, start_prices)
    base = greedy_plan(problem, arcs)
    usd = plan_usd(problem, arcs, *base.arcs_used())
    trace, stopped, best = [(0, usd, bound)], StopReason.DONE, base
    rows = np.flatnonzero(movable(problem) & (problem.classes.count > 0))
    generations = GENERATIONS if limits.rounds is None else limits.rounds
    if rows.size and len(problem.pools):
        rng = np.random.default_rng(seed)
        decoder = _Decoder(problem, arcs, base, rows)
        genes = len(problem.pools) + len(rows)
        population = rng.random((POPULATION, genes))
        # The greedy plan itself is one of them: no prices, its own order.
        population[0, : len(problem.pools)] = 0.0
        population[0, len(problem.pools) :] = np.argsort(np.argsort(decoder.greedy_keys, kind="stable")) / len(rows)
        fitness = np.array([decoder.usd(one) for one in population])
        for generation in range(generations):
            if limits.expired():
                stopped = StopReason.DEADLINE
                break
            order = np.argsort(fitness, kind="stable")
            population, fitness = population[order], fitness[order]
            children = POPULATION - SURVIVORS
            parents = rng.integers(0, POPULATION, (2, children, 2)).min(axis=2)
            child = np.where(rng.random((children, genes)) < 0.5, population[parents[0]], population[parents[1]])
            mutated = rng.random((children, genes)) < MUTATED
            child = np.abs(child + mutated * rng.normal(0.0, 0.2, (children, genes)))
            population[SURVIVORS:] = child
            fitness[SURVIVORS:] = [decoder.usd(one) for one in child]
            trace.append((generation + 1, min(usd, float(fitness.min())), bound))
        else:
            stopped = StopReason.EFFORT
        plan = decoder.plan(population[int(fitness.argmin())])
        if plan_usd(problem, arcs, *plan.arcs_used()) < usd:
            best = plan
    return Found(plan=best, bound=bound, prices=relaxed.prices, stopped=stopped, trace=tuple(trace))


class _Decoder:
    """Turns chromosomes into plans; classes that cannot be moved one by one stay where the greedy plan has them."""

    def __init__(self, problem: Problem, arcs: Arcs, base: PartialPlan, rows: IntArray) -> None:
        self.problem, self.arcs, self.rows = problem, arcs, rows
        classes = problem.classes
        self.fixed = base.counts.copy()
        self.fixed[rows] = 0
        class_index, pool_index = np.nonzero(self.fixed)
        held = classes.need[class_index] * self.fixed[class_index, pool_index][:, None]
        self.free = problem.pools.capacity * (1.0 + 1e-9)
        np.subtract.at(self.free, pool_index, held)
        gpus = np.bincount(pool_index, held[:, GPUS], len(problem.pools)).astype(np.float64)
        self.used, self.total = region_gpus(problem, gpus)
        fixed_waiting = classes.count - self.fixed.sum(axis=1) // classes.replicas
        fixed_waiting[rows] = 0
        self.fixed_usd = float((arcs.usd[class_index, pool_index] * self.fixed[class_index, pool_index]).sum())
        self.fixed_usd += float((fixed_waiting * classes.wait_usd).sum())
        self.greedy_keys = -classes.wait_usd[rows] / np.maximum(classes.need[rows, GPUS], 1e-9)
        finite = np.isfinite(arcs.usd[rows])
        cheapest = arcs.usd[rows].min(axis=1, initial=np.inf)
        dearest = np.where(finite, arcs.usd[rows], 0.0).max(axis=1, initial=0.0)
        spread = np.where(np.isfinite(cheapest), dearest - np.where(np.isfinite(cheapest), cheapest, 0.0), 0.0)
        gpu_spread = spread / np.maximum(classes.need[rows, GPUS], 1e-9)
        # A price of 1 is what separates a class's dearest place from its cheapest, per GPU, in the median.
        self.price_scale = float(np.median(gpu_spread)) if len(rows) else 0.0

    def counts(self, genes: FloatArray) -> tuple[IntArray, float]:
        problem, pools = self.problem, len(self.problem.pools)
        counts = np.zeros_like(self.fixed)
        usd = run_decode(
            self.arcs.usd, problem.classes.wait_usd.astype(float), problem.classes.need, problem.classes.count,
            self.rows[np.argsort(genes[pools:], kind="stable")], genes[:pools] * self.price_scale, self.free.copy(),
            problem.pools.region, self.used.copy(), self.total, problem.weights.balance, counts,
        )  # fmt: skip
        return counts, usd

    def usd(self, genes: FloatArray) -> float:
        return self.counts(genes)[1] + self.fixed_usd

    def plan(self, genes: FloatArray) -> PartialPlan:
        counts = self.counts(genes)[0] + self.fixed
        plan = PartialPlan(self.problem, self.arcs)
        class_index, pool_index = np.nonzero(counts)
        plan.load(class_index, pool_index, counts[class_index, pool_index])
        return plan


@compiled
def run_decode(
    usd: Any, wait_usd: Any, need: Any, count: Any, order: Any, prices: Any, free: Any, region: Any, used: Any,
    total: Any, balance: float, counts: Any,
) -> float:  # fmt: skip
    """Place the classes in order at the prices; returns the plan's cost and fills `counts`."""
    pools = usd.shape[1]
    cost = 0.0
    for row in order:
        left = count[row]
        while left > 0:
            best, target, copies = np.inf, -1, 0
            for pool in range(pools):
                if usd[row, pool] > wait_usd[row] or counts[row, pool] > 0:
                    continue
                priced = usd[row, pool] + need[row, 0] * prices[pool]
                if priced >= best:
                    continue
                fit = left
                for dimension in range(free.shape[1]):
                    if need[row, dimension] > 0:
                        fit = min(fit, int(free[pool, dimension] / need[row, dimension]))
                if fit > 0:
                    best, target, copies = priced, pool, fit
            if target < 0:
                break
            counts[row, target] = copies
            left -= copies
            cost += copies * usd[row, target]
            used[region[target]] += copies * need[row, 0]
            for dimension in range(free.shape[1]):
                free[target, dimension] -= copies * need[row, dimension]
        cost += left * wait_usd[row]
    if balance > 0.0 and total.sum() > 0:
        mean = used.sum() / total.sum()
        for place in range(len(total)):
            if total[place] > 0:
                cost += balance * total[place] * (used[place] / total[place] - mean) ** 2
    return cost
