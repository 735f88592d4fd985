"""The fewest ledger rows that lead to what `tasks` and `placements` say of the tasks that still live.

They tell where every copy is and how far it is, and each task's epoch, attempts and reason. Which regions a task avoids
and how often it was given back is in the ledger alone.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from thalweg.scheduling.world.lifecycle import LIVE
from thalweg.scheduling.world.tasks import Change, CopyState, Share, TaskState, Transition

if TYPE_CHECKING:
    from thalweg.sync.ledger.ledger import SpecOf  # the writer, which readers do without

TASK_COLUMNS = ("task_id", "state", "epoch", "attempt", "reason", "submitted_at", "request")
PLACEMENT_COLUMNS = (
    "task_id", "copy", "epoch", "state", "region", "pool_id", "nodes", "cost_usd_per_hour", "assigned_at", "changed_at",
)  # fmt: skip

_SINCE_ASSIGNED = {CopyState.ACCEPTED: Change.ACCEPTED, CopyState.RUNNING: Change.RUNNING}


def short_story(
    tasks: Iterable[Mapping[str, Any]], placements: Iterable[Mapping[str, Any]], spec_of: "SpecOf"
) -> Iterator[Transition]:
    """Tell the rows, task by task in the order of submission.

    Args:
        tasks: rows of `tasks`, with TASK_COLUMNS; those of tasks that have ended are left out.
        placements: rows of `placements`, with PLACEMENT_COLUMNS; those of other tasks are left out.
        spec_of: reads a stored request.
    """
    placed: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in placements:
        placed[row["task_id"]].append(row)
    for task in sorted(tasks, key=lambda task: (task["submitted_at"], task["task_id"])):
        if task["state"] in LIVE:
            yield from _of_task(task, sorted(placed[task["task_id"]], key=lambda row: int(row["copy"])), spec_of)


def _of_task(
    task: Mapping[str, Any], placements: Iterable[Mapping[str, Any]], spec_of: "SpecOf"
) -> Iterator[Transition]:
    task_id, attempt, reason = task["task_id"], task["attempt"] or 0, task["reason"]
    submitted_ms = _ms(task["submitted_at"])
    yield Transition(
        change=Change.SUBMITTED,
        task_id=task_id,
        decided_ms=submitted_ms,
        spec=spec_of(task["request"]),
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
    if task["state"] == TaskState.WAITING:
        yield Transition(
            change=Change.WAITING, task_id=task_id, decided_ms=submitted_ms, attempt=attempt, reason=reason
        )
    yield Transition(change=Change.REPAIRED, task_id=task_id, decided_ms=submitted_ms, epoch=task["epoch"])


def _share(fields: Mapping[str, Any]) -> Share:
    return Share(**{**fields, "devices": tuple(fields["devices"] or ())})


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1_000)
