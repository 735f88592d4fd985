"""Aggregates that bear a minority of liars. Each takes updates in any order and gives the same bits.

The exact mean (`mean`) believes everybody; one liar moves it as far as they like. `clipped` bounds what each can say
by the median of what all say; `median` and `trimmed` take each parameter by itself (Yin et al. 2018); `krum` believes
those who are nearest to most others (Blanchard et al. 2017).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from thalweg.learning.vectors.exact_sum import ExactSum
from thalweg.learning.vectors.parameters import Vector


class AggregateError(ValueError):
    """An aggregate is unknown, or too few updates are there for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightedChange:
    """One participant's change of the parameters."""

    participant: str
    vector: Vector
    weight: int
    """Samples that it was trained on."""


Aggregate = Callable[[Sequence[WeightedChange], float], Vector]
"""Updates, and the share of them that may be liars."""


def mean(updates: Sequence[WeightedChange], liars: float = 0.0) -> Vector:
    """Σ (n_k / N) Δ_k, exactly, rounded once."""
    total = ExactSum(updates[0].vector.size)
    for update in updates:
        total.add(update.vector, update.weight)
    return total.mean()


def clipped(updates: Sequence[WeightedChange], liars: float = 0.0) -> Vector:
    """Take the mean after every update longer than the median one was shortened to it; nobody weighs more than half."""
    lengths = [length(update.vector) for update in updates]
    bound = float(np.median(lengths))
    return mean(
        [
            WeightedChange(participant=u.participant, vector=shortened(u.vector, own, bound), weight=u.weight)
            for u, own in zip(updates, lengths, strict=True)
        ]
    )


def median(updates: Sequence[WeightedChange], liars: float = 0.0) -> Vector:
    """Take the median of each parameter; samples do not count, since anybody may claim some."""
    return np.asarray(np.median(_rows(updates), axis=0), np.float32)


def trimmed(updates: Sequence[WeightedChange], liars: float = 0.0) -> Vector:
    """Take the mean of each parameter without as many of the smallest and of the largest as there may be liars."""
    cut = min(_liars(updates, liars), (len(updates) - 1) // 2)  # of very few, the median is left
    rows = np.sort(_rows(updates), axis=0)[cut : len(updates) - cut]
    return np.asarray(rows.sum(axis=0) / len(rows), np.float32)


def krum(updates: Sequence[WeightedChange], liars: float = 0.0) -> Vector:
    """Take the exact mean of those that are nearest to the others: as many as cannot be liars (multi-Krum)."""
    ordered = sorted(updates, key=lambda update: update.participant)
    count, bad = len(ordered), _liars(updates, liars)
    nearest = count - bad - 2
    if nearest < 1:
        raise AggregateError(f"krum: {count} updates of which {bad} may be lies: needed are at least {bad + 3}")
    rows = _rows(ordered)
    # One row at a time: a table of all differences would be updates² × parameters.
    apart = np.array([np.sum((rows - row) ** 2, axis=1) for row in rows])
    scores = np.sort(apart, axis=1)[:, 1 : nearest + 1].sum(axis=1)  # the first is itself
    believed = np.argsort(scores, kind="stable")[: count - bad]
    return mean([ordered[index] for index in believed])


AGGREGATES: Final[Mapping[str, Aggregate]] = {
    "mean": mean,
    "clipped": clipped,
    "median": median,
    "trimmed": trimmed,
    "krum": krum,
}


def length(vector: Vector) -> float:
    """Euclidean length."""
    return float(np.sqrt(np.sum(vector.astype(np.float64) ** 2)))


def shortened(vector: Vector, own: float, bound: float) -> Vector:
    """Scale a vector down to a length, if it is longer; never up."""
    return vector if own <= bound else (vector * np.float64(bound / own)).astype(np.float32)


def _liars(updates: Sequence[WeightedChange], share: float) -> int:
    return int(np.ceil(share * len(updates)))


def _rows(updates: Sequence[WeightedChange]) -> npt.NDArray[np.float64]:
    ordered = sorted(updates, key=lambda update: update.participant)
    return np.stack([update.vector for update in ordered]).astype(np.float64)
