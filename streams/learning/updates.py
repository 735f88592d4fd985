"""What participants and operators say, between records of the topic `updates` and the referee's own terms."""

from base64 import b64decode, b64encode
from collections.abc import Callable
from dataclasses import asdict
from typing import Final

import msgspec

from thalweg.learning.privacy.terms import PrivacyTerms
from thalweg.learning.rounds.facts import Place
from thalweg.learning.rounds.run_spec import RunSpec
from thalweg.learning.rounds.said import Statement
from thalweg.learning.secrecy.secret_terms import SecrecyTerms
from thalweg.streams.broker.consume import IncomingRecord
from thalweg.streams.broker.publish import OutgoingRecord, outgoing
from thalweg.streams.contract import envelope, finite, names
from thalweg.streams.contract.decode import UndecodableError, decoded
from thalweg.streams.contract.messages import LearningPrivacy, LearningRun, LearningSecrecy, ModelUpdate, Payload
from thalweg.streams.contract.topics import UPDATES, region_of_topic

OPERATORS: Final = "@centre"
"""The region whose topic is the operators'."""

Fetch = Callable[[str], bytes | None]
"""Gives a payload that a message only names; None where it is not to be had."""

_DECODER: Final = msgspec.json.Decoder(ModelUpdate)


def read_update(record: IncomingRecord, prefix: str, fetch: Fetch) -> Statement:
    """Read one record.

    Args:
        record: of the topic of a region, or of the operators.
        prefix: of the topics' names.
        fetch: looks payloads up.

    Raises:
        UndecodableError: it is no such message.
    """
    message = decoded(_DECODER, record.value)
    if message.kind in ("start", "join"):  # who began under any name may go on, and end
        _check_names(message)
    region = region_of_topic(record.topic, UPDATES, prefix)
    payload = message.payload
    raw = None
    if payload is not None:
        raw = inline_of(payload)
        raw = raw if raw is not None else fetch(payload.sha256)
    return Statement(
        kind=message.kind,
        model=message.model,
        at_ms=record.timestamp_ms,
        region="" if region == OPERATORS else region,
        participant=message.participant,
        round_number=message.round,
        version=message.version,
        turn=message.turn,
        samples=message.samples,
        sha256=payload.sha256 if payload is not None else "",
        payload=raw,
        metrics=message.metrics,
        public_key=message.public_key,
        signature=b64decode(message.signature),
        spec=spec_of(message.run) if message.run is not None else None,
        asked=tuple(message.asked),
        place=Place(record.topic, record.partition, record.offset),
    )


def _check_names(message: ModelUpdate) -> None:
    for field in ("model", "participant"):
        if (wrong := names.objection(field, getattr(message, field))) is not None:
            raise UndecodableError(wrong)


def write_update(message: ModelUpdate, prefix: str, region: str, now_ms: int) -> OutgoingRecord:
    """Make the record of a message; its id follows from what it says.

    Args:
        message: from a participant, or an operator.
        prefix: of the topics' names.
        region: the participant's, or OPERATORS.
        now_ms: told as the event's time; the broker's own decides who is late.

    Raises:
        ValueError: a number of it is none that JSON can write; the centre would find nothing there.
    """
    if (wrong := finite.objection(message)) is not None:
        raise ValueError(wrong)
    raw = msgspec.json.encode(message)
    event = envelope.Envelope(
        event_id=envelope.content_id("update", region, raw),
        source=f"/thalweg/learning/{message.participant or 'operator'}",
        event_type=f"learning.{message.kind}",
        time_ms=now_ms,
    )
    return outgoing(UPDATES, prefix, message, key=message.model, region=region, event=event)


def payload_of(raw: bytes, name: str, inline_bytes: int) -> Payload:
    """Name a payload, with its bytes if they are few; of more, the store must have them."""
    inline = b64encode(raw).decode() if len(raw) <= inline_bytes else None
    return Payload(sha256=name, size_bytes=len(raw), inline=inline)


def inline_of(payload: Payload) -> bytes | None:
    """Return the bytes that a message brings itself; None where they lie in the store."""
    return None if payload.inline is None else b64decode(payload.inline)


def spec_of(run: LearningRun) -> RunSpec:
    """Read what a run is told."""
    fields = {name: getattr(run, name) for name in run.__struct_fields__}
    for name, terms in (("privacy", PrivacyTerms), ("secrecy", SecrecyTerms)):
        if (told := fields[name]) is not None:
            fields[name] = terms(**msgspec.structs.asdict(told))
    return RunSpec(**fields)


def run_of(spec: RunSpec) -> LearningRun:
    """Write what a run is told; the inverse of `spec_of`."""
    fields = {name: getattr(spec, name) for name in LearningRun.__struct_fields__}
    for name, told in (("privacy", LearningPrivacy), ("secrecy", LearningSecrecy)):
        if (terms := fields[name]) is not None:
            fields[name] = told(**asdict(terms))
    return LearningRun(**fields)
