"""A secret in shares, any `threshold` of which give it back and fewer of which say nothing (Shamir 1979)."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

PRIME: Final = 2**521 - 1
"""Above every secret of 64 bytes, and a Mersenne prime."""
SHARE_BYTES: Final = 66
LARGEST_SECRET_BYTES: Final = 64

Entropy = Callable[[int], bytes]
"""So many random bytes, such as `os.urandom`."""


class SharesError(ValueError):
    """Too few shares, or a secret that cannot be shared so."""


def split(secret: bytes, holders: Sequence[int], threshold: int, entropy: Entropy) -> dict[int, bytes]:
    """Give each holder a share.

    Args:
        secret: at most LARGEST_SECRET_BYTES.
        holders: distinct numbers from 1.
        threshold: shares that give the secret back.
        entropy: makes the polynomial.

    Raises:
        SharesError: fewer holders than the threshold, or a secret that is too long.
    """
    if not 1 <= threshold <= len(holders) or len(set(holders)) != len(holders) or min(holders) < 1:
        raise SharesError(f"threshold {threshold} of {len(holders)} holders: allowed are 1 to as many, numbered from 1")
    if len(secret) > LARGEST_SECRET_BYTES:
        raise SharesError(f"a secret of {len(secret)} bytes: allowed are {LARGEST_SECRET_BYTES}")
    # 16 bytes more than the prime has: what the remainder favours is too little to be found.
    coefficients = [int.from_bytes(entropy(SHARE_BYTES + 16), "big") % PRIME for _ in range(threshold - 1)]
    polynomial = [int.from_bytes(secret, "big"), *coefficients]
    return {holder: _value(polynomial, holder).to_bytes(SHARE_BYTES, "big") for holder in holders}


def joined(shares: Mapping[int, bytes], threshold: int, length: int) -> bytes:
    """Give the secret back.

    Args:
        shares: by holder; as many as the threshold, or more.
        threshold: that it was split with.
        length: of the secret, in bytes.

    Raises:
        SharesError: too few shares, or shares that are not of one secret.
    """
    if len(shares) < threshold:
        raise SharesError(f"{len(shares)} shares: needed are {threshold}")
    chosen = sorted(shares)[:threshold]
    secret = 0
    for holder in chosen:
        numerator = denominator = 1
        for other in chosen:
            if other != holder:
                numerator = numerator * other % PRIME
                denominator = denominator * (other - holder) % PRIME
        share = int.from_bytes(shares[holder], "big")
        secret = (secret + share * numerator * pow(denominator, -1, PRIME)) % PRIME
    try:
        return secret.to_bytes(length, "big")
    except OverflowError:
        raise SharesError("the shares are not of one secret") from None


def _value(polynomial: Sequence[int], place: int) -> int:
    value = 0
    for coefficient in reversed(polynomial):
        value = (value * place + coefficient) % PRIME
    return value
