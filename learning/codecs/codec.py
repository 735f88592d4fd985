"""What a participant sends of a vector: which numbers, in how many bits, packed or not.

A codec is written as its parts, joined by `+`: `whole` (the parameters themselves) or `delta` (what training has
changed), `top=0.01` (the largest hundredth by size), `bits=8` or `bits=4` (levels of a scale per block), `zstd`. Every
codec that leaves something out works on changes, and what it leaves out is sent later (`feedback`).
"""

import re
import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
import zstandard

from thalweg.learning.codecs.bits import Ints, pack_levels, pack_places, unpack_levels, unpack_places
from thalweg.learning.vectors.parameters import Vector, VectorError, check_finite, from_bytes, to_bytes

BLOCK: Final = 1_024
"""Numbers that share a scale: one large number then costs the others of its block their precision, and no more."""

_HEADER: Final = struct.Struct("<BBI")  # layout, plain bits of a gap, how many numbers
_LAYOUT: Final = 1
_LEVEL: Final = 3
"""Of zstd: updates are nearly noise, and higher levels find nothing more."""


class CodecError(ValueError):
    """A codec's name is not understood; the text says what is allowed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Codec:
    """How a vector is written."""

    delta: bool = False
    """Whether it is a change of the parameters and not the parameters."""
    top: float = 1.0
    """Share of the numbers that are sent."""
    bits: int = 32
    """Of each number: 32, 8 or 4."""
    zstd: bool = False

    @property
    def loses(self) -> bool:
        """Whether something is left out."""
        return self.top < 1 or self.bits < 32

    @property
    def name(self) -> str:
        """As `parse` reads it."""
        parts = ["delta" if self.delta else "whole"]
        parts += [f"top={self.top:g}"] if self.top < 1 else []
        parts += [f"bits={self.bits}"] if self.bits < 32 else []
        return "+".join([*parts, *(["zstd"] if self.zstd else [])])

    def encode(self, vector: Vector) -> bytes:
        """Write a vector."""
        raw = self._lossy(vector) if self.loses else to_bytes(vector)
        return zstandard.ZstdCompressor(level=_LEVEL, write_content_size=True).compress(raw) if self.zstd else raw

    def decode(self, raw: bytes, size: int) -> Vector:
        """Read what anybody may have written.

        Args:
            raw: the payload.
            size: how many numbers the vector must have.

        Raises:
            VectorError: it is no such vector, or not all of its numbers are finite.
        """
        if self.zstd:
            raw = _unpacked(raw, 64 + 16 * size)
        if not self.loses:
            return from_bytes(raw, size)
        vector = self._read(raw, size)
        check_finite(vector)
        return vector

    def _lossy(self, vector: Vector) -> bytes:
        places = self._kept(vector)
        kept = vector[places]
        low, gaps = pack_places(places) if self.top < 1 else (0, b"")
        header = _HEADER.pack(_LAYOUT, low, kept.size)
        if self.bits == 32:
            return header + gaps + to_bytes(kept)
        most = 2 ** (self.bits - 1) - 1
        starts = np.arange(0, kept.size, BLOCK)
        largest = np.maximum.reduceat(np.abs(kept), starts) if kept.size else np.zeros(0, np.float32)
        scales = (largest / np.float32(most)).astype(np.float32)
        of_each = np.repeat(scales, BLOCK)[: kept.size]
        ratios = np.divide(kept, of_each, out=np.zeros_like(kept), where=of_each > 0)
        levels = np.clip(np.rint(ratios), -most, most).astype(np.int64)
        return header + gaps + to_bytes(scales) + pack_levels(levels, self.bits)

    def _kept(self, vector: Vector) -> Ints:
        """Places of the largest numbers, ascending; of equal ones the first."""
        if self.top >= 1:
            return np.arange(vector.size)
        count = max(1, round(self.top * vector.size))
        return np.sort(np.argsort(-np.abs(vector), kind="stable")[:count])

    def _read(self, raw: bytes, size: int) -> Vector:
        if len(raw) < _HEADER.size:
            raise VectorError(f"{len(raw)} bytes: a header has {_HEADER.size}")
        layout, low, count = _HEADER.unpack_from(raw)
        if layout != _LAYOUT or low > 32 or count > size or (self.top >= 1 and count != size):
            raise VectorError(f"layout {layout} with {count} of {size} numbers: allowed is layout {_LAYOUT}")
        rest = raw[_HEADER.size :]
        places, taken = unpack_places(rest, low, count, size) if self.top < 1 else (np.arange(size), 0)
        vector = np.zeros(size, np.float32)
        vector[places] = self._values(rest[taken:], count)
        return vector

    def _values(self, raw: bytes, count: int) -> Vector:
        if self.bits == 32:
            return from_bytes(raw, count)
        blocks = -(-count // BLOCK)
        expected = 4 * blocks + (count if self.bits == 8 else -(-count // 2))
        if len(raw) != expected:
            raise VectorError(f"{len(raw)} bytes of {count} numbers: allowed are {expected}")
        scales = from_bytes(raw[: 4 * blocks], blocks)
        levels = unpack_levels(raw[4 * blocks :], self.bits, count)
        with np.errstate(over="ignore"):
            return levels.astype(np.float32) * np.repeat(scales, BLOCK)[:count]


def _unpacked(raw: bytes, most: int) -> bytes:
    """Unpack, but never more than a vector of this size can have."""
    try:
        said = zstandard.frame_content_size(raw)
        if not 0 <= said <= most:
            raise VectorError(f"it would unpack to {said} bytes: allowed are {most}")
        return zstandard.ZstdDecompressor().decompress(raw, max_output_size=most)
    except zstandard.ZstdError as error:
        raise VectorError(f"not zstd: {error}") from error


@lru_cache
def parse_codec(name: str) -> Codec:
    """Read a codec's name.

    Raises:
        CodecError: it is not understood.
    """
    base, *parts = name.split("+")
    found: dict[str, float] = {}
    for part in parts:
        match = re.fullmatch(r"top=(0?\.\d+|1)|bits=(32|8|4)|(zstd)", part)
        kind = part.partition("=")[0]
        if match is None or kind in found:
            raise CodecError(_words(name))
        found[kind] = float(match[1] or match[2] or 1)
    codec = Codec(
        delta=base == "delta", top=found.get("top", 1.0), bits=int(found.get("bits", 32)), zstd="zstd" in found
    )
    if base not in ("whole", "delta") or codec.top <= 0 or (codec.loses and not codec.delta):
        raise CodecError(_words(name))
    return codec


def _words(name: str) -> str:
    return (
        f"codec {name!r}: allowed are `whole` or `delta`, then any of `+top=SHARE`, `+bits=8`, `+bits=4`, `+zstd`; "
        "what leaves something out works on `delta`"
    )
