"""What follows from what arrived: requests, reports of regions, silence and a plan become rows of the ledger.

Every function reads the world and returns transitions; the caller lets the world follow them (`World.follow`) and
commits them. An input that means nothing any more (a repeated request, a report of an old epoch) gives no transition,
which is what makes it safe to receive twice.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count, takewhile
from typing import Any, Final

import msgspec
import numpy as np
from msgspec import structs

from thalweg.scheduling.counted import counted
from thalweg.scheduling.decisions.array_words import beyond_its_array
from thalweg.scheduling.decisions.rows import NOTHING_TOLD, assigned_row, copy_row, task_row
from thalweg.scheduling.decisions.start_terms import (
    doom_of,
    objection_to_elements,
    objection_to_parents,
    objection_to_update,
    words_at_begin,
)
from thalweg.scheduling.decisions.tries import why_not_again
from thalweg.scheduling.ids import RegionId, TaskId
from thalweg.scheduling.live.live_plan import Plan
from thalweg.scheduling.liveness.told import Knew
from thalweg.scheduling.passed import has_passed
from thalweg.scheduling.world.facts import TenantLimits
from thalweg.scheduling.world.gates import ArrayLine
from thalweg.scheduling.world.lifecycle import GAVE_UP
from thalweg.scheduling.world.task_book import EXIT
from thalweg.scheduling.world.tasks import (
    SILENT,
    Change,
    Copy,
    CopyState,
    RunReport,
    Task,
    TaskSpec,
    TaskState,
    Transition,
    element_id,
    stands_for_array,
)
from thalweg.scheduling.world.waiting import ClassKey
from thalweg.scheduling.world.world import World

FICKLE: Final = frozenset({"budget", "capacity", "quota", "replicas", "share"})
"""Kinds of reasons that follow from what others hold at the moment."""
FICKLE_MS: Final = 600_000
"""Between two rows of a task that only say that another of these is in front now."""


_HELD_WORDS: Final = {Change.HELD: "held: by request", Change.RELEASED: "released by request"}
AGENT_STOPPED: Final = "agent"
"""Cause of a run's end that says nothing about the task."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A request that is not obeyed, and why."""

    reason: str


class RequestOrigin(msgspec.Struct, frozen=True, kw_only=True):
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
    return _begin(world, task_id, spec, request, content_hash, origin, now_ms)


def rerun(
    world: World, task_id: TaskId, spec: TaskSpec, request: str, content_hash: str, origin: RequestOrigin, now_ms: int
) -> list[Transition] | Refused:
    """Run what has ended once more, with epochs above all that were used.

    Args:
        world: as it is.
        task_id: of the task.
        spec: what it asked for.
        request: the text of that.
        content_hash: its content.
        origin: where it was asked to run again.
        now_ms: the time.
    """
    if (objection := objection_to_rerun(world, task_id)) is not None:
        return objection
    return _begin(world, task_id, spec, request, content_hash, origin, now_ms)


def objection_to_rerun(world: World, task_id: TaskId) -> Refused | None:
    """Say why a task cannot run once more: only what has ended can."""
    task = world.tasks.get(task_id)
    if task is not None:
        return Refused(reason=f"rerun of task_id {task_id!r}: it is {task.state}; allowed are tasks that have ended")
    if world.ended.get(task_id) is None:
        return Refused(reason=f"rerun of task_id {task_id!r}: {nobody_submitted(world, task_id)}")
    return None


def objection_to_number(world: World, rows: Sequence[Transition], most_tasks: int) -> Refused | None:
    """Say why a tenant's tasks would be too many that have not ended.

    Args:
        world: as it is.
        rows: what a request would begin, of one tenant; nothing speaks against what begins no task.
        most_tasks: for a tenant of which nothing else was said.
    """
    begun = [row for row in rows if row.change is Change.SUBMITTED]
    if not begun:
        return None
    tenant = begun[0].tenant or ""
    said = world.tenants.get(tenant, TenantLimits()).most_tasks
    most, live = most_tasks if said is None else said, world.book.live_of[tenant]
    if live + len(begun) <= most:
        return None
    number = len(begun)
    asks = "" if number == 1 else f", and this is {number:,} more (an array of {number - 1:,} counts as {number:,})"
    # Where even a tenant of nothing could not have them, there is nothing to wait for.
    way_out = "send it again when some have ended" if number <= most else "only a higher limit takes it"
    return Refused(
        reason=f"tenant {tenant!r} has {live:,} of {counted(most, 'task')} that may not have ended at once{asks} "
        f"(most_tasks, of the tenant or of place): {way_out}"
    )


def hold(world: World, task_id: TaskId, origin: RequestOrigin, now_ms: int) -> list[Transition] | Refused:
    """Let a task not start until it is released; what runs goes on, and holding it twice is nothing new."""
    return _set_held(world, task_id, Change.HELD, origin, now_ms)


def release(world: World, task_id: TaskId, origin: RequestOrigin, now_ms: int) -> list[Transition] | Refused:
    """Let a task start that was held; releasing it twice is nothing new."""
    return _set_held(world, task_id, Change.RELEASED, origin, now_ms)


def _set_held(
    world: World, task_id: TaskId, change: Change, origin: RequestOrigin, now_ms: int
) -> list[Transition] | Refused:
    task = world.tasks.get(task_id)
    if task is None:
        op = "hold" if change is Change.HELD else "release"
        known = world.ended.get(task_id) is not None
        return [] if known else Refused(reason=f"{op} of task_id {task_id!r}: {nobody_submitted(world, task_id)}")
    if task.held == (change is Change.HELD):
        return []
    return [_task_row(change, task, task.epoch, _HELD_WORDS[change], now_ms, origin)]


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
    objection = objection_to_update(task, spec) or objection_to_parents(world, task_id, spec.terms.after)
    if objection is not None:
        return Refused(reason=objection)
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
        return Refused(reason=f"cancel of task_id {task_id!r}: {nobody_submitted(world, task_id)}")
    return _cancelled(world, task, "cancelled by request", now_ms, origin)


def follow_ups(world: World, now_ms: int) -> list[Transition]:
    """End what must end because others have: children of parents that ended the other way, and arrays.

    To be asked again after these rows are followed, until there are none.
    """
    if not (world.gates.doomed or world.gates.over):
        return []
    rows = [
        row
        for task_id, reason in world.gates.doomed.items()
        for row in _cancelled(world, world.tasks[task_id], reason, now_ms)
    ]
    return rows + [_array_ended(world.tasks[task_id], line, now_ms) for task_id, line in world.gates.arrays_over()]


def give_up_parents(world: World, overdue: Mapping[TaskId, TaskId], waited_ms: int, now_ms: int) -> list[Transition]:
    """End tasks that have waited long enough for a parent which nobody submits.

    Args:
        world: as it is.
        overdue: such tasks, each with its parent.
        waited_ms: how long they have at least.
        now_ms: the time.
    """
    return [
        row
        for task_id, parent in overdue.items()
        for row in _cancelled(
            world,
            world.tasks[task_id],
            f"cancelled: its parent {parent} was not submitted within {waited_ms / 1_000:g} s",
            now_ms,
        )
    ]


def _cancelled(
    world: World, task: Task, reason: str, now_ms: int, origin: RequestOrigin | None = None
) -> list[Transition]:
    """Cancel a task; an array after its elements."""
    rows = [row for element in world.gates.elements(task) for row in _cancelled(world, element, reason, now_ms, origin)]
    ended = _task_row(Change.CANCELLED, task, task.epoch + len(task.copies), reason, now_ms, origin)
    return [*rows, *_revoke_all(task, reason, now_ms), ended]


def _array_ended(task: Task, line: ArrayLine, now_ms: int) -> Transition:
    """End an array as its elements ended: succeeded if all have, failed if any has."""
    counts = Counter(line.ended.values())
    told = ", ".join(f"{counts[state]} {state}" for state in sorted(counts))
    reason = f"array: of {counted(line.terms.count, 'element')} {told}"
    if counts[TaskState.FAILED]:
        return _task_row(Change.FAILED, task, task.epoch, f"{GAVE_UP}: {reason}", now_ms)
    change = Change.SUCCEEDED if len(counts) == 1 and counts[TaskState.SUCCEEDED] else Change.CANCELLED
    return _task_row(change, task, task.epoch, reason, now_ms)


def report(
    world: World,
    region: RegionId,
    kind: str,
    task_id: TaskId,
    epoch: int,
    detail: str,
    max_attempts: int,
    now_ms: int,
    run: RunReport = NOTHING_TOLD,
) -> list[Transition]:
    """Take a region's report about one task; what speaks of another epoch or region than the ledger's is ignored.

    Of the kinds, accepted, running, succeeded, failed and evicted change something. After `max_attempts` failures the
    task is given up; a run that ends because its agent stops is no failure.
    """
    task = world.tasks.get(task_id)
    copy = None if task is None else next((c for c in task.copies.values() if c.region == region), None)
    if task is None or copy is None or copy.epoch != epoch:
        return []
    if kind == "accepted":
        return [copy_row(Change.ACCEPTED, task, copy, now_ms)] if copy.state is CopyState.ASSIGNED else []
    if kind == "running":
        return [] if copy.state is CopyState.RUNNING else [copy_row(Change.RUNNING, task, copy, now_ms)]
    if kind == "succeeded":
        return [
            *_left_over(task, copy, now_ms),
            copy_row(Change.SUCCEEDED, task, copy, now_ms, reason=detail or None, run=run),
        ]
    if kind == "evicted" or (kind == "failed" and run.cause == AGENT_STOPPED):
        return [copy_row(Change.EVICTED, task, copy, now_ms, reason=detail or "evicted by its region", run=run)]
    if kind == "failed":
        return _failure(world, task, copy, detail or "failed", max_attempts, now_ms, run)
    return []


def _left_over(task: Task, succeeded: Copy, now_ms: int) -> list[Transition]:
    """Stop copies that the task needs no more once this one has succeeded: one that began beside another."""
    too_many = len(task.copies) + len(task.done_copies) - task.spec.replicas
    if too_many <= 0:
        return []
    others = [copy for copy in task.copies.values() if copy is not succeeded]
    return _revoke(task, others[:too_many], "another copy of it has succeeded", now_ms)


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
            rows.append(copy_row(Change.LOST, task, copy, now_ms, reason=reason))
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
                copy_row(Change.LOST, task, copy, now_ms, reason=f"region {region} does not hold it")
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
        copy, epoch = task.copies[leaving.copy], next_epoch(task)
        rows.append(copy_row(Change.PREEMPTED, task, copy, now_ms, reason=leaving.reason, epoch=epoch, plan_id=plan_id))
    for chosen in (*plan.resized, *plan.assignments):
        task = world.tasks[chosen.task_id]
        rows.append(assigned_row(task, chosen, now_ms, epoch=next_epoch(task), plan_id=plan_id))
    for held in plan.held:
        task = world.tasks[held.task_id]
        if _is_news(held.reason, task, now_ms):
            rows.append(task_row(Change.WAITING, task, now_ms, reason=held.reason, plan_id=plan_id))
    return rows


def _is_news(reason: str, task: Task, now_ms: int) -> bool:
    """Whether a reason to wait is worth a row.

    A reason's first word is its kind; its figures change with every plan. What others hold changes from plan to plan,
    too, and the reasons that follow from it with it: between those a task may change sides once in a while.
    """
    kind, known = reason.partition(":")[0], task.reason.partition(":")[0]
    if kind == known:
        return False
    return not {kind, known} <= FICKLE or has_passed(task.reason_ms, now_ms, FICKLE_MS)


def _failure(
    world: World, task: Task, copy: Copy, detail: str, max_attempts: int, now_ms: int, run: RunReport
) -> list[Transition]:
    attempt = task.attempt + 1
    end = why_not_again(task, run, max_attempts, lambda: _may_go_elsewhere(world, task, copy))
    if end is None:
        wait_ms = task.spec.terms.retries.wait_ms((*task.causes, run.cause or EXIT))
        again = f"{detail}; tried again in {wait_ms / 1000:.0f} s" if wait_ms else detail
        return [copy_row(Change.FAILED, task, copy, now_ms, reason=again, attempt=attempt, run=run)]
    reason = f"{GAVE_UP} after {counted(attempt, 'attempt')}{end}, the last: {detail}"
    others = [other for other in task.copies.values() if other is not copy]
    revoked = _revoke(task, others, "another copy of the task failed for good", now_ms)
    return [*revoked, copy_row(Change.FAILED, task, copy, now_ms, reason=reason, attempt=attempt, run=run)]


def _may_go_elsewhere(world: World, task: Task, copy: Copy) -> bool:
    """Tell whether a task may run in a region in which it has not failed, whatever is free there now."""
    failed = task.avoid | {copy.region}
    key = ClassKey(spec=task.spec, missing=1, taken=task.taken, avoid=failed)
    suitable = np.flatnonzero(world.suitable_pools(key)).tolist()
    return any(world.nodes.pools[pool].region not in failed for pool in suitable)


def stop_all(world: World, reason: str, now_ms: int) -> list[Transition]:
    """Take every copy of every task from where it is: asked of copies of the world alone, by who plans all anew."""
    return [row for task in world.tasks.values() if task.copies for row in _revoke_all(task, reason, now_ms)]


def _revoke_all(task: Task, reason: str, now_ms: int) -> list[Transition]:
    return _revoke(task, list(task.copies.values()), reason, now_ms)


def _revoke(task: Task, copies: Sequence[Copy], reason: str, now_ms: int) -> list[Transition]:
    """Revoke copies, each with an epoch of its own above all before: the region's fence lets nothing older pass."""
    ordered = sorted(copies, key=lambda copy: copy.index)
    return [
        copy_row(Change.REVOKED, task, copy, now_ms, reason=reason, epoch=task.epoch + step)
        for step, copy in enumerate(ordered, start=1)
    ]


def nobody_submitted(world: World, task_id: TaskId) -> str:
    """Say of a task that it is not there; of what looks like an element, which elements its array has."""

    def count_of(array: TaskId) -> int | None:
        if world.find(array) is None:
            return None
        indices = takewhile(lambda index: world.find(element_id(array, index)) is not None, count())
        return sum(1 for _ in indices) or None

    return f"no such task was submitted{beyond_its_array(task_id, count_of)}"


def _task_row(
    change: Change, task: Task, epoch: int, reason: str, now_ms: int, origin: RequestOrigin | None = None
) -> Transition:
    """Say something of a task as a whole; `origin` where a request asked for it."""
    row = task_row(change, task, now_ms, epoch=epoch, reason=reason)
    return row if origin is None else from_record(row, origin)


def from_record(row: Transition, origin: RequestOrigin) -> Transition:
    """Say of a row which record asked for it."""
    return structs.replace(row, **_place_of(origin))


def _place_of(origin: RequestOrigin) -> dict[str, Any]:
    return {
        "topic": origin.topic,
        "topic_partition": origin.partition,
        "topic_offset": origin.offset,
        "topic_timestamp_ms": origin.timestamp_ms,
    }


def _begin(
    world: World, task_id: TaskId, spec: TaskSpec, request: str, content_hash: str, origin: RequestOrigin, now_ms: int
) -> list[Transition] | Refused:
    """Begin a task, and with an array its elements; one whose parent has ended the other way ends at once."""
    terms = spec.terms
    is_array = terms.array is not None and stands_for_array(task_id, spec)
    elements = [element_id(task_id, index) for index in range(terms.array.count)] if is_array and terms.array else []
    objection = objection_to_elements(world, task_id, elements) or objection_to_parents(
        world, task_id, terms.after, elements
    )
    if objection is not None:
        return Refused(reason=objection)
    doom = doom_of(world, terms.after)
    reason = doom or words_at_begin(world, task_id, spec, now_ms)

    def begun(name: TaskId) -> Transition:
        row = _request_row(Change.SUBMITTED, name, spec, request, content_hash, origin, now_ms)
        before = world.ended.get(name)
        # That it begins again shows by an epoch, also where it was over before it had spent one.
        return structs.replace(row, reason=reason, epoch=0 if before is None else max(before.epoch, 1))

    if doom is None:
        return [begun(name) for name in (task_id, *elements)]
    row = begun(task_id)
    return [row, structs.replace(row, change=Change.CANCELLED, spec=None, request=None, content_hash=None)]


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
        name=spec.terms.name,
        **_place_of(origin),
    )
