"""Training together: what each participant comes to is, to the bit, what it comes to alone."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thalweg.learning.local import training
from thalweg.learning.local.network import LayeredNetwork
from thalweg.learning.local.training import (
    LocalTraining,
    Pupil,
    scaffold_together,
    trained,
    trained_together,
)
from thalweg.learning.vectors.parameters import Vector


def pupils(sizes: list[int], inputs: int, seed: int) -> list[Pupil]:
    generator = np.random.default_rng(seed)
    return [
        Pupil(
            x=generator.random((size, inputs), np.float32),
            y=generator.integers(0, 3, size),
            seed=int(generator.integers(2**63)),
        )
        for size in sizes
    ]


def plain_step(network: LayeredNetwork, vector: Vector, x: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray]:
    """Loss and gradient of one network of a hidden layer, written as in a textbook."""
    a, h = network.inputs * network.hidden, network.hidden
    w1, b1 = vector[:a].reshape(-1, h), vector[a : a + h]
    w2, b2 = vector[a + h : -network.classes].reshape(h, -1), vector[-network.classes :]
    inner = np.maximum(x @ w1 + b1, 0)
    scores = inner @ w2 + b2
    shares = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    rows = np.arange(y.size)
    loss = -float(np.mean(np.log(shares[rows, y])))
    shares[rows, y] -= 1
    shares /= y.size
    back = shares @ w2.T * (inner > 0)
    parts = [x.T @ back, back.sum(axis=0), inner.T @ shares, shares.sum(axis=0)]
    return loss, np.concatenate([part.ravel() for part in parts])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=9),
    st.sampled_from([0, 5, 32]),
    st.sampled_from([LocalTraining(epochs=2, batch=4), LocalTraining(epochs=1, batch=7, proximal=0.1),
                     LocalTraining(epochs=2, most_gradient=0.2)]),
    st.integers(0, 2**32),
)  # fmt: skip
def test_nobody_can_see_who_else_was_trained(sizes: list[int], hidden: int, how: LocalTraining, seed: int) -> None:
    network = LayeredNetwork(inputs=6, hidden=hidden, classes=3)
    begin, cast = network.initial(seed), pupils(sizes, 6, seed)
    for one, pupil in zip(trained_together(network, begin, cast, how), cast, strict=True):
        vector, loss, steps = trained(network, begin, pupil.x, pupil.y, how, pupil.seed)
        assert one.vector.tobytes() == vector.tobytes()
        assert (one.loss, one.steps) == (loss, steps)
        assert steps == how.epochs * -(-pupil.y.size // how.batch)
    assert begin.tobytes() == network.initial(seed).tobytes(), "the version is others', too"


def test_how_many_fit_in_a_stack_changes_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    network = LayeredNetwork(inputs=6, hidden=5, classes=3)
    begin, cast, how = network.initial(1), pupils([20] * 11 + [3] * 4, 6, 1), LocalTraining(epochs=2)
    whole = [one.vector.tobytes() for one in trained_together(network, begin, cast, how)]
    monkeypatch.setattr(training, "_TOGETHER_NUMBERS", 3 * begin.size)
    assert [one.vector.tobytes() for one in trained_together(network, begin, cast, how)] == whole


def test_a_step_is_the_textbooks() -> None:
    network = LayeredNetwork(inputs=6, hidden=5, classes=3)
    vectors = np.stack([network.initial(seed) for seed in range(4)])
    cast = pupils([8] * 4, 6, 3)
    losses, gradients = network.losses_and_gradients(
        vectors, np.stack([one.x for one in cast]), np.stack([one.y for one in cast])
    )
    for place, one in enumerate(cast):
        loss, gradient = plain_step(network, vectors[place], one.x, one.y)
        assert losses[place] == pytest.approx(loss, rel=1e-6)
        np.testing.assert_allclose(gradients[place], gradient, rtol=1e-4, atol=1e-7)


def test_scaffolds_control_follows_from_how_far_it_came_and_corrects_each_step() -> None:
    network, how = LayeredNetwork(inputs=6, hidden=0, classes=3), LocalTraining(epochs=2, batch=4)
    cast, begin = pupils([9, 4, 9], 6, 5), network.initial(5)
    generator = np.random.default_rng(6)
    centre, *controls = (generator.standard_normal(begin.size).astype(np.float32) / 10 for _ in range(4))
    found = scaffold_together(network, np.concatenate([begin, centre]), cast, controls, how)
    for one, pupil, own in zip(found, cast, controls, strict=True):
        (alone,) = trained_together(network, begin, [replace(pupil, correction=centre - own)], how)
        np.testing.assert_array_equal(one.change[: begin.size], alone.vector - begin)
        moved = (begin - alone.vector) / np.float32(alone.steps * how.rate)
        np.testing.assert_allclose(one.control, own - centre + moved, rtol=1e-6)
        np.testing.assert_array_equal(one.change[begin.size :], one.control - own)
