"""Why a network of a federated run says what it says: importance, Shapley values and a counterfactual as plain rows."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from thalweg.federation.local_samples import LocalSamples, SamplesError, shape_of
from thalweg.learning.local.network import LayeredNetwork
from thalweg.learning.reasons.counterfactual import counterfactual
from thalweg.learning.reasons.feature_importance import Numbers, permutation_importance
from thalweg.learning.reasons.shapley_values import ShapleyValues, of_linear, sampled
from thalweg.learning.vectors.parameters import Vector


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
    network: LayeredNetwork, parameters: Vector, samples: LocalSamples, asked: ReasonsAsked
) -> dict[str, Any]:
    """Explain a model by samples that it was not trained on; equal arguments give equal rows.

    Returns:
        `accuracy`; `importance` by feature, the most important first, in points of accuracy; `answer`: the Shapley
        values of the named class's score, which is the network's less the mean of all classes'; `counterfactual`, or
        None.

    Raises:
        SamplesError: there is no such sample.
    """
    if asked.sample >= samples.y.size:
        raise SamplesError(f"sample {asked.sample}: there are {samples.y.size}, from 0")
    # In double precision, so that the values sum to the answer to the last digits that are shown.
    vector, x = parameters.astype(np.float64), samples.x.astype(np.float64)

    def scores(rows: Numbers) -> Numbers:
        told = np.asarray(network.scores(vector, rows), np.float64)  # type: ignore[arg-type]
        return np.asarray(told - told.mean(axis=1, keepdims=True))

    def predict(rows: Numbers) -> Any:
        return scores(rows).argmax(axis=1)

    def points_wrong(rows: Numbers) -> float:
        return 100.0 * float(np.mean(predict(rows) != samples.y))

    named = int(predict(x[[asked.sample]])[0])
    return {
        "inputs": network.inputs,
        "hidden": network.hidden,
        "classes": network.classes,
        "samples": int(samples.y.size),
        "accuracy": float(np.mean(predict(x) == samples.y)),
        "importance": [
            {"feature": entry.feature, "points_lost": entry.added, "deviation": entry.deviation}
            for entry in permutation_importance(points_wrong, x, repeats=asked.repeats, seed=asked.seed)
        ],
        "answer": {
            "sample": asked.sample,
            "named": named,
            "is": int(samples.y[asked.sample]),
            **_values(_shapley(network, scores, named, x, asked), x[asked.sample]),
        },
        "counterfactual": _change(scores, x, asked.sample),
    }


def _shapley(network: LayeredNetwork, scores: Any, named: int, x: Numbers, asked: ReasonsAsked) -> ShapleyValues:
    generator = np.random.default_rng([asked.seed, 1])
    usual = x[np.sort(generator.permutation(len(x))[: asked.background])]
    sample = x[asked.sample]

    def score(rows: Numbers) -> Numbers:
        return np.asarray(scores(rows)[:, named])

    if network.hidden:
        return sampled(score, sample, usual, rounds=asked.rounds, seed=asked.seed)
    intercept = float(score(np.zeros((1, network.inputs)))[0])
    return of_linear(score(np.eye(network.inputs)) - intercept, intercept, sample, usual)


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


def _change(scores: Any, x: Numbers, row: int) -> dict[str, Any] | None:
    found = counterfactual(scores, x[row], np.delete(x, row, axis=0))
    if found is None:
        return None
    # Asked once more, of the sample as it would be: what is told is what the model says then.
    becomes = int(scores(found.applied(x[row])[None])[0].argmax())
    return {
        "named": becomes,
        "changes": [
            {"feature": feature, "value": float(x[row, feature]), "would_be": value}
            for feature, value in zip(found.features, found.values, strict=True)
        ],
    }
