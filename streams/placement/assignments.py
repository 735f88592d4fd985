"""Assignment events: what a committed ledger row tells a region to do."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import msgspec

from thalweg.scheduling.ids import TaskId
from thalweg.scheduling.world.tasks import Change, Share, Transition
from thalweg.streams.broker.publish import OutgoingRecord, outgoing
from thalweg.streams.contract.envelope import Envelope, content_id
from thalweg.streams.contract.messages import AssignmentEvent, NodeShare, PerWorker, TaskRequest
from thalweg.streams.contract.topics import ASSIGNMENTS

SOURCE: Final = "/thalweg/place"
_DECODER: Final = msgspec.json.Decoder(TaskRequest)
_REVOKES: Final = frozenset({Change.REVOKED, Change.PREEMPTED, Change.REPAIRED})


def event_id_of(row: Transition) -> str | None:
    """Id of the event that a row gives rise to, from its content; None where it gives none."""
    kind = event_type_of(row)
    if kind is None or row.region is None:
        return None
    return content_id(kind, row.task_id, row.copy, row.epoch, row.region, *map(_share_text, row.shares))


def event_type_of(row: Transition) -> str | None:
    """Tell whether a row assigns, revokes, or is of no concern to a region."""
    if row.change is Change.ASSIGNED:
        return "assign"
    return "revoke" if row.change in _REVOKES else None


def event_record(row: Transition, event_id: str, request: str, prefix: str) -> OutgoingRecord:
    """Make the record that tells a region what a row says.

    Args:
        row: a committed row with an event.
        event_id: as committed with it.
        request: the task's request as stored, or "" where a revoke needs none.
        prefix: topic prefix.
    """
    kind = event_type_of(row)
    assert row.region is not None
    task = _decoded(request) if kind == "assign" else _NOTHING
    each = _needs(task, row.shares) if kind == "assign" else [PerWorker()] * len(row.shares)
    event = AssignmentEvent(
        event_id=event_id,
        type="assign" if kind == "assign" else "revoke",
        task_id=row.task_id,
        epoch=row.epoch,
        region=row.region,
        nodes=[
            NodeShare(
                node_id=share.node_id,
                workers=share.workers,
                gpus=share.gpus,
                gpu_milli=share.gpu_milli,
                devices=list(share.devices),
                cpus=round(worker.cpus * share.workers, 3),
                memory_gb=round(worker.memory_gb * share.workers, 3),
            )
            for share, worker in zip(row.shares, each, strict=True)
        ],
        plan_id=row.plan_id or "",
        cost_usd_per_hour=row.usd_per_hour or 0.0,
        reason=row.reason or "",
        decided_at=row.decided_ms,
        kind=task.kind,
        expected_s=task.expected_s,
        command=task.command,
        image=task.image,
        requested_at=task.observed_at,
    )
    envelope = Envelope(event_id=event_id, source=SOURCE, event_type=f"assignment.{kind}", time_ms=row.decided_ms)
    return outgoing(ASSIGNMENTS, prefix, event, key=row.task_id, region=row.region, event=envelope)


_NOTHING: Final = TaskRequest(task_id=TaskId("-"), expected_s=0)


def _needs(task: TaskRequest, shares: Sequence[Share]) -> list[PerWorker]:
    """Tell of each share what one of its workers needs. Shares are listed in the order of the task's parts."""
    if not task.subtasks:
        return [task.per_worker] * len(shares)
    needs: list[PerWorker] = []
    parts = [part.per_worker for part in task.subtasks for _ in range(part.workers)]
    for share in shares:
        needs.append(parts[0] if parts else task.per_worker)
        del parts[: share.workers]
    return needs


@lru_cache(maxsize=8)  # the copies of one task follow each other
def _decoded(request: str) -> TaskRequest:
    return _DECODER.decode(request)


def _share_text(share: Share) -> str:
    return f"{share.node_id}:{share.workers}:{share.gpus}:{share.gpu_milli}:{share.devices}"
