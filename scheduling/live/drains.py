"""Emptying what is drained: who leaves, to where, and who stays until its moment.

A copy leaves once another place is found for it, in the same batch; one that may run twice for a while (`overlaps`)
first starts there and is stopped here when it runs there. One that is expected to end before the place has to be empty
is left alone until then. When that moment has come, what is still there is stopped, place or not.
"""

from dataclasses import dataclass
from typing import Final

from thalweg.scheduling.live.live_plan import PlanSettings
from thalweg.scheduling.live.relocation import MovedCopy, Relocation
from thalweg.scheduling.pack.packer import Packer
from thalweg.scheduling.world.facts import node_key
from thalweg.scheduling.world.fleet import CopyKey
from thalweg.scheduling.world.orders import KEPT_AFTER_MS, Drain
from thalweg.scheduling.world.standing import StandingOrder
from thalweg.scheduling.world.tasks import Copy, CopyState, Task, sized
from thalweg.scheduling.world.world import World

LOOK_MS: Final = 1_000
"""How often drained places are looked at: leaving takes seconds, and a look at a full one some milliseconds."""
MOST_LOOKED_AT: Final = 256
"""Copies that one look tries to find a place for; the next one goes on behind them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyStop:
    """A copy that is stopped in a drained place without being placed elsewhere in the same step."""

    task: Task
    copy: Copy
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Relief:
    """What one look came to."""

    leaving: tuple[CopyStop, ...] = ()
    moves: tuple[MovedCopy, ...] = ()
    stuck: tuple[CopyKey, ...] = ()
    """Looked at, without a place elsewhere now."""
    left_alone: tuple[CopyKey, ...] = ()
    """They are expected to end in time."""
    forgotten: tuple[StandingOrder, ...] = ()
    """Drains of nodes that are gone."""


def relief(world: World, settings: PlanSettings, now_ms: int, packer: Packer, *, most: int) -> Relief:
    """Look at every drained place.

    Args:
        world: read, and left as it was but for the note how far the look came.
        settings: weights and prices.
        now_ms: the moment.
        packer: over `world.nodes`.
        most: moves at most.
    """
    leaving: list[CopyStop] = []
    to_move: list[tuple[Task, Copy, Drain]] = []
    left_alone: list[CopyKey] = []
    for held, drain in drained_copies(world):
        task = world.tasks[held[0]]
        copy = task.copies[held[1]]
        if len(task.copies) + len(task.done_copies) > task.spec.replicas:
            leaving += _of_two(world, task, copy, drain, now_ms)
        elif _ends_in_time(task, copy, drain, now_ms):
            left_alone.append(held)
        else:
            to_move.append((task, copy, drain))
    to_move = _next(world, to_move)
    relocation = Relocation(world, [_held(task, copy) for task, copy, _ in to_move], settings, now_ms, packer)
    moves: list[MovedCopy] = []
    stuck: list[CopyKey] = []
    for task, copy, drain in to_move:
        is_due = _is_due(drain, now_ms)
        if len(moves) >= most and not is_due:
            continue
        found = relocation.find(task, copy, beside=True) if task.spec.terms.overlaps and not is_due else None
        found = found or relocation.find(task, copy)
        if found is not None:
            moves.append(found)
        elif is_due:
            reason = f"{words_of(drain)}: its moment has come, and nothing else has room now"
            leaving.append(CopyStop(task=task, copy=copy, reason=reason))
        else:
            stuck.append(_held(task, copy))
    relocation.undo()
    return Relief(
        leaving=tuple(leaving),
        moves=tuple(moves),
        stuck=tuple(stuck),
        left_alone=tuple(left_alone),
        forgotten=tuple(one for one in world.orders if _is_forgotten(world, one, now_ms)),
    )


def drained_copies(world: World) -> list[tuple[CopyKey, Drain]]:
    """Copies in drained places, each with the drain that ends first; the most important task first."""
    found: dict[CopyKey, Drain] = {}

    def add(held: CopyKey, drain: Drain) -> None:
        known = found.get(held)
        if known is None or _moment(drain) < _moment(known):
            found[held] = drain

    for region, drain in sorted(world.orders.drained_regions.items()):
        for held in world.copies_in(region):
            add(held, drain)
    for key, drain in sorted(world.orders.drained_nodes.items()):
        for held in world.fleet.copies_on(key):
            add(held, drain)

    def urgency(held: CopyKey) -> tuple[int, int, int]:
        task = world.tasks[held[0]]
        return -task.spec.priority, task.order, held[1]

    return [(held, found[held]) for held in sorted(found, key=urgency)]


def words_of(drain: Drain) -> str:
    """Name a drained place."""
    return f"drained: {drain.region if drain.node_id is None else f'{drain.region}/{drain.node_id}'}"


def is_drained(world: World, task: Task, copy: Copy) -> bool:
    """Whether a copy sits, in part at least, where nothing new may go."""
    if copy.region in world.orders.drained_regions:
        return True
    nodes = world.orders.drained_nodes
    return bool(nodes) and any(world.nodes.ids[slot.node] in nodes for slot, _ in world.slots_of(task, copy))


def _of_two(world: World, task: Task, copy: Copy, drain: Drain, now_ms: int) -> list[CopyStop]:
    """Stop the old one of two when the new one runs, or the moment has come; the new one where it is drained, too."""
    others = [other for other in task.copies.values() if other is not copy]
    staying = [other for other in others if not is_drained(world, task, other)]
    running = [other for other in staying if other.state is CopyState.RUNNING]
    if len(running) + len(task.done_copies) >= task.spec.replicas or (staying and _is_due(drain, now_ms)):
        where = (running or staying)[0].region
        return [CopyStop(task=task, copy=copy, reason=f"{words_of(drain)}: it runs in {where} now")]
    newest = max(task.copies.values(), key=lambda one: one.epoch)
    if not staying and copy is newest:
        return [CopyStop(task=task, copy=copy, reason=f"{words_of(drain)}, too")]
    return []


def _ends_in_time(task: Task, copy: Copy, drain: Drain, now_ms: int) -> bool:
    """Whether a copy that runs is expected to end before its place has to be empty."""
    if drain.by_ms is None or _is_due(drain, now_ms) or copy.state is not CopyState.RUNNING:
        return False
    spec = task.spec if task.spec.min_workers is None else sized(task.spec, copy.workers)
    return copy.assigned_ms + spec.expected_s * 1_000 <= drain.by_ms


def _next(world: World, copies: list[tuple[Task, Copy, Drain]]) -> list[tuple[Task, Copy, Drain]]:
    """Choose those that one look tries: behind those of the last one, so that everybody has a turn."""
    if len(copies) <= MOST_LOOKED_AT:
        return copies
    start = world.relief_at % len(copies)
    world.relief_at = start + MOST_LOOKED_AT
    return [*copies[start:], *copies[:start]][:MOST_LOOKED_AT]


def _is_forgotten(world: World, standing: StandingOrder, now_ms: int) -> bool:
    """Whether a notice is over: its moment is long past, and its node is not there any more."""
    order = standing.order
    if not (standing.by_notice and isinstance(order, Drain) and order.by_ms is not None and order.node_id is not None):
        return False
    is_there = node_key(order.region, order.node_id) in world.fleet.facts
    return not is_there and now_ms > order.by_ms + KEPT_AFTER_MS


def _is_due(drain: Drain, now_ms: int) -> bool:
    return drain.by_ms is not None and now_ms >= drain.by_ms


def _moment(drain: Drain) -> float:
    return float("inf") if drain.by_ms is None else drain.by_ms


def _held(task: Task, copy: Copy) -> CopyKey:
    return task.task_id, copy.index
