"""A plan being made: whole copies per class and pool, and what capacity, quota and budget are left.

Every strategy ends here: relaxed amounts are rounded down, what is over a limit is taken out, and what is left over is
put in at the least cost. A partial plan never holds a plan that breaks a hard constraint.
"""

from __future__ import annotations

import numpy as np

from thalweg.scheduling.arrays import FloatArray, IntArray
from thalweg.scheduling.problem.cost import Arcs
from thalweg.scheduling.problem.model import GPUS, NOWHERE, Problem

_SLACK = 1e-9
"""Relative slack of float capacities, as in the cost masks."""


class PartialPlan:
    """Whole copies and what is left, kept together.

    Attributes:
        counts: [C, P] copies.
        placed: [C] tasks placed; counts of class c sum to placed[c] × replicas[c].
        free: [P, D] capacity left.
        quota: [T] GPUs left.
        budget: [T] USD an hour left.
    """

    def __init__(self, problem: Problem, arcs: Arcs) -> None:
        self.problem = problem
        self.arcs = arcs
        self.counts: IntArray = np.zeros((len(problem.classes), len(problem.pools)), np.int64)
        self.placed: IntArray = np.zeros(len(problem.classes), np.int64)
        self.free: FloatArray = problem.pools.capacity * (1.0 + _SLACK)
        self.quota: FloatArray = problem.tenants.quota_gpus * (1.0 + _SLACK)
        self.budget: FloatArray = problem.tenants.budget_usd_per_hour * (1.0 + _SLACK)
        starts = np.flatnonzero(np.diff(problem.pools.region, prepend=-1))
        self._region_start = starts
        self._used: tuple[IntArray, IntArray, IntArray] | None = None

    def load(self, class_index: IntArray, pool_index: IntArray, copies: IntArray) -> None:
        """Start from whole copies per arc; copies that do not make whole tasks, or break a limit, are left out."""
        classes = self.problem.classes
        np.add.at(self.counts, (class_index, pool_index), copies)
        self._used = None
        for row in np.flatnonzero(classes.replicas > 1):
            self._keep_whole_tasks(int(row))
        used_class, used_pool, used_copies = self.arcs_used()
        self.placed = np.bincount(used_class, used_copies, len(classes)).astype(np.int64) // classes.replicas
        self._spend(used_class, used_pool, used_copies)
        self._take_out_excess()

    def _spend(self, class_index: IntArray, pool_index: IntArray, copies: IntArray) -> None:
        problem = self.problem
        need = problem.classes.need[class_index] * copies[:, None]
        for dimension in range(problem.dimensions):
            self.free[:, dimension] -= np.bincount(pool_index, need[:, dimension], len(self.free))
        tenant = problem.classes.tenant[class_index]
        if len(self.quota):
            owned = tenant != NOWHERE
            gpus = need[owned, GPUS]
            self.quota -= np.bincount(tenant[owned], gpus, len(self.quota))
            usd = gpus * problem.pools.usd_per_gpu_hour[pool_index[owned]]
            self.budget -= np.bincount(tenant[owned], usd, len(self.budget))

    def _keep_whole_tasks(self, row: int) -> None:
        """Trim a class to the most tasks whose copies can lie in distinct regions, dearest copies first."""
        replicas = int(self.problem.classes.replicas[row])
        counts = self.counts[row]
        region = self.problem.pools.region
        by_region = np.bincount(region, counts, len(self.problem.regions)).astype(np.int64)
        tasks = int(by_region.sum()) // replicas
        while tasks and int(np.minimum(by_region, tasks).sum()) < replicas * tasks:
            tasks = min(tasks - 1, int(np.minimum(by_region, tasks).sum()) // replicas)
        surplus = int(by_region.sum()) - replicas * tasks
        over = by_region - np.minimum(by_region, tasks)
        for pool in np.lexsort((np.arange(len(counts)), -self.arcs.usd[row])):
            if not surplus:
                break
            must = int(over[region[pool]])
            # Copies beyond a region's limit go first; only then may others, and those never make a region short.
            cut = min(int(counts[pool]), surplus, must if must else (0 if over.any() else surplus))
            counts[pool] -= cut
            over[region[pool]] -= min(cut, must)
            surplus -= cut
        while surplus:
            pool = int(np.lexsort((np.arange(len(counts)), -np.where(counts > 0, self.arcs.usd[row], -np.inf)))[0])
            cut = min(int(counts[pool]), surplus)
            counts[pool] -= cut
            surplus -= cut

    def _take_out_excess(self) -> None:
        """Remove whole tasks until every limit holds, least important and dearest first."""
        while True:
            pools = np.flatnonzero((self.free < 0).any(axis=1))
            tenants = np.flatnonzero((self.quota < 0) | (self.budget < 0))
            if not pools.size and not tenants.size:
                return
            rows = self.counts[:, pools[0]] > 0 if pools.size else self.problem.classes.tenant == tenants[0]
            rows &= self.placed > 0
            uses = self.problem.classes.need
            if pools.size:
                rows &= (uses[:, self.free[pools[0]] < 0] > 0).any(axis=1)
            else:
                rows &= uses[:, GPUS] > 0
            candidates = np.flatnonzero(rows)
            order = np.lexsort((-candidates, self._worth(candidates), self.problem.classes.priority[candidates]))
            row = int(candidates[order[0]])
            pool = int(pools[0]) if pools.size else int(np.flatnonzero(self.counts[row])[-1])
            self.remove(row, pool, self._excess_tasks(row, pool))

    def _worth(self, rows: IntArray) -> FloatArray:
        classes = self.problem.classes
        return np.asarray(classes.wait_usd[rows] / np.maximum(classes.need[rows, GPUS] * classes.replicas[rows], 1e-9))

    def _excess_tasks(self, row: int, pool: int) -> int:
        """Copies of the class in the pool to remove at once: what brings the worst limit back, at least one."""
        need = self.problem.classes.need[row]
        over = np.maximum(-self.free[pool], 0.0)[need > 0] / need[need > 0]
        return max(1, min(int(np.ceil(over.max(initial=0.0))), int(self.counts[row, pool])))

    def remove(self, row: int, pool: int, tasks: int) -> None:
        """Take out tasks of a class that have a copy in the pool; the other copies of a task go with it."""
        replicas = int(self.problem.classes.replicas[row])
        self._change(row, pool, -tasks)
        self.placed[row] -= tasks
        if replicas == 1:
            return
        region = self.problem.pools.region
        # Regions that hold as many copies as there are tasks must lose some; the fullest regions go first.
        for _ in range((replicas - 1) * tasks):
            by_region = np.bincount(region, self.counts[row], len(self.problem.regions))
            fullest = by_region[region] * (self.counts[row] > 0)
            self._change(row, int(fullest.argmax()), -1)

    def _change(self, row: int, pool: int, copies: int) -> None:
        problem = self.problem
        need = problem.classes.need[row]
        self.counts[row, pool] += copies
        self._used = None
        self.free[pool] -= need * copies
        tenant = int(problem.classes.tenant[row])
        if tenant != NOWHERE:
            self.quota[tenant] -= need[GPUS] * copies
            self.budget[tenant] -= need[GPUS] * problem.pools.usd_per_gpu_hour[pool] * copies

    def room(self, row: int) -> FloatArray:
        """[P] whole copies of a class that each pool can still take, by capacity, quota and budget."""
        problem = self.problem
        need = problem.classes.need[row]
        room = np.full(len(self.free), np.inf)
        for dimension in np.flatnonzero(need > 0):
            np.minimum(room, np.floor(self.free[:, dimension] / need[dimension]), out=room)
        tenant = int(problem.classes.tenant[row])
        if tenant != NOWHERE and need[GPUS] > 0:
            room = np.minimum(room, np.floor(self.quota[tenant] / need[GPUS]))
            rate = need[GPUS] * problem.pools.usd_per_gpu_hour
            with np.errstate(divide="ignore", invalid="ignore"):
                room = np.minimum(room, np.where(rate > 0, np.floor(self.budget[tenant] / rate), np.inf))
        return np.asarray(np.maximum(room, 0.0))

    def insert(self, row: int, priced: FloatArray, tasks: int) -> int:
        """Put tasks of a class where `priced` (a cost per pool) is least and there is room; returns how many."""
        wait_usd = float(self.problem.classes.wait_usd[row])
        if int(self.problem.classes.replicas[row]) > 1:
            return self._insert_spread(row, priced, tasks, wait_usd)
        left = tasks
        usd = self.arcs.usd[row]
        open_ = np.where((usd <= wait_usd) & (self.room(row) >= 1.0), priced, np.inf)
        while left:
            pool = int(open_.argmin()) if len(open_) else 0
            if not len(open_) or open_[pool] == np.inf:
                break
            number = int(min(left, self.room(row)[pool]))
            if number:
                self._change(row, pool, number)
                left -= number
            open_[pool] = np.inf
        self.placed[row] += tasks - left
        return tasks - left

    def _insert_spread(self, row: int, priced: FloatArray, tasks: int, wait_usd: float) -> int:
        replicas = int(self.problem.classes.replicas[row])
        left, starts = tasks, self._region_start
        if len(starts) < replicas:
            return 0
        while left:
            room = self.room(row)
            open_ = np.where((room >= 1.0) & np.isfinite(self.arcs.usd[row]), priced, np.inf)
            by_region = np.minimum.reduceat(open_, starts)
            regions = np.argsort(by_region, kind="stable")[:replicas]
            if by_region[regions[-1]] == np.inf:
                break
            ends = np.append(starts[1:], len(open_))
            pools = [int(starts[r] + open_[starts[r] : ends[r]].argmin()) for r in regions]
            if float(self.arcs.usd[row, pools].sum()) > wait_usd:
                break
            # A quota or budget is shared by the copies of a task, a pool's own room is not.
            number = max(1, int(min(left, min(room[pools].min(), left * replicas) // replicas)))
            tenant = int(self.problem.classes.tenant[row])
            for pool in pools:
                self._change(row, pool, number)
            if tenant != NOWHERE and (self.quota[tenant] < 0 or self.budget[tenant] < 0):
                for pool in pools:
                    self._change(row, pool, -number)
                break
            self.placed[row] += number
            left -= number
        return tasks - left

    def fill(self, priced: FloatArray) -> None:
        """Insert every waiting task, the most worth per GPU first, then by priority and id."""
        left = self.problem.classes.count - self.placed
        rows = np.flatnonzero(left > 0)
        order = np.lexsort((rows, -self.problem.classes.priority[rows], -self._worth(rows)))
        for row in rows[order]:
            self.insert(int(row), priced[row], int(left[row]))

    def arcs_used(self) -> tuple[IntArray, IntArray, IntArray]:
        """(class, pool, copies) with copies > 0, ordered by class and pool."""
        if self._used is None:
            class_index, pool_index = np.nonzero(self.counts)
            self._used = class_index, pool_index, self.counts[class_index, pool_index]
        return self._used

    def gpus_by_pool(self) -> FloatArray:
        """GPUs this partial plan holds in each pool."""
        class_index, pool_index, copies = self.arcs_used()
        gpus = copies * self.problem.classes.need[class_index, GPUS]
        return np.bincount(pool_index, gpus, len(self.free)).astype(np.float64)


def greedy_plan(problem: Problem, arcs: Arcs) -> PartialPlan:
    """Give each class in turn the cheapest places that are left, the most worth per GPU first."""
    plan = PartialPlan(problem, arcs)
    plan.fill(arcs.usd)
    return plan
