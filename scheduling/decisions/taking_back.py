"""Taking back into the ledger what regions were told before it was put back from a copy.

What was told was committed then, and is committed once more as it was: same copy, epoch, nodes and moment, so that it
is no news to the region, which goes on with what it runs. What the lost rows gave up without telling anybody (a region
that was silent) shows by what they placed afterwards.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from msgspec.structs import replace

from thalweg.scheduling.decisions.rows import copy_row
from thalweg.scheduling.ids import RegionId, TaskId
from thalweg.scheduling.pack.nodes import Need, Pool
from thalweg.scheduling.pack.pool_ids import pool_name
from thalweg.scheduling.world.facts import node_key
from thalweg.scheduling.world.fleet import CopyKey
from thalweg.scheduling.world.tasks import Change, Copy, CopyState, Share, Task, Transition, whole_shares
from thalweg.scheduling.world.world import World

GIVEN_UP: Final = "given up by rows that the ledger has lost"
TAKEN_BACK: Final = "told before the ledger was put back"
_CPUS, _MEMORY = -1, -2
"""Beside the numbers of a node's devices."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToldBefore:
    """One event of a region's topic that the ledger does not have."""

    assigns: bool
    """Else it revokes."""
    task_id: TaskId
    copy: int
    epoch: int
    region: RegionId
    shares: tuple[Share, ...]
    plan_id: str
    usd_per_hour: float
    reason: str
    decided_ms: int


def is_known(world: World, told: ToldBefore) -> bool:
    """Tell whether the ledger has spent an event's epoch."""
    task = world.find(told.task_id)
    return task is not None and told.epoch <= task.epoch


def given_up(world: World, told: ToldBefore, now_ms: int) -> list[Transition]:
    """Give up the copies that stand where a told assignment stands: the lost rows had, or could not have made it.

    Those are what its task holds of that copy or in that region, and, where its nodes are full, who sits there longest.
    """
    task = world.tasks.get(told.task_id)
    if task is None or not told.assigns:
        return []
    leaving = {
        (told.task_id, index): None
        for index, copy in sorted(task.copies.items())
        if index == told.copy or copy.region == told.region
    }
    for (row, what), wanted in _takes(world, task, told).items():
        if what != _CPUS and what != _MEMORY and what >= world.nodes.gpus[row]:
            continue  # nobody has described it since the start, or it has shrunk: its next sample says what follows
        free = _free(world, row, what) + sum(_held(world, owner, row, what) for owner in leaving)
        for owner in sorted(
            world.fleet.copies_on(world.nodes.ids[row]), key=lambda one: (_copy(world, one).assigned_ms, one)
        ):
            if wanted <= free:
                break
            held = _held(world, owner, row, what)
            if held and owner not in leaving:
                leaving[owner] = None
                free += held
    return [_lost(world, owner, now_ms) for owner in leaving]


def taken_back(world: World, told: ToldBefore) -> Transition:
    """Make the row of what was told; where that cannot be as it was, the row tells the region to stop.

    After `given_up` was followed.
    """
    task = world.tasks.get(told.task_id)
    row = Transition(
        change=Change.REPAIRED,
        task_id=told.task_id,
        decided_ms=told.decided_ms,
        copy=told.copy,
        epoch=told.epoch,
        region=told.region,
        reason=f"{TAKEN_BACK}: {told.reason}" if told.reason else TAKEN_BACK,
    )
    if task is None:
        return row if not told.assigns else replace(row, epoch=told.epoch + 1)
    row = replace(
        row, attempt=task.attempt, tenant=task.spec.tenant, priority=task.spec.priority, name=task.spec.terms.name
    )
    if not told.assigns:
        held = task.copies.get(told.copy)
        if held is None or held.region != told.region:
            return row
        return replace(row, change=Change.REVOKED, pool_id=held.pool_id)
    placeable = task.state_of_copy(told.copy) is not CopyState.SUCCEEDED and told.region not in task.done_regions
    if not (placeable and _is_of_its_parts(task, told)):
        # The region holds it under this very epoch, so that only one above is news to it.
        return replace(row, epoch=told.epoch + 1, reason=f"{row.reason}; its task asks for something else now")
    return replace(
        row,
        change=Change.ASSIGNED,
        pool_id=pool_name(_pool(world, told)),
        shares=told.shares,
        plan_id=told.plan_id,
        usd_per_hour=told.usd_per_hour,
    )


def _is_of_its_parts(task: Task, told: ToldBefore) -> bool:
    try:
        return bool(whole_shares(task.spec.parts, told.shares))
    except StopIteration:
        return False


def _pool(world: World, told: ToldBefore) -> Pool:
    """Return the pool of a told assignment's nodes: of one that is not there any more, any of its region."""
    nodes = world.nodes
    rows = [row for share in told.shares if (row := nodes.row_of.get(node_key(told.region, share.node_id))) is not None]
    if rows:
        return nodes.pools[int(nodes.pool[rows[0]])]
    of_region = [pool for pool in nodes.pools if pool.region == told.region]
    return of_region[0] if of_region else Pool(region=told.region, gpu_model="", spot=False)


def _takes(world: World, task: Task, told: ToldBefore) -> dict[tuple[int, int], int]:
    """Sum what a told assignment takes of nodes that are known: (row, device, CPUs or memory) → how much."""
    taken: Counter[tuple[int, int]] = Counter()
    if not _is_of_its_parts(task, told):
        return taken
    for share, need in whole_shares(task.spec.parts, told.shares):
        row = world.nodes.row_of.get(node_key(told.region, share.node_id))
        if row is not None:
            _add(taken, row, share.devices, need)
    return taken


def _add(taken: Counter[tuple[int, int]], row: int, devices: Sequence[int], need: Need) -> None:
    for device in devices:
        taken[row, device] += need.gpu_milli
    taken[row, _CPUS] += need.cpu_milli
    taken[row, _MEMORY] += need.memory_mib


def _free(world: World, row: int, what: int) -> int:
    nodes = world.nodes
    if what == _CPUS:
        return int(nodes.cpu_milli_free[row])
    return int(nodes.memory_mib_free[row] if what == _MEMORY else nodes.gpu_milli_free[row, what])


def _held(world: World, owner: CopyKey, row: int, what: int) -> int:
    taken: Counter[tuple[int, int]] = Counter()
    for slot, need in world.slots_of(world.tasks[owner[0]], _copy(world, owner)):
        _add(taken, slot.node, slot.devices, need)
    return taken[row, what]


def _copy(world: World, owner: CopyKey) -> Copy:
    return world.tasks[owner[0]].copies[owner[1]]


def _lost(world: World, owner: CopyKey, now_ms: int) -> Transition:
    task, copy = world.tasks[owner[0]], _copy(world, owner)
    return copy_row(Change.LOST, task, copy, now_ms, reason=GIVEN_UP)
