"""Takes slots on the nodes while a plan is made, and gives them all back at the end."""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import groupby

import msgspec
import numpy as np

from thalweg.scheduling.arrays import FloatArray, IntArray
from thalweg.scheduling.ids import NodeId, TaskId
from thalweg.scheduling.live.demand import Demand
from thalweg.scheduling.live.gangs import Search, orders
from thalweg.scheduling.live.live_plan import CopyAssignment, IntoFree, LeftWaiting
from thalweg.scheduling.live.tenant_allowance import TenantAllowance
from thalweg.scheduling.pack.nodes import Need, Nodes, Slot
from thalweg.scheduling.pack.packer import Packer, Request
from thalweg.scheduling.pack.pool_ids import pool_name
from thalweg.scheduling.problem.cost import arc_costs, components, hourly_usd
from thalweg.scheduling.problem.model import Problem
from thalweg.scheduling.problem.solution import Solution, spread_copies
from thalweg.scheduling.world.facts import NODE_SEPARATOR
from thalweg.scheduling.world.tasks import Money, Share, Task, TaskSpec
from thalweg.scheduling.world.waiting import ClassKey
from thalweg.scheduling.world.world import World

MOST_STEPS = 1_000
"""Steps that one plan may search for gangs of unlike workers; a thousand take some ten milliseconds."""

SAME_USD = 1e-9
"""Costs that differ by less than this share are the same."""

Fit = tuple[list[tuple[Slot, Need]], list[Share]]
"""What a copy takes of the nodes, and the same as the ledger records it."""


class SlottedCopy(msgspec.Struct, frozen=True):
    """A copy that has its slots."""

    row: int
    """Of the problem's classes."""
    task: Task
    copy: int
    pool: int
    slots: list[tuple[Slot, Need]]
    shares: list[Share]


class NodePlacement:
    """Places demands' tasks on nodes, pool by pool."""

    def __init__(
        self,
        world: World,
        demands: Sequence[Demand],
        problem: Problem,
        packer: Packer,
        allowance: TenantAllowance,
    ) -> None:
        """Start with nothing placed; row i of the problem's classes is demands[i]."""
        self.world = world
        self.demands = demands
        self.problem = problem
        self.packer = packer
        self.allowance = allowance
        self.queues: dict[int, list[TaskId]] = {row: list(demand.tasks) for row, demand in enumerate(demands)}
        self.done: list[SlottedCopy] = []
        self.fitted: Counter[int] = Counter()
        """By pool, the copies that fitted of those that the strategy put there; see `missed`."""
        self._usd: FloatArray | None = None
        self._search = Search(world.nodes, MOST_STEPS)

    def follow(self, solution: Solution, *, alike: bool = True) -> None:
        """Place what the strategy decided, the largest workers first: where sizes divide each other, all of it fits.

        Args:
            solution: of the strategy.
            alike: a task of one worker may go to any pool of the region that costs it the same; else to its own only.
        """
        starts = np.searchsorted(solution.class_index, np.arange(len(self.demands) + 1))
        largest = [max(part.need.total_gpu_milli for part in demand.key.spec.parts) for demand in self.demands]
        for row in sorted(range(len(self.demands)), key=lambda row: -largest[row]):
            demand = self.demands[row]
            arcs = slice(int(starts[row]), int(starts[row + 1]))
            pools, counts = solution.pool_index[arcs], solution.count[arcs]
            placed = int(solution.placed[row])
            if not placed:
                continue
            region = self.problem.pools.region[pools]
            spread = spread_copies(region, counts, placed, demand.key.missing)
            into = pools[spread].tolist()
            tasks = self.queues[row][:placed]
            if is_one_worker(demand.key):
                left = list[TaskId]()
                for pool, run in groupby(zip(tasks, into, strict=True), key=lambda one: one[1][0]):
                    pools_alike = self._alike(row, pool) if alike else (pool,)
                    left += self._place_alike(row, [task_id for task_id, _ in run], pools_alike, set())
            else:
                left = self._place_each(row, tasks, into)
            self.queues[row] = left + self.queues[row][placed:]

    def missed(self, solution: Solution) -> dict[int, Counter[int]]:
        """Name the pools that did not hold all that the strategy put there, with the copies by row; after `follow`."""
        planned: dict[int, Counter[int]] = {}
        for row, pool, count in zip(
            solution.class_index.tolist(), solution.pool_index.tolist(), solution.count.tolist(), strict=True
        ):
            planned.setdefault(pool, Counter())[row] += count
        done = Counter((placed.row, placed.pool) for placed in self.done)
        copies_done = Counter(placed.row for placed in self.done)
        copies_planned = Counter[int]()
        for copies in planned.values():
            copies_planned.update(copies)
        self.fitted = Counter(placed.pool for placed in self.done)
        return {
            pool: copies
            for pool, copies in sorted(planned.items())
            if any(done[row, pool] < count and copies_done[row] < copies_planned[row] for row, count in copies.items())
        }

    def mend(self) -> None:
        """Give tasks that did not fit on their pool's nodes the cheapest pools that do hold them."""
        full = set[Request]()  # nothing is given back meanwhile: what had no room has none
        for row, demand in enumerate(self.demands):
            left = self.queues[row]
            if is_one_worker(demand.key):
                for pools in self._choices(row) if left else ():
                    left = self._place_alike(row, left, pools, full)
            else:
                while left and self.place_anywhere(row, left[0]):
                    left = left[1:]
                # Tasks of a class are alike: where one does not fit, the next does not either.
            self.queues[row] = left

    def place_anywhere(self, row: int, task_id: TaskId) -> bool:
        """Place one task into the cheapest pools that hold it, each copy in a region of its own, or not at all."""
        missing = self.demands[row].key.missing
        spec = self.demands[row].key.spec
        taken: list[tuple[int, Fit]] = []
        regions: set[int] = set()
        for pool in self.cheapest_pools(row).tolist():
            region = int(self.problem.pools.region[pool])
            if region in regions:
                continue
            fit = self.fit(spec, pool)
            if fit is None:
                continue
            regions.add(region)
            taken.append((pool, fit))
            if len(taken) == missing:
                break
        if len(taken) == missing and self.keep(row, task_id, taken):
            return True
        self.release(fit for _, fit in taken)
        return False

    def keep(self, row: int, task_id: TaskId, taken: Sequence[tuple[int, Fit]]) -> bool:
        """Count a task as placed in these pools; False, and nothing changes, where its tenant may not have so much."""
        task, spec = self.world.tasks[task_id], self.demands[row].key.spec
        gpus = spec.gpus * len(taken)
        usd_per_hour = sum(spec.gpus * float(self.problem.pools.usd_per_gpu_hour[pool]) for pool, _ in taken)
        if not self.allowance.allow(spec.tenant, gpus, usd_per_hour):
            return False
        self.allowance.spend(spec.tenant, gpus, usd_per_hour)
        free = [
            index for index in range(task.spec.replicas) if index not in task.copies and index not in task.done_copies
        ]
        for copy, (pool, (slots, shares)) in zip(free, taken, strict=False):
            self.done.append(SlottedCopy(row, task, copy, pool, slots, shares))
        return True

    def undo(self) -> None:
        """Give every slot back: the ledger's rows, once committed, take them for good."""
        for placed in reversed(self.done):
            for slot, need in placed.slots:
                self.world.nodes.release(slot, need)

    def redo(self) -> None:
        """Take the slots again that `undo` gave back."""
        for placed in self.done:
            for slot, need in placed.slots:
                self.world.nodes.allocate(slot, need)

    def assignments(self) -> tuple[CopyAssignment, ...]:
        """The copies placed, in the order placed, each with its money."""
        if not self.done:
            return ()
        rows, pools = self._arcs()
        money = components(self.problem, rows, pools)
        rate = hourly_usd(self.problem, rows, pools)
        return tuple(
            copy_assignment(self.world, placed.task, placed.copy, placed.pool, placed.shares, parts, usd_per_hour)
            for placed, parts, usd_per_hour in zip(self.done, money.tolist(), rate.tolist(), strict=True)
        )

    def held(self, solution: Solution) -> tuple[LeftWaiting, ...]:
        """Tasks that wait on, with the strategy's reason where it gave one."""
        why = {entry.class_index: f"{entry.reason}: {entry.detail}" for entry in solution.unplaced}
        return tuple(
            LeftWaiting(task_id=task_id, reason=why.get(row, "capacity: no node has room for it now"))
            for row, queue in self.queues.items()
            for task_id in queue
        )

    def objective(self) -> float:
        """US dollars of what was placed, and of what waits on."""
        waiting = sum(
            len(queue) * float(self.problem.classes.wait_usd[row]) for row, queue in self.queues.items() if queue
        )
        return waiting + (float(components(self.problem, *self._arcs()).sum()) if self.done else 0.0)

    def into_free(self) -> IntoFree:
        """What was placed, as the problem has it."""
        rows, pools = self._arcs()
        return IntoFree(problem=self.problem, row=rows, pool=pools)

    def usd(self, row: int) -> FloatArray:
        """[P] cost of one copy of the class in each pool; inf where it may not go."""
        if self._usd is None:
            self._usd = arc_costs(self.problem).usd
        return np.asarray(self._usd[row])

    def cheapest_pools(self, row: int) -> IntArray:
        """Pools that the class may use, cheapest first."""
        usd = self.usd(row)
        order = np.argsort(usd, kind="stable")
        cheapest: IntArray = order[np.isfinite(usd[order])]
        return cheapest

    def _choices(self, row: int) -> list[tuple[int, ...]]:
        """Where a class of one worker may go, cheapest first: pools of a region that cost the same are one place."""
        pools = self.cheapest_pools(row)
        usd = self.usd(row)[pools]
        dearer = np.cumsum(np.diff(usd, prepend=usd[:1]) > SAME_USD * np.abs(usd))
        places: dict[tuple[int, int], list[int]] = {}
        for pool, step, region in zip(
            pools.tolist(), dearer.tolist(), self.problem.pools.region[pools].tolist(), strict=True
        ):
            places.setdefault((step, region), []).append(pool)
        return [tuple(place) for place in places.values()]

    def _alike(self, row: int, pool: int) -> tuple[int, ...]:
        """Pools of the same region that cost the class the same: which of them it is, the nodes decide."""
        usd, region = self.usd(row), self.problem.pools.region
        near = np.abs(usd - usd[pool]) <= SAME_USD * abs(float(usd[pool]))
        return tuple(np.flatnonzero(near & (region == region[pool])).tolist())

    def fit(self, spec: TaskSpec, pool: int, avoid: Sequence[int] = ()) -> Fit | None:
        """Take slots for every worker of a copy in one pool, or none; never on nodes of `avoid`, by row."""
        for order in orders(spec.parts):
            by_part = self._slots_in_order(spec, pool, order, avoid)
            if by_part is not None:
                break
        else:
            if len(spec.parts) == 1 or avoid:
                return None  # the search knows no nodes to avoid
            by_part = self._search.slots(spec.parts, pool, apart=spec.spread_workers)
        if by_part is None:
            return None
        parts = list(zip(spec.parts, by_part, strict=True))
        return (
            [(slot, part.need) for part, slots in parts for slot in slots],
            [share for part, slots in parts for share in shares_of(self.world.nodes, part.need, slots)],
        )

    def _slots_in_order(
        self, spec: TaskSpec, pool: int, order: Sequence[int], avoid: Sequence[int]
    ) -> list[Sequence[Slot]] | None:
        by_part: list[Sequence[Slot]] = [()] * len(spec.parts)
        used: list[int] = list(avoid)
        for index in order:
            part = spec.parts[index]
            slots = self.packer.place(part.need, (pool,), workers=part.workers, spread=spec.spread_workers, avoid=used)
            if slots is None:
                self.release(
                    ([(slot, part.need) for slot in slots], []) for part, slots in zip(spec.parts, by_part, strict=True)
                )
                return None
            by_part[index] = slots
            if spec.spread_workers:
                used += [slot.node for slot in slots]
        return by_part

    def release(self, fits: Iterable[Fit]) -> None:
        """Give slots back."""
        for slots, _ in fits:
            for slot, need in slots:
                self.world.nodes.release(slot, need)

    def _place_each(self, row: int, tasks: Sequence[TaskId], into: Sequence[Sequence[int]]) -> list[TaskId]:
        """Place tasks, each into the pools of its line; returns those that do not fit."""
        return [task_id for task_id, pools in zip(tasks, into, strict=True) if not self._place(row, task_id, pools)]

    def _place_alike(self, row: int, tasks: list[TaskId], pools: tuple[int, ...], full: set[Request]) -> list[TaskId]:
        """Place tasks of one worker each on the best nodes of these pools of a region; returns those that do not fit.

        Args:
            row: their class.
            tasks: in this order.
            pools: where they cost the same.
            full: what had no room before, as it has none now; what has none is added.
        """
        (part,) = self.demands[row].key.spec.parts
        request = part.need, frozenset(pools)
        if request in full:
            return tasks
        left: list[TaskId] = []
        given_back = False
        slots = self.packer.place_each([request] * len(tasks))
        for task_id, slot in zip(tasks, slots, strict=True):
            if slot is None:
                left.append(task_id)
                continue
            fit = [(slot, part.need)], shares_of(self.world.nodes, part.need, [slot])
            if not self.keep(row, task_id, [(int(self.world.nodes.pool[slot.node]), fit)]):
                left.append(task_id)
                self.release([fit])
                given_back = True
        if None in slots and not given_back:
            full.add(request)
        return left

    def _place(self, row: int, task_id: TaskId, pools: Sequence[int]) -> bool:
        spec = self.demands[row].key.spec
        taken: list[tuple[int, Fit]] = []
        for pool in pools:
            fit = self.fit(spec, pool)
            if fit is None:
                break
            taken.append((pool, fit))
        if len(taken) == len(pools) and self.keep(row, task_id, taken):
            return True
        self.release(fit for _, fit in taken)
        return False

    def _arcs(self) -> tuple[IntArray, IntArray]:
        return (
            np.array([placed.row for placed in self.done], np.int64),
            np.array([placed.pool for placed in self.done], np.int64),
        )


def is_one_worker(key: ClassKey) -> bool:
    """Whether what is placed of a task of this class is one copy of one worker."""
    return key.missing == 1 and len(key.spec.parts) == 1 and key.spec.parts[0].workers == 1


def copy_assignment(
    world: World, task: Task, copy: int, pool: int, shares: Sequence[Share], parts: Sequence[float], usd_per_hour: float
) -> CopyAssignment:
    """Describe a placed copy; `parts` is its cost by `scheduling.problem.cost.COMPONENTS`."""
    compute, egress, stall, latency, risk, move = parts
    where = world.nodes.pools[pool]
    return CopyAssignment(
        task_id=task.task_id,
        copy=copy,
        region=where.region,
        pool_id=pool_name(where),
        shares=tuple(shares),
        usd=sum(parts),
        usd_per_hour=usd_per_hour,
        money=Money(
            compute_usd=compute,
            egress_usd=egress,
            stall_usd=stall,
            latency_usd=latency,
            risk_usd=risk,
            move_usd=move,
        ),
    )


def shares_of(nodes: Nodes, need: Need, slots: Sequence[Slot]) -> list[Share]:
    """Describe where workers sit as the ledger does: a share for each node, its workers' devices one after another."""
    by_node: dict[int, list[int]] = {}
    workers: dict[int, int] = {}
    for slot in slots:
        by_node.setdefault(slot.node, []).extend(slot.devices)
        workers[slot.node] = workers.get(slot.node, 0) + 1
    whole = need.gpu_milli == 1_000
    return [
        Share(
            node_id=NodeId(nodes.ids[node].partition(NODE_SEPARATOR)[2]),
            workers=workers[node],
            gpus=len(devices) if whole else 0,
            gpu_milli=0 if whole else len(devices) * need.gpu_milli,
            devices=tuple(devices),
        )
        for node, devices in by_node.items()
    ]
