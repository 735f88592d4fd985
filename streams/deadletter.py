"""Dead letters: what was refused, with its raw bytes as value and the reason and position as headers."""

from dataclasses import dataclass

from streams import envelope
from streams.publish import OutgoingRecord
from streams.topics import DEADLETTER, topic_name


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
        ("reason", refused.reason.encode("utf-8", "backslashreplace")),
        ("rule", refused.rule.encode()),
        ("flow", refused.flow.encode()),
        ("topic", refused.topic.encode()),
        ("partition", str(refused.partition).encode()),
        ("offset", str(refused.offset).encode()),
    ]
    return OutgoingRecord(
        topic=topic_name(DEADLETTER, topic_prefix),
        key=refused.key,
        value=refused.value,
        headers=headers,
        max_bytes=DEADLETTER.max_message_bytes,
    )
