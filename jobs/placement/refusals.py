"""A record that `place` refuses: where it lies, and what of it goes to the dead-letter topic."""

from typing import Final

from thalweg.jobs.microbatch.isolation import RecordPlace
from thalweg.scheduling.liveness.hearing import RecordPosition
from thalweg.streams.broker.deadletter import RefusedRecord
from thalweg.streams.contract.topics import CONTROL, STATUS
from thalweg.streams.placement import inbox

FLOW_NAME: Final = "place"


def place_of(item: inbox.Item) -> RecordPlace:
    """Where an item's record lies."""
    return RecordPlace(item.origin.topic, item.origin.partition, item.origin.offset)


def position_of(item: inbox.Item) -> RecordPosition:
    """Where an item's record lies, as hearing has it."""
    return RecordPosition(topic=item.origin.topic, partition=item.origin.partition, offset=item.origin.offset)


def refused_record(item: inbox.Item, reason: str) -> RefusedRecord:
    """Say of an item's record that it is refused."""
    origin = item.origin
    key, value = _bytes_of(item)
    return RefusedRecord(
        flow=FLOW_NAME,
        rule=_rule(origin.topic),
        reason=reason,
        topic=origin.topic,
        partition=origin.partition,
        offset=origin.offset,
        key=key,
        value=value,
        received_ms=origin.timestamp_ms,
    )


def _rule(topic: str) -> str:
    if f".{STATUS.topic}." in topic:
        return "report"
    return "order" if topic.endswith(f".{CONTROL.topic}") else "request"


def _bytes_of(item: inbox.Item) -> tuple[bytes | None, bytes | None]:
    if isinstance(item, inbox.Malformed):
        return item.key, item.value
    if isinstance(item, inbox.ReceivedOrder):
        return item.key, item.value
    if isinstance(item, inbox.ReceivedRequest):
        return item.request.task_id.encode(), item.raw.encode()
    return (item.event.task_id or item.event.region).encode(), item.value
