"""What a place micro-batch received, decoded: requests, reports and what had to be refused, in order of arrival."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from scheduling.decide import Origin
from streams.messages import StatusEvent, TaskRequest
from streams.requests import RequestError, content_hash, read_request
from streams.topics import REQUESTS, STATUS, region_of_topic, topic_name

if TYPE_CHECKING:
    import pyarrow as pa

COLUMNS: Final = ("topic", "partition", "offset", "timestamp_ms", "key", "value")

TASK_EVENTS: Final = frozenset({"accepted", "running", "progress", "succeeded", "failed", "evicted", "revoked"})

_STATUS: Final = msgspec.json.Decoder(StatusEvent)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A well-formed request."""

    request: TaskRequest
    raw: str
    content_hash: str
    origin: Origin


@dataclass(frozen=True, slots=True, kw_only=True)
class Reported:
    """A well-formed report of a region."""

    event: StatusEvent
    origin: Origin


@dataclass(frozen=True, slots=True, kw_only=True)
class Malformed:
    """A record that is refused, and why."""

    reason: str
    key: bytes | None
    value: bytes | None
    origin: Origin


def read(batch: "pa.Table", prefix: str) -> Iterator[Asked | Reported | Malformed]:
    """Decode a batch with COLUMNS, by broker time, then topic, partition and offset: the same batch, the same order."""
    requests_topic = topic_name(REQUESTS, prefix)
    columns = [batch.column(name).to_pylist() for name in COLUMNS]
    rows = sorted(zip(*columns, strict=True), key=lambda row: (row[3], row[0], row[1], row[2]))
    for topic, partition, offset, timestamp_ms, key, value in rows:
        origin = Origin(topic=topic, partition=partition, offset=offset, timestamp_ms=timestamp_ms)
        try:
            if value is None:
                raise RequestError("an empty record (tombstone): allowed is a JSON object")
            if topic == requests_topic:
                yield Asked(
                    request=read_request(value), raw=value.decode(), content_hash=content_hash(value), origin=origin
                )
            else:
                yield Reported(event=_read_status(value, region_of_topic(topic, STATUS, prefix)), origin=origin)
        except RequestError as error:
            yield Malformed(reason=str(error), key=key, value=value, origin=origin)


def _read_status(value: bytes, region: str) -> StatusEvent:
    try:
        event = _STATUS.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RequestError(str(error)) from error
    if event.region != region:
        raise RequestError(f"region {event.region!r} on the topic of region {region!r}: a region writes its own topic")
    if event.type in TASK_EVENTS and event.task_id is None:
        raise RequestError(f"type {event.type!r} without task_id: it speaks of one task")
    return event
