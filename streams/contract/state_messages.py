"""State messages: what regions put on `state.<region>`, from a replica's batches to a plain producer's few fields.

A plain producer sends a key and a value, and when and which version it is; its topic's region, partition and offset
complete the stamp, so a replay completes it alike. A replica sends a batch of updates, heartbeats and requests in one
record.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from thalweg.streams.contract import moments
from thalweg.streams.contract.decode import decoded
from thalweg.streams.contract.messages import Count, EpochMs
from thalweg.streams.contract.topics import STATE, region_of_topic
from thalweg.sync.protocol.changes import Change, Delete, changes_from_value
from thalweg.sync.protocol.entries import Heartbeat, Join, Leave, PlainWrite, RepairRequest, Update, UpMessage
from thalweg.sync.protocol.policies import MergePolicy
from thalweg.sync.protocol.records import MAX_DEPTH, MAX_RECORD_BYTES, checked_key
from thalweg.sync.protocol.stamps import FIRST_STORE_EPOCH, MAX_COUNTER, Stamp, check_region, moment_ms

Policies = Mapping[str, Mapping[str, str]]
"""Key prefix to field to policy; of several prefixes the longest counts."""

MAX_BATCH: Final = 5_000
"""Updates in one record."""

MAX_MESSAGE_BYTES: Final = MAX_RECORD_BYTES + 50_000
"""A replica's largest record with its stamp and its other words around it."""


class PlainStamp(Struct, frozen=True, omit_defaults=True):
    """A hybrid logical clock reading of a producer that keeps one."""

    ms: EpochMs
    counter: Count = 0
    region: str | None = None


class StateRecord(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A change of one record by a plain producer, or a replica's batch."""

    key: str | None = None
    """Of the replicated record; null takes the Kafka record's key."""
    value: Any | UnsetType = UNSET
    """An object's fields are set one by one; null deletes the record; anything else becomes its field `value`."""
    observed_at: EpochMs | str | None = None
    """When it was so: ISO 8601 with a time zone, or milliseconds since 1970; null takes the Kafka record's time."""
    version: Count = 0
    """Grows with every change of the record; breaks ties within one millisecond."""
    stamp: PlainStamp | None = None
    """Instead of `observed_at`."""
    policies: dict[str, MergePolicy] = {}
    """Field to policy, over those of the settings."""
    batch: Annotated[list[UpMessage], Meta(max_length=MAX_BATCH)] | None = None
    """A replica's messages, in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StateInput:
    """One Kafka record of `state.<region>`."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None


class StateRefusedError(ValueError):
    """The record cannot be used; the message says why."""


_RECORD: Final = msgspec.json.Decoder(StateRecord)
_ENCODER: Final = msgspec.json.Encoder()


def encode_batch(messages: Sequence[UpMessage]) -> bytes:
    """Write a replica's messages as one record's value."""
    return _ENCODER.encode(StateRecord(batch=list(messages)))


def read_state(record: StateInput, prefix: str, policies: Policies) -> list[UpMessage]:
    """Read one record.

    Args:
        record: as it lies in Kafka.
        prefix: first part of the topics' names.
        policies: of fields, for plain producers.

    Raises:
        StateRefusedError: it is not a state message, or it speaks for another region than its topic's.
    """
    region = region_of_topic(record.topic, STATE, prefix)
    try:
        check_region(region)
        if record.value is not None and len(record.value) > MAX_MESSAGE_BYTES:
            raise StateRefusedError(
                f"the message has {len(record.value)} bytes; allowed are {MAX_MESSAGE_BYTES}. Store the value "
                "elsewhere and send its address"
            )
        said = StateRecord(value=None) if record.value is None else decoded(_RECORD, record.value)
        if said.batch is not None:
            return _own(said.batch, region)
        return [_plain(said, record, region, policies)]
    except RecursionError:
        raise StateRefusedError(f"the message is nested too deep; allowed are {MAX_DEPTH} levels in a field") from None
    except ValueError as error:
        raise StateRefusedError(str(error)) from error


def region_said(message: UpMessage) -> str:
    """Return for which region a message speaks."""
    match message:
        case Update() | PlainWrite():
            return message.stamp.region
        case Heartbeat() | Join() | Leave() | RepairRequest():
            return message.region


def _own(batch: list[UpMessage], region: str) -> list[UpMessage]:
    for message in batch:
        if type(message) is Update and message.stamp.region == region:
            continue  # nearly all of them
        if region_said(message) != region:
            raise StateRefusedError(
                f"a message on the topic of region {region!r} speaks for region {region_said(message)!r}; a region "
                "writes to its own topic only"
            )
        if isinstance(message, PlainWrite):
            raise StateRefusedError("a batch holds a plain write; send plain writes as records of their own")
        if isinstance(message, Join) and message.epoch < FIRST_STORE_EPOCH:
            raise StateRefusedError(f"epoch {message.epoch} is no store's: allowed are {FIRST_STORE_EPOCH} and above")
    return batch


def _plain(said: StateRecord, record: StateInput, region: str, policies: Policies) -> PlainWrite:
    if said.value is UNSET:
        raise StateRefusedError('neither `value` nor `batch` is there; send {"key": ..., "value": ...}')
    key = checked_key(said.key if said.key is not None else (record.key or b"").decode())
    changes: tuple[Change, ...] = (Delete(),)
    if said.value is not None:
        changes = changes_from_value(said.value, _policies_of(key, policies) | said.policies)
    return PlainWrite(key, changes, _stamp(said, record, region))


def _stamp(said: StateRecord, record: StateInput, region: str) -> Stamp:
    if record.partition >= FIRST_STORE_EPOCH // 2 or said.version > MAX_COUNTER:
        raise StateRefusedError(f"partition {record.partition}, version {said.version}: out of range")
    name, counter = "stamp.ms", said.version
    if said.stamp is not None:
        if said.stamp.region not in (None, region):
            raise StateRefusedError(
                f"the stamp names region {said.stamp.region!r} on the topic of region {region!r}; a region writes to "
                "its own topic only"
            )
        ms, counter = said.stamp.ms, said.stamp.counter
    elif said.observed_at is not None:
        name, ms = "observed_at", moment_ms(said.observed_at)
    else:
        name, ms = "the record's timestamp", record.timestamp_ms
    if (wrong := moments.objection(name, ms)) is not None:
        raise StateRefusedError(wrong)
    return Stamp(
        ms=ms, counter=counter, region=region, epoch=record.partition, seq=record.offset + 1, version=said.version
    )


def _policies_of(key: str, policies: Policies) -> dict[str, MergePolicy]:
    fitting = [prefix for prefix in policies if key.startswith(prefix)]
    if not fitting:
        return {}
    return {field: MergePolicy(policy) for field, policy in policies[max(fitting, key=len)].items()}
