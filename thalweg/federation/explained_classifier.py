"""A classifier as its reasons see it: a function from samples to scores, whatever computes them.

A network of a federated run is computed here, in double precision. What is shipped to the edge is ONNX, and is computed
by the runtime that serves it; a classifier of scikit-learn is written as ONNX first, so what is explained is what would
be shipped.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from thalweg.federation.local_samples import SamplesError
from thalweg.learning.local.network import LayeredNetwork
from thalweg.learning.reasons.feature_importance import Numbers
from thalweg.learning.vectors.parameters import Vector

ClassName = int | str
_FLOATS: Final = {"tensor(float)": np.float32, "tensor(double)": np.float64}
_MAPS: Final = frozenset({"seq(map(int64,tensor(float)))", "seq(map(string,tensor(float)))"})
_LABELS: Final = frozenset({"tensor(int64)", "tensor(int32)", "tensor(string)"})
_ROWS_AT_ONCE: Final = 65_536
"""Given to ONNX Runtime: of 784 numbers each they are 200 MB, and a forest's outputs are a tenth of that."""


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


def of_onnx(raw: bytes, x: Numbers) -> ExplainedClassifier:
    """Explain a model as it is shipped: its scores are the probabilities it tells, or 1 for the class that it names.

    Args:
        raw: the file.
        x: samples whose classes tell which score is which class's: the file need not say it.

    Raises:
        SamplesError: it is no classifier of such samples; the text says what is.
    """
    from thalweg.serving.loaded_model import ModelRefusedError, opened  # late: a run's network needs no runtime

    try:
        session = opened(raw)
    except ModelRefusedError as error:
        raise SamplesError(str(error)) from error
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if not _takes(inputs, x.shape[1]):
        seen = ", ".join(f"{node.name} {node.type} {node.shape}" for node in inputs)
        raise SamplesError(
            f"it takes {seen or 'nothing'}; allowed is one tensor of floats, [samples, {x.shape[1]}] for these samples"
        )
    (one,) = inputs
    if not outputs or outputs[0].type not in _LABELS:
        seen = ", ".join(f"{node.name} {node.type}" for node in outputs)
        raise SamplesError(f"it gives {seen}; allowed is a classifier, whose first output is the class of each sample")
    is_by_name = len(outputs) > 1 and outputs[1].type in _MAPS
    has_scores = is_by_name or (len(outputs) > 1 and outputs[1].type in _FLOATS)
    asked = [node.name for node in outputs[: 1 + has_scores]]
    first: list[npt.NDArray[Any]] = []
    keys: list[ClassName] = []

    def columns(told: Any) -> npt.NDArray[Any]:
        """[samples, classes] of a map from class to probability for each sample, which skl2onnx writes by default."""
        keys.extend(() if keys else sorted(told[0], key=str))
        return np.array([[one[key] for key in keys] for one in told])

    def told(rows: Numbers) -> list[npt.NDArray[Any]]:
        if not len(rows):  # not every model takes none
            return [part[:0] for part in first]
        parts = []
        for begin in range(0, len(rows), _ROWS_AT_ONCE):
            given = np.ascontiguousarray(rows[begin : begin + _ROWS_AT_ONCE], _FLOATS[one.type])
            try:
                label, *scores = session.run(asked, {one.name: given})
                parts.append([label, *(columns(each) if is_by_name else each for each in scores)])
            except Exception as error:  # ONNX Runtime's own errors share no class but this
                raise SamplesError(f"it cannot answer these samples: {' '.join(str(error).split())[:300]}") from error
        return [np.concatenate([np.atleast_1d(part[place]) for part in parts]) for place in range(len(asked))]

    first.extend(told(x))
    labels = first[0].reshape(-1)
    if labels.shape != x.shape[:1]:
        raise SamplesError(f"its first output is {first[0].shape} for {len(x)} samples; allowed is a class of each")
    names = tuple(keys) if is_by_name else _names_of_scores(labels, first[1]) if has_scores else None
    if names is not None:
        if not np.isfinite(np.asarray(first[1], np.float64)).all():
            raise SamplesError("some of the probabilities that it tells of these samples are no finite numbers")
        return ExplainedClassifier(
            inputs=x.shape[1], names=names, scores=lambda rows: np.asarray(told(rows)[1], np.float64)
        )
    known = np.unique(labels)

    def chosen(rows: Numbers) -> Numbers:
        """1 for the class that is named; the last column is of any that no sample was of."""
        named = told(rows)[0].reshape(-1)
        hits = named[:, None] == known
        return np.concatenate([hits, ~hits.any(axis=1, keepdims=True)], axis=1).astype(np.float64)

    return ExplainedClassifier(inputs=x.shape[1], names=(*_plain(known), "another"), scores=chosen, has_another=True)


def _takes(inputs: Sequence[Any], width: int) -> bool:
    """Tell whether a model takes one table of so many numbers a sample, as far as it says."""
    if len(inputs) != 1 or inputs[0].type not in _FLOATS or len(inputs[0].shape) != 2:
        return False
    said = inputs[0].shape[1]
    return not isinstance(said, int) or said == width


def _names_of_scores(labels: npt.NDArray[Any], scores: npt.NDArray[Any]) -> tuple[ClassName, ...] | None:
    """Name the scores' columns by the classes that were told with them; None where the highest is not the class."""
    if scores.ndim != 2 or len(scores) != len(labels):
        return None
    highest = scores.argmax(axis=1)
    names: list[ClassName] = [f"class {column} of the file" for column in range(scores.shape[1])]  # of no sample here
    for column in np.unique(highest).tolist():
        told = np.unique(labels[highest == column])
        if len(told) > 1:
            return None
        (names[column],) = _plain(told)
    return tuple(names) if len(set(names)) == len(names) else None


def _plain(names: npt.NDArray[Any]) -> Sequence[ClassName]:
    return [name if isinstance(name, int) else str(name) for name in names.tolist()]
