"""Start and stop runs."""

from collections.abc import Sequence

from thalweg.learning.rounds.run_spec import RunSpec
from thalweg.learning.vectors.parameters import Vector, VectorError, digest, to_bytes
from thalweg.scheduling.ids import TaskId
from thalweg.streams.broker.publish import Publisher
from thalweg.streams.contract.messages import ModelUpdate
from thalweg.streams.learning.payloads import PayloadStore
from thalweg.streams.learning.updates import OPERATORS, payload_of, run_of, write_update


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
        RunSpecError: it cannot be carried out.
        VectorError: the parameters are not as many as the run says.
    """
    spec.check()
    if initial.size != spec.size:
        raise VectorError(f"{initial.size} parameters to begin with: allowed are {spec.size}")
    raw = to_bytes(initial)
    if len(raw) > inline_bytes:
        if store is None:
            raise VectorError(f"{len(raw)} bytes are too large for a message: name a store (federate.payloads)")
        store.put([raw])
    message = ModelUpdate(
        kind="start",
        model=model,
        payload=payload_of(raw, digest(raw), inline_bytes),
        run=run_of(spec),
        asked=[TaskId(name) for name in asked],
    )
    publisher.publish([write_update(message, topic_prefix, OPERATORS, now_ms)])
    return digest(raw)


def stop_run(model: str, *, publisher: Publisher, topic_prefix: str, now_ms: int) -> None:
    """Ask for a run's end; its newest version stays."""
    message = ModelUpdate(kind="stop", model=model)
    publisher.publish([write_update(message, topic_prefix, OPERATORS, now_ms)])
