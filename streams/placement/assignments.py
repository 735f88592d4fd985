"""Assignment events: what a committed ledger row tells a region to do."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import msgspec

from thalweg.scheduling.ids import NodeId, TaskId
from thalweg.scheduling.world.tasks import Change, Share, Transition, element_index
from thalweg.streams.broker.publish import OutgoingRecord, outgoing
from thalweg.streams.contract.decode import decoded
from thalweg.streams.contract.envelope import Envelope
from thalweg.streams.contract.messages import AssignmentEvent, NodeShare, PerWorker, TaskRequest
from thalweg.streams.contract.topics import ASSIGNMENTS
from thalweg.streams.placement.event_ids import event_id_of, event_type_of

SOURCE: Final = "/thalweg/place"
MOST_COPIES: Final = 16
"""That a request may ask for (`replicas`)."""
_DECODER: Final = msgspec.json.Decoder(TaskRequest)
_EVENT: Final = msgspec.json.Decoder(AssignmentEvent)


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
        env=task.env,
        secrets=task.secrets,
        time_limit_s=task.time_limit_s,
        array_index=None if task.array is None else element_index(task.task_id, row.task_id),
        array_count=None if task.array is None else task.array.count,
        requested_at=task.observed_at,
    )
    envelope = Envelope(event_id=event_id, source=SOURCE, event_type=f"assignment.{kind}", time_ms=row.decided_ms)
    return outgoing(ASSIGNMENTS, prefix, event, key=row.task_id, region=row.region, event=envelope)


def read_event(value: bytes | None) -> AssignmentEvent:
    """Decode an event.

    Raises:
        UndecodableError: it is none.
    """
    return decoded(_EVENT, value)


def copy_of_event(event: AssignmentEvent) -> int:
    """Tell which copy of its task an event is about: the event's id is derived from it; 0 where it is not ours."""
    shares = shares_of(event)
    change = Change.ASSIGNED if event.type == "assign" else Change.REVOKED
    for copy in range(MOST_COPIES):
        row = Transition(
            change=change,
            task_id=event.task_id,
            decided_ms=event.decided_at,
            copy=copy,
            epoch=event.epoch,
            region=event.region,
            shares=shares,
        )
        if event_id_of(row) == event.event_id:
            return copy
    return 0


def shares_of(event: AssignmentEvent) -> tuple[Share, ...]:
    """Read what an event takes of nodes, as the ledger has it."""
    return tuple(
        Share(
            node_id=NodeId(node.node_id),
            workers=node.workers,
            gpus=node.gpus,
            gpu_milli=node.gpu_milli,
            devices=tuple(node.devices),
        )
        for node in event.nodes
    )


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
