"""Changes as whole numbers modulo 2³², so that masks can hide them and sums of them are exact.

A number is refused where it does not fit: clipped in silence it would be a wrong sum that nobody notices.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from thalweg.learning.vectors.parameters import Vector

Words = npt.NDArray[np.uint32]
"""[size + 1] whole numbers modulo 2³²; the last one is the weight."""

MOST_WEIGHT: Final = 2**30
"""Below this is the weight of all together; half of what there is room for, so that steps are not all of it."""
_HALF: Final = 2**31


class OutOfRangeError(ValueError):
    """A number, or its weight, is larger than the sum leaves room for; the text says what would fit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedPoint:
    """How numbers are written: in steps of `step`, so that the sum of all cannot leave 32 bits."""

    largest: float
    """Of a number's size; a clipped change has none above its length."""
    participants: int
    most_weight: int
    """Of one participant."""

    @property
    def step(self) -> float:
        """Width of a step: the finest that leaves room for everybody's largest number."""
        return self.largest * self.participants * self.most_weight / (_HALF - 1 - self.participants * self.most_weight)

    def write(self, change: Vector, weight: int) -> Words:
        """Write weight × change, and the weight.

        Raises:
            OutOfRangeError: the weight or a number does not fit; nothing is clipped.
        """
        if self.participants * self.most_weight >= MOST_WEIGHT:
            raise OutOfRangeError(
                f"{self.participants} participants of weight {self.most_weight}: "
                f"their product must be below {MOST_WEIGHT}"
            )
        if not 0 < weight <= self.most_weight:
            raise OutOfRangeError(f"weight {weight}: allowed are 1 to {self.most_weight}")
        if not np.isfinite(change).all() or float(np.abs(change).max(initial=0)) > self.largest:
            raise OutOfRangeError(
                f"a number of size {np.abs(change).max():g}: allowed are {self.largest:g}; shorten the change first"
            )
        steps = np.rint(change.astype(np.float64) / self.step).astype(np.int64)
        return np.append(steps * weight, weight).astype(np.uint32)

    def read(self, total: Words) -> tuple[npt.NDArray[np.int64], int]:
        """Read a sum: Σ weight × steps of each number, and Σ weight."""
        signed = total.astype(np.int64)
        signed = np.where(signed >= _HALF, signed - 2 * _HALF, signed)
        return signed[:-1], int(signed[-1])

    def mean(self, total: Words) -> Vector:
        """Return the weighted mean that a sum says."""
        steps, weight = self.read(total)
        return (steps * (self.step / max(weight, 1))).astype(np.float32)
