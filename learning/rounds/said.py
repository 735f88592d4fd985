"""What participants and operators say, as the referee hears it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from thalweg.learning.rounds.facts import Place
from thalweg.learning.rounds.run_spec import RunSpec

SaidKind = Literal["start", "stop", "join", "leave", "update"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One record, read."""

    kind: SaidKind
    model: str
    at_ms: int
    """The broker's time of its arrival: the same for whoever reads it, and however often."""
    region: str
    """Of the topic that it came by, or "" for the operators'."""
    participant: str = ""
    round_number: int = 0
    version: int = 0
    turn: int = 0
    samples: int = 0
    sha256: str = ""
    payload: bytes | None = None
    """None where there is none to be had."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    public_key: str = ""
    signature: bytes = b""
    spec: RunSpec | None = None
    asked: tuple[str, ...] = ()
    """Of a start: whom the plane is asked to place."""
    place: Place | None = None


def signed_text(said: Statement) -> bytes:
    """Return what a participant signs: all that it says, and through the digest the payload, too."""
    parts = (
        "thalweg-learning-1", said.kind, said.model, said.region, said.participant, said.round_number, said.version,
        said.turn, said.samples, said.sha256, sorted(said.metrics.items()), said.public_key,
    )  # fmt: skip
    return json.dumps(parts, separators=(",", ":")).encode()
