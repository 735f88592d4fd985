"""A model's parameters: one vector of float32. Its bytes are little-endian; their SHA-256 is its name."""

import hashlib
from typing import Final

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float32]
"""[size] parameters of a model, or what they change by."""

_WIRE: Final = np.dtype("<f4")


class VectorError(ValueError):
    """Bytes are no vector that may be taken; the text says why."""


def to_bytes(vector: Vector) -> bytes:
    """Write a vector."""
    return vector.astype(_WIRE).tobytes()


def from_bytes(raw: bytes, size: int) -> Vector:
    """Read a vector back.

    Args:
        raw: its bytes.
        size: how many numbers it must have.

    Raises:
        VectorError: another number of bytes, or numbers that are not finite.
    """
    if len(raw) != size * _WIRE.itemsize:
        raise VectorError(f"{len(raw)} bytes: allowed are {size * _WIRE.itemsize}, {size} numbers of 4 bytes")
    vector = np.frombuffer(raw, _WIRE).astype(np.float32)
    check_finite(vector)
    return vector


def check_finite(vector: Vector) -> None:
    """Refuse what is no number.

    Raises:
        VectorError: names the first such place.
    """
    finite = np.isfinite(vector)
    if not finite.all():
        place = int(np.argmin(finite))
        raise VectorError(f"number {place} is {vector[place]}: allowed are finite numbers")


def digest(raw: bytes) -> str:
    """SHA-256 in hex: the name of a payload, whatever it holds."""
    return hashlib.sha256(raw).hexdigest()
