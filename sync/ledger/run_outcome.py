"""Rows of the ledger with which runs end, and what a run leaves beside its state: the column `outcome`, as JSON."""

from typing import Final

import msgspec

from thalweg.scheduling.world.tasks import Change

JsonPart = msgspec.Raw | msgspec.UnsetType


class RunOutcome(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What a run leaves. `metrics`, `result` and `artefacts` are objects, as their region sent them."""

    exit_code: int | None = None
    started_ms: int | None = None
    """When its process began, milliseconds since 1970."""
    metrics: JsonPart = msgspec.UNSET
    result: JsonPart = msgspec.UNSET
    log: str | None = None
    artefacts: JsonPart = msgspec.UNSET


RUN_ENDS: Final = frozenset(
    str(change)
    for change in (
        Change.SUCCEEDED,
        Change.FAILED,
        Change.EVICTED,
        Change.LOST,
        Change.PREEMPTED,
        Change.CANCELLED,
    )
)
"""Transitions that make a row. What is revoked goes on elsewhere or is cancelled, which says more."""
NOTHING_LEFT: Final = RunOutcome()
_DECODER: Final = msgspec.json.Decoder(RunOutcome)
_ENCODER: Final = msgspec.json.Encoder()


def write_outcome(outcome: RunOutcome) -> str | None:
    """Write the column; None for a run that has left nothing."""
    return None if outcome == NOTHING_LEFT else _ENCODER.encode(outcome).decode()


def read_outcome(column: str | None) -> RunOutcome:
    """Read the column."""
    return NOTHING_LEFT if column is None else _DECODER.decode(column)


def text_of(part: JsonPart) -> str | None:
    """Give a part as its JSON text; None where the run left none."""
    return bytes(part).decode() if isinstance(part, msgspec.Raw) else None
