"""What a plan does once nothing more fits: start elastic tasks smaller, make room for the urgent, lend what idles.

All of it works on the real nodes and is taken back at the end, as in `placing`. Effort is counted, so equal worlds give
equal plans: a micro-batch looks after the few most urgent tasks, the next one after the next.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import msgspec
import numpy as np

from thalweg.scheduling.arrays import BoolArray, FloatArray
from thalweg.scheduling.counted import counted
from thalweg.scheduling.ids import RegionId, TaskId
from thalweg.scheduling.live.demand import Demand
from thalweg.scheduling.live.drains import is_drained
from thalweg.scheduling.live.elastic import grown_gpus
from thalweg.scheduling.live.live_plan import CopyAssignment, PlanSettings, Preempted
from thalweg.scheduling.live.live_problem import live_problem
from thalweg.scheduling.live.node_limits import workers_by_pool
from thalweg.scheduling.live.node_placement import Fit, NodePlacement, copy_assignment, shares_of
from thalweg.scheduling.live.preemption import Offer, may_give_way, new_wait_usd, offers, restart_usd
from thalweg.scheduling.live.tenant_allowance import TenantAllowance
from thalweg.scheduling.live.whole_pools import whole_pools
from thalweg.scheduling.pack.nodes import Need, Nodes, Slot
from thalweg.scheduling.pack.packer import Packer
from thalweg.scheduling.passed import has_passed
from thalweg.scheduling.problem.cost import components, hourly_usd
from thalweg.scheduling.problem.model import Pools
from thalweg.scheduling.world.tasks import MILLI, Copy, Task, TaskSpec, sized
from thalweg.scheduling.world.waiting import ClassKey
from thalweg.scheduling.world.world import TenantLimits, World

MOST_DEMANDS: Final = 16
"""Stuck classes one plan looks after, the most urgent first."""

MOST_TRIES: Final = 8
"""Tasks for which one plan tries to make room: a try costs milliseconds in a large fleet, and batches follow fast."""

MOST_POOLS: Final = 4
"""Pools tried on the nodes for one task beyond those it needs: the estimate is rarely wrong even once."""

MOST_GROWN: Final = 8
"""Copies one plan grows: each growth restarts a copy, and demand may come the next second."""


_NOBODY: Final = 1 << 30


@dataclass(slots=True)
class Leaving:
    """A copy whose slots were given back for another task."""

    row: int
    """One of its rows in the occupancy."""
    task: Task
    copy: Copy
    pool: int
    lost_usd: float
    restart_usd: float


@dataclass(frozen=True, slots=True)
class Resized:
    """A copy that goes on with another number of workers."""

    task: Task
    copy: Copy
    spec: TaskSpec
    pool: int
    fit: Fit
    reason: str


class MakingRoom:
    """Tries for the stuck demands; what it did is in `placing`, `preempted` and `resized`."""

    def __init__(
        self,
        world: World,
        stuck: Sequence[Demand],
        settings: PlanSettings,
        now_ms: int,
        packer: Packer,
        allowance: TenantAllowance,
        free: Pools | None = None,
    ) -> None:
        """Look at the most urgent of the stuck demands, which come in that order; `free` spares counting again."""
        self.world, self.settings, self.now_ms, self.allowance = world, settings, now_ms, allowance
        self.stuck = stuck[:MOST_DEMANDS]
        sizes = [(row, demand) for row, demand in enumerate(self.stuck) for demand in _smaller(world, demand)]
        self._smaller: dict[int, list[int]] = {}
        for index, (row, _) in enumerate(sizes, start=len(self.stuck)):
            self._smaller.setdefault(row, []).append(index)
        demands = [*self.stuck, *(demand for _, demand in sizes)]
        self.problem = live_problem(world, demands, settings, now_ms, whole_pools(world, free))
        self.placement = NodePlacement(world, demands, self.problem, packer, allowance)
        self.reasons: dict[tuple[TaskId, int], str] = {}
        self.preempted: list[Preempted] = []
        self.resized: list[Resized] = []
        self._left: list[Leaving] = []
        self._gone: set[tuple[TaskId, int]] = set()
        self._gone_rows: list[int] = []
        self._least_priority = _least_priority(world, settings)

    def try_all(self) -> set[TaskId]:
        """Start smaller what may, make room for what is urgent enough; returns the tasks placed."""
        tries = MOST_TRIES
        for row, demand in enumerate(self.stuck):
            least = self._smaller.get(row, [row])[-1]
            for task_id in demand.tasks:
                if self._start_smaller(row, task_id):
                    continue
                # A task that gave way once waits for what is free: victims never make victims.
                if self.world.tasks[task_id].preempted or demand.beyond_share:
                    continue
                if demand.key.spec.priority <= self._least_priority:
                    break  # nobody could give way
                if not tries or len(self.preempted) >= self.settings.most_preempted:
                    break
                tries -= 1
                if not self._make_room(least, task_id):
                    break  # tasks of a class are alike
        return {placed.task.task_id for placed in self.placement.done}

    def grow_all(self, blocked: BoolArray) -> None:
        """Lend idle GPUs to elastic tasks of pools that no waiting task could use.

        Args:
            blocked: [P] pools where something waits.
        """
        world, now_ms = self.world, self.now_ms
        growing: list[tuple[Task, Copy, int]] = []
        for held in world.elastic:
            task = world.tasks[held[0]]
            copy = task.copies[held[1]]
            pool = world.nodes.pool[world.occupancy.column("node")[copy.occupancy[0]]]
            idle = (
                held not in self._gone
                and not is_drained(world, task, copy)
                and has_passed(copy.assigned_ms, now_ms, self.settings.resize_every_ms)
            )
            if idle and not blocked[pool] and task.spec.gpus and copy.workers < (task.spec.max_workers or 0):
                growing.append((task, copy, int(pool)))
        if not growing:
            return
        growing.sort(key=lambda entry: (entry[0].order, entry[1].index))
        step = np.array([task.spec.parts[0].need.total_gpu_milli / MILLI for task, _, _ in growing])
        held_gpus = np.array([copy.workers for _, copy, _ in growing]) * step
        milli = np.where(world.nodes.ready, world.nodes.gpu_milli_free.clip(min=0).sum(axis=1), 0)
        lent = grown_gpus(
            idle_gpus=np.bincount(world.nodes.pool, milli, len(world.nodes.pools)) / MILLI,
            pool=np.array([pool for _, _, pool in growing], np.int64),
            least_gpus=held_gpus,
            most_gpus=np.array([task.spec.max_workers or 0 for task, _, _ in growing]) * step,
            step_gpus=step,
            weight=np.array([world.tenants.get(task.spec.tenant, TenantLimits()).weight for task, _, _ in growing]),
        )
        for (task, copy, pool), gpus, worker_gpus in zip(growing, lent.tolist(), step.tolist(), strict=True):
            if len(self.resized) >= MOST_GROWN:
                return
            self._grow(task, copy, pool, round(gpus / worker_gpus))

    def undo(self) -> None:
        """Leave the nodes as they were before the plan."""
        self.placement.undo()
        self.placement.release(resized.fit for resized in self.resized)
        for leaving in self._left:
            self._restore(leaving)

    def assignments(self) -> tuple[CopyAssignment, ...]:
        """Copies of waiting tasks that were placed after all."""
        return tuple(
            msgspec.structs.replace(made, reason=self.reasons.get((made.task_id, made.copy)))
            for made in self.placement.assignments()
        )

    def resizes(self) -> tuple[CopyAssignment, ...]:
        """Copies that go on with another number of workers."""
        if not self.resized:
            return ()
        demands = [
            Demand(
                key=ClassKey(spec=one.spec, missing=1, taken=frozenset(), avoid=frozenset()),
                tasks=(one.task.task_id,),
                order=index,
                since_ms=self.now_ms,
            )
            for index, one in enumerate(self.resized)
        ]
        problem = live_problem(self.world, demands, self.settings, self.now_ms, self.problem.pools)
        rows, pools = np.arange(len(demands)), np.array([one.pool for one in self.resized], np.int64)
        money, rate = components(problem, rows, pools), hourly_usd(problem, rows, pools)
        return tuple(
            msgspec.structs.replace(
                copy_assignment(self.world, one.task, one.copy.index, one.pool, one.fit[1], parts, usd_per_hour),
                reason=one.reason,
            )
            for one, parts, usd_per_hour in zip(self.resized, money.tolist(), rate.tolist(), strict=True)
        )

    # Within

    def _start_smaller(self, row: int, task_id: TaskId) -> bool:
        for smaller in self._smaller.get(row, ()):
            if self.placement.place_anywhere(smaller, task_id):
                workers = self.placement.demands[smaller].key.spec.workers
                self._say(task_id, f"starts with {workers} of {counted(self.stuck[row].key.spec.workers, 'worker')}")
                return True
        return False

    def _say(self, task_id: TaskId, reason: str) -> None:
        for placed in self.placement.done:
            if placed.task.task_id == task_id:
                self.reasons[task_id, placed.copy] = reason

    def _make_room(self, row: int, task_id: TaskId) -> bool:
        """Place a task with other copies out of its way, if it gains more than they lose."""
        demand, usd = self.placement.demands[row], self.placement.usd(row)
        spec, missing = demand.key.spec, demand.key.missing
        pools_usd = self.problem.pools.usd_per_gpu_hour[np.isfinite(usd)]
        if not pools_usd.size or not self.allowance.allow(
            spec.tenant, spec.gpus * missing, spec.gpus * missing * float(pools_usd.min())
        ):
            return False
        taken: list[tuple[int, Fit]] = []
        leaving: list[Leaving] = []
        smaller: list[Resized] = []
        regions: set[RegionId] = set()
        for pool, offered, needed in self._pools_by_price(spec, usd, task_id)[: missing + MOST_POOLS]:
            region = self.world.nodes.pools[pool].region
            if region in regions:
                continue
            made = self._clear(spec, pool, offered, needed, task_id)
            if made is None:
                continue
            fit, gone, shrunk = made
            taken.append((pool, fit))
            leaving += gone
            smaller += shrunk
            regions.add(region)
            if len(taken) == missing:
                break
        victims = [one for one in leaving if one.copy not in [other.copy for other in smaller]]
        lost = sum(one.lost_usd for one in victims) + self.settings.weights.move * len(smaller)
        gained = float(self.problem.classes.wait_usd[row]) - sum(float(usd[pool]) for pool, _ in taken)
        room = self.settings.most_preempted - len(self.preempted)
        if (
            len(taken) < missing
            or len(victims) > room
            or gained <= lost
            or not self.placement.keep(row, task_id, taken)
        ):
            self.placement.release(fit for _, fit in taken)
            self.placement.release(one.fit for one in smaller)
            for one in leaving:
                self._restore(one)
            return False
        self._left += leaving
        self.resized += smaller
        self._gone |= {(one.task.task_id, one.copy.index) for one in leaving}
        self._gone_rows += [row for one in leaving for row in one.copy.occupancy]
        for one in victims:
            self.preempted.append(
                Preempted(
                    task_id=one.task.task_id,
                    copy=one.copy.index,
                    for_task=task_id,
                    lost_usd=one.restart_usd,
                    reason=f"preempted by {task_id} (priority {spec.priority} over {one.task.spec.priority}): "
                    f"{one.restart_usd:.2f} USD of work and transfer lost",
                )
            )
        gave_way = counted(len(victims), "copy", "copies")
        self._say(task_id, f"let in: {gave_way} of lower priority gave way, {len(smaller)} shrank")
        return True

    def _pools_by_price(self, spec: TaskSpec, usd: FloatArray, task_id: TaskId) -> list[tuple[int, list[Offer], int]]:
        """Pools that could be made to hold the task, cheapest first, with their offers and the workers short."""
        world, occupancy, need = self.world, self.world.occupancy, _largest(spec)
        usable = np.isfinite(usd)
        rows = may_give_way(occupancy, spec.priority if self.settings.most_preempted else -1, usable)
        own = [row for copy in world.tasks[task_id].copies.values() for row in copy.occupancy]
        rows = rows[~np.isin(rows, [*self._gone_rows, *own])]
        offered: dict[int, list[Offer]] = {}
        for offer in offers(
            occupancy,
            world.nodes,
            rows,
            need,
            now_ms=self.now_ms,
            wait_base_usd=self.settings.wait_usd,
            rule=self.settings.rule,
            move_usd=self.settings.weights.move,
        ):
            offered.setdefault(offer.pool, []).append(offer)
        now = workers_by_pool(world.nodes, need)
        priced = []
        for pool, here in sorted(offered.items()):
            needed = max(spec.workers - int(now[pool]), 1)
            lost = _least_usd(here, needed)
            if lost is not None:
                priced.append((float(usd[pool]) + lost, pool, here, needed))
        return [(pool, here, needed) for _, pool, here, needed in sorted(priced, key=lambda entry: entry[:2])]

    def _clear(
        self, spec: TaskSpec, pool: int, offered: Sequence[Offer], needed: int, task_id: TaskId
    ) -> tuple[Fit, list[Leaving], list[Resized]] | None:
        """Take offers until the task has its slots, then let stay whoever can stay."""
        leaving: dict[tuple[TaskId, int], Leaving] = {}
        gained: dict[int, int] = {}
        fit: Fit | None = None
        for offer in offered:
            gained[offer.node] = max(gained.get(offer.node, 0), offer.workers)
            for row in offer.rows:
                owner = self.world.occupancy.owner(row)
                if owner not in leaving and owner not in self._gone and owner[0] != task_id:
                    leaving[owner] = self._vacate(row, pool)
            if sum(gained.values()) >= needed and (fit := self.placement.fit(spec, pool)) is not None:
                break
            if len(leaving) > 2 * max(self.settings.most_preempted, 1):
                break
        gone: list[Leaving] = []
        smaller: list[Resized] = []
        allowed = fit is not None
        for one in sorted(leaving.values(), key=lambda one: (-one.lost_usd, one.task.order)):
            if fit is None or not allowed or self._fits_again(one):
                self._restore(one)
                continue
            gone.append(one)
            shrunk = self._shrink(one)
            if shrunk is not None:
                smaller.append(shrunk)
            else:
                allowed = self.settings.most_preempted > 0 and (
                    one.task.spec.priority < spec.priority and one.task.spec.preemptible
                )
        if fit is None or not allowed:
            # Those that were let stay sit again already.
            if fit is not None:
                self.placement.release([fit])
            self.placement.release(one.fit for one in smaller)
            for one in gone:
                self._restore(one)
            return None
        return fit, gone, smaller

    def _vacate(self, row: int, pool: int) -> Leaving:
        world = self.world
        task_id, index = world.occupancy.owner(row)
        task = world.tasks[task_id]
        copy = task.copies[index]
        at = np.array([row])
        restart = float(restart_usd(world.occupancy, at, self.now_ms)[0])
        wait = float(new_wait_usd(world.occupancy, at, self.now_ms, self.settings.wait_usd, self.settings.rule)[0])
        for slot, need in world.slots_of(task, copy):
            world.nodes.release(slot, need)
        return Leaving(row, task, copy, pool, restart + wait, restart)

    def _restore(self, leaving: Leaving) -> None:
        for slot, need in self.world.slots_of(leaving.task, leaving.copy):
            self.world.nodes.force(slot, need)

    def _fits_again(self, leaving: Leaving) -> bool:
        return all(
            _fits(self.world.nodes, slot, need) for slot, need in self.world.slots_of(leaving.task, leaving.copy)
        )

    def _shrink(self, leaving: Leaving) -> Resized | None:
        """Let an elastic copy go on in what is left of its own places.

        Never in others': a region obeys one copy after the other, and what a copy takes must be free by then.
        """
        spec, copy, nodes = leaving.task.spec, leaving.copy, self.world.nodes
        if spec.min_workers is None:
            return None
        need = spec.parts[0].need
        kept: list[Slot] = []
        for slot in self._places(leaving):
            if len(kept) < copy.workers - 1 and _fits(nodes, slot, need):
                nodes.force(slot, need)
                kept.append(slot)
        fit = [(slot, need) for slot in kept], shares_of(nodes, need, kept)
        if len(kept) < spec.min_workers:
            self.placement.release([fit])
            return None
        reason = f"shrank from {copy.workers} to {counted(len(kept), 'worker')}"
        return Resized(leaving.task, copy, sized(spec, len(kept)), leaving.pool, fit, reason)

    def _places(self, leaving: Leaving) -> Iterable[Slot]:
        """Slots of a copy's workers, one by one: a share lists the devices of one worker after another."""
        slots = self.world.slots_of(leaving.task, leaving.copy)
        for share, (slot, _) in zip(leaving.copy.shares, slots, strict=True):
            each = len(slot.devices) // share.workers
            for worker in range(share.workers):
                yield Slot(slot.node, slot.devices[worker * each : (worker + 1) * each])

    def _grow(self, task: Task, copy: Copy, pool: int, workers: int) -> None:
        gpus = task.spec.parts[0].need.total_gpu_milli / MILLI * (workers - copy.workers)
        rate = float(self.problem.pools.usd_per_gpu_hour[pool]) * gpus
        limit = task.spec.max_usd_per_hour
        total = float(self.problem.pools.usd_per_gpu_hour[pool]) * task.spec.parts[0].need.total_gpu_milli / MILLI
        if workers <= copy.workers or not self.allowance.allow(task.spec.tenant, gpus, rate):
            return
        if limit is not None and total * workers > limit * (1 + 1e-9):
            return
        slots = self.world.slots_of(task, copy)
        for slot, need in slots:
            self.world.nodes.release(slot, need)
        grown = self._resize(
            task, copy, pool, workers, f"grew from {copy.workers} to {counted(workers, 'worker')}: idle GPUs"
        )
        if grown is None:
            for slot, need in slots:
                self.world.nodes.force(slot, need)
            return
        self.allowance.spend(task.spec.tenant, gpus, rate)
        self._left.append(Leaving(copy.occupancy[0], task, copy, pool, 0.0, 0.0))
        self._gone.add((task.task_id, copy.index))
        self.resized.append(grown)

    def _resize(self, task: Task, copy: Copy, pool: int, workers: int, reason: str) -> Resized | None:
        spec = sized(task.spec, workers)
        fit = self.placement.fit(spec, pool)
        return None if fit is None else Resized(task, copy, spec, pool, fit, reason)


def could_make_room(world: World, settings: PlanSettings, stuck: Sequence[Demand]) -> bool:
    """Say whether any of these could start smaller, or somebody could give way to it: equals cost nothing."""
    if not stuck:
        return False
    least = _least_priority(world, settings)
    return any(demand.key.spec.min_workers is not None or demand.key.spec.priority > least for demand in stuck)


def nobody_gives_way(world: World, settings: PlanSettings) -> bool:
    """Say whether whatever waits waits for what is free, because nothing that runs could give way to it."""
    return world.waiting.highest_priority() <= _least_priority(world, settings)


def _least_priority(world: World, settings: PlanSettings) -> int:
    """Least priority among those who may have to give way: nothing at or below it can make room."""
    if world.elastic:
        return -1
    occupancy = world.occupancy
    may = occupancy.used() & (occupancy.column("preemptible") == 1)
    least = int(np.where(may, occupancy.column("priority"), _NOBODY).min(initial=_NOBODY))
    return least if settings.most_preempted else _NOBODY


def _smaller(world: World, demand: Demand) -> Iterable[Demand]:
    """Sizes an elastic task could start with in what is free now, and its least, for which room is made at most."""
    spec = demand.key.spec
    if spec.min_workers is None:
        return ()
    usable = world.usable_pools(demand.key)
    room = workers_by_pool(world.nodes, spec.parts[0].need)
    largest = min(int(np.where(usable, room, 0).max(initial=0)), spec.workers - 1)
    sizes = sorted({size for size in (largest, largest // 2) if size > spec.min_workers} | {spec.min_workers})
    return [
        replace(demand, key=msgspec.structs.replace(demand.key, spec=sized(spec, size)))
        for size in reversed(sizes)
        if size <= spec.workers
    ]


def _largest(spec: TaskSpec) -> Need:
    """The need of the worker that is hardest to place: where that fits, offers for the others do, too."""
    return max((part.need for part in spec.parts), key=lambda n: (n.total_gpu_milli, n.cpu_milli, n.memory_mib))


def _least_usd(here: Sequence[Offer], needed: int) -> float | None:
    """What the cheapest offers with so many workers cost in all; None when there are not enough."""
    best: dict[int, Offer] = {}
    for offer in here:
        if offer.node not in best or best[offer.node].workers < offer.workers:
            best[offer.node] = offer
        if sum(one.workers for one in best.values()) >= needed:
            return sum(one.usd for one in best.values())
    return None


def _fits(nodes: Nodes, slot: Slot, need: Need) -> bool:
    """Whether exactly this slot is free; devices that several workers share are listed as often."""
    free = nodes.gpu_milli_free[slot.node]
    return bool(
        nodes.cpu_milli_free[slot.node] >= need.cpu_milli
        and nodes.memory_mib_free[slot.node] >= need.memory_mib
        and all(free[device] >= need.gpu_milli * slot.devices.count(device) for device in set(slot.devices))
    )
