"""What a place micro-batch received, decoded: requests, reports and what had to be refused, in order of arrival."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec

from thalweg.scheduling.ids import RegionId
from thalweg.scheduling.live.decide import RequestOrigin
from thalweg.streams.contract.decode import UndecodableError, decoded
from thalweg.streams.contract.envelope import content_id
from thalweg.streams.contract.messages import StatusEvent, TaskRequest
from thalweg.streams.contract.topics import REQUESTS, STATUS, region_of_topic, topic_name
from thalweg.streams.placement.requests import RequestError, content_hash, read_request

if TYPE_CHECKING:
    import pyarrow as pa

COLUMNS: Final = ("topic", "partition", "offset", "timestamp_ms", "key", "value")

TASK_EVENTS: Final = frozenset({"accepted", "running", "progress", "succeeded", "failed", "evicted", "revoked"})

_STATUS: Final = msgspec.json.Decoder(StatusEvent)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedRequest:
    """A well-formed request."""

    request: TaskRequest
    raw: str
    content_hash: str
    origin: RequestOrigin


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedStatus:
    """A well-formed report of a region, and its bytes."""

    event: StatusEvent
    value: bytes
    origin: RequestOrigin


@dataclass(frozen=True, slots=True, kw_only=True)
class Malformed:
    """A record that is refused, and why."""

    reason: str
    key: bytes | None
    value: bytes | None
    origin: RequestOrigin


Item = ReceivedRequest | ReceivedStatus | Malformed


def read(batch: "pa.Table", prefix: str) -> Iterator[Item]:
    """Decode a batch with COLUMNS in the order of `in_order`."""
    requests_topic = topic_name(REQUESTS, prefix)
    columns = [batch.column(name).to_pylist() for name in COLUMNS]
    for topic, partition, offset, timestamp_ms, key, value in in_order(list(zip(*columns, strict=True))):
        origin = RequestOrigin(topic=topic, partition=partition, offset=offset, timestamp_ms=timestamp_ms)
        try:
            if topic == requests_topic:
                request = read_request(value)
                yield ReceivedRequest(
                    request=request, raw=value.decode(), content_hash=content_hash(value), origin=origin
                )
            else:
                event = _read_status(value, region_of_topic(topic, STATUS, prefix))
                yield ReceivedStatus(event=event, value=value, origin=origin)
        except (RequestError, UnicodeDecodeError) as error:
            yield Malformed(reason=str(error), key=key, value=value, origin=origin)


def offsets_digest(batch: "pa.Table") -> int:
    """Tell batches apart by the offsets they hold, below 2**60: a batch that is read again has the same digest."""
    places = batch.select(["topic", "partition", "offset"]).group_by(["topic", "partition"], use_threads=False)
    spans = places.aggregate([("offset", "min"), ("offset", "max"), ("offset", "count")]).to_pylist()
    parts = sorted(
        (span["topic"], span["partition"], span["offset_min"], span["offset_max"], span["offset_count"])
        for span in spans
    )
    return int(content_id(*(value for span in parts for value in span))[:15], 16)


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


def _read_status(value: bytes | None, region: RegionId) -> StatusEvent:
    try:
        event = decoded(_STATUS, value)
    except UndecodableError as error:
        raise RequestError(str(error)) from error
    if event.region != region:
        raise RequestError(f"region {event.region!r} on the topic of region {region!r}: a region writes its own topic")
    if event.type in TASK_EVENTS and event.task_id is None:
        raise RequestError(f"type {event.type!r} without task_id: it speaks of one task")
    return event
