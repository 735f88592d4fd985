"""A network of one hidden layer (or none) for classes, its parameters one vector: enough to learn digits by.

Everything is float32; the gradients are written out, so that the room needs nothing but numpy.
"""

from dataclasses import dataclass
from functools import cache
from itertools import accumulate, pairwise
from math import prod

import numpy as np
import numpy.typing as npt

from thalweg.learning.vectors.parameters import Vector

Features = npt.NDArray[np.float32]
"""[samples, inputs]"""
Labels = npt.NDArray[np.int64]
"""[samples] class of each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayeredNetwork:
    """The shape of one."""

    inputs: int
    hidden: int
    """0 for none: then it is multinomial regression."""
    classes: int

    @property
    def parameters(self) -> int:
        """How many numbers its vector has."""
        return _spans(self)[-1][1]

    def shapes(self) -> list[tuple[int, ...]]:
        """Name the layers' shapes, in their order in the vector."""
        if not self.hidden:
            return [(self.inputs, self.classes), (self.classes,)]
        return [(self.inputs, self.hidden), (self.hidden,), (self.hidden, self.classes), (self.classes,)]

    def _layers(self, vectors: Vector) -> list[Vector]:
        """Give each layer of a vector, or of a stack of vectors; what is written to a layer is in the vector."""
        above = vectors.shape[:-1]
        return [vectors[..., begin:end].reshape(above + shape) for begin, end, shape in _spans(self)]

    def initial(self, seed: int) -> Vector:
        """Draw the parameters to begin with (He et al. 2015); biases are zero."""
        generator = np.random.default_rng(seed)
        parts = [
            generator.standard_normal(shape) * np.sqrt(2 / shape[0]) if len(shape) == 2 else np.zeros(shape)
            for shape in self.shapes()
        ]
        return np.concatenate([part.ravel() for part in parts]).astype(np.float32)

    def losses_and_gradients(self, vectors: Vector, x: Features, y: Labels) -> tuple[Vector, Vector]:
        """Compute the mean cross-entropy of a batch for each of some networks of this shape, and its gradient.

        Many small networks cost one call of numpy here and not one each. Nothing of one comes into another: a network's
        numbers are the same bits alone and among others.

        Args:
            vectors: [networks, parameters].
            x: [networks, samples, inputs], each network's own batch.
            y: [networks, samples] their classes.

        Returns:
            [networks] losses, and [networks, parameters] gradients.
        """
        layers = self._layers(vectors)
        gradients = np.empty_like(vectors)
        into = self._layers(gradients)
        inner = x
        if self.hidden:
            inner = x @ layers[0]
            inner += layers[1][:, None]
            np.maximum(inner, 0, out=inner)
        scores = inner @ layers[-2]
        scores += layers[-1][:, None]
        shares = _softmax(scores)
        flat = shares.reshape(-1)
        named = np.arange(0, flat.size, self.classes) + y.reshape(-1)
        right = flat[named]
        losses = np.add.reduce(np.log(np.maximum(right, 1e-12)).reshape(y.shape), axis=1) / -np.float32(y.shape[1])
        flat[named] = right - 1
        shares /= y.shape[1]
        np.matmul(inner.swapaxes(1, 2), shares, out=into[-2])
        np.add.reduce(shares, axis=1, out=into[-1])
        if self.hidden:
            back = shares @ layers[2].swapaxes(1, 2)
            back *= inner > 0
            np.matmul(x.swapaxes(1, 2), back, out=into[0])
            np.add.reduce(back, axis=1, out=into[1])
        return losses, gradients

    def scores(self, vector: Vector, x: Features) -> Features:
        """[samples, classes] before the softmax; the highest one names the class."""
        layers = self._layers(vector)
        inner = np.maximum(x @ layers[0] + layers[1], 0) if self.hidden else x
        return np.asarray(inner @ layers[-2] + layers[-1])

    def predict(self, vector: Vector, x: Features) -> Labels:
        """Name the class of each sample."""
        return np.asarray(np.argmax(self.scores(vector, x), axis=1), np.int64)

    def accuracy(self, vector: Vector, x: Features, y: Labels) -> float:
        """Share of the samples whose class is named rightly."""
        return float(np.mean(self.predict(vector, x) == y))


@cache
def _spans(network: LayeredNetwork) -> list[tuple[int, int, tuple[int, ...]]]:
    """Where each layer begins and ends in the vector, and its shape: looked at in every step."""
    shapes = network.shapes()
    return [
        (*span, shape) for span, shape in zip(pairwise(accumulate(map(prod, shapes), initial=0)), shapes, strict=True)
    ]


def _softmax(scores: Features) -> Features:
    """Turn scores into shares, in their place."""
    # The reductions are asked of numpy's functions themselves: its methods take longer than so little work.
    scores -= np.maximum.reduce(scores, axis=-1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= np.add.reduce(scores, axis=-1, keepdims=True)
    return scores
