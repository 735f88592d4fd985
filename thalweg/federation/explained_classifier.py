"""A classifier as its reasons see it: a function from samples to scores, whatever computes them.

A network of a federated run is computed here, in double precision; what is shipped in `onnx_classifier`, what Spark has
saved in `spark_forest`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from thalweg.learning.local.network import LayeredNetwork
from thalweg.learning.reasons.feature_importance import Numbers
from thalweg.learning.vectors.parameters import Vector

ClassName = int | str


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainedClassifier:
    """What is asked of a classifier."""

    inputs: int
    names: tuple[ClassName, ...]
    """Of the classes, in the order of the scores."""
    scores: Callable[[Numbers], Numbers]
    """[samples, classes] of [samples, inputs]; the highest names the class, the first of equal ones."""
    is_linear: bool = False
    """Whether the scores are a linear function: then Shapley values have a closed form."""
    shape: dict[str, Any] = field(default_factory=dict)
    """What it is made of, for words: `hidden` of a network."""
    has_another: bool = False
    """Whether the last name stands for classes that no sample is of, and is none itself."""

    @property
    def classes(self) -> int:
        """How many there are."""
        return len(self.names) - self.has_another

    def named(self, rows: Numbers) -> npt.NDArray[Any]:
        """[samples] the class of each, by name."""
        return np.asarray(np.array(self.names, object)[self.scores(rows).argmax(axis=1)])

    @property
    def is_numbered(self) -> bool:
        """Whether its classes are named by whole numbers."""
        return any(isinstance(name, int) for name in self.names)


def of_network(network: LayeredNetwork, parameters: Vector) -> ExplainedClassifier:
    """Explain a network of a federated run; its scores are less the mean of all classes'."""
    # In double precision, so that the values sum to the answer to the last digits that are shown.
    vector = parameters.astype(np.float64)

    def scores(rows: Numbers) -> Numbers:
        told = np.asarray(network.scores(vector, rows), np.float64)  # type: ignore[arg-type]
        return np.asarray(told - told.mean(axis=1, keepdims=True))

    return ExplainedClassifier(
        inputs=network.inputs,
        names=tuple(range(network.classes)),
        scores=scores,
        is_linear=not network.hidden,
        shape={"hidden": network.hidden},
    )
