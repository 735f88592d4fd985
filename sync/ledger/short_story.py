"""The fewest ledger rows that lead to what `tasks` and `placements` say of the tasks that still live.

They tell where every copy is and how far it is, and each task's epoch, attempts and reason. Which regions a task avoids
and how often it was given back is in the ledger alone.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from thalweg.scheduling.world.lifecycle import LIVE
from thalweg.scheduling.world.tasks import NO_TERMS, Change, CopyState, Share, TaskSpec, TaskState, Transition

if TYPE_CHECKING:
    from thalweg.sync.ledger.ledger import SpecOf  # the writer, which readers do without

TASK_COLUMNS = ("task_id", "state", "epoch", "attempt", "reason", "submitted_at", "request", "held")
PLACEMENT_COLUMNS = (
    "task_id", "copy", "epoch", "state", "region", "pool_id", "nodes", "cost_usd_per_hour", "assigned_at", "changed_at",
)  # fmt: skip

_SINCE_ASSIGNED = {CopyState.ACCEPTED: Change.ACCEPTED, CopyState.RUNNING: Change.RUNNING}


def short_story(
    tasks: Iterable[Mapping[str, Any]],
    placements: Iterable[Mapping[str, Any]],
    spec_of: "SpecOf",
    awaited: Set[str] = frozenset(),
) -> Iterator[Transition]:
    """Tell the rows, task by task in the order of submission.

    Args:
        tasks: rows of `tasks`, with TASK_COLUMNS; those of tasks that have ended are left out.
        placements: rows of `placements`, with PLACEMENT_COLUMNS; those of other tasks are left out.
        spec_of: reads a stored request.
        awaited: parents that are waited for beside those among the tasks: they live, or nobody has submitted them yet.
            All others have ended.
    """
    placed: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in placements:
        placed[row["task_id"]].append(row)
    live = sorted((task for task in tasks if task["state"] in LIVE), key=_by_submission)
    here = {task["task_id"] for task in live}
    specs = {task["task_id"]: _waiting_only_for((here, awaited), spec_of(task["request"])) for task in live}
    for task in in_order_of_story(live, specs):
        copies = sorted(placed[task["task_id"]], key=lambda row: int(row["copy"]))
        yield from _of_task(task, copies, specs[task["task_id"]])


def _by_submission(task: Mapping[str, Any]) -> tuple[Any, int, str]:
    # The shorter id first: so elements of an array, which come at one moment, stand by their numbers.
    return task["submitted_at"], len(task["task_id"]), task["task_id"]


def _waiting_only_for(there: Sequence[Set[str]], spec: TaskSpec) -> TaskSpec:
    """Leave out parents that have met the condition: of a task that was never heard of nobody would know that."""
    terms = spec.terms
    after = tuple(parent for parent in terms.after if any(parent.task_id in names for names in there))
    return spec if len(after) == len(terms.after) else replace(spec, terms=replace(terms, after=after))


def is_in_order_of_story(task_ids: Sequence[str], specs: Sequence[TaskSpec]) -> bool:
    """Tell whether parents come before their children and arrays before their elements already, as they mostly do."""
    at = {task_id: row for row, task_id in enumerate(task_ids)}
    return all(
        at.get(ahead, -1) < row
        for row, (task_id, spec) in enumerate(zip(task_ids, specs, strict=True))
        if spec.terms is not NO_TERMS
        for ahead in _waits_for(task_id, spec)
    )


def in_order_of_story(tasks: Sequence[Mapping[str, Any]], specs: Mapping[str, TaskSpec]) -> Iterator[Mapping[str, Any]]:
    """Put parents before their children and arrays before their elements: a task that begins looks who lives."""
    by_id = {task["task_id"]: task for task in tasks}
    begun: set[str] = set()
    told: set[str] = set()
    for task in tasks:
        path = [task["task_id"]]
        while path:
            task_id = path[-1]
            begun.add(task_id)
            ahead = [other for other in _waits_for(task_id, specs[task_id]) if other in by_id and other not in begun]
            path += ahead
            if not ahead:
                path.pop()
                if task_id not in told:
                    told.add(task_id)
                    yield by_id[task_id]


def _waits_for(task_id: str, spec: TaskSpec) -> list[str]:
    array = spec.terms.array
    ids: list[str] = [parent.task_id for parent in spec.terms.after]
    return [other for other in ([] if array is None else [array.array_id]) + ids if other != task_id]


def _of_task(task: Mapping[str, Any], placements: Iterable[Mapping[str, Any]], spec: TaskSpec) -> Iterator[Transition]:
    task_id, attempt, reason = task["task_id"], task["attempt"] or 0, task["reason"]
    submitted_ms = _ms(task["submitted_at"])
    yield Transition(
        change=Change.SUBMITTED,
        task_id=task_id,
        decided_ms=submitted_ms,
        spec=spec,
        request=task["request"],
    )

    def of_copy(change: Change, row: Mapping[str, Any], at: str) -> Transition:
        return Transition(
            change=change,
            task_id=task_id,
            decided_ms=_ms(row[at]),
            copy=row["copy"],
            epoch=row["epoch"],
            attempt=attempt,
            region=row["region"],
            pool_id=row["pool_id"],
            usd_per_hour=row["cost_usd_per_hour"],
            reason=reason,
            shares=tuple(_share(fields) for fields in row["nodes"] or ()) if change is Change.ASSIGNED else (),
        )

    for row in placements:
        state = CopyState(row["state"])
        if state is CopyState.SUCCEEDED:
            yield of_copy(Change.SUCCEEDED, row, "changed_at")
            continue
        yield of_copy(Change.ASSIGNED, row, "assigned_at")
        if state in _SINCE_ASSIGNED:
            yield of_copy(_SINCE_ASSIGNED[state], row, "changed_at")
    if task.get("held"):
        yield Transition(change=Change.HELD, task_id=task_id, decided_ms=submitted_ms, attempt=attempt, reason=reason)
    if task["state"] == TaskState.WAITING:
        yield Transition(
            change=Change.WAITING, task_id=task_id, decided_ms=submitted_ms, attempt=attempt, reason=reason
        )
    yield Transition(change=Change.REPAIRED, task_id=task_id, decided_ms=submitted_ms, epoch=task["epoch"])


def _share(fields: Mapping[str, Any]) -> Share:
    return Share(**{**fields, "devices": tuple(fields["devices"] or ())})


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1_000)
