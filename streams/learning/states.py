"""Runs as they are, between the referee's state and records of the topic `models`."""

from collections.abc import Sequence
from typing import Final

import msgspec

from thalweg.learning.rounds.run import Run
from thalweg.learning.vectors.parameters import digest
from thalweg.streams.broker.publish import OutgoingRecord, outgoing
from thalweg.streams.contract import envelope
from thalweg.streams.contract.messages import ModelState
from thalweg.streams.contract.topics import MODELS
from thalweg.streams.learning.updates import payload_of, run_of

STATE_DECODER: Final = msgspec.json.Decoder(ModelState)


def state_of(
    run: Run,
    parameters: bytes,
    inline_bytes: int,
    epsilon: float | None,
    change: bytes | None = None,
    carried: Sequence[bytes] = (),
) -> ModelState:
    """Say how a run is.

    Args:
        run: the run.
        parameters: of its newest version.
        inline_bytes: up to which they are in the message.
        epsilon: spent so far.
        change: by which the version differs from the last one; None tells it whole. One that is too large for the
            message is not told.
        carried: of an open round whose updates are secret, what its exchanges have brought.
    """
    open_ = run.open
    if change is not None and len(change) > inline_bytes:
        change = None
    return ModelState(
        model=run.model,
        version=run.version,
        payload=payload_of(parameters, run.sha256, inline_bytes if change is None else 0),
        change=None if change is None else payload_of(change, digest(change), inline_bytes),
        run=run_of(run.spec),
        round=open_.number if open_ is not None else 0,
        called=sorted(open_.called) if open_ is not None else [],
        carried=[payload_of(raw, digest(raw), inline_bytes) for raw in carried],
        deadline=open_.deadline_ms if open_ is not None else 0,
        ended=run.ended,
        epsilon=epsilon,
    )


def write_state(state: ModelState, prefix: str, now_ms: int) -> OutgoingRecord:
    """Make the record of a run's state; the same state has the same id."""
    event = envelope.Envelope(
        event_id=envelope.content_id(
            "model",
            state.model,
            state.version,
            state.round,
            *[carried.sha256 for carried in state.carried],
            state.payload.sha256,
            state.ended,
        ),
        source="/thalweg/federate",
        event_type="learning.state",
        time_ms=now_ms,
    )
    return outgoing(MODELS, prefix, state, key=state.model, event=event)
