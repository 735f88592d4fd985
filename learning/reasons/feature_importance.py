"""What a model's accuracy rests on: how much of it goes when one feature's values change places among the samples.

Breiman 2001 (Machine Learning 45) for forests; for any model Fisher, Rudin, Dominici 2019 (JMLR 20). Of two features
that say the same each looks unimportant, as the model still has the other one.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureImportance:
    """Of one feature, in points of accuracy (hundredths)."""

    feature: int
    points_lost: float
    """Mean over the repeats; below 0 where the model does better without."""
    deviation: float
    """Standard deviation over the repeats."""


def permutation_importance(
    predict: Callable[[Numbers], npt.NDArray[np.int64]],
    x: Numbers,
    y: npt.NDArray[np.int64],
    *,
    repeats: int,
    seed: int,
) -> tuple[FeatureImportance, ...]:
    """Shuffle one feature after the other, several times each, and measure the accuracy that is lost.

    Args:
        predict: names the class of each sample.
        x: [samples, features] that the model was not trained on.
        y: [samples] classes.
        repeats: shuffles of each feature.
        seed: of the shuffles.

    Returns:
        All features, the most important first.
    """
    generator = np.random.default_rng(seed)
    whole = _accuracy(predict, x, y)
    found = []
    for feature in range(x.shape[1]):
        lost = np.empty(repeats)
        for repeat in range(repeats):
            changed = x.copy()
            changed[:, feature] = generator.permutation(x[:, feature])
            lost[repeat] = 100.0 * (whole - _accuracy(predict, changed, y))
        entry = FeatureImportance(feature=feature, points_lost=float(lost.mean()), deviation=float(lost.std()))
        found.append(entry)
    return tuple(sorted(found, key=lambda entry: (-entry.points_lost, entry.feature)))


def _accuracy(predict: Callable[[Numbers], npt.NDArray[np.int64]], x: Numbers, y: npt.NDArray[np.int64]) -> float:
    return float(np.mean(predict(x) == y))
