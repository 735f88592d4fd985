"""What a run whose updates are secret is told, and what follows from it for one round."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil

from thalweg.learning.secrecy.fixed_point import FixedPoint
from thalweg.learning.secrecy.secure_sum import Terms


@dataclass(frozen=True, slots=True, kw_only=True)
class SecrecyTerms:
    """What participants are promised, and what they must keep to."""

    largest: float
    """Of a number of a change, in size: a participant with a larger one cannot take part, it is not clipped."""
    threshold: float = 0.6
    """Share of a neighbourhood that must be there to the end; above a half, so that no two parts can each unmask."""
    neighbours: int = 0
    """Of each participant, an even number; 0 makes everybody everybody's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretRound:
    """One round: who is who in the protocol, and how numbers are written."""

    names: tuple[str, ...]
    """Who was called, sorted: the first is number 1."""
    terms: Terms
    writing: FixedPoint
    quorum: int

    def number(self, name: str) -> int:
        """Return a participant's number in the protocol."""
        return self.names.index(name) + 1


def secret_round(
    secrecy: SecrecyTerms, context: bytes, called: Iterable[str], quorum: int, most_samples: int
) -> SecretRound:
    """Work out the terms of a round.

    Args:
        secrecy: the run's.
        context: `round_context` of the round.
        called: who was called.
        quorum: the run's: a sum of fewer is made by nobody, and revealed by nobody.
        most_samples: the run's; the weight of one.
    """
    names = tuple(sorted(called))
    around = len(names) if secrecy.neighbours == 0 else min(len(names), 1 + secrecy.neighbours)
    terms = Terms(
        context=context,
        participants=tuple(range(1, len(names) + 1)),
        threshold=max(around // 2 + 1, ceil(secrecy.threshold * around)),
        degree=secrecy.neighbours,
    )
    writing = FixedPoint(largest=secrecy.largest, participants=len(names), most_weight=most_samples)
    return SecretRound(names=names, terms=terms, writing=writing, quorum=quorum)


def round_context(model: str, round_number: int, sha256: str) -> bytes:
    """Name a round: keys and masks of one are no keys and masks of another.

    Args:
        model: name of the run.
        round_number: of the round.
        sha256: of the version that is trained from.
    """
    return f"{model}\0{round_number}\0{sha256}".encode()
