"""A network of one hidden layer (or none) for classes, its parameters one vector: enough to learn digits by.

Everything is float32; the gradients are written out, so that the room needs nothing but numpy.
"""

from dataclasses import dataclass
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
        return sum(prod(shape) for shape in self._shapes())

    def _shapes(self) -> list[tuple[int, ...]]:
        if not self.hidden:
            return [(self.inputs, self.classes), (self.classes,)]
        return [(self.inputs, self.hidden), (self.hidden,), (self.hidden, self.classes), (self.classes,)]

    def _layers(self, vector: Vector) -> list[Vector]:
        layers, begin = [], 0
        for shape in self._shapes():
            end = begin + prod(shape)
            layers.append(vector[begin:end].reshape(shape))
            begin = end
        return layers

    def initial(self, seed: int) -> Vector:
        """Draw the parameters to begin with (He et al. 2015); biases are zero."""
        generator = np.random.default_rng(seed)
        parts = [
            generator.standard_normal(shape) * np.sqrt(2 / shape[0]) if len(shape) == 2 else np.zeros(shape)
            for shape in self._shapes()
        ]
        return np.concatenate([part.ravel() for part in parts]).astype(np.float32)

    def loss_and_gradient(self, vector: Vector, x: Features, y: Labels) -> tuple[float, Vector]:
        """Mean cross-entropy of a batch, and its gradient."""
        layers = self._layers(vector)
        inner = x
        if self.hidden:
            inner = np.maximum(x @ layers[0] + layers[1], 0)
        shares = _softmax(inner @ layers[-2] + layers[-1])
        rows = np.arange(y.size)
        loss = -float(np.mean(np.log(np.maximum(shares[rows, y], 1e-12))))
        shares[rows, y] -= 1
        shares /= y.size
        gradients = [inner.T @ shares, shares.sum(axis=0)]
        if self.hidden:
            back = shares @ layers[2].T * (inner > 0)
            gradients = [x.T @ back, back.sum(axis=0), *gradients]
        return loss, np.concatenate([gradient.ravel() for gradient in gradients])

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


def _softmax(scores: Features) -> Features:
    scores = scores - scores.max(axis=1, keepdims=True)
    exponentials = np.exp(scores)
    return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True), np.float32)
