"""What follows from what arrived: requests, reports of regions, silence and a plan become rows of the ledger.

Every function reads the world and returns transitions; the caller lets the world follow them (`World.follow`) and
commits them. An input that means nothing any more (a repeated request, a report of an old epoch) gives no transition,
which is what makes it safe to receive twice.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from thalweg.scheduling.ids import RegionId, TaskId
from thalweg.scheduling.live.live_plan import Plan
from thalweg.scheduling.liveness.told import Knew
from thalweg.scheduling.world.lifecycle import GAVE_UP
from thalweg.scheduling.world.tasks import SILENT, Change, Copy, CopyState, Task, TaskSpec, Transition
from thalweg.scheduling.world.world import World

FICKLE: Final = frozenset({"budget", "capacity", "quota", "replicas", "share"})
"""Kinds of reasons that follow from what others hold at the moment."""
FICKLE_MS: Final = 600_000
"""Between two rows of a task that only say that another of these is in front now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A request that is not obeyed, and why."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestOrigin:
    """Where a request came from."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int


@dataclass(slots=True, kw_only=True)
class Repairs:
    """What the comparison of a region's inventory with the ledger calls for."""

    transitions: list[Transition] = field(default_factory=list)


def submit(
    world: World, task_id: TaskId, spec: TaskSpec, request: str, content_hash: str, origin: RequestOrigin, now_ms: int
) -> list[Transition] | Refused:
    """Take a new task. The same content again is nothing new; other content under a known id is refused."""
    known = world.find(task_id)
    if known is not None:
        if known.has_content(content_hash):
            return []
        return Refused(
            reason=f"task_id {task_id!r} was submitted before with other content; allowed are a new task_id, or "
            "op 'update'"
        )
    return [_request_row(Change.SUBMITTED, task_id, spec, request, content_hash, origin, now_ms)]


def update(
    world: World, task_id: TaskId, spec: TaskSpec, request: str, content_hash: str, origin: RequestOrigin, now_ms: int
) -> list[Transition] | Refused:
    """Change a live task. Where its needs change, copies that run are revoked and it is placed again."""
    task = world.tasks.get(task_id)
    if task is None:
        ended = world.ended.get(task_id)
        state = "unknown" if ended is None else str(ended.state)
        return Refused(reason=f"update of task_id {task_id!r}: it is {state}; allowed are waiting and placed tasks")
    if task.has_content(content_hash):
        return []
    rows: list[Transition] = []
    if task.spec != spec:
        rows += _revoke_all(task, "its request was updated", now_ms)
    return [*rows, _request_row(Change.UPDATED, task_id, spec, request, content_hash, origin, now_ms)]


def cancel(world: World, task_id: TaskId, origin: RequestOrigin, now_ms: int) -> list[Transition] | Refused:
    """End a task and revoke its copies; ending it twice is nothing new."""
    task = world.tasks.get(task_id)
    if task is None:
        if world.ended.get(task_id) is not None:
            return []
        return Refused(reason=f"cancel of task_id {task_id!r}: no such task was submitted")
    ended = Transition(
        change=Change.CANCELLED,
        task_id=task_id,
        decided_ms=now_ms,
        epoch=task.epoch + len(task.copies),
        reason="cancelled by request",
        topic=origin.topic,
        topic_partition=origin.partition,
        topic_offset=origin.offset,
        topic_timestamp_ms=origin.timestamp_ms,
    )
    return [*_revoke_all(task, "cancelled by request", now_ms), ended]


def report(
    world: World, region: RegionId, kind: str, task_id: TaskId, epoch: int, detail: str, max_attempts: int, now_ms: int
) -> list[Transition]:
    """Take a region's report about one task; what speaks of another epoch or region than the ledger's is ignored.

    Of the kinds, accepted, running, succeeded, failed and evicted change something. After `max_attempts` failures the
    task is given up.
    """
    task = world.tasks.get(task_id)
    copy = None if task is None else next((c for c in task.copies.values() if c.region == region), None)
    if task is None or copy is None or copy.epoch != epoch:
        return []
    if kind == "accepted":
        return [_copy_row(Change.ACCEPTED, task, copy, now_ms)] if copy.state is CopyState.ASSIGNED else []
    if kind == "running":
        return [] if copy.state is CopyState.RUNNING else [_copy_row(Change.RUNNING, task, copy, now_ms)]
    if kind == "succeeded":
        return [_copy_row(Change.SUCCEEDED, task, copy, now_ms)]
    if kind == "evicted":
        return [_copy_row(Change.EVICTED, task, copy, now_ms, reason=detail or "evicted by its region")]
    if kind == "failed":
        return _failure(task, copy, detail or "failed", max_attempts, now_ms)
    return []


def lose_region(world: World, region: RegionId, silent_ms: int, now_ms: int) -> list[Transition]:
    """Give up every copy in a region that fell silent; each is placed again with the next epoch."""
    reason = f"region {region} {SILENT} {silent_ms / 1000:.1f} s"
    return lose_copies(world, world.copies_in(region), reason, now_ms)


def lose_copies(world: World, copies: Iterable[tuple[TaskId, int]], reason: str, now_ms: int) -> list[Transition]:
    """Give up copies whose node or region is gone."""
    rows: list[Transition] = []
    for task_id, index in copies:
        task = world.tasks[task_id]
        copy = task.copies.get(index)
        if copy is not None:
            rows.append(_copy_row(Change.LOST, task, copy, now_ms, reason=reason))
    return rows


def leave_overcommitted(world: World, now_ms: int) -> list[Transition]:
    """Take copies off nodes that have less than they hold; each is revoked and placed again."""
    leaving: dict[TaskId, list[Copy]] = {}
    for task_id, index in world.overcommitted_copies():
        leaving.setdefault(task_id, []).append(world.tasks[task_id].copies[index])
    reason = "its node has less than it holds"
    return [row for task_id, copies in leaving.items() for row in _revoke(world.tasks[task_id], copies, reason, now_ms)]


def reconcile(
    world: World, region: RegionId, held: Mapping[TaskId, int], knew: Knew, accept_timeout_ms: int, now_ms: int
) -> Repairs:
    """Compare what a region says it holds (task id → epoch) with the ledger.

    - Held, but not by the ledger: revoked with an epoch above the held one.
    - By the ledger, but missing from two lists in a row: lost, and placed again with the next epoch. Its event is not
      sent once more: who lost its books may have begun to run it, and an epoch is run once.

    Either is so only of a task of which the region knew, when it made the list, all that it was told (`knew`): the
    list cannot speak of what came later. What is missing had the time to be accepted, too: a list that is wrong there
    costs a run, one that is wrong about what it holds too much costs a row.
    """
    repairs = Repairs()
    for task_id, epoch in sorted(held.items()):
        task = world.tasks.get(task_id)
        copy = None if task is None else next((c for c in task.copies.values() if c.region == region), None)
        if copy is not None and copy.epoch >= epoch:
            copy.misses = 0 if copy.epoch == epoch else copy.misses
            continue
        if not knew(task_id, for_ms=0):
            continue
        known = task or world.ended.get(task_id)
        repairs.transitions.append(
            Transition(
                change=Change.REPAIRED,
                task_id=task_id,
                decided_ms=now_ms,
                epoch=max(epoch, known.epoch if known is not None else 0) + 1,
                region=region,
                reason=f"the region held epoch {epoch}, which the ledger has not there",
            )
        )
    for task_id, index in world.copies_in(region):
        task = world.tasks[task_id]
        copy = task.copies[index]
        if held.get(task_id) == copy.epoch or not knew(task_id, for_ms=accept_timeout_ms):
            continue
        copy.misses += 1
        if copy.misses > 1:
            repairs.transitions.append(
                _copy_row(Change.LOST, task, copy, now_ms, reason=f"region {region} does not hold it")
            )
    return repairs


def place(world: World, plan: Plan, plan_id: str, now_ms: int) -> list[Transition]:
    """Turn a plan into rows, in the order in which regions can obey them.

    First who gives way, then who shrinks or grows, then who is placed; last, new reasons to wait.
    """
    rows: list[Transition] = []
    spent: dict[TaskId, int] = {}

    def next_epoch(task: Task) -> int:
        epoch = spent[task.task_id] = spent.get(task.task_id, task.epoch) + 1
        return epoch

    for leaving in plan.preempted:
        task = world.tasks[leaving.task_id]
        row = _copy_row(
            Change.PREEMPTED,
            task,
            task.copies[leaving.copy],
            now_ms,
            reason=leaving.reason,
            epoch=next_epoch(task),
        )
        rows.append(replace(row, plan_id=plan_id))
    for chosen in (*plan.resized, *plan.assignments):
        task = world.tasks[chosen.task_id]
        rows.append(
            Transition(
                change=Change.ASSIGNED,
                task_id=task.task_id,
                decided_ms=now_ms,
                copy=chosen.copy,
                epoch=next_epoch(task),
                attempt=task.attempt,
                region=chosen.region,
                pool_id=chosen.pool_id,
                shares=chosen.shares,
                plan_id=plan_id,
                usd_per_hour=chosen.usd_per_hour,
                money=chosen.money,
                reason=chosen.reason,
                tenant=task.spec.tenant,
                priority=task.spec.priority,
            )
        )
    for held in plan.held:
        task = world.tasks[held.task_id]
        if _is_news(held.reason, task, now_ms):
            rows.append(
                Transition(
                    change=Change.WAITING,
                    task_id=task.task_id,
                    decided_ms=now_ms,
                    epoch=task.epoch,
                    attempt=task.attempt,
                    plan_id=plan_id,
                    reason=held.reason,
                    tenant=task.spec.tenant,
                    priority=task.spec.priority,
                )
            )
    return rows


def _is_news(reason: str, task: Task, now_ms: int) -> bool:
    """Whether a reason to wait is worth a row.

    A reason's first word is its kind; its figures change with every plan. What others hold changes from plan to plan,
    too, and the reasons that follow from it with it: between those a task may change sides once in a while.
    """
    kind, known = reason.partition(":")[0], task.reason.partition(":")[0]
    if kind == known:
        return False
    return not {kind, known} <= FICKLE or abs(now_ms - task.reason_ms) >= FICKLE_MS


def _failure(task: Task, copy: Copy, detail: str, max_attempts: int, now_ms: int) -> list[Transition]:
    attempt = task.attempt + 1
    if attempt < max_attempts:
        return [_copy_row(Change.FAILED, task, copy, now_ms, reason=detail, attempt=attempt)]
    reason = f"{GAVE_UP} after {attempt} attempts, the last: {detail}"
    others = [other for other in task.copies.values() if other is not copy]
    revoked = _revoke(task, others, "another copy of the task failed for good", now_ms)
    return [*revoked, _copy_row(Change.FAILED, task, copy, now_ms, reason=reason, attempt=attempt)]


def _revoke_all(task: Task, reason: str, now_ms: int) -> list[Transition]:
    return _revoke(task, list(task.copies.values()), reason, now_ms)


def _revoke(task: Task, copies: Sequence[Copy], reason: str, now_ms: int) -> list[Transition]:
    """Revoke copies, each with an epoch of its own above all before: the region's fence lets nothing older pass."""
    ordered = sorted(copies, key=lambda copy: copy.index)
    return [
        _copy_row(Change.REVOKED, task, copy, now_ms, reason=reason, epoch=task.epoch + step)
        for step, copy in enumerate(ordered, start=1)
    ]


def _copy_row(
    change: Change,
    task: Task,
    copy: Copy,
    now_ms: int,
    *,
    reason: str | None = None,
    epoch: int | None = None,
    attempt: int | None = None,
) -> Transition:
    return Transition(
        change=change,
        task_id=task.task_id,
        decided_ms=now_ms,
        copy=copy.index,
        epoch=copy.epoch if epoch is None else epoch,
        attempt=task.attempt if attempt is None else attempt,
        region=copy.region,
        pool_id=copy.pool_id,
        reason=reason,
        tenant=task.spec.tenant,
        priority=task.spec.priority,
    )


def _request_row(
    change: Change, task_id: TaskId, spec: TaskSpec, request: str, content_hash: str, origin: RequestOrigin, now_ms: int
) -> Transition:
    return Transition(
        change=change,
        task_id=task_id,
        decided_ms=now_ms,
        spec=spec,
        request=request,
        content_hash=content_hash,
        tenant=spec.tenant,
        priority=spec.priority,
        topic=origin.topic,
        topic_partition=origin.partition,
        topic_offset=origin.offset,
        topic_timestamp_ms=origin.timestamp_ms,
    )
