"""One micro-batch's plan: waiting tasks in, assignments out; the world is read and left as it was.

Classes go to pools by the global strategy; then each task's workers go to nodes of its pool. A task whose pool had room
in all but not on its nodes takes the next cheapest pool that does hold it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Final

import numpy as np

from thalweg.scheduling.arrays import BoolArray, IntArray
from thalweg.scheduling.ids import TaskId
from thalweg.scheduling.live.demand import Demand
from thalweg.scheduling.live.drains import words_of
from thalweg.scheduling.live.elsewhere import Elsewhere
from thalweg.scheduling.live.empty_fleet import EmptyFleet
from thalweg.scheduling.live.free_room import place_into_free
from thalweg.scheduling.live.live_plan import LeftWaiting, Plan, PlanSettings
from thalweg.scheduling.live.making_room import MakingRoom, could_make_room, nobody_gives_way
from thalweg.scheduling.live.near_data import FarPools, far_pools
from thalweg.scheduling.live.node_limits import workers_by_pool
from thalweg.scheduling.live.pool_ends import PoolEnds
from thalweg.scheduling.live.reservations import Reservation, kept_free, kept_room, reservations
from thalweg.scheduling.live.tenant_allowance import TenantAllowance
from thalweg.scheduling.live.unpriced import Unpriced
from thalweg.scheduling.live.who_asks import demands_of, split_by_share
from thalweg.scheduling.pack.nodes import Need
from thalweg.scheduling.pack.packer import Packer
from thalweg.scheduling.passed import has_passed
from thalweg.scheduling.problem.model import GPUS, Pools
from thalweg.scheduling.world.refusals import in_words
from thalweg.scheduling.world.waiting import ClassKey, Turn
from thalweg.scheduling.world.world import World

GROWTH_LOOK_MS = 1_000
"""How often idle GPUs are looked for: growing takes seconds, so looking at every batch would only cost time."""


def plan(world: World, settings: PlanSettings, now_ms: int, seed: int, packer: Packer | None = None) -> Plan | None:
    """Plan the next micro-batch.

    Args:
        world: read, and left as it was but for the notes which classes were tried and when growth was looked at.
        settings: strategy and weights.
        now_ms: the batch's time; ages are counted from it.
        seed: for the strategies that draw.
        packer: over `world.nodes`, kept by the caller between plans for its caches.

    Returns:
        The plan, or None when nothing waits that anything could have changed for, and nothing can grow.
    """
    world.wake(now_ms)
    if not world.nodes.pools:
        return None
    growing = bool(settings.resize_every_ms and world.elastic and has_passed(world.grown_ms, now_ms, GROWTH_LOOK_MS))
    if not (len(world.waiting) or growing):
        return None
    pools = world.pools()
    # Where nothing fits and nobody gives way, there is no room that could be kept from anybody.
    free_gpus = pools.capacity[:, GPUS]
    moot = not world.waiting.fits(free_gpus) and nobody_gives_way(world, settings)
    ends = PoolEnds(world, now_ms)
    kept = () if moot else reservations(world, free_gpus, now_ms, settings.rule, ends)
    far = None if moot else far_pools(world, free_gpus, now_ms, settings.rule, ends)
    window = _possible_window(world, settings, now_ms, pools, kept, far)
    impossible = dict(world.waiting.impossible())
    if not (window or growing or impossible):
        return None
    packer = packer or Packer(world.nodes)
    packer.learn_from(world.waiting.seen)
    demands = kept_free(demands_of(world, window, far), kept)
    if settings.fair_share:
        demands = split_by_share(world, demands, pools)
    demands, hopeless = _split_hopeless(world, demands)
    base = sum(len(demand.tasks) * demand.wait_usd(now_ms, settings.wait_usd, settings.rule) for demand in hopeless)
    free = place_into_free(world, demands, settings, now_ms, seed, packer, pools) if demands else None
    limits = TenantAllowance(world) if free is None else free.placement.allowance
    held = {task_id: _NO_ROOM for demand in hopeless for task_id in demand.tasks}
    if free is not None:
        held |= {one.task_id: one.reason for one in free.placement.held(free.solution)}
    if far is not None:
        held |= {
            task_id: far.words(waiting.index)
            for waiting, count, _ in window
            if far.closed[waiting.index].any()
            for task_id in world.waiting.first(waiting, count)
            if task_id in held and held[task_id].startswith("capacity:")
        }
    left = [replace(demand, tasks=rest) for demand in [*demands, *hopeless] if (rest := _left(demand, held))]
    making_room: MakingRoom | None = None
    if growing or could_make_room(world, settings, left):
        left.sort(key=lambda demand: (-demand.wait_usd(now_ms, settings.wait_usd, settings.rule), demand.order))
        # Who is held back has room elsewhere, if at a price: nobody gives way for that.
        stuck_for_room = [demand for demand in left if not demand.far]
        making_room = MakingRoom(world, stuck_for_room, settings, now_ms, packer, limits, pools)
        for task_id in making_room.try_all():
            del held[task_id]
        if growing:
            world.grown_ms = now_ms
            making_room.grow_all(_wanted(world, left, held))
        making_room.undo()
    if free is not None:
        free.placement.undo()
    elsewhere = Elsewhere(world)
    stuck = [
        waiting.index
        for waiting, count, _ in window
        if any(t in held for t in world.waiting.first(waiting, count))
        # Room elsewhere that others took in this plan: in the next one it may go where it failed.
        and not (waiting.key.avoid and elsewhere.is_open(waiting.key))
    ]
    tried = np.array(stuck, np.int64)
    world.waiting.tried(tried, world.clock, None if far is None else far.again_ms(tried))
    unpriced = Unpriced(world)
    held = {task_id: _told(world, unpriced, task_id, reason, now_ms) for task_id, reason in held.items()} | impossible
    outdone = _outdone(world, demands, held)
    return Plan(
        strategy=settings.strategy if free is None else free.solution.strategy,
        status="optimal" if free is None else free.status,
        assignments=(
            *(() if free is None else free.placement.assignments()),
            *(making_room.assignments() if making_room else ()),
        ),
        held=tuple(
            LeftWaiting(task_id=task_id, reason=_beyond(outdone[task_id], reason) if task_id in outdone else reason)
            for task_id, reason in held.items()
        ),
        considered=sum(turn.tasks for turn in window) + len(impossible),
        objective=base + (0.0 if free is None else free.objective),
        bound=base + (0.0 if free is None else free.bound),
        preempted=tuple(making_room.preempted) if making_room else (),
        resized=making_room.resizes() if making_room else (),
        into_free=None if free is None else free.placement.into_free(),
    )


def _possible_window(
    world: World, settings: PlanSettings, now_ms: int, pools: Pools, kept: Sequence[Reservation], far: FarPools | None
) -> list[Turn]:
    """Choose what is considered; what not even an empty fleet could hold is set apart and takes nobody's turn."""
    fleet = EmptyFleet(world)
    while True:
        window = world.waiting.window(
            world.loosened,
            settings.window_tasks,
            settings.window_classes,
            now_ms,
            settings.rule,
            pools.capacity[:, GPUS],
            kept_room(kept, len(pools)),
            None if far is None else far.closed,
        )
        objections = [
            (waiting, world.orders.objection_to_tenant(waiting.key.spec.tenant) or fleet.objection(waiting.key))
            for waiting, _, _ in window
        ]
        for waiting, objection in objections:
            if objection is not None:
                world.waiting.park(waiting, objection)
        if all(objection is None for _, objection in objections):
            return window


def _told(world: World, unpriced: Unpriced, task_id: TaskId, reason: str, now_ms: int) -> str:
    """Say which regions refuse, and which have no price, where that may be what a task waits for."""
    task = world.tasks[task_id]
    if task.barred:
        words = (in_words(region, task.refused[region], now_ms) for region in sorted(task.barred))
        return f"refused: {'; '.join(words)}; elsewhere: {reason}"
    if unpriced.pools:
        key = ClassKey(spec=task.spec, missing=task.placed_together, taken=task.taken, avoid=task.avoid)
        reason = unpriced.said(key, reason)
    closed = world.backing_off()
    if (closed or world.orders.drains) and reason.startswith("capacity:"):
        shut = [world.back_offs.in_words(region, now_ms) for region in closed]
        drained = [*world.orders.drained_regions.values(), *world.orders.drained_nodes.values()]
        return "; ".join((reason, *shut, *map(words_of, drained[:_MOST_NAMED])))
    return reason


_MOST_NAMED: Final = 5
"""Drained places that a reason names."""


_NO_ROOM = "capacity: no node of a suitable pool has room for one of its workers now"


def _outdone(world: World, demands: Sequence[Demand], held: Mapping[TaskId, str]) -> dict[TaskId, str]:
    """Name the tenants of tasks that others come before for the share's sake: others ask for pools that these may use.

    Where nobody else asks for them, it is room that is wanting, whatever the tenant holds.
    """
    fair = [demand for demand in demands if not demand.beyond_share]
    usable = cache(world.usable_pools)  # a class may be looked at for each of many
    found: dict[TaskId, str] = {}
    for demand in demands:
        own = demand.key.spec.tenant
        waits = [task_id for task_id in demand.tasks if demand.beyond_share and task_id in held]
        if waits and any(
            other.key.spec.tenant != own and (usable(demand.key) & usable(other.key)).any() for other in fair
        ):
            found |= dict.fromkeys(waits, own)
    return found


def _beyond(tenant: str, reason: str) -> str:
    """Say first that a task waits behind other tenants, where room is what it lacks."""
    kind, _, detail = reason.partition(": ")
    return f"share: tenant {tenant} has its fair share while others ask; {detail}" if kind == "capacity" else reason


def _left(demand: Demand, held: dict[TaskId, str]) -> tuple[TaskId, ...]:
    return tuple(task_id for task_id in demand.tasks if task_id in held)


def _wanted(world: World, left: Sequence[Demand], held: dict[TaskId, str]) -> BoolArray:
    """Pools that a task which waits on could use: nothing grows there."""
    wanted = np.zeros(len(world.nodes.pools), bool)
    for demand in left:
        if any(task_id in held for task_id in demand.tasks):
            wanted |= world.usable_pools(demand.key)
    return wanted


def _split_hopeless(world: World, demands: Sequence[Demand]) -> tuple[list[Demand], list[Demand]]:
    """Set apart the classes that no pool's nodes could hold even if they came first.

    The global strategy sees a pool's free capacity as one sum; on the nodes it may lie in pieces. What does not fit
    before anything else is placed fits in no plan, so the price of its waiting belongs to the bound as well.
    """
    possible: list[Demand] = []
    hopeless: list[Demand] = []
    most: dict[Need, IntArray] = {}
    for demand in demands:
        usable = world.usable_pools(demand.key)
        known = usable.any()
        for part in demand.key.spec.parts:
            if part.need not in most:
                most[part.need] = workers_by_pool(world.nodes, part.need)
            usable = usable & (most[part.need] >= part.workers)
        # Where not even one pool suits (model, residency, latency), the strategy itself says which of these it was.
        (possible if usable.any() or not known else hopeless).append(demand)
    return possible, hopeless
