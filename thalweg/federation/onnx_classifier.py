"""A classifier as it is shipped to the edge, ONNX, as its reasons see it: computed by the runtime that serves it.

A classifier of scikit-learn is written as ONNX first, so what is explained is what would be shipped. The first output
is the class of each sample. The second, where there is one, is a table of probabilities, or a map from class to
probability for each sample, which skl2onnx writes unless it is told otherwise.
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from thalweg.federation.explained_classifier import ClassName, ExplainedClassifier
from thalweg.federation.local_samples import SamplesError
from thalweg.learning.reasons.feature_importance import Numbers

_FLOATS: Final = {"tensor(float)": np.float32, "tensor(double)": np.float64}
_MAPS: Final = frozenset({"seq(map(int64,tensor(float)))", "seq(map(string,tensor(float)))"})
_LABELS: Final = frozenset({"tensor(int64)", "tensor(int32)", "tensor(string)"})
_ROWS_AT_ONCE: Final = 65_536
"""Given to ONNX Runtime: of 784 numbers each they are 200 MB, and a forest's outputs are a tenth of that."""


class _Answers:
    """What a model tells of samples."""

    def __init__(self, session: Any, width: int) -> None:
        """Look at what it takes and gives.

        Args:
            session: of the runtime.
            width: numbers of a sample.

        Raises:
            SamplesError: it is no classifier of such samples.
        """
        inputs, outputs = session.get_inputs(), session.get_outputs()
        if not _takes(inputs, width):
            seen = ", ".join(f"{node.name} {node.type} {node.shape}" for node in inputs)
            raise SamplesError(
                f"it takes {seen or 'nothing'}; allowed is one tensor of floats, [samples, {width}] for these samples"
            )
        if not outputs or outputs[0].type not in _LABELS:
            seen = ", ".join(f"{node.name} {node.type}" for node in outputs)
            raise SamplesError(
                f"it gives {seen}; allowed is a classifier, whose first output is the class of each sample"
            )
        second = outputs[1].type if len(outputs) > 1 else ""
        self._session, (self._input,) = session, inputs
        self._has_maps = second in _MAPS
        self._asked = [node.name for node in outputs[: 1 + (self._has_maps or second in _FLOATS)]]
        self._of_none: list[npt.NDArray[Any]] = []
        self.keys: tuple[ClassName, ...] = ()
        """Classes of the columns of scores, where the model names them; known from the first answer on."""

    def of(self, rows: Numbers) -> list[npt.NDArray[Any]]:
        """Return the class of each, and the scores, [samples, classes], where there are any.

        Raises:
            SamplesError: the model cannot answer.
        """
        if not len(rows):  # not every model takes none
            return self._of_none
        parts = [self._told(rows[begin : begin + _ROWS_AT_ONCE]) for begin in range(0, len(rows), _ROWS_AT_ONCE)]
        found = [np.concatenate(column) for column in zip(*parts, strict=True)]
        self._of_none = [column[:0] for column in found]
        return found

    def scores(self, rows: Numbers) -> Numbers:
        """Return the scores alone."""
        return np.asarray(self.of(rows)[1], np.float64)

    def _told(self, rows: Numbers) -> list[npt.NDArray[Any]]:
        given = np.ascontiguousarray(rows, _FLOATS[self._input.type])
        try:
            labels, *scores = self._session.run(self._asked, {self._input.name: given})
        except Exception as error:  # ONNX Runtime's own errors share no class but this
            raise SamplesError(f"it cannot answer these samples: {' '.join(str(error).split())[:300]}") from error
        if self._has_maps:
            (maps,) = scores
            self.keys = self.keys or tuple(sorted(maps[0], key=str))
            scores = [np.array([[one[key] for key in self.keys] for one in maps])]
        return [np.atleast_1d(column) for column in (labels, *scores)]


def of_onnx(raw: bytes, x: Numbers) -> ExplainedClassifier:
    """Explain a model: its scores are the probabilities it tells, or 1 for the class that it names.

    Args:
        raw: the file.
        x: samples whose classes tell which score is which class's: the file need not say it.

    Raises:
        SamplesError: it is no classifier of such samples; the text says what is.
    """
    from thalweg.serving.loaded_model import ModelRefusedError, opened  # late: a run's network needs no runtime

    try:
        answers = _Answers(opened(raw), x.shape[1])
    except ModelRefusedError as error:
        raise SamplesError(str(error)) from error
    first, *scores = answers.of(x)
    labels = first.reshape(-1)
    if labels.shape != x.shape[:1]:
        raise SamplesError(f"its first output is {first.shape} for {len(x)} samples; allowed is a class of each")
    names = answers.keys or (_names_of_scores(labels, scores[0]) if scores else None)
    if not names:
        return _by_class_alone(answers, labels, x.shape[1])
    if not np.isfinite(np.asarray(scores[0], np.float64)).all():
        raise SamplesError("some of the probabilities that it tells of these samples are no finite numbers")
    return ExplainedClassifier(inputs=x.shape[1], names=names, scores=answers.scores)


def _by_class_alone(answers: _Answers, labels: npt.NDArray[Any], width: int) -> ExplainedClassifier:
    """Score 1 for the class that is named; the last column is of any that no sample was of."""
    known = np.unique(labels)

    def chosen(rows: Numbers) -> Numbers:
        hits = answers.of(rows)[0].reshape(-1)[:, None] == known
        return np.concatenate([hits, ~hits.any(axis=1, keepdims=True)], axis=1).astype(np.float64)

    return ExplainedClassifier(inputs=width, names=(*_plain(known), "another"), scores=chosen, has_another=True)


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
