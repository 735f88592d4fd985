"""Ends of tasks, told to whoever waits: of a committed row that ends its task, and of a request that was refused."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from thalweg.scheduling.ids import TaskId
from thalweg.scheduling.world.tasks import Change, Transition
from thalweg.streams.broker.publish import OutgoingRecord, outgoing
from thalweg.streams.contract.envelope import Envelope, content_id
from thalweg.streams.contract.messages import EndState, TaskEnd
from thalweg.streams.contract.topics import RESULTS
from thalweg.streams.placement import inbox
from thalweg.streams.placement.assignments import SOURCE
from thalweg.sync.ledger.run_outcome import JsonPart, read_outcome

LONGEST_REASON: Final = 4_000
"""Characters."""
_STATES: Final[Mapping[Change, EndState]] = {
    Change.FAILED: "failed",
    Change.CANCELLED: "cancelled",
}
"""Whatever else ends a task, ends it because all of its copies have succeeded."""
_PLAIN: Final = msgspec.json.Decoder()


def end_record(row: Transition, prefix: str) -> OutgoingRecord:
    """Make the event of a row with which its task is over."""
    outcome = read_outcome(row.outcome)
    state: EndState = _STATES.get(row.change, "succeeded")
    end = TaskEnd(
        event_id=content_id("end", row.task_id, state, row.epoch, row.decided_ms),
        task_id=row.task_id,
        state=state,
        name=row.name,
        tenant=row.tenant or "default",
        reason=(row.reason or "")[:LONGEST_REASON],
        attempts=row.attempt,
        epoch=row.epoch,
        region=row.region,
        cause=row.cause,
        exit_code=outcome.exit_code,
        started_at=outcome.started_ms,
        ended_at=row.decided_ms,
        metrics=_read(outcome.metrics) or {},
        result=_read(outcome.result),
        log=outcome.log,
        artefacts=_read(outcome.artefacts) or {},
    )
    return _record(end, prefix)


Asked = inbox.ReceivedRequest | inbox.Malformed


def refused_end(item: Asked, task_id: TaskId, reason: str, prefix: str) -> OutgoingRecord:
    """Make the event of a request that was refused."""
    request = item.request if isinstance(item, inbox.ReceivedRequest) else None
    origin = item.origin
    end = TaskEnd(
        event_id=content_id("refused", origin.topic, origin.partition, origin.offset, task_id),
        task_id=task_id,
        state="refused",
        name=None if request is None else request.name,
        tenant="default" if request is None else request.tenant,
        reason=reason[:LONGEST_REASON],
        ended_at=max(origin.timestamp_ms, 0),
        topic=origin.topic,
        partition=origin.partition,
        offset=origin.offset,
    )
    return _record(end, prefix)


def _record(end: TaskEnd, prefix: str) -> OutgoingRecord:
    envelope = Envelope(event_id=end.event_id, source=SOURCE, event_type=f"task.{end.state}", time_ms=end.ended_at)
    return outgoing(RESULTS, prefix, end, key=end.task_id, event=envelope)


def _read(part: JsonPart) -> Any:
    return _PLAIN.decode(part) if isinstance(part, msgspec.Raw) else None
