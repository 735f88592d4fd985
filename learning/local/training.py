"""Train a network on what one participant has: plain SGD, with FedProx's pull or SCAFFOLD's correction where asked."""

from dataclasses import dataclass

import numpy as np

from thalweg.learning.local.network import Features, Labels, LayeredNetwork
from thalweg.learning.vectors.parameters import Vector


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalTraining:
    """How long and how fast."""

    epochs: int = 5
    batch: int = 16
    """Samples of a step."""
    rate: float = 0.1
    proximal: float = 0.0
    """FedProx's μ: how strongly the parameters are held to the version that training began from (Li et al. 2020)."""
    most_gradient: float = 0.0
    """Longest gradient of a step; 0 for any."""


def trained(
    network: LayeredNetwork,
    begin: Vector,
    x: Features,
    y: Labels,
    how: LocalTraining,
    seed: int,
    correction: Vector | None = None,
) -> tuple[Vector, float, int]:
    """Train from a version.

    Args:
        network: the shape.
        begin: the version's parameters.
        x: samples.
        y: their classes.
        how: epochs, batches, rate.
        seed: order of the samples.
        correction: added to each gradient (SCAFFOLD: c − c_k).

    Returns:
        The parameters, the mean loss of the last epoch, and the number of steps.
    """
    generator = np.random.default_rng(seed)
    vector, steps = begin.copy(), 0
    losses: list[float] = []
    rate = np.float32(how.rate)
    for _ in range(how.epochs):
        losses = []
        order = generator.permutation(y.size)
        for first in range(0, y.size, how.batch):
            chosen = order[first : first + how.batch]
            loss, gradient = network.loss_and_gradient(vector, x[chosen], y[chosen])
            if how.proximal:
                gradient = gradient + np.float32(how.proximal) * (vector - begin)
            if correction is not None:
                gradient = gradient + correction
            if how.most_gradient and (length := float(np.linalg.norm(gradient))) > how.most_gradient:
                gradient = gradient * np.float32(how.most_gradient / length)
            vector -= rate * gradient
            losses.append(loss)
            steps += 1
    return vector, float(np.mean(losses)), steps


def scaffold_change(
    network: LayeredNetwork, vector: Vector, own: Vector, x: Features, y: Labels, how: LocalTraining, seed: int
) -> tuple[Vector, Vector, float]:
    """Train by SCAFFOLD from a version with the centre's control variate behind the parameters (option II).

    Args:
        network: the shape.
        vector: the version.
        own: the participant's control variate.
        x: samples.
        y: their classes.
        how: epochs, batches, rate.
        seed: order of the samples.

    Returns:
        The changes of both halves, the participant's new control variate, and the loss.
    """
    begin, centre = np.split(vector, 2)
    after, loss, steps = trained(network, begin, x, y, how, seed, correction=centre - own)
    new = own - centre + (begin - after) / np.float32(steps * how.rate)
    return np.concatenate([after - begin, new - own]), new, loss
