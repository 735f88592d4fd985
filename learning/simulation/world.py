"""Participants that train for real, each on its own samples, for runs in one process."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from thalweg.learning.codecs.feedback import Feedback
from thalweg.learning.local.network import Features, Labels, LayeredNetwork
from thalweg.learning.local.training import LocalTraining, scaffold_change, trained
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

    def answer(self, vector: Vector, number: int) -> TrainedAnswer:
        """Train from a version and write what comes of it.

        Args:
            vector: the version's.
            number: of the round, or of the participant's turn: with the name it gives the order of the samples.
        """
        seed = int(digest(f"{self.seed}\0{self.name}\0{number}".encode())[:16], 16) % 2**_SEED_BITS
        if self.spec.strategy == "scaffold":
            change, self.control, loss = scaffold_change(
                self.network, vector, self.control, self.x, self.y, self.how, seed
            )
            payload = self.feedback.encode(change)
        else:
            after, loss, _ = trained(self.network, vector, self.x, self.y, self.how, seed)
            said = after - vector if self.spec.writing.delta else after
            payload = self.feedback.encode(said)
        return TrainedAnswer(payload=payload, samples=int(self.y.size), loss=loss)


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
