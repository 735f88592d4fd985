"""Facts: everything that happens to a run, one row each. The state is what they lead to, and nothing else."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from thalweg.learning.rounds.run_spec import RunSpec


class FactKind(StrEnum):
    """What happened."""

    STARTED = "started"
    JOINED = "joined"
    LEFT = "left"
    OPENED = "opened"
    ACCEPTED = "accepted"
    ADVANCED = "advanced"
    REFUSED = "refused"
    CLOSED = "closed"
    MISSED = "missed"
    ENDED = "ended"


class Place(NamedTuple):
    """Where the record lies that says it."""

    topic: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One of them; what does not belong to its kind is empty."""

    kind: FactKind
    model: str
    at_ms: int
    participant: str = ""
    region: str = ""
    round_number: int = 0
    version: int = 0
    """After it; of an update, the one that it was trained from."""
    turn: int = 0
    """A participant's own number of its update; in a run whose updates are secret, of the exchange that it answers, and
    of an advanced round, of the one that begins."""
    samples: int = 0
    """Of an update or a participant; of a round, all that went into it."""
    sha256: str = ""
    """Of the payload, or of the version's parameters; of an advanced round, of what is carried to who goes on."""
    payload_bytes: int = 0
    updates: int = 0
    """Of a closed round: how many went into its version."""
    rule: str = ""
    """Why it was refused, in a word."""
    reason: str = ""
    """In words."""
    deadline_ms: int = 0
    called: tuple[str, ...] = ()
    """Of an opened round; of a start, those whom the plane is asked to place."""
    epsilon: float | None = None
    """Spent so far."""
    public_key: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    spec: RunSpec | None = None
    place: Place | None = None
