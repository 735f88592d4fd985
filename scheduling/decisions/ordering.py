"""What follows from an operator's order: rows of the ledger, or why it is refused.

As in `decide`, every function reads the world and returns transitions. An order that changes nothing gives a row all
the same, in which before and after are alike: so a topic that is read once more is known by its rows.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from msgspec import structs

from thalweg.scheduling.counted import counted
from thalweg.scheduling.decisions.decide import Refused, RequestOrigin, from_record, nobody_submitted
from thalweg.scheduling.decisions.rows import assigned_row, copy_row
from thalweg.scheduling.ids import NodeId, RegionId, TaskId
from thalweg.scheduling.live.drains import Relief, words_of
from thalweg.scheduling.live.relocation import MovedCopy
from thalweg.scheduling.world.facts import node_key
from thalweg.scheduling.world.orders import (
    NOBODY,
    AskedOfTask,
    Drain,
    Moved,
    Order,
    OrderRow,
    OwnPrice,
    end_in_words,
    in_words,
    subject_of,
)
from thalweg.scheduling.world.tasks import Change, Copy, Task, TaskSpec, Transition
from thalweg.scheduling.world.world import World

HERE: Final = "place"
"""Who orders what the job itself sees to."""
BY_HAND: Final = "moved by "
"""First words of the reason of a move that somebody has asked for."""
_NAMED: Final = 5
"""Names that a refusal lists."""

Find = Callable[[Task, Copy, RegionId], MovedCopy | None]
"""Finds a place for a copy in a region."""
WhyNot = Callable[[TaskSpec, RegionId], str]
"""Says why a task of these needs has no place in a region."""


def stand(
    world: World, order: Order, who: str, origin: RequestOrigin | None, now_ms: int
) -> list[Transition] | Refused:
    """Let an order stand about its subject, instead of what stood there.

    Args:
        world: as it is.
        order: what is wanted.
        who: wants it.
        origin: where it was said; None where the job says it itself.
        now_ms: the moment.
    """
    if (objection := _objection(world, order, origin)) is not None:
        return Refused(reason=objection)
    before = world.orders.get(subject_of(order))
    return [_row(OrderRow(subject=subject_of(order), who=who, before=before, after=order), origin, now_ms)]


def withdraw(
    world: World,
    subject: str,
    who: str,
    origin: RequestOrigin | None,
    now_ms: int,
    *,
    region: RegionId | None = None,
    node_id: NodeId | None = None,
) -> list[Transition] | Refused:
    """Let nothing stand about a subject any more; where nothing did, nothing changes.

    A copy that was begun beside another, because that one's place was drained, is stopped: the old one stays.

    Args:
        world: as it is.
        subject: what the order stood about.
        who: wants it.
        origin: where it was said; None where the job says it itself.
        now_ms: the moment.
        region: the subject's; one that nobody knows, and about which nothing stands, is a name that was misspelt.
        node_id: the subject's, likewise.
    """
    before = world.orders.get(subject)
    if before is None and region is not None and (unknown := _unknown_place(world, region, node_id)) is not None:
        return Refused(reason=unknown)
    rows = [_row(OrderRow(subject=subject, who=who, before=before), origin, now_ms)]
    return rows if not isinstance(before, Drain) else [*rows, *_stay(world, before, now_ms)]


def move(
    world: World,
    task_id: TaskId,
    region: RegionId,
    copy: int | None,
    who: str,
    origin: RequestOrigin,
    now_ms: int,
    *,
    find: Find,
    why_not: WhyNot,
) -> list[Transition] | Refused:
    """Move a copy of a task into a region: it stops where it is and starts there, in one step.

    Args:
        world: as it is.
        task_id: of the task.
        region: where to.
        copy: which of its copies; None where it has one.
        who: wants it.
        origin: where it was said.
        now_ms: the moment.
        find: looks for a place.
        why_not: says why there is none.
    """
    named = f"move of task_id {task_id!r}"
    task = world.tasks.get(task_id)
    if task is None:
        ended = world.ended.get(task_id)
        state = nobody_submitted(world, task_id) if ended is None else f"it has {ended.state}"
        return Refused(reason=f"{named}: {state}; allowed are tasks that are placed")
    if not task.copies:
        return Refused(reason=f"{named}: it is waiting ({task.reason or 'not placed yet'}); allowed are placed tasks")
    if copy is None and len(task.copies) > 1:
        there = ", ".join(f"{one.index} in {one.region}" for one in task.copies.values())
        return Refused(
            reason=f"{named}: it has {counted(len(task.copies), 'copy', 'copies')} ({there}); name one of them"
        )
    if copy is not None and copy not in task.copies:
        return Refused(
            reason=f"{named}: copy {copy} is not placed; placed are {', '.join(map(str, sorted(task.copies)))}"
        )
    here = next(iter(task.copies.values())) if copy is None else task.copies[copy]
    if (unknown := _unknown_region(world, region)) is not None:
        return Refused(reason=f"{named}: {unknown}")
    before = Moved(task_id=task_id, copy=here.index, region=here.region)
    row = OrderRow(subject=subject_of(before), who=who, before=before, after=structs.replace(before, region=region))
    if here.region == region:
        return [_row(row, origin, now_ms)]
    if any(other.region == region for other in task.copies.values()) or region in task.done_regions:
        return Refused(reason=f"{named}: another copy of it is in {region}, and no two run in one region")
    if (drain := world.orders.drained_regions.get(region)) is not None:
        return Refused(reason=f"{named}: {words_of(drain)}; undrain it first, or name another region")
    found = find(task, here, region)
    if found is None:
        return Refused(reason=f"{named} to {region}: {why_not(task.spec, region) or 'it has no place there now'}")
    return [*moved([found], f"{BY_HAND}{who or 'an operator'}", now_ms), _row(row, origin, now_ms)]


def relieved(relief: Relief, now_ms: int) -> list[Transition]:
    """Turn a look at what is drained into rows: first who leaves, then who moves."""
    spent: dict[TaskId, int] = {}
    rows = [
        copy_row(
            Change.REVOKED,
            leaving.task,
            leaving.copy,
            now_ms,
            epoch=_next(spent, leaving.task),
            reason=leaving.reason,
        )
        for leaving in relief.leaving
    ]
    rows += moved(relief.moves, "drained", now_ms, spent)
    for one in relief.forgotten:
        rows.append(_row(OrderRow(subject=subject_of(one.order), who=HERE, before=one.order), None, now_ms))
    return rows


def moved(
    moves: Iterable[MovedCopy], why: str, now_ms: int, spent: dict[TaskId, int] | None = None
) -> list[Transition]:
    """Turn moves into rows: each a stop and a start, or only a start where the old copy goes on meanwhile.

    Args:
        moves: to places that are free.
        why: first words of their reasons.
        now_ms: the moment.
        spent: highest epochs that rows of the same batch use already.
    """
    spent = {} if spent is None else spent
    rows: list[Transition] = []
    for one in moves:
        task, copy, to = one.task, one.copy, one.to
        index, where = copy.index, f"from {copy.pool_id} of {copy.region}"
        saved = one.usd_per_hour_before - to.usd_per_hour
        if one.beside:
            index = next(i for i in range(len(task.copies) + len(task.done_copies) + 1) if _is_free(task, i))
            reason = f"{why}: begins beside copy {copy.index}, which goes when it runs; {where}"
        else:
            to_words = f"{why}: to {to.pool_id} of {to.region}, {one.lost_usd:.2f} USD of work and transfer lost"
            rows.append(copy_row(Change.REVOKED, task, copy, now_ms, epoch=_next(spent, task), reason=to_words))
            reason = f"{why}: {where}, {saved:+.2f} USD an hour saved, {one.lost_usd:.2f} USD lost"
        rows.append(assigned_row(task, to, now_ms, copy=index, epoch=_next(spent, task), reason=reason))
    return rows


def _is_free(task: Task, index: int) -> bool:
    return index not in task.copies and index not in task.done_copies


def _stay(world: World, drain: Drain, now_ms: int) -> list[Transition]:
    """Stop the newest of copies too many, of tasks with a copy in a place that is drained no more."""
    held = (
        world.copies_in(drain.region)
        if drain.node_id is None
        else world.fleet.copies_on(node_key(drain.region, drain.node_id))
    )
    rows: list[Transition] = []
    for task_id, index in held:
        task = world.tasks[task_id]
        if len(task.copies) + len(task.done_copies) <= task.spec.replicas:
            continue
        newest = max(task.copies.values(), key=lambda one: one.epoch)
        if newest.index != index:
            reason = f"{drain.region} is drained no more: copy {index} stays"
            rows.append(copy_row(Change.REVOKED, task, newest, now_ms, epoch=task.epoch + 1, reason=reason))
    return rows


def _objection(world: World, order: Order, origin: RequestOrigin | None) -> str | None:
    """Say why an order cannot stand; None where it can."""
    if isinstance(order, Drain):
        if (unknown := _unknown_place(world, order.region, order.node_id)) is not None:
            return unknown
        if origin is not None and order.by_ms is not None and order.by_ms <= origin.timestamp_ms:
            return (
                f"by {order.by_ms} is {(origin.timestamp_ms - order.by_ms) / 1_000:.0f} s before it was asked; allowed "
                "is a moment to come, or none: then it empties as places are found"
            )
    if isinstance(order, OwnPrice):
        if (unknown := _unknown_region(world, order.region)) is not None:
            return unknown
        pools = [pool for pool in world.nodes.pools if pool.region == order.region and pool.gpu_model]
        if not any((pool.gpu_model, pool.spot) == (order.gpu_model, order.spot) for pool in pools):
            known = sorted({f"{pool.gpu_model}{' spot' if pool.spot else ''}" for pool in pools})
            kind = f"{order.gpu_model!r}{' spot' if order.spot else ''}"
            return f"{order.region} has no pool of {kind}; it has {_listed(known)}"
    return None


def _unknown_place(world: World, region: RegionId, node_id: NodeId | None) -> str | None:
    if (unknown := _unknown_region(world, region)) is not None or node_id is None:
        return unknown
    nodes = sorted(fact.node_id for fact in world.fleet.facts.values() if fact.region == region)
    return None if node_id in nodes else f"node {node_id!r} of {region} is not known; known are {_listed(nodes)}"


def _unknown_region(world: World, region: RegionId) -> str | None:
    known = sorted(world.regions.keys() | {pool.region for pool in world.nodes.pools})
    return None if region in known else f"region {region!r} is not known; known are {_listed(known)}"


def _listed(names: Sequence[str]) -> str:
    first = ", ".join(names[:_NAMED]) or "none"
    return f"{first} and {len(names) - _NAMED} more" if len(names) > _NAMED else first


def _row(row: OrderRow, origin: RequestOrigin | None, now_ms: int) -> Transition:
    if row.before == row.after:
        reason = f"nothing new: {in_words(row.after)}" if row.after is not None else "nothing new: nothing stood"
    else:
        reason = in_words(row.after) if row.after is not None else end_in_words(row.before)  # type: ignore[arg-type]
    made = Transition(change=Change.ORDERED, task_id=NOBODY, decided_ms=now_ms, reason=reason, ordered=row)
    return made if origin is None else from_record(made, origin)


def asked_of_task(op: str, task_id: TaskId, who: str, now_ms: int) -> Transition:
    """Write down who asked something of a task: its own rows say what became of it, and not who wanted it."""
    return _row(
        OrderRow(
            subject=subject_of(AskedOfTask(op=op, task_id=task_id)), who=who, after=AskedOfTask(op=op, task_id=task_id)
        ),
        None,
        now_ms,
    )


def _next(spent: dict[TaskId, int], task: Task) -> int:
    epoch = spent[task.task_id] = spent.get(task.task_id, task.epoch) + 1
    return epoch
