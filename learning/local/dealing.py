"""Deal samples out to participants as unevenly as asked: each class by shares drawn from a Dirichlet distribution.

(Hsu, Qi and Brown 2019, "Measuring the Effects of Non-Identical Data Distribution".) A small α gives each participant
few classes and some participants nearly nothing; everybody has at least one sample.
"""

import numpy as np
import numpy.typing as npt

from thalweg.learning.local.network import Labels


def dealt(labels: Labels, participants: int, alpha: float, seed: int) -> list[npt.NDArray[np.int64]]:
    """Return each participant's samples, by index, ascending; every sample is somebody's.

    Args:
        labels: class of each sample; at least as many as there are participants.
        participants: how many.
        alpha: concentration; large is even.
        seed: of the dealing.
    """
    if participants > labels.size:
        raise ValueError(f"{participants} participants of {labels.size} samples: allowed is one each")
    generator = np.random.default_rng(seed)
    owner = np.empty(labels.size, np.int64)
    for label in np.unique(labels):
        samples = generator.permutation(np.flatnonzero(labels == label))
        shares = generator.dirichlet(np.full(participants, alpha))
        cuts = np.floor(np.cumsum(shares)[:-1] * samples.size).astype(np.int64)
        for participant, part in enumerate(np.split(samples, cuts)):
            owner[part] = participant
    _give_to_the_empty(owner, participants)
    return [np.flatnonzero(owner == participant) for participant in range(participants)]


def _give_to_the_empty(owner: npt.NDArray[np.int64], participants: int) -> None:
    """Give whoever has nothing one sample of whoever has most."""
    counts = np.bincount(owner, minlength=participants)
    for empty in np.flatnonzero(counts == 0):
        richest = int(np.argmax(counts))
        owner[np.flatnonzero(owner == richest)[0]] = empty
        counts[richest] -= 1
        counts[empty] += 1
