"""What would have to be different for a model to name another class: as few features as possible, none to spare.

Changed features take the values of a real sample that the model puts elsewhere, so that what is proposed has been seen
(Brughmans, Leyman, Martens 2023, NICE). From the nearest such samples features are taken one by one, the most helpful
first, until the class changes; then every part of them is tried, the small ones first, and the first that suffices is
kept. No part of it does, since all of them were tried before.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from typing import Final

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.float64]
Scores = Callable[[Numbers], Numbers]
"""[samples, classes] of [samples, features]; the class with the highest score is named."""

MOST_FEATURES: Final = 12
"""Features that are taken from one sample at most: all their parts are tried, 4,095 of twelve."""
NEAREST: Final = 10
"""Samples that are looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counterfactual:
    """A change of one sample with which the model names another class."""

    features: tuple[int, ...]
    values: tuple[float, ...]
    """What the features would be."""
    was: int
    becomes: int

    def applied(self, sample: Numbers) -> Numbers:
        """The sample with the change."""
        changed = sample.copy()
        changed[list(self.features)] = self.values
        return changed


def counterfactual(scores: Scores, sample: Numbers, others: Numbers) -> Counterfactual | None:
    """Find the fewest features with which a sample would be of another class; of equally few, the smallest change.

    Args:
        scores: the model.
        sample: [features].
        others: [samples, features] to take values from.

    Returns:
        A change of which no part suffices; None where no sample looked at gives one of at most MOST_FEATURES.
    """
    was = int(scores(sample[None])[0].argmax())
    unlike = others[scores(others).argmax(axis=1) != was]
    spread = others.std(axis=0) if len(others) else np.ones(len(sample))
    scale = np.where(spread > 0, spread, 1.0)
    far = (np.abs(unlike - sample) / scale).sum(axis=1)
    best: tuple[int, float, Counterfactual] | None = None
    for row in np.argsort(far, kind="stable")[:NEAREST]:
        enough = _enough(scores, sample, unlike[row], was)
        most = len(enough) if best is None else min(len(enough), best[0])
        for found in _smallest(scores, sample, unlike[row], was, enough, most):
            features = list(found.features)
            change = float((np.abs(unlike[row] - sample) / scale)[features].sum())
            if best is None or (len(features), change) < best[:2]:
                best = len(features), change, found
    return None if best is None else best[2]


def _enough(scores: Scores, sample: Numbers, other: Numbers, was: int) -> tuple[int, ...]:
    """Features of the other sample that change the class, the most helpful taken first; none where too many do."""
    left = np.flatnonzero(sample != other).tolist()
    taken: list[int] = []
    now = sample.copy()
    while left and len(taken) < MOST_FEATURES:
        tried = np.repeat(now[None], len(left), axis=0)
        tried[np.arange(len(left)), left] = other[left]
        told = scores(tried)
        own = told[:, was].copy()
        told[:, was] = -np.inf
        chosen = left.pop(int((told.max(axis=1) - own).argmax()))
        taken.append(chosen)
        now[chosen] = other[chosen]
        if int(scores(now[None])[0].argmax()) != was:
            return tuple(taken)
    return ()


def _smallest(
    scores: Scores, sample: Numbers, other: Numbers, was: int, enough: tuple[int, ...], most: int
) -> list[Counterfactual]:
    """All parts of the least size, up to `most`, that change the class."""
    for size in range(1, most + 1):
        parts = np.array(list(combinations(enough, size)))
        rows = np.repeat(sample[None], len(parts), axis=0)
        np.put_along_axis(rows, parts, other[parts], axis=1)
        classes = scores(rows).argmax(axis=1)
        found = [
            Counterfactual(
                features=tuple(sorted(part.tolist())),
                values=tuple(other[sorted(part.tolist())].tolist()),
                was=was,
                becomes=int(named),
            )
            for part, named in zip(parts, classes, strict=True)
            if named != was
        ]
        if found:
            return found
    return []
