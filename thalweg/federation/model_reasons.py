"""Why a classifier says what it says: importance, Shapley values and a counterfactual as plain rows."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from thalweg.federation.explained_classifier import ExplainedClassifier
from thalweg.federation.local_samples import LocalSamples, SamplesError, shape_of
from thalweg.learning.local.network import LayeredNetwork
from thalweg.learning.reasons.counterfactual import counterfactual
from thalweg.learning.reasons.feature_importance import Numbers, permutation_importance
from thalweg.learning.reasons.shapley_values import ShapleyValues, of_linear, sampled


@dataclass(frozen=True, slots=True, kw_only=True)
class ReasonsAsked:
    """How much is asked, and of which answer."""

    sample: int = 0
    """Row of the samples whose answer is explained."""
    repeats: int = 5
    """Shuffles of each feature."""
    background: int = 50
    """Samples that stand for what is usual."""
    rounds: int = 10
    """Orders of the features drawn for each of them."""
    seed: int = 0


def network_of(parameters: int, samples: LocalSamples, hidden: int | None) -> LayeredNetwork:
    """Choose the network that has so many parameters; its hidden layer, where not told, follows from the classes.

    Raises:
        SamplesError: no network has so many.
    """
    inputs, classes = samples.x.shape[1], int(samples.y.max()) + 1
    if hidden is None:
        hidden = 0 if parameters == (inputs + 1) * classes else max(parameters - classes, 0) // (inputs + classes + 1)
    return shape_of(parameters, inputs, hidden, classes)


def explained(
    classifier: ExplainedClassifier, x: npt.NDArray[Any], y: npt.NDArray[Any], asked: ReasonsAsked
) -> dict[str, Any]:
    """Explain a model by samples that it was not trained on; equal arguments give equal rows.

    Args:
        classifier: the model.
        x: [samples, inputs].
        y: [samples] the class of each, of the kind that the model names: whole numbers or text.
        asked: how much, and of which sample.

    Returns:
        `accuracy`; `importance` by feature, the most important first, in points of accuracy; `answer`: the Shapley
        values of the named class's score; `counterfactual`, or None.

    Raises:
        SamplesError: there is no such sample, or the classes are of another kind.
    """
    if asked.sample >= y.size:
        raise SamplesError(f"sample {asked.sample}: there are {y.size}, from 0")
    x = x.astype(np.float64)
    told = classifier.named(x)
    if y.dtype.kind not in ("iu" if classifier.is_numbered else "U"):
        seen = ", ".join(map(repr, classifier.names[:3]))
        raise SamplesError(f"y is of {y.dtype}, and the model names its classes {seen}, …; allowed are such names")
    names = [name for name in classifier.names if isinstance(name, int) == classifier.is_numbered]
    if not np.isin(y, names).any():
        allowed = ", ".join(map(repr, names[:5]))
        raise SamplesError(f"y names none of the model's classes: seen {y[0].item()!r}, allowed {allowed}")

    def points_wrong(rows: Numbers) -> float:
        return 100.0 * float(np.mean(classifier.named(rows) != y))

    place = int(classifier.scores(x[[asked.sample]])[0].argmax())
    return {
        "inputs": classifier.inputs,
        **classifier.shape,
        "classes": classifier.classes,
        "samples": int(y.size),
        "accuracy": float(np.mean(told == y)),
        "importance": [
            {"feature": entry.feature, "points_lost": entry.added, "deviation": entry.deviation}
            for entry in permutation_importance(points_wrong, x, repeats=asked.repeats, seed=asked.seed)
        ],
        "answer": {
            "sample": asked.sample,
            "named": classifier.names[place],
            "is": y[asked.sample].item(),
            **_values(_shapley(classifier, place, x, asked), x[asked.sample]),
        },
        "counterfactual": _change(classifier, x, asked.sample),
    }


def _shapley(classifier: ExplainedClassifier, place: int, x: Numbers, asked: ReasonsAsked) -> ShapleyValues:
    generator = np.random.default_rng([asked.seed, 1])
    usual = x[np.sort(generator.permutation(len(x))[: asked.background])]
    sample = x[asked.sample]

    def score(rows: Numbers) -> Numbers:
        return np.asarray(classifier.scores(rows)[:, place])

    if not classifier.is_linear:
        return sampled(score, sample, usual, rounds=asked.rounds, seed=asked.seed)
    intercept = float(score(np.zeros((1, classifier.inputs)))[0])
    return of_linear(score(np.eye(classifier.inputs)) - intercept, intercept, sample, usual)


def _values(told: ShapleyValues, sample: Numbers) -> dict[str, Any]:
    order = np.lexsort((np.arange(len(sample)), -np.abs(told.values)))
    return {
        "score": told.answer,
        "base": told.base,
        "values": [
            {"feature": i, "value": float(sample[i]), "shapley": float(told.values[i]), "error": float(told.errors[i])}
            for i in order.tolist()
        ],
    }


def _change(classifier: ExplainedClassifier, x: Numbers, row: int) -> dict[str, Any] | None:
    found = counterfactual(classifier.scores, x[row], np.delete(x, row, axis=0))
    if found is None:
        return None
    # Asked once more, of the sample as it would be: what is told is what the model says then.
    becomes = int(classifier.scores(found.applied(x[row])[None])[0].argmax())
    return {
        "named": classifier.names[becomes],
        "changes": [
            {"feature": feature, "value": float(x[row, feature]), "would_be": value}
            for feature, value in zip(found.features, found.values, strict=True)
        ],
    }
