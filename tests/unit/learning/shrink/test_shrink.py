"""Models made small: what stays is the model, what is measured is what was said, and nothing passes by chance alone."""

from collections.abc import Callable
from itertools import count
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier

from thalweg.learning.local.network import LayeredNetwork
from thalweg.learning.local.training import LocalTraining, trained
from thalweg.learning.shrink.eight_bits import can_be_written_in_eight_bits, in_eight_bits
from thalweg.learning.shrink.gate import Limits, Measured
from thalweg.learning.shrink.pruning import Layer, trees_that_stay, without_units
from thalweg.learning.shrink.shrink import shrink
from thalweg.learning.shrink.sources import INPUT, NetworkSource, OnnxSource, SklearnSource, SourceError
from thalweg.learning.shrink.trial import accuracy, measured, opened

X, Y = load_digits(return_X_y=True)
X = (X / 16).astype(np.float32)
TRAIN, TEST = slice(0, 1_200), slice(1_200, None)
ANY = Limits(times_smaller=1.0, points=100.0)


def ticks() -> Callable[[], int]:
    """A timer by which every answer takes as long."""
    return count(0, 1_000).__next__


def taking(*nanoseconds: int) -> Callable[[], int]:
    """A timer by which the models of a trial take so long each: three in a turn, and who goes first changes."""
    now, calls = 0, count()

    def timer() -> int:
        nonlocal now
        turn, place, ends = (number := next(calls)) // 6, number % 6 // 2, number % 2
        now += nanoseconds[(turn + place) % 3] if ends else 1
        return now

    return timer


def network(hidden: int) -> NetworkSource:
    shape = LayeredNetwork(inputs=64, hidden=hidden, classes=10)
    vector, _, _ = trained(shape, shape.initial(1), X[TRAIN], Y[TRAIN].astype(np.int64), LocalTraining(epochs=8), 0)
    return NetworkSource(network=shape, vector=vector)


@pytest.mark.parametrize("hidden", [0, 32])
def test_our_network_as_onnx_names_the_same_classes(hidden: int) -> None:
    source = network(hidden)
    session = opened(source.onnx(1.0).SerializeToString())
    named, shares = session.run(None, {INPUT: X[TEST]})
    assert np.array_equal(named, source.network.predict(source.vector, X[TEST]))
    assert np.allclose(shares.sum(axis=1), 1, atol=1e-5)


@given(st.integers(1, 5), st.integers(2, 12), st.integers(1, 5), st.floats(0.05, 1), st.integers(0, 2**31))
def test_units_that_give_nothing_are_left_out_first(
    inputs: int, units: int, classes: int, share: float, seed: int
) -> None:
    draw = np.random.default_rng(seed)
    into = draw.normal(size=(inputs, units)).astype(np.float32)
    out_of = draw.normal(size=(units, classes)).astype(np.float32)
    stay = max(1, round(share * units))
    idle = draw.permutation(units)[stay:]
    out_of[idle] = 0
    layers = [
        Layer(weights=into, bias=draw.normal(size=units).astype(np.float32)),
        Layer(weights=out_of, bias=draw.normal(size=classes).astype(np.float32)),
    ]
    cut = without_units(layers, share)
    assert [layer.weights.shape for layer in cut] == [(inputs, stay), (stay, classes)]
    x = draw.normal(size=(7, inputs)).astype(np.float32)

    def forward(some: list[Layer]) -> np.ndarray:
        return np.maximum(x @ some[0].weights + some[0].bias, 0) @ some[1].weights + some[1].bias

    assert np.allclose(forward(cut), forward(layers), atol=1e-4)
    assert np.array_equal(without_units(layers, 1.0)[0].weights, into)


@given(st.integers(1, 1_000), st.floats(0.001, 1))
def test_a_forest_keeps_a_tree_at_least(trees: int, share: float) -> None:
    assert 1 <= trees_that_stay(trees, share) <= trees


def test_a_forest_keeps_its_first_trees_and_names_its_own_classes() -> None:
    words = np.array([f"digit {one}" for one in Y])
    forest = RandomForestClassifier(20, random_state=0, max_depth=6).fit(X[TRAIN], words[TRAIN])
    source = SklearnSource(model=forest, inputs=64)
    assert source.parts == "trees"
    cut = opened(source.onnx(0.25).SerializeToString())
    forest.estimators_, forest.n_estimators = forest.estimators_[:5], 5
    assert np.array_equal(cut.run(None, {INPUT: X[TEST]})[0], forest.predict(X[TEST]))
    assert accuracy(cut, X[TEST], words[TEST]) == pytest.approx(forest.score(X[TEST], words[TEST]))


def test_a_perceptron_keeps_a_share_of_its_units() -> None:
    with pytest.warns(ConvergenceWarning):
        made = MLPClassifier((24,), max_iter=5, random_state=0).fit(X[TRAIN], Y[TRAIN])
    source = SklearnSource(model=made, inputs=64)
    assert source.parts == "units"
    whole = opened(source.onnx(1.0).SerializeToString())
    assert np.array_equal(whole.run(None, {INPUT: X[TEST]})[0], made.predict(X[TEST]))
    shapes = [tuple(one.dims) for one in source.onnx(0.5).graph.initializer]
    assert (64, 12) in shapes and (12, 10) in shapes
    assert made.coefs_[0].shape == (64, 24), "the model itself was cut"


def test_weights_of_eight_bits_are_a_quarter_and_name_nearly_the_same(tmp_path: Path) -> None:
    source = network(256)
    whole = source.onnx(1.0)
    small = in_eight_bits(whole, tmp_path)
    assert len(small.SerializeToString()) < 0.3 * len(whole.SerializeToString())
    assert len(whole.SerializeToString()) == len(source.onnx(1.0).SerializeToString()), "the model itself was changed"
    named = [opened(one.SerializeToString()).run(None, {INPUT: X[TEST]})[0] for one in (whole, small)]
    assert np.mean(named[0] == named[1]) > 0.98
    assert not can_be_written_in_eight_bits(onnx.ModelProto())
    assert list(tmp_path.iterdir()) == []


def test_what_passes_is_what_was_measured(tmp_path: Path) -> None:
    found = shrink(network(256), X[TEST], Y[TEST], Limits(points=3.0), repeats=100, timer=ticks(), scratch=tmp_path)
    assert found.judged.passed and found.tried[-1].passed
    assert found.judged.small.size_bytes == len(found.raw)
    assert found.judged.small.accuracy == accuracy(opened(found.raw), X[TEST][1::2], Y[TEST][1::2])
    assert found.judged.full.p99_us == found.judged.small.p99_us == 1.0
    assert all(not one.passed for one in found.tried[:-1]), "a milder recipe had passed"


def test_a_small_model_that_is_slower_is_refused(tmp_path: Path) -> None:
    timer = taking(1_000, 3_000, 3_001)
    found = shrink(network(256), X[TEST], Y[TEST], ANY, repeats=150, timer=timer, scratch=tmp_path)
    assert found.judged.reasons == ("p99 of one answer 3.0 µs of processor time; the model as it was takes 3.0",)
    timer = taking(1_000, 3_000, 3_000)
    assert shrink(network(256), X[TEST], Y[TEST], ANY, repeats=150, timer=timer, scratch=tmp_path).judged.passed


def test_a_model_that_cannot_be_small_enough_is_refused_with_all_that_was_tried(tmp_path: Path) -> None:
    regression = LogisticRegression(max_iter=200).fit(X[TRAIN], Y[TRAIN])
    source = SklearnSource(model=regression, inputs=64)
    found = shrink(source, X[TEST], Y[TEST], Limits(), repeats=100, timer=ticks(), scratch=tmp_path)
    assert not found.judged.passed and found.judged in found.tried
    assert any("times smaller" in reason for reason in found.judged.reasons)


def test_what_did_well_by_chance_does_not_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Right on the samples that a recipe is chosen by, and wrong on the others."""

    def lucky(full: bytes, small: bytes, x: np.ndarray, *_: object) -> tuple[Measured, Measured]:
        right = 0.9 if np.array_equal(x, X[TEST][0::2]) else 0.8
        same = {"p50_us": 1.0, "p99_us": 1.0}
        return Measured(size_bytes=9, accuracy=0.9, **same), Measured(size_bytes=1, accuracy=right, **same)

    monkeypatch.setattr("thalweg.learning.shrink.shrink.measured", lucky)
    found = shrink(network(32), X[TEST], Y[TEST], Limits(), repeats=100, timer=ticks(), scratch=tmp_path)
    assert [one.passed for one in found.tried] == [True]
    assert found.judged.reasons == ("10.00 points lost (90.00 % to 80.00 %); allowed are 0.5",)


def test_answers_are_timed_in_turns_and_the_model_as_it_was_by_the_slower_of_two() -> None:
    raw = network(0).onnx(1.0).SerializeToString()
    full, small = measured(raw, raw, X[TEST], Y[TEST], 90, taking(1_000, 3_000, 2_000))
    assert (full.p50_us, full.p99_us, small.p50_us, small.p99_us) == (3.0, 3.0, 2.0, 2.0)


@pytest.mark.parametrize("inputs", [63, 65])
def test_samples_that_the_model_does_not_take_are_refused(inputs: int, tmp_path: Path) -> None:
    x = np.zeros((50, inputs), np.float32)
    with pytest.raises(SourceError, match="does not take these samples"):
        accuracy(opened(network(0).onnx(1.0).SerializeToString()), x, Y[:50])


def test_a_model_of_other_inputs_is_refused() -> None:
    made = network(0).onnx(1.0)
    made.graph.input[0].name = made.graph.node[0].input[0] = "pixels"
    session = opened(OnnxSource(model=made).onnx(1.0).SerializeToString())
    with pytest.raises(SourceError, match="allowed is one input 'x'"):
        accuracy(session, X[TEST], Y[TEST])
