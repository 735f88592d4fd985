"""Records of the sync plane as the roll-outs' process and operators write them: as any plain producer does."""

from typing import Any, Final

import msgspec

from thalweg.streams.broker.publish import OutgoingRecord
from thalweg.streams.contract.topics import STATE, topic_name

REGION: Final = "rollouts"
"""Whose topic `state` carries what operators wish and what is desired; no region's of the plane."""


def state_record(key: str, value: Any, stamp_ms: int, topic_prefix: str, region: str = REGION) -> OutgoingRecord:
    """Write a record of the sync plane as a plain producer does.

    Args:
        key: the record's.
        value: its fields.
        stamp_ms: the time of the write; of two the later one counts.
        topic_prefix: first part of the topics' names.
        region: on whose topic.
    """
    body = msgspec.json.encode({"key": key, "value": value, "stamp": {"ms": stamp_ms}})
    return OutgoingRecord(
        topic=topic_name(STATE, topic_prefix, region), key=key.encode(), value=body, max_bytes=STATE.max_message_bytes
    )
