"""What `replicate` refuses, parks or finds foreign: as dead letters, and as rows of `sync_refused`."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Final

import msgspec
import pyarrow as pa

from thalweg.jobs.microbatch.isolation import RecordPlace
from thalweg.scheduling.counted import counted
from thalweg.streams.broker.deadletter import RefusedRecord
from thalweg.streams.contract.state_messages import StateInput
from thalweg.streams.contract.topics import REPLICA, STATE, region_of_topic, topic_name
from thalweg.sync.centre.centre import MergeOutcome as Merged
from thalweg.sync.protocol.entries import PlainWrite, Update, UpMessage
from thalweg.sync.tables.replicate_tables import message_key

FLOW_NAME: Final = "replicate"
_ENCODER: Final = msgspec.json.Encoder()


def place_of(record: StateInput) -> RecordPlace:
    """Where a record lies."""
    return RecordPlace(record.topic, record.partition, record.offset)


def refused_by_centre(
    merged: Merged, readable: Iterable[tuple[StateInput, Sequence[UpMessage]]]
) -> list[RefusedRecord]:
    """Make the dead letters of what the centre refused; of a batch only the message itself."""
    if not merged.refused:
        return []
    origins = {id(message): record for record, said in readable for message in said}
    found = []
    for refusal in merged.refused:
        origin = origins.get(id(refusal.message))
        if origin is not None:  # else it was parked before, and its record is gone
            letter = refused_record(origin, "refused", refusal.reason)
            if not isinstance(refusal.message, PlainWrite):
                letter = replace(letter, value=_ENCODER.encode(refusal.message))
            found.append(letter)
    return found


def refused_record(record: StateInput, rule: str, reason: str) -> RefusedRecord:
    """Make the dead letter of a record."""
    return RefusedRecord(
        flow=FLOW_NAME,
        rule=rule,
        reason=reason[:1_000],
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        key=record.key,
        value=record.value,
        received_ms=record.timestamp_ms,
    )


def refused_rows(
    merged: Merged, unreadable: Iterable[tuple[StateInput, str]], prefix: str, batch_id: int, now_ms: int
) -> list[dict[str, Any]]:
    """Make the rows of `sync_refused` for what was refused or parked."""
    at = pa.scalar(now_ms * 1000, pa.timestamp("us", tz="UTC")).as_py()
    rows: list[dict[str, Any]] = [
        {
            "at": at,
            "region": region_of_topic(record.topic, STATE, prefix),
            "verdict": "refused",
            "key": (record.key or b"").decode(errors="replace")[:1_024],
            "reason": reason[:1_000],
            "topic": record.topic,
            "topic_partition": record.partition,
            "topic_offset": record.offset,
            "batch_id": batch_id,
        }
        for record, reason in unreadable
    ]
    rows += [
        {
            "at": at,
            "region": refusal.region,
            "verdict": "refused",
            "key": message_key(refusal.message),
            "reason": refusal.reason[:1_000],
            "batch_id": batch_id,
        }
        for refusal in merged.refused
    ]
    rows += [_parked_row(message, at, batch_id, now_ms) for message in merged.parked]
    return rows


def foreign_rows(foreign: range, prefix: str, batch_id: int, now_ms: int) -> list[dict[str, Any]]:
    """Make the row of `sync_refused` for what somebody else has written to the replica topic."""
    if not foreign:
        return []
    seen = "a record" if len(foreign) == 1 else counted(len(foreign), "record")
    reason = f"{seen} here that the centre did not write: only it may; readers skip what is none of its entries"
    return [
        {
            "at": pa.scalar(now_ms * 1000, pa.timestamp("us", tz="UTC")).as_py(),
            "verdict": "foreign",
            "key": "",
            "reason": reason,
            "topic": topic_name(REPLICA, prefix),
            "topic_partition": 0,
            "topic_offset": foreign.start,
            "batch_id": batch_id,
        }
    ]


def _parked_row(message: Update | PlainWrite, at: Any, batch_id: int, now_ms: int) -> dict[str, Any]:
    stamp = message.stamp
    return {
        "at": at,
        "region": stamp.region,
        "verdict": "parked",
        "key": message_key(message),
        "reason": f"stamp is {stamp.ms - now_ms} ms ahead of the centre's clock; merged when it no longer is",
        "batch_id": batch_id,
    }
