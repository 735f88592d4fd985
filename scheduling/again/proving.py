"""Proving, on the world as it is now, what a look has proposed: the copy is there, it pays still, its place is free."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from thalweg.scheduling.again.proposals import LookLimits, Proposal, first_words
from thalweg.scheduling.again.running import copy_at, may_move
from thalweg.scheduling.ids import TaskId
from thalweg.scheduling.live import ordering
from thalweg.scheduling.live.drains import is_drained
from thalweg.scheduling.live.live_plan import PlanSettings
from thalweg.scheduling.live.relocation import MovedCopy, Relocation
from thalweg.scheduling.pack.need import Pool
from thalweg.scheduling.pack.packer import Packer
from thalweg.scheduling.world.tasks import Copy, CopyState, Task, Transition
from thalweg.scheduling.world.world import World

_SLACK = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvedMove:
    """A move whose place is free, with the words that its rows begin with."""

    move: MovedCopy
    why: str


def proved(
    world: World,
    proposals: Sequence[Proposal],
    settings: PlanSettings,
    limits: LookLimits,
    now_ms: int,
    packer: Packer,
) -> list[ProvedMove]:
    """Find the places of those proposals that still stand; the others are dropped, and looked at anew next time.

    Args:
        world: read, and left as it was.
        proposals: of a look at this world some time ago.
        settings: weights and prices.
        limits: of the look.
        now_ms: the moment.
        packer: over `world.nodes`.
    """
    standing = [one for one in proposals if _stands(world, one, limits, now_ms)]
    if not standing:
        return []
    relocation = Relocation(world, [one.held for one in standing], settings, now_ms, packer)
    try:
        found = [_single(world, one, relocation) for one in standing]
    finally:
        relocation.undo()
    return [one for one in found if one is not None]


def rows_of(moves: Sequence[ProvedMove], now_ms: int) -> list[Transition]:
    """Turn moves into rows, each a stop and a start."""
    spent: dict[TaskId, int] = {}
    return [row for one in moves for row in ordering.moved([one.move], one.why, now_ms, spent)]


def _stands(world: World, one: Proposal, limits: LookLimits, now_ms: int) -> bool:
    """Whether a copy still runs where it did, whole and alone in moving, and its place is nobody else's matter."""
    at = copy_at(world, one.held, one.assigned_ms)
    if at is None or now_ms - one.assigned_ms < limits.rest_ms:
        return False
    task, copy = at
    return (
        may_move(task)
        and not task.held
        and task.missing == 0
        and all(other.state is CopyState.RUNNING for other in task.copies.values())
        and world.open_region(copy.region)
        and not is_drained(world, task, copy)
    )


def _single(world: World, one: Proposal, relocation: Relocation) -> ProvedMove | None:
    task = world.tasks[one.held[0]]
    copy = task.copies[one.held[1]]
    here, there = one.usd_per_gpu_hour
    if one.to is None or world.geography.price_of(copy.pool) < here - _SLACK:
        return None
    if world.geography.price_of(one.to) > there + _SLACK:
        return None
    found = relocation.take(task, copy, _only(one.to))
    if found is None:
        return None
    return ProvedMove(
        move=_priced(world, task, copy, found, one.lost_usd),
        why=first_words(one.why, one.saving_usd or 0.0, one.run),
    )


def _only(pool: Pool):  # type: ignore[no-untyped-def]
    return lambda other: other == pool


def _priced(world: World, task: Task, copy: Copy, found: MovedCopy, lost_usd: float) -> MovedCopy:
    """Count an hour at the old place at the price of now, and what is lost as the look has counted it."""
    gpus = sum(len(slot.devices) * need.gpu_milli for slot, need in world.slots_of(task, copy)) / 1_000
    return replace(found, lost_usd=lost_usd, usd_per_hour_before=gpus * world.geography.price_of(copy.pool))
