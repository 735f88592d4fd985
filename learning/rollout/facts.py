"""What happens to roll-outs, one row each. Their state is what the facts lead to, and nothing else."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from thalweg.learning.rollout.plan import MEASURES, RolloutPlan

Tally = tuple[tuple[int, int, int, int], ...]
"""By measure, in the order of MEASURES: outcomes and bad ones of the new version, the same of the last good one."""
NOTHING: Tally = ((0, 0, 0, 0),) * len(MEASURES)


class RolloutKind(StrEnum):
    """What happened."""

    STARTED = "started"
    WIDENED = "widened"
    LOOKED = "looked"
    REFUSED = "refused"
    COMPLETED = "completed"
    ROLLED_BACK = "rolled_back"
    STOPPED = "stopped"


ENDS = frozenset({RolloutKind.COMPLETED, RolloutKind.ROLLED_BACK, RolloutKind.STOPPED})


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutFact:
    """One of them; what does not belong to its kind is empty."""

    kind: RolloutKind
    model: str
    number: int
    """Of the roll-out, counted by model from 1; of a wish that was refused, that of the last roll-out."""
    at_ms: int
    version: str = ""
    stage: int = -1
    """Number of the wave, from 0."""
    wave: float = 0.0
    """Its share of the edges."""
    cut: int = -1
    """Edges up to this position are in it."""
    edges: int = 0
    """How many are known."""
    heard: int = 0
    """How many of the wave have told outcomes of the new version."""
    tally: Tally = NOTHING
    """Of the whole roll-out so far."""
    evidence: Mapping[str, float] = field(default_factory=dict)
    """Logarithms, base 10, of the wave's e-values: `harm` of all, `harm_…` and `safe_…` of a measure."""
    edge: str = ""
    """Whose report was refused."""
    rule: str = ""
    """Why it was refused, or what ended the roll-out, in a word."""
    reason: str = ""
    """In words."""
    wish: str = ""
    """Of what an operator asked: which of the wishes it was."""
    plan: RolloutPlan | None = None
