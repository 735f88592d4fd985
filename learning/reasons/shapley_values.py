"""What each feature adds to one answer of a model: Shapley values against a background of samples (SHAP).

Features that are not known take the values of a background sample. Of a linear model the values have a closed form; of
few features all coalitions are asked; else they are sampled over orders in which the features become known (Štrumbelj,
Kononenko 2014, Knowledge and Information Systems 41), each order together with its reverse (Mitchell, Cooper, Frank,
Holmes 2022, JMLR 23). Every background sample is taken equally often, so that the values sum to the answer less the
background's mean, whatever orders are drawn.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import comb
from typing import Final

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.float64]

MOST_EXACT: Final = 12
"""Features of which all coalitions are asked, 4,096 of twelve."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShapleyValues:
    """Of one answer; `values` sum to `answer` − `base`."""

    values: Numbers
    """[features]"""
    errors: Numbers
    """[features] standard error of each; 0 where it is exact."""
    base: float
    """Mean answer to the background."""
    answer: float


def of_linear(weights: Numbers, intercept: float, sample: Numbers, background: Numbers) -> ShapleyValues:
    """Shapley values of a linear model: each weight times what the feature differs by from the background's mean.

    Args:
        weights: [features].
        intercept: of the model.
        sample: [features] that is explained.
        background: [samples, features].
    """
    mean = background.mean(axis=0)
    return ShapleyValues(
        values=weights * (sample - mean),
        errors=np.zeros(len(sample)),
        base=float(mean @ weights) + intercept,
        answer=float(sample @ weights) + intercept,
    )


def of_all_coalitions(
    model: Callable[[Numbers], Numbers], sample: Numbers, background: Numbers, features: Sequence[int]
) -> ShapleyValues:
    """Shapley values of any model that looks at few features, exactly.

    Args:
        model: answers [samples] of [samples, features].
        sample: [features] that is explained.
        background: [samples, features].
        features: that the model looks at, at most MOST_EXACT; the values of all others are 0.
    """
    many = len(features)
    if many > MOST_EXACT:
        raise ValueError(f"{many} features; allowed are {MOST_EXACT}: all their coalitions are asked")
    known = (np.arange(2**many)[:, None] >> np.arange(many)) & 1 > 0  # [coalitions, features]
    told = np.empty(len(known))
    for coalition, is_known in enumerate(known):
        rows = background.copy()
        inside = [feature for feature, one in zip(features, is_known, strict=True) if one]
        rows[:, inside] = sample[inside]
        told[coalition] = model(rows).mean()
    sizes = known.sum(axis=1)
    values = np.zeros(len(sample))
    for place, feature in enumerate(features):
        without = np.flatnonzero(~known[:, place])
        weight = np.array([1.0 / (many * comb(many - 1, int(size))) for size in sizes[without]])
        values[feature] = float((weight * (told[without | (1 << place)] - told[without])).sum())
    return ShapleyValues(
        values=values, errors=np.zeros(len(sample)), base=float(told[0]), answer=float(model(sample[None])[0])
    )


def sampled(
    model: Callable[[Numbers], Numbers], sample: Numbers, background: Numbers, *, rounds: int, seed: int
) -> ShapleyValues:
    """Estimate Shapley values of any model.

    Args:
        model: answers [samples] of [samples, features].
        sample: [features] that is explained.
        background: [samples, features].
        rounds: orders drawn for each background sample, at least 2: the standard error is of their spread.
        seed: of the orders.
    """
    if rounds < 2:
        raise ValueError(f"rounds is {rounds}; allowed: 2 and more, or there is no spread to tell an error from")
    generator = np.random.default_rng(seed)
    added = np.stack([_one_round(model, sample, background, generator) for _ in range(rounds)])
    variance = added.var(axis=0, ddof=1) / rounds
    return ShapleyValues(
        values=added.mean(axis=(0, 1)),
        errors=np.sqrt(variance.sum(axis=0)) / len(background),
        base=float(model(background).mean()),
        answer=float(model(sample[None])[0]),
    )


def _one_round(
    model: Callable[[Numbers], Numbers], sample: Numbers, background: Numbers, generator: np.random.Generator
) -> Numbers:
    """[background, features] what each feature added, over one order and its reverse for each background sample."""
    size, features = background.shape
    order = np.argsort(generator.random((size, features)), axis=1)
    return (_added(model, sample, background, order) + _added(model, sample, background, order[:, ::-1])) / 2.0


def _added(
    model: Callable[[Numbers], Numbers], sample: Numbers, background: Numbers, order: npt.NDArray[np.int64]
) -> Numbers:
    """What each feature adds when the features become known in an order of each background sample's own."""
    size, features = background.shape
    turn = np.argsort(order, axis=1)
    known = turn[:, None, :] < np.arange(features + 1)[None, :, None]
    rows = np.where(known, sample, background[:, None, :])
    answers = model(rows.reshape(-1, features)).reshape(size, features + 1)
    return np.asarray(np.take_along_axis(np.diff(answers, axis=1), turn, axis=1))
