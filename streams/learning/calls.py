"""Flower's messages as records of the topics `calls` and `replies`; what is large lies in the store of payloads."""

from base64 import b64decode, b64encode
from collections.abc import Iterator
from typing import Final, Protocol

import msgspec

from thalweg.learning.vectors.parameters import digest
from thalweg.streams.broker.consume import IncomingRecord, Reader
from thalweg.streams.broker.publish import OutgoingRecord, outgoing
from thalweg.streams.contract import envelope, names
from thalweg.streams.contract.decode import UndecodableError, decoded
from thalweg.streams.contract.messages import FlowerCall, FlowerReply, Payload
from thalweg.streams.contract.topics import CALLS, REPLIES
from thalweg.streams.learning.payloads import PayloadError, PayloadStore
from thalweg.streams.learning.updates import inline_of

_CALLS: Final = msgspec.json.Decoder(FlowerCall)
_REPLIES: Final = msgspec.json.Decoder(FlowerReply)
_POLL_MS: Final = 100


class PlacedReader(Reader, Protocol):
    """A reader that says how far it is."""

    def position(self, topic: str, partition: int) -> int:
        """Next offset to read: everything before it was handed over, or is nothing that readers get."""


def read_call(record: IncomingRecord) -> FlowerCall:
    """Read a record of the topic `calls`.

    Raises:
        UndecodableError: it is no such message.
    """
    return decoded(_CALLS, record.value)


def read_reply(record: IncomingRecord) -> FlowerReply:
    """Read a record of the topic `replies`.

    Raises:
        UndecodableError: it is no such message.
    """
    reply = decoded(_REPLIES, record.value)
    for field in ("run", "participant"):
        if reply.kind == "join" and (wrong := names.objection(field, getattr(reply, field))) is not None:
            raise UndecodableError(wrong)
    return reply


def write_call(call: FlowerCall, prefix: str, now_ms: int) -> OutgoingRecord:
    """Make the record of a call, or of a run's end; the same call has the same id."""
    event = envelope.Envelope(
        event_id=envelope.content_id("flower", call.kind, call.run, call.message_id),
        source="/thalweg/flower",
        event_type=f"flower.{call.kind}",
        time_ms=now_ms,
    )
    return outgoing(CALLS, prefix, call, key=call.participant or call.run, event=event)


def write_reply(reply: FlowerReply, prefix: str, region: str, now_ms: int) -> OutgoingRecord:
    """Make the record of what a participant says; said again, it has the same id."""
    event = envelope.Envelope(
        event_id=envelope.content_id("flower", reply.kind, reply.run, reply.participant, reply.life, reply.message_id),
        source=f"/thalweg/flower/{reply.participant}",
        event_type=f"flower.{reply.kind}",
        time_ms=now_ms,
    )
    return outgoing(REPLIES, prefix, reply, key=reply.participant, region=region, event=event)


def content_of(payload: Payload, store: PayloadStore | None) -> bytes:
    """Get the bytes that a payload names, from the message or from the store.

    Raises:
        PayloadError: they are not there, or not what the payload names.
        OSError: the store does not answer.
    """
    raw = inline_of(payload)
    if raw is not None:
        if digest(raw) != payload.sha256:
            raise PayloadError(f"payload {payload.sha256}: the message brings something else")
        return raw
    if store is None:
        raise PayloadError(f"payload {payload.sha256} lies in a store, and none was given")
    return store.get(payload.sha256)


def in_base64(raw: bytes) -> str:
    """Write bytes as a message's field has them."""
    return b64encode(raw).decode()


def from_base64(text: str) -> bytes:
    """Read them back."""
    return b64decode(text)


def read_through(reader: PlacedReader) -> Iterator[IncomingRecord]:
    """Read on up to where the topics end now; what comes meanwhile may be among it.

    Raises:
        BrokerUnavailableError: nobody answers.
    """
    ends = reader.end_offsets()
    while any(reader.position(*place) < end for place, end in ends.items()):
        yield from reader.poll(_POLL_MS)
