"""Start and stop runs."""

from collections.abc import Sequence
from typing import Final

import msgspec

from thalweg.learning.rounds.run_spec import RunSpec
from thalweg.learning.vectors.parameters import Vector, VectorError, check_finite, digest, to_bytes
from thalweg.scheduling.ids import TaskId
from thalweg.streams.broker.publish import OutgoingRecord, Publisher
from thalweg.streams.contract.decode import UndecodableError, decoded
from thalweg.streams.contract.messages import ModelUpdate
from thalweg.streams.learning.payloads import PayloadStore
from thalweg.streams.learning.updates import OPERATORS, payload_of, run_of, write_update

_DECODER: Final = msgspec.json.Decoder(ModelUpdate)


def start_record(
    model: str,
    spec: RunSpec,
    initial: Vector,
    *,
    topic_prefix: str,
    now_ms: int,
    inline_bytes: int = 524_288,
    asked: Sequence[str] = (),
) -> OutgoingRecord:
    """Write what asks for a run, so far as it can be judged without anybody else: arguments as of `start_run`.

    Raises:
        RunSpecError: it cannot be carried out.
        VectorError: the parameters are not as many as the run says, or not all of them are finite.
        UndecodableError: the centre could not read it, such as a name that is too long.
    """
    spec.check()
    if initial.size != spec.size:
        raise VectorError(f"{initial.size} parameters to begin with: allowed are {spec.size}")
    check_finite(initial)
    raw = to_bytes(initial)
    message = ModelUpdate(
        kind="start",
        model=model,
        payload=payload_of(raw, digest(raw), inline_bytes),
        run=run_of(spec),
        asked=[TaskId(name) for name in asked],
    )
    return _readable(message, topic_prefix, now_ms)


def stop_record(model: str, *, topic_prefix: str, now_ms: int) -> OutgoingRecord:
    """Write what asks for a run's end.

    Raises:
        UndecodableError: the centre could not read it.
    """
    return _readable(ModelUpdate(kind="stop", model=model), topic_prefix, now_ms)


def _readable(message: ModelUpdate, topic_prefix: str, now_ms: int) -> OutgoingRecord:
    record = write_update(message, topic_prefix, OPERATORS, now_ms)
    try:
        decoded(_DECODER, record.value)
    except UndecodableError as error:
        raise UndecodableError(f"run {message.model[:80]!r}: the centre could not read this: {error}") from error
    return record


def start_run(
    model: str,
    spec: RunSpec,
    initial: Vector,
    *,
    publisher: Publisher,
    topic_prefix: str,
    now_ms: int,
    store: PayloadStore | None = None,
    inline_bytes: int = 524_288,
    asked: Sequence[str] = (),
) -> str:
    """Ask for a run, and return the digest of the parameters that it begins with.

    Args:
        model: its name; each run has one of its own.
        spec: what it is told.
        initial: the parameters to begin with; of SCAFFOLD both halves.
        publisher: sends.
        topic_prefix: first part of the topics' names.
        now_ms: the time.
        store: where large parameters are put.
        inline_bytes: up to which they travel in the message.
        asked: whom the plane is asked to place, by the ids of their tasks.

    Raises:
        RunSpecError, VectorError, UndecodableError: as `start_record`, before anything is sent.
    """
    record = start_record(
        model,
        spec,
        initial,
        topic_prefix=topic_prefix,
        now_ms=now_ms,
        inline_bytes=inline_bytes,
        asked=asked,
    )
    raw = to_bytes(initial)
    if len(raw) > inline_bytes:
        if store is None:
            raise VectorError(f"{len(raw)} bytes are too large for a message: name a store (federate.payloads)")
        store.put([raw])
    publisher.publish([record])
    return digest(raw)


def stop_run(model: str, *, publisher: Publisher, topic_prefix: str, now_ms: int) -> None:
    """Ask for a run's end; its newest version stays.

    Raises:
        UndecodableError: the centre could not read it; nothing is sent.
    """
    publisher.publish([stop_record(model, topic_prefix=topic_prefix, now_ms=now_ms)])
