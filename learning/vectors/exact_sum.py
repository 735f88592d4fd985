"""Weighted sums of vectors without any rounding until the end, so that no order of adding can be seen in the result.

A float32 times a whole number below 2²⁹ is exact in a float64. Each product is cut into pieces of 32 bits, by its
exponent, and the pieces are added as 64-bit integers: a fixed-point number of some 320 bits for each parameter, of
which only the limbs that occur are kept. Sums of parts may be merged, and the bits are the same as of the whole. (The
idea of a long accumulator: U. Kulisch, "Computer Arithmetic and Validity".)

Only powers of two, truncation and integers are used, so the result is the same on every machine, too.
"""

from math import frexp
from typing import Final

import numpy as np
import numpy.typing as npt

from thalweg.learning.vectors.parameters import Vector

LARGEST_WEIGHT: Final = 2**29 - 1
MOST_ADDED: Final = 2**30
"""Additions that a limb bears: each adds less than 2³² in size, and 2⁶² is within 64 bits."""

_LIMB_BITS: Final = 32
_LOWEST: Final = -5  # the smallest float32 is 2⁻¹⁴⁹, in the limb that begins at 2⁻¹⁶⁰
_HIGHEST: Final = 4  # the largest product is below 2¹⁵⁷, in the limb that begins at 2¹²⁸
_MASK: Final = (1 << _LIMB_BITS) - 1

Limbs = dict[int, npt.NDArray[np.int64]]


class ExactSum:
    """Σ weight × vector, of vectors of one size."""

    def __init__(self, size: int) -> None:
        """Begin with nothing."""
        self.size = size
        self.weight = 0
        """Of all that was added."""
        self._added = 0
        self._limbs: Limbs = {}

    def add(self, vector: Vector, weight: int) -> None:
        """Add a vector so many times.

        Raises:
            ValueError: another size, a number that is not finite, or a weight outside 0 to LARGEST_WEIGHT.
        """
        if vector.shape != (self.size,) or vector.dtype != np.float32 or not np.isfinite(vector).all():
            raise ValueError(f"a vector {vector.dtype}{vector.shape}: allowed are {self.size} finite float32")
        if not 0 <= weight <= LARGEST_WEIGHT:
            raise ValueError(f"weight {weight}: allowed are 0 to {LARGEST_WEIGHT}")
        self._count(1)
        rest = vector.astype(np.float64)
        rest *= weight
        # The limbs above the largest number are zero. Of an update all of whose numbers are below one, those are most.
        place = _place_of(float(max(rest.max(initial=0.0), -rest.min(initial=0.0))))
        while rest.any():
            piece = rest * 2.0 ** (-_LIMB_BITS * place)
            np.trunc(piece, out=piece)
            self._limb(place)[:] += piece.astype(np.int64)
            piece *= 2.0 ** (_LIMB_BITS * place)
            rest -= piece
            place -= 1
        self.weight += weight

    def merge(self, other: "ExactSum") -> None:
        """Add what another has summed."""
        self._count(other._added)
        for place, limb in other._limbs.items():
            self._limb(place)[:] += limb
        self.weight += other.weight

    def mean(self, denominator: int | None = None) -> Vector:
        """Divide the sum, rounded once to float64 and once to float32.

        Args:
            denominator: None for the weight of all that was added.

        Raises:
            ValueError: nothing was added.
        """
        divisor = self.weight if denominator is None else denominator
        if divisor <= 0:
            raise ValueError("the mean of nothing: allowed is a sum of positive weight")
        return (self._rounded() / divisor).astype(np.float32)

    def _count(self, added: int) -> None:
        self._added += added
        if self._added > MOST_ADDED:
            raise ValueError(f"{self._added} vectors in one sum: allowed are {MOST_ADDED}")

    def _limb(self, place: int) -> npt.NDArray[np.int64]:
        if place not in self._limbs:
            self._limbs[place] = np.zeros(self.size, np.int64)
        return self._limbs[place]

    def _rounded(self) -> npt.NDArray[np.float64]:
        """The sum as float64, each number within two units in its last place."""
        limbs, top = _carried([self._limbs.get(place, _zeros(self.size)) for place in range(_LOWEST, _HIGHEST + 1)])
        negative = top < 0
        # Of a negative number the limbs are those of its complement, which would cancel: it is summed as its opposite.
        limbs, top = _carried([np.where(negative, -limb, limb) for limb in limbs], np.where(negative, -top, top))
        total = np.zeros(self.size)
        for place, limb in enumerate([*limbs, top], start=_LOWEST):
            total += limb * 2.0 ** (_LIMB_BITS * place)
        return np.where(negative, -total, total)


def _place_of(number: float) -> int:
    """Name the limb that a positive number's first bit is in."""
    return (frexp(number)[1] - 1) // _LIMB_BITS


def _zeros(size: int) -> npt.NDArray[np.int64]:
    return np.zeros(size, np.int64)


def _carried(
    limbs: list[npt.NDArray[np.int64]], top: npt.NDArray[np.int64] | None = None
) -> tuple[list[npt.NDArray[np.int64]], npt.NDArray[np.int64]]:
    """Bring every limb into 0 … 2³² − 1; what is left over, with its sign, is the limb above them."""
    carry = np.zeros_like(limbs[0])
    own = []
    for limb in limbs:
        whole = limb + carry
        carry = whole >> _LIMB_BITS
        own.append(whole & _MASK)
    return own, carry if top is None else carry + top
