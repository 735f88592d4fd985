"""How the next version follows from the last one and what a round has brought.

A model's vector is its parameters, and for SCAFFOLD the centre's control variate behind them: whatever a version is
made of lies in the one vector that its digest names.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import isqrt
from typing import Final, Protocol

import numpy as np

from thalweg.learning.aggregates.robust import Aggregate, WeightedChange, mean
from thalweg.learning.vectors.exact_sum import ExactSum
from thalweg.learning.vectors.parameters import Vector


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedUpdate:
    """One accepted update, as the strategy sees it."""

    participant: str
    vector: Vector
    """What was sent: the parameters, or their change against the version that was trained from (`Combining.whole`)."""
    samples: int
    staleness: int
    """Versions made since that one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Combining:
    """How a run combines what it has received."""

    aggregate: Aggregate = mean
    liars: float = 0.0
    """Share of the updates that may be lies."""
    whole: bool = False
    """Whether participants send their parameters and not what they have changed: FedAvg alone takes them."""


class Strategy(Protocol):
    """A way to the next version."""

    parts: int
    """How many times the parameters the vector is long."""
    asynchronous: bool
    """Whether a version is made of the next few updates, whoever sends them, and not of a round's."""

    def advance(self, vector: Vector, received: Sequence[ReceivedUpdate], how: Combining, members: int) -> Vector:
        """Make the next version.

        Args:
            vector: the last one.
            received: at least one update, in any order.
            how: to combine them.
            members: how many participants there are, sent or not.
        """


class FedAvg:
    """θ ← Σ (n_k / N) θ_k, or of changes θ + Σ (n_k / N) Δ_k (McMahan et al. 2017).

    FedProx is the same here: its term is the participants'.
    """

    parts = 1
    asynchronous = False

    def advance(self, vector: Vector, received: Sequence[ReceivedUpdate], how: Combining, members: int) -> Vector:
        """Take the weighted mean."""
        combined = how.aggregate(_updates(received), how.liars)
        return combined if how.whole else vector + combined


class FedBuff:
    """θ ← θ + 1/K Σ Δ_k / √(1 + τ_k) over the next K updates, τ versions old (Nguyen et al. 2022).

    The weights are whole numbers of 2⁻²⁰, so that the sum is exact as everywhere.
    """

    parts = 1
    asynchronous = True
    one: Final = 2**20

    def advance(self, vector: Vector, received: Sequence[ReceivedUpdate], how: Combining, members: int) -> Vector:
        """Add the mean of the changes, each by its age."""
        total = ExactSum(vector.size)
        for update in received:
            total.add(update.vector, isqrt(self.one**2 // (1 + update.staleness)))
        return vector + total.mean(denominator=self.one * len(received))


class Scaffold:
    """Changes of the parameters and of the control variates, side by side (Karimireddy et al. 2020, option II).

    θ ← θ + mean Δθ_k and c ← c + (sent / members) mean Δc_k; samples do not count, as in the paper.
    """

    parts = 2
    asynchronous = False

    def advance(self, vector: Vector, received: Sequence[ReceivedUpdate], how: Combining, members: int) -> Vector:
        """Add the mean change of the parameters, and the variates' by the share that took part."""
        change = how.aggregate([replace(update, weight=1) for update in _updates(received)], how.liars)
        half = vector.size // 2
        share = np.float32(len(received) / max(members, len(received)))
        step: Vector = np.concatenate([change[:half], change[half:] * share])
        return vector + step


STRATEGIES: Final[Mapping[str, Strategy]] = {"fedavg": FedAvg(), "fedbuff": FedBuff(), "scaffold": Scaffold()}


def _updates(received: Sequence[ReceivedUpdate]) -> list[WeightedChange]:
    return [WeightedChange(participant=one.participant, vector=one.vector, weight=one.samples) for one in received]
