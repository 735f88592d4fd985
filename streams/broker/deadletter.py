"""Dead letters: what was refused, with its raw bytes as value and the reason and position as headers."""

from dataclasses import dataclass
from typing import Final, Self

import msgspec

from thalweg.streams.broker.consume import IncomingRecord
from thalweg.streams.broker.publish import OutgoingRecord
from thalweg.streams.contract import envelope
from thalweg.streams.contract.topics import DEADLETTER, topic_name

LONGEST_REASON: Final = 1_000
"""Characters: a reason quotes what was seen, which may be long; in full it is the record's value."""
_CUT_HEADER_BYTES: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedRecord:
    """A record that no job can use."""

    flow: str
    """Job that refused it."""
    rule: str
    reason: str
    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    received_ms: int
    """The record's own time, so that a repeated refusal repeats its bytes."""

    @classmethod
    def of(cls, record: IncomingRecord, *, flow: str, rule: str, reason: str) -> Self:
        """Refuse a record as it was read."""
        return cls(
            flow=flow,
            rule=rule,
            reason=reason,
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            key=record.key,
            value=record.value,
            received_ms=record.timestamp_ms,
        )


def read_letter(record: IncomingRecord) -> RefusedRecord:
    """Read a dead letter back; what somebody else has put into the topic has little that can be told of it."""
    headers = {name: value.decode(errors="replace") for name, value in record.headers}

    def number(name: str) -> int:
        return int(headers[name]) if headers.get(name, "").isdecimal() else -1

    return RefusedRecord(
        flow=headers.get("flow", ""),
        rule=headers.get("rule", ""),
        reason=headers.get("reason", ""),
        topic=headers.get("topic", ""),
        partition=number("partition"),
        offset=number("offset"),
        key=record.key,
        value=record.value,
        received_ms=record.timestamp_ms,
    )


def dead_letter(refused: RefusedRecord, topic_prefix: str) -> OutgoingRecord:
    """Make the record for the dead-letter topic. Its id is derived from the position: a replay repeats it."""
    position = (refused.topic, refused.partition, refused.offset)
    event = envelope.Envelope(
        event_id=envelope.content_id(refused.flow, *position),
        source=f"/thalweg/{refused.flow}",
        event_type="deadletter",
        time_ms=refused.received_ms,
    )
    # The value is what was refused, so nothing can be promised about its content type.
    headers = [header for header in envelope.write_headers(event) if header[0] != "content-type"]
    headers += [
        ("reason", refused.reason[:LONGEST_REASON].encode("utf-8", "backslashreplace")),
        ("rule", refused.rule.encode()),
        ("flow", refused.flow.encode()),
        ("topic", refused.topic.encode()),
        ("partition", str(refused.partition).encode()),
        ("offset", str(refused.offset).encode()),
    ]
    letter = OutgoingRecord(
        topic=topic_name(DEADLETTER, topic_prefix),
        key=refused.key,
        value=refused.value,
        headers=headers,
        max_bytes=DEADLETTER.max_message_bytes,
    )
    excess = letter.size_bytes() - letter.max_bytes
    if excess <= 0:
        return letter
    # The record came through a topic with a higher limit than its contract's. Its beginning, and where all of it lies,
    # say more than a refusal that can never be written.
    value = refused.value or b""
    headers.append(("cut-from-bytes", str(len(value)).encode()))
    return msgspec.structs.replace(
        letter, value=value[: max(0, len(value) - excess - _CUT_HEADER_BYTES)], headers=headers
    )
