"""What a model rests on: how much worse it does when one feature's values change places among the samples.

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
    """Of one feature, in the unit of the error."""

    feature: int
    added: float
    """Error that is added, mean over the repeats; below 0 where the model does better without."""
    deviation: float
    """Standard deviation over the repeats."""


def permutation_importance(
    error_of: Callable[[Numbers], float], x: Numbers, *, repeats: int, seed: int
) -> tuple[FeatureImportance, ...]:
    """Shuffle one feature after the other, several times each, and measure the error that is added.

    Args:
        error_of: the model's error on samples like `x`, against the truths of `x`.
        x: [samples, features] that the model was not trained on.
        repeats: shuffles of each feature.
        seed: of the shuffles.

    Returns:
        All features, the most important first.
    """
    generator = np.random.default_rng(seed)
    whole = error_of(x)
    found = []
    for feature in range(x.shape[1]):
        added = np.empty(repeats)
        for repeat in range(repeats):
            changed = x.copy()
            changed[:, feature] = generator.permutation(x[:, feature])
            added[repeat] = error_of(changed) - whole
        found.append(FeatureImportance(feature=feature, added=float(added.mean()), deviation=float(added.std())))
    return tuple(sorted(found, key=lambda entry: (-entry.added, entry.feature)))
