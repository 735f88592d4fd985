"""Participants that train for real, each on its own samples, for runs in one process."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from thalweg.learning.codecs.feedback import Feedback
from thalweg.learning.local.network import Features, Labels, LayeredNetwork
from thalweg.learning.local.training import LocalTraining, Pupil, scaffold_together, trained_together
from thalweg.learning.rounds.run_spec import RunSpec
from thalweg.learning.vectors.parameters import Vector, digest

_SEED_BITS: Final = 63


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedAnswer:
    """What a participant sends of a round."""

    payload: bytes
    samples: int
    loss: float


@dataclass(slots=True, kw_only=True)
class Learner:
    """One participant."""

    name: str
    x: Features
    y: Labels
    network: LayeredNetwork
    how: LocalTraining
    spec: RunSpec
    seed: int
    feedback: Feedback = field(init=False)
    control: Vector = field(init=False)

    def __post_init__(self) -> None:
        self.feedback = Feedback(self.spec.writing, self.spec.size)
        self.control = np.zeros(self.spec.parameters, np.float32)

    def pupil(self, number: int) -> Pupil:
        """Give what it trains on; with its name the number gives the order of the samples."""
        seed = int(digest(f"{self.seed}\0{self.name}\0{number}".encode())[:16], 16) % 2**_SEED_BITS
        return Pupil(x=self.x, y=self.y, seed=seed)


def answers(asked: Sequence[tuple[Learner, int]], vector: Vector) -> list[TrainedAnswer]:
    """Train participants of one run from a version, and write what comes of it.

    Args:
        asked: each with the number of the round, or of its turn.
        vector: the version's.
    """
    first = asked[0][0]
    cast = [learner for learner, _ in asked]
    pupils = [learner.pupil(number) for learner, number in asked]
    if first.spec.strategy == "scaffold":
        found = scaffold_together(first.network, vector, pupils, [learner.control for learner in cast], first.how)
        for learner, one in zip(cast, found, strict=True):
            learner.control = one.control
        said = [(one.change, one.loss) for one in found]
    else:
        begin = vector if first.spec.writing.delta else np.float32(0)
        trained = trained_together(first.network, vector, pupils, first.how)
        said = [(one.vector - begin, one.loss) for one in trained]
    return [
        TrainedAnswer(payload=learner.feedback.encode(numbers), samples=int(learner.y.size), loss=loss)
        for learner, (numbers, loss) in zip(cast, said, strict=True)
    ]


def learners(
    x: Features,
    y: Labels,
    deal: Sequence[np.typing.NDArray[np.int64]],
    network: LayeredNetwork,
    how: LocalTraining,
    spec: RunSpec,
    seed: int,
) -> list[Learner]:
    """Give each participant its samples; names are in the order of the deal."""
    width = len(str(len(deal)))
    return [
        Learner(
            name=f"p{index:0{width}d}",
            x=x[own],
            y=y[own],
            network=network,
            how=how,
            spec=spec,
            seed=seed,
        )
        for index, own in enumerate(deal)
    ]
