"""Train networks on what participants have: plain SGD, with FedProx's pull or SCAFFOLD's correction where asked.

Participants that begin from one version can be trained together in one process. Batches of one shape are then one stack
of arrays, so that a step of thirty small networks costs what numpy takes for one; the bits are those of each alone.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from thalweg.learning.local.network import Features, Labels, LayeredNetwork
from thalweg.learning.vectors.parameters import Vector

_TOGETHER_NUMBERS: Final = 2**17
"""Parameters that are stepped as one stack: with their gradients and samples they stay in a core's own cache."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Pupil:
    """What one participant trains on."""

    x: Features
    y: Labels
    seed: int
    """Order of the samples."""
    correction: Vector | None = None
    """Added to each gradient (SCAFFOLD: c - c_k); all of those who are trained together have one, or none has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """What training has come to."""

    vector: Vector
    loss: float
    """Mean of the last epoch's steps."""
    steps: int


_Step = tuple[slice, npt.NDArray[np.int64]]
"""Neighbours with a batch of one size: who, and [participants, samples] the batches' places in the epoch's order."""


def trained_together(
    network: LayeredNetwork, begin: Vector, pupils: Sequence[Pupil], how: LocalTraining
) -> list[Learned]:
    """Train each participant from a version, as if it were alone.

    Args:
        network: the shape.
        begin: the version's parameters.
        pupils: at least one.
        how: epochs, batches, rate.

    Returns:
        What each has come to, in their order.
    """
    # Neighbours then have as much as each other, and whoever still has a batch to do is at the end.
    order = sorted(range(len(pupils)), key=lambda place: pupils[place].y.size)
    cast = [pupils[place] for place in order]
    x, y = _joined([pupil.x for pupil in cast]), _joined([pupil.y for pupil in cast])
    sizes = [pupil.y.size for pupil in cast]
    firsts = list(accumulate(sizes, initial=0))[:-1]
    steps = list(_steps(sizes, firsts, how.batch, max(1, _TOGETHER_NUMBERS // begin.size)))
    generators = [np.random.default_rng(pupil.seed) for pupil in cast]
    corrections = None if cast[0].correction is None else np.stack([_said(pupil.correction) for pupil in cast])
    rate, pull = np.float32(how.rate), np.float32(how.proximal)
    vectors = np.tile(begin, (len(cast), 1))
    losses: list[list[float]] = []
    for _ in range(how.epochs):
        losses = [[] for _ in cast]
        shuffled = _joined(
            [one.permutation(size) + first for one, size, first in zip(generators, sizes, firsts, strict=True)]
        )
        for who, places in steps:
            chosen, own = shuffled[places], vectors[who]
            lost, gradients = network.losses_and_gradients(own, x[chosen], y[chosen])
            if how.proximal:
                gradients += pull * (own - begin)
            if corrections is not None:
                gradients += corrections[who]
            if how.most_gradient:
                _shorten(gradients, how.most_gradient)
            gradients *= rate
            own -= gradients
            for of_one, loss in zip(losses[who], lost.tolist(), strict=True):
                of_one.append(loss)
    found: list[Learned] = [Learned(vector=begin, loss=0.0, steps=0)] * len(cast)
    for place, vector, of_one in zip(order, vectors, losses, strict=True):
        found[place] = Learned(vector=vector, loss=float(np.mean(of_one)), steps=how.epochs * len(of_one))
    return found


def trained(
    network: LayeredNetwork, begin: Vector, x: Features, y: Labels, how: LocalTraining, seed: int
) -> tuple[Vector, float, int]:
    """Train one participant from a version.

    Args:
        network: the shape.
        begin: the version's parameters.
        x: samples.
        y: their classes.
        how: epochs, batches, rate.
        seed: order of the samples.

    Returns:
        The parameters, the mean loss of the last epoch, and the number of steps.
    """
    (one,) = trained_together(network, begin, [Pupil(x=x, y=y, seed=seed)], how)
    return one.vector, one.loss, one.steps


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaffoldLearned:
    """What SCAFFOLD's training has come to."""

    change: Vector
    """Of the parameters, and of the participant's control variate behind them."""
    control: Vector
    """The new one."""
    loss: float


def scaffold_together(
    network: LayeredNetwork, vector: Vector, pupils: Sequence[Pupil], controls: Sequence[Vector], how: LocalTraining
) -> list[ScaffoldLearned]:
    """Train each participant by SCAFFOLD from a version with the centre's control variate behind it (option II).

    Args:
        network: the shape.
        vector: the version.
        pupils: without corrections: these follow from the control variates.
        controls: the participants' control variates.
        how: epochs, batches, rate.
    """
    begin, centre = np.split(vector, 2)
    corrected = [
        Pupil(x=pupil.x, y=pupil.y, seed=pupil.seed, correction=centre - own)
        for pupil, own in zip(pupils, controls, strict=True)
    ]
    found = []
    for learned, own in zip(trained_together(network, begin, corrected, how), controls, strict=True):
        new = own - centre + (begin - learned.vector) / np.float32(learned.steps * how.rate)
        change = np.concatenate([learned.vector - begin, new - own])
        found.append(ScaffoldLearned(change=change, control=new, loss=learned.loss))
    return found


def _joined(parts: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _said(correction: Vector | None) -> Vector:
    assert correction is not None, "some have a correction and some have none"
    return correction


def _steps(sizes: Sequence[int], firsts: Sequence[int], batch: int, together: int) -> Iterator[_Step]:
    """Plan an epoch: each participant's batches in their order, those of one size side by side."""
    begins = np.array(firsts)
    for done in range(0, sizes[-1], batch):
        counts = [min(max(size - done, 0), batch) for size in sizes]
        place = 0
        for count, alike in groupby(counts):
            end = place + len(list(alike))
            for left in range(place, end, together) if count else ():
                who = slice(left, min(left + together, end))
                yield who, begins[who, None] + done + np.arange(count)
            place = end


def _shorten(gradients: Vector, most: float) -> None:
    """Bring those that are longer to this length, in their place."""
    for row, gradient in enumerate(gradients):
        if (length := float(np.linalg.norm(gradient))) > most:
            gradients[row] *= np.float32(most / length)
