"""Numbers in few bits: sorted places as Golomb-Rice gaps, small signed integers packed side by side."""

import numpy as np
import numpy.typing as npt

from thalweg.learning.vectors.parameters import VectorError

Ints = npt.NDArray[np.int64]


def rice_bits(gaps: Ints) -> int:
    """Choose how many low bits of a gap are written plainly: about the logarithm of their mean."""
    mean = float(gaps.mean()) if gaps.size else 0.0
    return max(0, int(np.floor(np.log2(mean + 1))) - (1 if mean < 1 else 0)) if mean > 0 else 0


def pack_places(places: Ints) -> tuple[int, bytes]:
    """Write ascending places as the gaps between them (Golomb-Rice: unary above, `low` plain bits below).

    Returns:
        The number of plain bits, and the bytes.
    """
    gaps = np.diff(places, prepend=-1) - 1
    low = rice_bits(gaps)
    unary = _unary(gaps >> low)
    plain = (gaps[:, None] >> np.arange(low)[::-1]) & 1
    return low, np.packbits(np.concatenate([unary, plain.ravel().astype(np.uint8)])).tobytes()


def unpack_places(raw: bytes, low: int, count: int, size: int) -> tuple[Ints, int]:
    """Read places back.

    Args:
        raw: begins with what `pack_places` wrote.
        low: number of plain bits.
        count: how many places there are.
        size: below which all of them must lie.

    Returns:
        The places, ascending, and how many bytes they took.

    Raises:
        VectorError: the bytes hold no such places.
    """
    if count == 0:
        return np.zeros(0, np.int64), 0
    # Each quotient ends with a zero, and together they cannot pass the size: more bits are not looked at.
    longest = count + (size >> low) + 1 + low * count
    bits = np.unpackbits(np.frombuffer(raw[: longest // 8 + 1], np.uint8))
    ends = np.flatnonzero(bits == 0)[:count]
    if ends.size < count:
        raise VectorError(f"places of {count} numbers end too early")
    begin = int(ends[-1]) + 1
    end = begin + count * low
    if end > bits.size:
        raise VectorError(f"places of {count} numbers end too early")
    quotients = np.diff(ends, prepend=-1) - 1
    plain = bits[begin:end].reshape(count, low).astype(np.int64)
    gaps = (quotients << low) | (plain << np.arange(low)[::-1]).sum(axis=1)
    places = np.cumsum(gaps + 1) - 1
    if places[-1] >= size:
        raise VectorError(f"place {places[-1]}: allowed are 0 to {size - 1}")
    return places, -(-end // 8)


def _unary(quotients: Ints) -> npt.NDArray[np.uint8]:
    """Each number as so many ones and a zero."""
    ends = np.cumsum(quotients + 1)
    bits = np.ones(int(ends[-1]) if ends.size else 0, np.uint8)
    bits[ends - 1] = 0
    return bits


def pack_levels(levels: Ints, bits: int) -> bytes:
    """Write signed integers of 4 or 8 bits."""
    if bits == 8:
        return levels.astype(np.int8).tobytes()
    nibbles = (levels & 15).astype(np.uint8)
    if nibbles.size % 2:
        nibbles = np.append(nibbles, np.uint8(0))
    return (nibbles[0::2] << 4 | nibbles[1::2]).tobytes()


def unpack_levels(raw: bytes, bits: int, count: int) -> Ints:
    """Read them back; `raw` has exactly their bytes."""
    if bits == 8:
        return np.frombuffer(raw, np.int8).astype(np.int64)
    both = np.frombuffer(raw, np.uint8)
    nibbles = np.stack([both >> 4, both & 15], axis=1).ravel()[:count].astype(np.int64)
    return np.where(nibbles > 7, nibbles - 16, nibbles)
