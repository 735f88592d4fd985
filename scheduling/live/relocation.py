"""Other places for copies that run: found on the real nodes, priced as a plan prices them, and taken back at the end.

A copy's own place counts as taken, so what is found is there before the old one is left; and what was found for one
copy counts as taken for the next.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from thalweg.scheduling.ids import RegionId
from thalweg.scheduling.live.demand import Demand
from thalweg.scheduling.live.live_plan import CopyAssignment, PlanSettings
from thalweg.scheduling.live.live_problem import live_problem
from thalweg.scheduling.live.node_placement import Fit, NodePlacement, copy_assignment
from thalweg.scheduling.live.preemption import restart_usd
from thalweg.scheduling.live.tenant_allowance import TenantAllowance, left_of
from thalweg.scheduling.pack.need import Pool
from thalweg.scheduling.pack.packer import Packer
from thalweg.scheduling.problem.cost import components, hourly_usd
from thalweg.scheduling.world.fleet import CopyKey
from thalweg.scheduling.world.occupancy import MICRO
from thalweg.scheduling.world.tasks import Copy, Task, TaskSpec, sized
from thalweg.scheduling.world.waiting import ClassKey
from thalweg.scheduling.world.world import World

_SLACK: Final = 1e-9
"""GPUs, and US dollars an hour."""

Wanted = Callable[[Pool], bool]
"""Whether a pool is a place to go to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MovedCopy:
    """A copy of a task that is to run somewhere else."""

    task: Task
    copy: Copy
    to: CopyAssignment
    lost_usd: float
    """What leaving loses: the GPU time since the copy was assigned, and bringing its data again."""
    usd_per_hour_before: float
    beside: bool = False
    """It starts as a further copy, and the old one goes when it runs."""


def anywhere(_: Pool) -> bool:
    """Take any pool."""
    return True


class Relocation:
    """Looks for places for some copies; `undo` gives back all that it took to try."""

    def __init__(
        self, world: World, copies: Sequence[CopyKey], settings: PlanSettings, now_ms: int, packer: Packer
    ) -> None:
        """Price every place for every class of the copies, once.

        Args:
            world: read, and left as it was once `undo` is called.
            copies: placed ones.
            settings: weights and prices.
            now_ms: the moment.
            packer: over `world.nodes`.
        """
        self._world, self._settings, self._now_ms = world, settings, now_ms
        self._row: dict[CopyKey, int] = {}
        rows: dict[ClassKey, int] = {}
        demands: list[Demand] = []
        for task_id, index in copies:
            task = world.tasks[task_id]
            key = class_of(task, task.copies[index])
            row = rows.setdefault(key, len(demands))
            if row == len(demands):
                demands.append(Demand(key=key, tasks=(task_id,), order=row, since_ms=now_ms))
            self._row[task_id, index] = row
        problem = live_problem(world, demands, settings, now_ms)
        self._placement = NodePlacement(world, demands, problem, packer, TenantAllowance(world))
        self._taken: list[Fit] = []
        self._full: set[int] = set()
        self._spent: dict[str, tuple[float, float]] = {}

    def find(self, task: Task, copy: Copy, wanted: Wanted = anywhere, *, beside: bool = False) -> MovedCopy | None:
        """Find the cheapest place for a copy, and take it until `undo`; None where there is none now.

        Args:
            task: whose copy it is.
            copy: one of those that were named at the beginning.
            wanted: the pools to look at; of copies of one class it is asked for the same.
            beside: the copy stays meanwhile, so the tenant holds both.
        """
        row = self._row[task.task_id, copy.index]
        if row in self._full:
            return None
        found = self.take(task, copy, wanted, beside=beside)
        if found is None and not beside:
            self._full.add(row)  # copies of a class are alike: where one has no place, the next has none either
        return found

    def take(
        self, task: Task, copy: Copy, wanted: Wanted = anywhere, *, beside: bool = False, avoid: Sequence[int] = ()
    ) -> MovedCopy | None:
        """Find as `find` does, where every copy is asked for something else.

        Args:
            task: whose copy it is.
            copy: one of those that were named at the beginning.
            wanted: the pools to look at.
            beside: the copy stays meanwhile.
            avoid: nodes, by row, that it does not go to.
        """
        row = self._row[task.task_id, copy.index]
        spec = self._placement.demands[row].key.spec
        before = self._hourly(copy)
        for pool in self._placement.cheapest_pools(row).tolist():
            where = self._world.nodes.pools[pool]
            if not wanted(where) or (beside and where.region == copy.region):
                continue
            usd_per_hour = spec.gpus * float(self._placement.problem.pools.usd_per_gpu_hour[pool])
            more = (spec.gpus, usd_per_hour) if beside else (0.0, usd_per_hour - before)
            if not self._may_hold(spec.tenant, *more):
                continue
            fit = self._placement.fit(spec, pool, avoid)
            if fit is None:
                continue
            self._taken.append(fit)
            gpus, usd = self._spent.get(spec.tenant, (0.0, 0.0))
            self._spent[spec.tenant] = gpus + more[0], usd + more[1]
            return MovedCopy(
                task=task,
                copy=copy,
                to=self._assignment(row, task, copy.index, pool, fit),
                lost_usd=self.lost_usd(copy),
                usd_per_hour_before=before,
                beside=beside,
            )
        return None

    def nodes_of(self, spec: TaskSpec, pool: int) -> frozenset[int] | None:
        """Say on which nodes all workers of a task would sit now; None where they do not fit. Nothing is taken."""
        fit = self._placement.fit(spec, pool)
        if fit is None:
            return None
        self._placement.release([fit])
        return frozenset(slot.node for slot, _ in fit[0])

    @property
    def found(self) -> int:
        """How many places are taken now, to give back those of later tries (`undo`)."""
        return len(self._taken)

    def usd(self, task: Task, copy: Copy, pool: Pool) -> float:
        """US dollars of one copy's whole run in a pool; inf where it may not go."""
        index = self._world.nodes.pool_index[pool]
        return float(self._placement.usd(self._row[task.task_id, copy.index])[index])

    def lost_usd(self, copy: Copy) -> float:
        """US dollars that are lost when a copy leaves."""
        return float(restart_usd(self._world.occupancy, np.array(copy.occupancy[:1], np.int64), self._now_ms)[0])

    def undo(self, found: int = 0) -> None:
        """Give back every slot that was taken to try, but for the first ones."""
        self._placement.release(reversed(self._taken[found:]))
        del self._taken[found:]

    def _hourly(self, copy: Copy) -> float:
        return float(self._world.occupancy.column("micro_usd_per_hour")[copy.occupancy[0]]) / MICRO

    def _may_hold(self, tenant: str, gpus: float, usd_per_hour: float) -> bool:
        """Whether a tenant's limits bear so much more; less, they always do."""
        if tenant not in self._world.tenants:
            return True
        left_gpus, left_usd = left_of(self._world, tenant)
        spent_gpus, spent_usd = self._spent.get(tenant, (0.0, 0.0))
        return (gpus <= 0.0 or gpus <= left_gpus - spent_gpus + _SLACK) and (
            usd_per_hour <= _SLACK or usd_per_hour <= left_usd - spent_usd + _SLACK
        )

    def _assignment(self, row: int, task: Task, index: int, pool: int, fit: Fit) -> CopyAssignment:
        at, column = np.array([row]), np.array([pool])
        money = components(self._placement.problem, at, column)[0].tolist()
        rate = float(hourly_usd(self._placement.problem, at, column)[0])
        return copy_assignment(self._world, task, index, pool, fit[1], money, rate)


def in_region(region: RegionId) -> Wanted:
    """Take the pools of one region."""
    return lambda pool: pool.region == region


def others_in(task: Task, copy: Copy) -> Iterable[RegionId]:
    """Name the regions where a task has or had other copies: no two run in one."""
    return task.done_regions | {other.region for other in task.copies.values() if other is not copy}


def class_of(task: Task, copy: Copy) -> ClassKey:
    """Say what a copy that runs would ask for at another place."""
    spec = task.spec if task.spec.min_workers is None else sized(task.spec, copy.workers)
    return ClassKey(
        spec=replace(spec, replicas=1),
        missing=1,
        taken=frozenset(others_in(task, copy)),
        avoid=task.avoid - {copy.region},
        barred=task.barred,
    )
