"""A classifier of scikit-learn from a file of skops, of which nothing is run that is not scikit-learn's own."""

from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from thalweg.learning.shrink.sources import SklearnSource

NUMBERS_ALONE: Final = frozenset(
    {
        "sklearn.tree._tree.Tree",
        "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
        "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
    }
)
"""Parts of scikit-learn's classifiers beside those that skops trusts: arrays in, nothing run."""
PICKLES: Final = frozenset({".joblib", ".pkl", ".pickle"})
NO_PICKLES: Final = (
    "a pickle runs what is in it when it is opened, so none is; where you trust it, write it anew: "
    "skops.io.dump(joblib.load(FILE), 'model.skops')"
)


def read_skops(file: Path, inputs: int) -> "SklearnSource":
    """Read a classifier.

    Args:
        file: of skops.
        inputs: how many numbers a sample has.

    Raises:
        SourceError: it is none that has been trained, or holds something that is not scikit-learn's.
    """
    from skops.io import get_untrusted_types, load

    from thalweg.learning.shrink import sources

    try:
        named = set(map(str, get_untrusted_types(file=file)))
        strangers = sorted(named - NUMBERS_ALONE)
        if strangers:
            raise ValueError(f"it holds {', '.join(strangers)}: allowed are scikit-learn's own classifiers")
        found = load(file, trusted=sorted(named))
    except Exception as error:  # a damaged archive shows itself in many ways
        raise sources.SourceError(f"no model of skops: {str(error)[:300]}") from error
    if not hasattr(found, "classes_"):
        raise sources.SourceError(f"{type(found).__name__}: allowed are classifiers that have been trained")
    return sources.SklearnSource(model=found, inputs=inputs)
