"""Reasons of models: values that sum to the answer, changes that change the class and of which no part does."""

from __future__ import annotations

from itertools import chain, combinations
from math import factorial

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from thalweg.learning.local.network import LayeredNetwork
from thalweg.learning.reasons.counterfactual import counterfactual
from thalweg.learning.reasons.feature_importance import permutation_importance
from thalweg.learning.reasons.lower_answer import lower_answers
from thalweg.learning.reasons.shapley_values import Numbers, of_all_coalitions, of_linear, sampled

SEEDS = st.integers(0, 10**6)


class Case:
    """A random network and random samples for it."""

    def __init__(self, seed: int, *, hidden: int = 5, inputs: int = 5, classes: int = 3) -> None:
        generator = np.random.default_rng(seed)
        network = LayeredNetwork(inputs=inputs, hidden=hidden, classes=classes)
        vector = generator.standard_normal(network.parameters)
        self.scores = lambda x: network.scores(vector, x)
        self.x = np.round(generator.standard_normal((20, inputs)), 1)

    def first(self, x: Numbers) -> Numbers:
        return np.asarray(self.scores(x)[:, 0])


def by_definition(case: Case, sample: Numbers, background: Numbers) -> Numbers:
    """Shapley's formula over all coalitions."""
    features = len(sample)

    def worth(known: tuple[int, ...]) -> float:
        rows = background.copy()
        rows[:, list(known)] = sample[list(known)]
        return float(case.first(rows).mean())

    values = np.zeros(features)
    for feature in range(features):
        rest = [other for other in range(features) if other != feature]
        for known in chain.from_iterable(combinations(rest, size) for size in range(features)):
            weight = factorial(len(known)) * factorial(features - len(known) - 1) / factorial(features)
            values[feature] += weight * (worth((*known, feature)) - worth(known))
    return values


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, rounds=st.integers(2, 5))
def test_values_sum_to_the_answer_less_the_backgrounds_mean_whatever_is_drawn(seed: int, rounds: int) -> None:
    case = Case(seed)
    told = sampled(case.first, case.x[0], case.x[1:], rounds=rounds, seed=seed)
    assert told.values.sum() == pytest.approx(told.answer - told.base, abs=1e-9)
    assert told.base == pytest.approx(case.first(case.x[1:]).mean())
    assert told.answer == pytest.approx(case.first(case.x[:1])[0])


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS)
def test_of_a_linear_model_what_is_sampled_is_the_closed_form(seed: int) -> None:
    generator = np.random.default_rng(seed)
    weights, x = generator.standard_normal(6), generator.standard_normal((9, 6))
    exact = of_linear(weights, 0.5, x[0], x[1:])
    told = sampled(lambda rows: rows @ weights + 0.5, x[0], x[1:], rounds=2, seed=seed)
    assert told.values == pytest.approx(exact.values, abs=1e-9)
    assert told.errors == pytest.approx(0.0, abs=1e-9)
    assert (told.base, told.answer) == pytest.approx((exact.base, exact.answer))


def test_sampled_values_lie_about_the_definitions_by_as_much_as_they_say() -> None:
    off = []
    for seed in range(40):
        case = Case(seed)
        told = sampled(case.first, case.x[0], case.x[1:6], rounds=30, seed=seed)
        drawn = told.errors > 1e-9
        off += ((told.values - by_definition(case, case.x[0], case.x[1:6]))[drawn] / told.errors[drawn]).tolist()
    assert len(off) > 100
    assert 0.8 < np.std(off) < 1.2  # in standard errors
    assert abs(np.mean(off)) < 0.2


def test_a_spread_needs_two_rounds() -> None:
    with pytest.raises(ValueError, match="2 and more"):
        sampled(Case(0).first, np.zeros(5), np.zeros((2, 5)), rounds=1, seed=0)


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS, hidden=st.sampled_from([0, 4, 8]))
def test_a_counterfactual_changes_the_class_and_no_part_of_it_does(seed: int, hidden: int) -> None:
    case = Case(seed, hidden=hidden, inputs=8)
    sample, others = case.x[0], case.x[1:]
    was = int(case.scores(sample[None])[0].argmax())
    found = counterfactual(case.scores, sample, others)
    unlike = case.scores(others).argmax(axis=1) != was
    assert (found is None) == (not unlike.any())  # eight features are never too many
    assume(found is not None)
    assert found.was == was != found.becomes
    assert int(case.scores(found.applied(sample)[None])[0].argmax()) == found.becomes
    for size in range(len(found.features)):
        for part in combinations(range(len(found.features)), size):
            changed = sample.copy()
            for at in part:
                changed[found.features[at]] = found.values[at]
            assert int(case.scores(changed[None])[0].argmax()) == was


def test_a_feature_that_decides_alone_loses_all_that_guessing_does_not_find_and_others_nothing() -> None:
    generator = np.random.default_rng(7)
    y = generator.integers(0, 2, 2_000)
    x = np.stack([generator.standard_normal(2_000), y + 0.0, generator.standard_normal(2_000)], axis=1)

    def points_wrong(rows: Numbers) -> float:
        return 100.0 * float(np.mean(rows[:, 1].astype(np.int64) != y))

    told = permutation_importance(points_wrong, x, repeats=5, seed=3)
    assert [entry.feature for entry in told] == [1, 0, 2]
    assert told[0].added == pytest.approx(50.0, abs=3.0)
    assert 0.0 < told[0].deviation < 3.0
    assert all((entry.added, entry.deviation) == (0.0, 0.0) for entry in told[1:])
    assert permutation_importance(points_wrong, x, repeats=5, seed=3) == told


def test_a_feature_that_helped_only_on_the_way_is_left_out_again() -> None:
    def scores(x: Numbers) -> Numbers:
        """Features 1 and 2 together decide; feature 0 alone comes a little nearer, and is what is taken first."""
        gain = 0.3 * x[:, 0] + 2.0 * x[:, 1] * x[:, 2] - 1.0
        return np.stack([np.zeros(len(x)), gain], axis=1)

    found = counterfactual(scores, np.zeros(3), np.ones((1, 3)))
    assert found is not None
    assert (found.features, found.values, found.was, found.becomes) == ((1, 2), (1.0, 1.0), 0, 1)


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS)
def test_of_all_coalitions_the_values_are_the_definitions_and_sum_exactly(seed: int) -> None:
    case = Case(seed)
    told = of_all_coalitions(case.first, case.x[0], case.x[1:6], range(5))
    assert told.values == pytest.approx(by_definition(case, case.x[0], case.x[1:6]), abs=1e-9)
    assert told.values.sum() == pytest.approx(told.answer - told.base, abs=1e-9)
    some = of_all_coalitions(lambda rows: case.first(rows * [1, 0, 1, 0, 1]), case.x[0], case.x[1:6], [0, 2, 4])
    assert some.values.sum() == pytest.approx(some.answer - some.base, abs=1e-9)
    assert some.values[[1, 3]].tolist() == [0.0, 0.0]


@settings(max_examples=30, deadline=None)
@given(seed=SEEDS)
def test_of_each_feature_the_smallest_change_that_suffices_is_told(seed: int) -> None:
    case = Case(seed)

    def model(rows: Numbers) -> Numbers:
        return np.asarray(np.exp(case.first(rows)))

    sample, others = case.x[0], case.x[1:]
    told = {one.feature: one for one in lower_answers(model, sample, others, 0.5)}
    wanted = 0.5 * model(sample[None])[0]
    for feature in range(len(sample)):
        far = []
        for value in others[:, feature]:
            changed = sample.copy()
            changed[feature] = value
            if value != sample[feature] and model(changed[None])[0] <= wanted:
                low, high = sorted((value, sample[feature]))
                far.append(((others[:, feature] >= low) & (others[:, feature] < high)).mean())
        assert (feature in told) == bool(far)
        if far:
            assert told[feature].passed_by == pytest.approx(min(far))
            assert told[feature].answer <= wanted
