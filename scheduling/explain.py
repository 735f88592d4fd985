"""Reasons for a plan: what a placed task costs and what else it could have had, and what would let a waiting task in.

Every remedy is checked by planning again: the plan at hand is loaded as it is, the task is inserted with the one
change, and only what then is placed is offered. Answers take milliseconds, because nothing else is planned anew.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from scheduling.arrays import FloatArray
from scheduling.cost import COMPONENTS, Arcs, arc_costs, components
from scheduling.draft import Draft
from scheduling.model import GPUS, NOWHERE, Classes, Problem
from scheduling.order import in_order
from scheduling.solution import Solution, Unplaced
from scheduling.warm import take_classes


@dataclass(frozen=True, slots=True, kw_only=True)
class Alternative:
    """Another pool one copy could have had.

    Attributes:
        pool: id.
        extra_usd: what it costs more than the pool it has; negative when only other tasks' claims kept it out.
        room: whole copies that still fit there as the plan stands.
    """

    pool: str
    extra_usd: float
    room: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedReason:
    """Why copies of a class lie in a pool."""

    pool: str
    copies: int
    usd: dict[str, float]
    alternatives: tuple[Alternative, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Remedy:
    """One change that lets one waiting task in, found by planning again with it.

    Attributes:
        change: what changes, in words with its figures.
        pools: where its copies then lie.
        usd: what they cost there.
    """

    change: str
    pools: tuple[str, ...]
    usd: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Everything there is to say about one class of a plan."""

    class_id: str
    placed: tuple[PlacedReason, ...]
    waiting: Unplaced | None
    remedies: tuple[Remedy, ...]


class Explainer:
    """Answers about one plan; built once, asked many times.

    Args:
        problem: as it was given to `solve`.
        solution: what `solve` returned for it.
    """

    def __init__(self, problem: Problem, solution: Solution) -> None:
        # The explainer works in the canonical order of `solve`, where pools of a region lie together.
        self._ordered = in_order(problem)
        self.problem, self.solution = self._ordered.problem, solution
        self.arcs: Arcs = arc_costs(self.problem)
        inner_class = np.argsort(self._ordered.class_)
        inner_pool = np.argsort(self._ordered.pool)
        self._row_of = inner_class
        self._draft = Draft(self.problem, self.arcs)
        self._draft.load(inner_class[solution.class_index], inner_pool[solution.pool_index], solution.count)

    def explain(self, class_index: int, alternatives: int = 5) -> Explanation:
        """Explain one class, by its row in the caller's problem."""
        row = int(self._row_of[class_index])
        waiting = next((entry for entry in self.solution.unplaced if entry.class_index == class_index), None)
        return Explanation(
            class_id=self.problem.classes.class_ids[row],
            placed=tuple(self._placed(row, int(p), alternatives) for p in np.flatnonzero(self._draft.counts[row])),
            waiting=waiting,
            remedies=self._remedies(row) if waiting else (),
        )

    def _placed(self, row: int, pool: int, number: int) -> PlacedReason:
        pool_ids, usd = self.problem.pools.pool_ids, self.arcs.usd[row]
        split = components(self.problem, np.array([row]), np.array([pool]))[0]
        room = self._draft.room(row)
        order = [int(p) for p in np.lexsort((np.arange(len(usd)), usd)) if p != pool and np.isfinite(usd[p])]
        return PlacedReason(
            pool=pool_ids[pool],
            copies=int(self._draft.counts[row, pool]),
            usd=dict(zip(COMPONENTS, split.tolist(), strict=True)),
            alternatives=tuple(
                Alternative(pool=pool_ids[p], extra_usd=float(usd[p] - usd[pool]), room=int(min(room[p], 2**31)))
                for p in order[:number]
            ),
        )

    def _remedies(self, row: int) -> tuple[Remedy, ...]:
        """Single changes that let one task of the class in, the cheapest outcome first."""
        one = self._alone(row)
        classes = one.classes
        allowed, models = np.ones_like(classes.allowed_regions), np.ones_like(classes.gpu_models)
        far = np.full(1, np.inf)
        loosened: list[tuple[str, Problem]] = []
        if not classes.gpu_models.all():
            loosened.append(("any GPU model", replace(one, classes=replace(classes, gpu_models=models))))
        if not classes.allowed_regions.all():
            loosened.append(("any region allowed", replace(one, classes=replace(classes, allowed_regions=allowed))))
        if np.isfinite(classes.max_rtt_ms[0]):
            loosened.append(("no latency limit", replace(one, classes=replace(classes, max_rtt_ms=far))))
        if not classes.spot_ok[0]:
            loosened.append(("spot accepted", replace(one, classes=replace(classes, spot_ok=np.ones(1, bool)))))
        if np.isfinite(classes.max_usd_per_hour[0]):
            loosened.append(("no limit on USD an hour", replace(one, classes=replace(classes, max_usd_per_hour=far))))
        for fewer in range(int(classes.replicas[0]) - 1, 0, -1):
            change = f"{fewer} copies instead of {int(classes.replicas[0])}"
            loosened.append((change, replace(one, classes=replace(classes, replicas=np.array([fewer])))))
        if classes.item_size_gb.size:
            loosened.append(("no data to bring", replace(one, classes=_without_items(classes))))
        found = [remedy for change, problem in loosened if (remedy := self._check(change, problem)) is not None]
        found += [remedy for remedy in (self._smaller_gang(one), self._more_room(one), self._more_limit(one)) if remedy]
        return tuple(sorted(found, key=lambda remedy: (remedy.usd, remedy.change)))

    def _alone(self, row: int) -> Problem:
        """One task of the class against what the plan leaves free."""
        problem, draft = self.problem, self._draft
        classes = take_classes(
            problem.classes, np.array([row]), (problem.classes.class_ids[row],), np.ones(1, np.int64)
        )
        tenants = replace(
            problem.tenants, quota_gpus=np.maximum(draft.quota, 0.0), budget_usd_per_hour=np.maximum(draft.budget, 0.0)
        )
        # The draft's slack for float sums is taken off again, so that figures read as they are.
        pools = replace(
            problem.pools, capacity=np.maximum(np.round(draft.free - problem.pools.capacity * 1e-9, 6), 0.0)
        )
        return replace(problem, pools=pools, classes=classes, tenants=tenants)

    def _check(self, change: str, problem: Problem) -> Remedy | None:
        """Plan the changed task into what is free."""
        arcs = arc_costs(problem)
        draft = Draft(problem, arcs)
        draft.fill(arcs.usd)
        if not draft.placed[0]:
            return None
        pools = np.flatnonzero(draft.counts[0])
        usd = float((arcs.usd[0, pools] * draft.counts[0, pools]).sum())
        return Remedy(change=change, pools=tuple(self.problem.pools.pool_ids[p] for p in pools), usd=usd)

    def _smaller_gang(self, one: Problem) -> Remedy | None:
        """The largest share of the gang that fits somewhere."""
        gpus = float(one.classes.need[0, GPUS])
        sizes = np.arange(np.ceil(gpus) - 1, 0, -1) if gpus > 1 else np.zeros(0)
        low, high, best = 0, len(sizes), None
        while low < high:
            middle = (low + high) // 2
            need = one.classes.need * (sizes[middle] / gpus)
            change = f"{sizes[middle]:g} GPUs instead of {gpus:g}"
            remedy = self._check(change, replace(one, classes=replace(one.classes, need=need)))
            if remedy is None:
                low = middle + 1
            else:
                best, high = remedy, middle
        return best

    def _more_room(self, one: Problem) -> Remedy | None:
        """The fewest GPUs more in one pool (with what else is short beside them) that let the task in."""
        need, free = one.classes.need[0], one.pools.capacity
        short = np.maximum(need - free, 0.0)
        roomy = replace(one, pools=replace(one.pools, capacity=free + short))
        usd = np.where(short.any(axis=1), arc_costs(roomy).usd[0], np.inf)
        if not np.isfinite(usd).any():
            return None
        pool = int(np.lexsort((usd, np.where(np.isfinite(usd), short[:, GPUS], np.inf)))[0])
        grown = free.copy()
        grown[pool] += short[pool]
        change = f"{short[pool, GPUS]:g} GPUs more in {one.pools.pool_ids[pool]}"
        if short[pool, 1:].any():
            change += f" and {', '.join(f'{v:g} of dimension {d + 1}' for d, v in enumerate(short[pool, 1:]) if v)}"
        return self._check(change, replace(one, pools=replace(one.pools, capacity=grown)))

    def _more_limit(self, one: Problem) -> Remedy | None:
        """More quota and budget for the tenant."""
        tenant = int(one.classes.tenant[0])
        if tenant == NOWHERE:
            return None
        limits = one.tenants
        quota, budget = limits.quota_gpus.copy(), limits.budget_usd_per_hour.copy()
        left_gpus, left_usd = quota[tenant], budget[tenant]
        quota[tenant] = budget[tenant] = np.inf
        opened = replace(one, tenants=replace(limits, quota_gpus=quota, budget_usd_per_hour=budget))
        remedy = self._check("", opened)
        if remedy is None:
            return None
        rates: FloatArray = one.pools.usd_per_gpu_hour[[one.pools.pool_ids.index(pool) for pool in remedy.pools]]
        gpus = float(one.classes.need[0, GPUS]) * len(remedy.pools)
        rate = float(one.classes.need[0, GPUS] * rates.sum())
        parts = []
        if gpus > left_gpus:
            parts.append(f"{gpus - left_gpus:g} GPUs more quota")
        if rate > left_usd:
            parts.append(f"{rate - left_usd:g} USD an hour more budget")
        if not parts:
            return None
        return replace(remedy, change=f"{' and '.join(parts)} for tenant {limits.tenant_ids[tenant]}")


def _without_items(classes: Classes) -> Classes:
    none = np.zeros(len(classes) + 1, np.int64)
    return replace(
        classes,
        item_start=none,
        item_size_gb=np.zeros(0),
        copy_start=np.zeros(1, np.int64),
        copy_region=np.zeros(0, np.int64),
    )
