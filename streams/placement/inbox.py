"""What a place micro-batch received, decoded: requests, reports and what had to be refused, in order of arrival."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, get_args

import msgspec

from thalweg.scheduling.decisions.decide import RequestOrigin
from thalweg.scheduling.ids import RegionId, TaskId
from thalweg.streams.broker.consume import IncomingRecord
from thalweg.streams.contract import names
from thalweg.streams.contract.decode import UndecodableError, decoded
from thalweg.streams.contract.messages import ControlOrder, EpochMs, RequestOp, StatusEvent, Task, TaskRequest
from thalweg.streams.contract.topics import CONTROL, REQUESTS, STATUS, region_of_topic, topic_name
from thalweg.streams.placement.orders import read_order
from thalweg.streams.placement.requests import RequestError, content_hash, read_request

if TYPE_CHECKING:
    import pyarrow as pa

COLUMNS: Final = ("topic", "partition", "offset", "timestamp_ms", "key", "value")

TASK_EVENTS: Final = frozenset({"accepted", "running", "progress", "succeeded", "failed", "evicted", "revoked"})

LONGEST_ID: Final = 256

_JSON: Final = msgspec.json.Encoder()
_STATUS: Final = msgspec.json.Decoder(StatusEvent)


class ReceivedRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A well-formed request."""

    request: TaskRequest
    raw: str
    content_hash: str
    origin: RequestOrigin


class ReceivedStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A well-formed report of a region, and its bytes."""

    event: StatusEvent
    value: bytes
    origin: RequestOrigin


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedOrder:
    """A well-formed order, its key and its bytes."""

    order: ControlOrder
    key: bytes | None
    value: bytes
    origin: RequestOrigin


class RequestHead(msgspec.Struct, frozen=True):
    """Whose a request is: what can be read of one that is refused for the rest of it."""

    task_id: Task
    op: Any = "submit"
    observed_at: Any = None

    def said_op(self) -> RequestOp:
        """What was asked; submit where it says something that nobody can ask."""
        return self.op if self.op in get_args(RequestOp) else "submit"

    def said_observed_at(self) -> int | None:
        """The request's own moment, where it is one."""
        try:
            return msgspec.convert(self.observed_at, EpochMs | None)
        except msgspec.ValidationError:
            return None


_HEAD: Final = msgspec.json.Decoder(RequestHead)


@dataclass(frozen=True, slots=True, kw_only=True)
class Malformed:
    """A record that is refused, and why."""

    reason: str
    key: bytes | None
    value: bytes | None
    origin: RequestOrigin
    head: RequestHead | None = None
    """Of a request, where it can be read."""

    def task_named(self) -> TaskId:
        """Tell which task it is about, by its key where its text says nothing; "" where neither does."""
        if self.head is not None:
            return self.head.task_id
        try:
            named = (self.key or b"").decode()
        except UnicodeDecodeError:
            return TaskId("")
        return TaskId(named if len(named) <= LONGEST_ID else "")


Item = ReceivedRequest | ReceivedStatus | ReceivedOrder | Malformed


def read(batch: "pa.Table", prefix: str) -> Iterator[Item]:
    """Decode a batch with COLUMNS in the order of `in_order`."""
    requests_topic, control_topic = topic_name(REQUESTS, prefix), topic_name(CONTROL, prefix)
    columns = [batch.column(name).to_pylist() for name in COLUMNS]
    for topic, partition, offset, timestamp_ms, key, value in in_order(list(zip(*columns, strict=True))):
        origin = RequestOrigin(topic=topic, partition=partition, offset=offset, timestamp_ms=timestamp_ms)
        try:
            if topic == requests_topic:
                yield from _requests(value, origin)
            elif topic == control_topic:
                if value is not None:  # a tombstone only lets the broker forget; what stands is in the ledger
                    yield ReceivedOrder(order=read_order(value), key=key, value=value, origin=origin)
            else:
                event = _read_status(value, region_of_topic(topic, STATUS, prefix))
                yield ReceivedStatus(event=event, value=value, origin=origin)
        except (RequestError, UnicodeDecodeError) as error:
            head = _head(value) if topic == requests_topic else None
            yield Malformed(reason=str(error), key=key, value=value, origin=origin, head=head)


def _requests(value: bytes | None, origin: RequestOrigin) -> Iterator[ReceivedRequest]:
    """Read a request; one about many tasks is as many requests, and each could have come alone."""
    request = read_request(value)
    if not request.task_ids:
        assert value is not None
        yield ReceivedRequest(request=request, raw=value.decode(), content_hash=content_hash(value), origin=origin)
        return
    for task_id in dict.fromkeys(request.task_ids):
        one = TaskRequest(
            task_id=task_id, op=request.op, observed_at=request.observed_at, stamp=request.stamp, who=request.who
        )
        yield ReceivedRequest(request=one, raw=_JSON.encode(one).decode(), content_hash="", origin=origin)


def _head(value: bytes | None) -> RequestHead | None:
    try:
        return decoded(_HEAD, value)
    except UndecodableError:
        return None


def in_order(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Order records (topic, partition, offset, timestamp in ms, …): the same records, the same order.

    Within a partition, so within a key, the order is the broker's. Only between partitions does time decide, and there
    a record counts as no earlier than those in front of it: a producer's clock moves nothing ahead of its own offset.
    """
    rows = sorted(rows, key=lambda row: (row[0], row[1], row[2]))
    place, latest_ms = None, 0
    timed = []
    for row in rows:
        latest_ms = row[3] if place != row[:2] else max(latest_ms, row[3])
        place = row[:2]
        timed.append((latest_ms, row[0], row[1], row[2]))
    return [rows[index] for index in sorted(range(len(rows)), key=timed.__getitem__)]


def status_of(record: IncomingRecord, prefix: str) -> ReceivedStatus:
    """Decode one report that was read outside of a batch.

    Raises:
        RequestError: it is none.
    """
    origin = RequestOrigin(
        topic=record.topic, partition=record.partition, offset=record.offset, timestamp_ms=record.timestamp_ms
    )
    event = _read_status(record.value, region_of_topic(record.topic, STATUS, prefix))
    return ReceivedStatus(event=event, value=record.value or b"", origin=origin)


def _read_status(value: bytes | None, region: RegionId) -> StatusEvent:
    try:
        event = decoded(_STATUS, value)
    except UndecodableError as error:
        raise RequestError(str(error)) from error
    if event.region != region:
        raise RequestError(f"region {event.region!r} on the topic of region {region!r}: a region writes its own topic")
    # A report of a task is heard whatever the task and its figures are called: its end counts.
    named = (("agent_id", event.agent_id), *((f"nodes[{at}]", node) for at, node in enumerate(event.nodes)))
    if (wrong := next(filter(None, (names.objection(*one) for one in named)), None)) is not None:
        raise RequestError(wrong)
    if event.type == "notice" and event.by is None:
        raise RequestError("type 'notice' without by: it says when nodes are taken away")
    if event.type in TASK_EVENTS and event.task_id is None:
        raise RequestError(f"type {event.type!r} without task_id: it speaks of one task")
    return event
