"""One micro-batch's plan: waiting tasks in, assignments out; the world is read and left as it was.

Classes go to pools by the global strategy; then each task's workers go to nodes of its pool. A task whose pool had room
in all but not on its nodes takes the next cheapest pool that does hold it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from scheduling.arrays import BoolArray, FloatArray, IntArray
from scheduling.cost import arc_costs, components
from scheduling.model import NOWHERE, Classes, Problem, Weights, make_classes
from scheduling.nodes import Need, Nodes, Slot
from scheduling.pack import Packer
from scheduling.solution import LIVE, Solution, spread_copies
from scheduling.solve import solve
from scheduling.tasks import Money, Share, Task, TaskSpec
from scheduling.waiting import WaitingClass
from scheduling.world import NODE_SEPARATOR, World

HOUR_S = 3_600.0
HOUR_MS = 3_600_000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanSettings:
    """What a plan may weigh and spend.

    Attributes:
        wait_usd: price of one waiting task of middle priority that needs at most one GPU.
    """

    strategy: str = "flow"
    weights: Weights = field(default_factory=Weights)
    wait_usd: float = 1e6
    window_tasks: int = 4_096
    window_classes: int = 512
    remaining_s: Callable[[], float] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """One copy of one task on its nodes."""

    task_id: str
    copy: int
    region: str
    pool_id: str
    shares: tuple[Share, ...]
    usd: float
    usd_per_hour: float
    money: Money


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A task that was considered and waits on, and why."""

    task_id: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do now, with its price and how far from the best possible it can be at most.

    Attributes:
        objective: US dollars of this plan, waiting included.
        bound: no plan for the same tasks and capacity costs less.
    """

    strategy: str
    status: str
    assignments: tuple[Assignment, ...]
    held: tuple[Held, ...]
    considered: int
    objective: float
    bound: float

    @property
    def gap(self) -> float:
        """(objective − bound) / max(|objective|, 1e-9)."""
        return (self.objective - self.bound) / max(abs(self.objective), 1e-9)


def plan(world: World, settings: PlanSettings, now_ms: int, seed: int, packer: Packer | None = None) -> Plan | None:
    """Plan the next micro-batch.

    Args:
        world: read, and left as it was but for the note which classes were tried.
        settings: strategy and weights.
        now_ms: the batch's time; ages are counted from it.
        seed: for the strategies that draw.
        packer: over `world.nodes`, kept by the caller between plans for its caches.

    Returns:
        The plan, or None when nothing waits that anything could have changed for.
    """
    window = world.waiting.window(world.loosened, settings.window_tasks, settings.window_classes)
    if not window or not world.nodes.pools:
        return None
    window, hopeless = _split_hopeless(world, window)
    base = sum(
        count * wait_usd(waiting.key.spec, waiting.key.missing, now_ms - waiting.oldest_ms, settings.wait_usd)
        for waiting, count in hopeless
    )
    world.waiting.tried(np.array([waiting.index for waiting, _ in hopeless], np.int64), world.clock)
    no_room = tuple(
        Held(task_id=task_id, reason="capacity: no node of a suitable pool has room for one of its workers now")
        for waiting, count in hopeless
        for task_id in world.waiting.first(waiting, count)
    )
    if not window:
        return Plan(
            strategy=settings.strategy,
            status="optimal",
            assignments=(),
            held=no_room,
            considered=len(no_room),
            objective=base,
            bound=base,
        )
    problem = _problem(world, window, settings, now_ms)
    solution = solve(
        problem, strategy=settings.strategy, limits=replace(LIVE, remaining_s=settings.remaining_s), seed=seed
    )
    placing = _Placing(world, window, problem, packer or Packer(world.nodes))
    placing.follow(solution)
    placing.mend()
    placing.undo()
    chosen = placing.assignments()
    stuck = np.array([waiting.index for waiting, count in window if placing.unplaced(waiting)], np.int64)
    world.waiting.tried(stuck, world.clock)
    objective = placing.objective()
    return Plan(
        strategy=solution.strategy,
        status=str(solution.status) if objective <= solution.objective * (1 + 1e-9) + 1e-9 else "feasible",
        assignments=chosen,
        held=(*no_room, *placing.held(solution)),
        considered=sum(count for _, count in window) + len(no_room),
        objective=base + objective,
        bound=base + min(solution.bound, objective),
    )


def _split_hopeless(
    world: World, window: Sequence[tuple[WaitingClass, int]]
) -> tuple[list[tuple[WaitingClass, int]], list[tuple[WaitingClass, int]]]:
    """Set apart the classes that no pool's nodes could hold even if they came first.

    The global strategy sees a pool's free capacity as one sum; on the nodes it may lie in pieces. What does not fit
    before anything else is placed fits in no plan, so the price of its waiting belongs to the bound as well.
    """
    possible: list[tuple[WaitingClass, int]] = []
    hopeless: list[tuple[WaitingClass, int]] = []
    most: dict[Need, IntArray] = {}
    for waiting, count in window:
        usable = world.usable_pools(waiting.key)
        known = usable.any()
        for part in waiting.key.spec.parts:
            if part.need not in most:
                most[part.need] = workers_by_pool(world.nodes, part.need)
            usable = usable & (most[part.need] >= part.workers)
        # Where not even one pool suits (model, residency, latency), the strategy itself says which of these it was.
        (possible if usable.any() or not known else hopeless).append((waiting, count))
    return possible, hopeless


def workers_by_pool(nodes: Nodes, need: Need) -> IntArray:
    """Most workers of one need that each pool's ready nodes could take now, were nothing else placed: [P]."""
    room = np.full(len(nodes), np.iinfo(np.int32).max, np.int64)
    if need.gpus:
        devices = nodes.gpu_milli_free.clip(min=0) // need.gpu_milli
        # A worker of several GPUs needs distinct devices; each device serves at most as many workers as it has slices.
        room = np.minimum(room, devices.sum(axis=1) // need.gpus)
        room[(devices > 0).sum(axis=1) < need.gpus] = 0
    if need.cpu_milli:
        room = np.minimum(room, nodes.cpu_milli_free.clip(min=0) // need.cpu_milli)
    if need.memory_mib:
        room = np.minimum(room, nodes.memory_mib_free.clip(min=0) // need.memory_mib)
    room[~nodes.ready] = 0
    return np.bincount(nodes.pool, room, len(nodes.pools)).astype(np.int64)


def wait_usd(spec: TaskSpec, missing: int, age_ms: float, base_usd: float) -> float:
    """Price of leaving one task waiting.

    By GPU, so that a gang of eight weighs as much as eight single tasks; by priority, doubled every 100 points, so that
    a higher priority wins over any saving; by age, so that nothing starves: an hour counts as much as 100 points.
    """
    urgency = (spec.priority - 500) / 100 + max(age_ms, 0.0) / HOUR_MS
    return float(base_usd * missing * max(spec.gpus, 1.0) * 2.0 ** min(urgency, 16.0))


def _problem(world: World, window: Sequence[tuple[WaitingClass, int]], settings: PlanSettings, now_ms: int) -> Problem:
    pools, models, regions = world.pools(), world.gpu_models, world.region_names
    classes = _classes(world, window, settings, now_ms, models)
    return Problem(
        regions=regions,
        gpu_models=models,
        pools=pools,
        network=world.network(),
        classes=classes,
        weights=settings.weights,
    )


def _classes(
    world: World,
    window: Sequence[tuple[WaitingClass, int]],
    settings: PlanSettings,
    now_ms: int,
    models: Sequence[str],
) -> Classes:
    size, regions = len(window), len(world.region_names)
    specs = [waiting.key.spec for waiting, _ in window]
    model_mask = np.ones((size, len(models)), bool)
    region_mask = np.ones((size, regions), bool)
    cpu_only = models.index("") if "" in models else None
    for row, (waiting, _) in enumerate(window):
        spec, key = waiting.key.spec, waiting.key
        if spec.gpu_models is not None:
            model_mask[row] = [model in spec.gpu_models for model in models]
        if spec.gpus and cpu_only is not None:
            model_mask[row, cpu_only] = False
        if spec.allowed_regions is not None:
            region_mask[row] = [region in spec.allowed_regions for region in world.region_names]
        for taken in key.taken:
            region_mask[row, world.region_at(taken)] = False
        elsewhere = region_mask[row].copy()
        for avoided in key.avoid:
            elsewhere[world.region_at(avoided)] = False
        if (elsewhere & _open_regions(world)).any():
            region_mask[row] = elsewhere
    item_start, item_size, copy_start, copy_region = [0], list[float](), [0], list[int]()
    for spec in specs:
        for item in spec.data:
            places, size_gb = _where(world, item.dataset, item.region, item.size_gb)
            if places:
                item_size.append(size_gb)
                copy_region.extend(places)
                copy_start.append(len(copy_region))
        item_start.append(len(item_size))
    return make_classes(
        [f"{waiting.oldest_order:012d}" for waiting, _ in window],
        count=np.array([count for _, count in window], np.int64),
        need=np.array([(spec.gpus, spec.cpus, spec.memory_gb) for spec in specs], np.float64).reshape(size, 3),
        expected_h=np.array([spec.expected_s / HOUR_S for spec in specs], np.float64),
        wait_usd=np.array(
            [
                wait_usd(waiting.key.spec, waiting.key.missing, now_ms - waiting.oldest_ms, settings.wait_usd)
                for waiting, _ in window
            ],
            np.float64,
        ),
        regions=regions,
        gpu_model_count=len(models),
        priority=np.array([spec.priority for spec in specs], np.int64),
        gpu_models=model_mask,
        allowed_regions=region_mask,
        spot_ok=np.array([spec.spot_ok for spec in specs], bool),
        origin=np.array([_origin(world, spec) for spec in specs], np.int64),
        max_rtt_ms=np.array([_or_inf(spec.max_rtt_ms) for spec in specs], np.float64),
        max_usd_per_hour=np.array([_or_inf(spec.max_usd_per_hour) for spec in specs], np.float64),
        replicas=np.array([waiting.key.missing for waiting, _ in window], np.int64),
        items=(
            np.array(item_start, np.int64),
            np.array(item_size, np.float64),
            np.array(copy_start, np.int64),
            np.array(copy_region, np.int64),
        ),
    )


def _origin(world: World, spec: TaskSpec) -> int:
    """Region the latency is measured from; an unknown one only matters where there is a limit to keep."""
    if spec.origin_region is None:
        return NOWHERE
    index = world.region_at(spec.origin_region)
    return index if index or spec.max_rtt_ms is not None else NOWHERE


def _or_inf(value: float | None) -> float:
    return np.inf if value is None else value


def _open_regions(world: World) -> BoolArray:
    return np.array([world.open_region(region) for region in world.region_names], bool)


def _where(world: World, dataset: str | None, region: str | None, size_gb: float) -> tuple[list[int], float]:
    """Region indices of an input's copies and its size; none where the dataset is unknown (it then costs nothing)."""
    if dataset is not None and (facts := world.datasets.get(dataset)) is not None:
        return [world.region_at(place) for place in facts.regions], size_gb or facts.size_gb
    return ([world.region_at(region)], size_gb) if region is not None else ([], 0.0)


class _Placing:
    """Takes slots on the nodes while the plan is made, and gives them all back at the end."""

    def __init__(
        self, world: World, window: Sequence[tuple[WaitingClass, int]], problem: Problem, packer: Packer
    ) -> None:
        self.world = world
        self.window = window
        self.problem = problem
        self.packer = packer
        self.queues = {row: world.waiting.first(waiting, count) for row, (waiting, count) in enumerate(window)}
        self.done: list[tuple[int, Task, int, int, list[tuple[Slot, Need]], list[Share]]] = []
        self._usd: FloatArray | None = None

    def follow(self, solution: Solution) -> None:
        """Place what the strategy decided, class by class in the window's order (priority, then age)."""
        starts = np.searchsorted(solution.class_index, np.arange(len(self.window) + 1))
        for row, (waiting, _) in enumerate(self.window):
            arcs = slice(int(starts[row]), int(starts[row + 1]))
            pools, counts = solution.pool_index[arcs], solution.count[arcs]
            placed = int(solution.placed[row])
            if not placed:
                continue
            region = self.problem.pools.region[pools]
            spread = spread_copies(region, counts, placed, waiting.key.missing)
            left: list[str] = []
            for task_id, arc_of in zip(self.queues[row][:placed], spread.tolist(), strict=True):
                if not self._place(row, task_id, [int(pools[arc]) for arc in arc_of]):
                    left.append(task_id)
            self.queues[row] = left + self.queues[row][placed:]

    def mend(self) -> None:
        """Give tasks that did not fit on their pool's nodes the cheapest pools that do hold them."""
        for row, (waiting, _) in enumerate(self.window):
            if not self.queues[row]:
                continue
            order = self._cheapest_pools(row)
            left: list[str] = []
            for position, task_id in enumerate(self.queues[row]):
                if not self._place_anywhere(row, task_id, order, waiting.key.missing):
                    # Tasks of a class are alike: where one does not fit, the next does not either.
                    left.extend(self.queues[row][position:])
                    break
            self.queues[row] = left

    def undo(self) -> None:
        """Give every slot back: the ledger's rows, once committed, take them for good."""
        for _, _, _, _, slots, _ in reversed(self.done):
            for slot, need in slots:
                self.world.nodes.release(slot, need)

    def unplaced(self, waiting: WaitingClass) -> bool:
        """Whether tasks of the class are left."""
        return any(self.queues[row] for row, (other, _) in enumerate(self.window) if other is waiting)

    def assignments(self) -> tuple[Assignment, ...]:
        """The copies placed, in the order placed, each with its money."""
        if not self.done:
            return ()
        rows = np.array([row for row, *_ in self.done], np.int64)
        pools = np.array([pool for _, _, _, pool, _, _ in self.done], np.int64)
        money = components(self.problem, rows, pools)
        rate = self.problem.classes.need[rows, 0] * self.problem.pools.usd_per_gpu_hour[pools]
        return tuple(
            Assignment(
                task_id=task.task_id,
                copy=copy,
                region=self.world.nodes.pools[pool].region,
                pool_id=self.problem.pools.pool_ids[pool],
                shares=tuple(shares),
                usd=sum(parts),
                usd_per_hour=usd_per_hour,
                money=_money(parts),
            )
            for (_, task, copy, pool, _, shares), parts, usd_per_hour in zip(
                self.done, money.tolist(), rate.tolist(), strict=True
            )
        )

    def held(self, solution: Solution) -> tuple[Held, ...]:
        """Tasks that wait on, with the strategy's reason where it gave one."""
        why = {entry.class_index: f"{entry.reason}: {entry.detail}" for entry in solution.unplaced}
        return tuple(
            Held(task_id=task_id, reason=why.get(row, "capacity: no node has room for it now"))
            for row, queue in self.queues.items()
            for task_id in queue
        )

    def objective(self) -> float:
        """US dollars of what was placed, and of what waits on."""
        waiting = sum(
            len(queue) * float(self.problem.classes.wait_usd[row]) for row, queue in self.queues.items() if queue
        )
        if not self.done:
            return waiting
        rows = np.array([row for row, *_ in self.done], np.int64)
        pools = np.array([pool for _, _, _, pool, _, _ in self.done], np.int64)
        return waiting + float(components(self.problem, rows, pools).sum())

    def _cheapest_pools(self, row: int) -> IntArray:
        if self._usd is None:
            self._usd = arc_costs(self.problem).usd
        usd = self._usd[row]
        order = np.argsort(usd, kind="stable")
        cheapest: IntArray = order[np.isfinite(usd[order])]
        return cheapest

    def _place_anywhere(self, row: int, task_id: str, order: IntArray, missing: int) -> bool:
        pools, taken = list[int](), set[int]()
        task = self.world.tasks[task_id]
        taken_slots = list[tuple[int, list[tuple[Slot, Need]], list[Share]]]()
        for pool in order.tolist():
            region = int(self.problem.pools.region[pool])
            if region in taken:
                continue
            fit = self._fit(task.spec, pool)
            if fit is None:
                continue
            taken.add(region)
            pools.append(pool)
            taken_slots.append((pool, *fit))
            if len(pools) == missing:
                self._keep(row, task, taken_slots)
                return True
        self._release(taken_slots)
        return False

    def _place(self, row: int, task_id: str, pools: Sequence[int]) -> bool:
        task = self.world.tasks[task_id]
        taken_slots = list[tuple[int, list[tuple[Slot, Need]], list[Share]]]()
        for pool in pools:
            fit = self._fit(task.spec, pool)
            if fit is None:
                self._release(taken_slots)
                return False
            taken_slots.append((pool, *fit))
        self._keep(row, task, taken_slots)
        return True

    def _keep(self, row: int, task: Task, taken: list[tuple[int, list[tuple[Slot, Need]], list[Share]]]) -> None:
        free = [
            index for index in range(task.spec.replicas) if index not in task.copies and index not in task.done_copies
        ]
        for copy, (pool, slots, shares) in zip(free, taken, strict=False):
            self.done.append((row, task, copy, pool, slots, shares))

    def _release(self, taken: list[tuple[int, list[tuple[Slot, Need]], list[Share]]]) -> None:
        for _, slots, _ in taken:
            for slot, need in slots:
                self.world.nodes.release(slot, need)

    def _fit(self, spec: TaskSpec, pool: int) -> tuple[list[tuple[Slot, Need]], list[Share]] | None:
        """Take slots for every worker of the task in one pool, or none."""
        taken: list[tuple[Slot, Need]] = []
        shares: list[Share] = []
        for part in spec.parts:
            slots = self.packer.place(part.need, (pool,), workers=part.workers)
            if slots is None:
                for slot, need in taken:
                    self.world.nodes.release(slot, need)
                return None
            taken.extend((slot, part.need) for slot in slots)
            shares.extend(self._shares(part.need, slots))
        return taken, shares

    def _shares(self, need: Need, slots: Sequence[Slot]) -> list[Share]:
        by_node: dict[int, list[int]] = {}
        workers: dict[int, int] = {}
        for slot in slots:
            by_node.setdefault(slot.node, []).extend(slot.devices)
            workers[slot.node] = workers.get(slot.node, 0) + 1
        whole = need.gpu_milli == 1_000
        return [
            Share(
                node_id=str(self.world.nodes.ids[node]).partition(NODE_SEPARATOR)[2],
                workers=workers[node],
                gpus=len(devices) if whole else 0,
                gpu_milli=0 if whole else len(devices) * need.gpu_milli,
                devices=tuple(devices),
            )
            for node, devices in by_node.items()
        ]


def _money(parts: Sequence[float]) -> Money:
    compute, egress, stall, latency, risk, move = parts
    return Money(
        compute_usd=compute,
        egress_usd=egress,
        stall_usd=stall,
        latency_usd=latency,
        risk_usd=risk,
        move_usd=move,
    )
