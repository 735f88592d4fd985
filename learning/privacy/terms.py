"""The terms on which a private run releases its versions, and the mechanism: clip, sum, add noise.

A participant is in a round with a probability of its own draw (Poisson sampling), sends a change that is shortened to
`clip_norm`, and the sum of all gets Gaussian noise of `noise_multiplier` × `clip_norm` on every parameter. Samples do
not count, so that nobody's presence changes a weight. (McMahan et al. 2018, "Learning Differentially Private Recurrent
Language Models".)

The noise is floating-point Gaussian: who can choose updates and see the released bits exactly may learn more than the
accounting says (Mironov 2012). The changes are rounded to a grid far below the noise, which is not a proof.
"""

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from thalweg.learning.aggregates.robust import length, shortened
from thalweg.learning.aggregates.strategies import ReceivedUpdate
from thalweg.learning.vectors.exact_sum import ExactSum
from thalweg.learning.vectors.parameters import Vector

_LOT_BITS: Final = 53


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivacyTerms:
    """What a run promises to each participant."""

    clip_norm: float
    """Length to which a change is shortened."""
    noise_multiplier: float
    """Standard deviation of the noise, in lengths of `clip_norm`."""
    sample_rate: float
    """Probability with which a member is called into a round."""
    delta: float
    """The δ at which ε is told."""
    budget_epsilon: float
    """The ε that is never exceeded."""


def drawn(secret: bytes, model: str, round_number: int, participant: str) -> float:
    """Draw a number from 0 to 1 that nobody without the secret can foretell, and that is the same when asked again."""
    text = f"lot\0{model}\0{round_number}\0{participant}".encode()
    raw = hmac.new(secret, text, hashlib.sha256).digest()
    return float((int.from_bytes(raw[:8], "big") >> (64 - _LOT_BITS)) / 2.0**_LOT_BITS)


def private_step(
    received: Sequence[ReceivedUpdate],
    size: int,
    terms: PrivacyTerms,
    expected: float,
    secret: bytes,
    model: str,
    round_number: int,
) -> Vector:
    """Return the noisy mean change of a round, which may be of nobody.

    Args:
        received: changes.
        size: of each.
        terms: the run's.
        expected: how many take part in a round on average: the divisor, which must not tell how many did.
        secret: makes the noise; whoever knows it can take it away again.
        model: the run's name.
        round_number: of this release. The same round has the same noise when it is closed again after a crash.
    """
    total = ExactSum(size)
    for one in received:
        total.add(shortened(one.vector, length(one.vector), terms.clip_norm), 1)
    summed = total.mean(denominator=1) if received else np.zeros(size, np.float32)
    seed = hmac.new(secret, f"noise\0{model}\0{round_number}".encode(), hashlib.sha256).digest()
    generator = np.random.Generator(np.random.Philox(key=int.from_bytes(seed[:16], "big")))
    noise = generator.standard_normal(size) * (terms.noise_multiplier * terms.clip_norm)
    return ((summed + noise) / max(expected, 1.0)).astype(np.float32)
