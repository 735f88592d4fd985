"""What is said in each of the four exchanges of a secure sum, as bytes: records of one length, little-endian.

Whoever reads them reads what anybody may have written: a length that does not fit, and a number that is said twice,
are refused.
"""

import struct
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import numpy as np

from thalweg.learning.secrecy.fixed_point import Words
from thalweg.learning.secrecy.secure_sum import Asked, PublicKeys, Revealed, Sealed, ShareDigests
from thalweg.learning.secrecy.shares import SHARE_BYTES

KEYS: Final = 1
SHARES: Final = 2
MASKED: Final = 3
UNMASK: Final = 4
EXCHANGES: Final = (KEYS, SHARES, MASKED, UNMASK)

_SEALED_BYTES: Final = 2 * SHARE_BYTES + 16  # two shares, and the tag of the seal
_KEYS: Final = struct.Struct("<32s32s32s")
_NUMBERED_KEYS: Final = struct.Struct("<I32s32s32s")
_SHARE: Final = struct.Struct(f"<I32s32s{_SEALED_BYTES}s")  # holder, digests of both its shares, the sealed shares
_CARRIED: Final = struct.Struct(f"<II{_SEALED_BYTES}s")  # of whom, for whom
_ASKED: Final = struct.Struct("<I?")  # who shared, and whether it has sent
_REVEALED: Final = struct.Struct(f"<I?{SHARE_BYTES}s")  # whose, whether of its key (else of its seed)
_OWN: Final = bytes(_SEALED_BYTES)
"""In the place of what is sealed for oneself: nothing need be."""


class ExchangeError(ValueError):
    """Bytes are no such message; the text says why."""


def write_keys(keys: PublicKeys) -> bytes:
    """Write what a participant tells first."""
    return _KEYS.pack(keys.sealing, keys.masking, keys.seed_digest)


def read_keys(raw: bytes) -> PublicKeys:
    """Read it.

    Raises:
        ExchangeError: another length.
    """
    if len(raw) != _KEYS.size:
        raise ExchangeError(f"{len(raw)} bytes of keys: allowed are {_KEYS.size}")
    return _public_keys(*_KEYS.unpack(raw))


def write_all_keys(keys: Mapping[int, PublicKeys]) -> bytes:
    """Write everybody's keys, as the centre carries them."""
    return b"".join(
        _NUMBERED_KEYS.pack(number, found.sealing, found.masking, found.seed_digest)
        for number, found in sorted(keys.items())
    )


def read_all_keys(raw: bytes) -> dict[int, PublicKeys]:
    """Read them, by number.

    Raises:
        ExchangeError: another length, or a number twice.
    """
    return _once((number, _public_keys(*rest)) for number, *rest in _records(_NUMBERED_KEYS, raw))


def write_shares(sealed: Sealed, digests: Mapping[int, ShareDigests]) -> bytes:
    """Write a participant's shares: sealed for each neighbour, and digests of all, its own among them."""
    return b"".join(
        _SHARE.pack(holder, digests[holder].seed, digests[holder].key, sealed.get(holder, _OWN))
        for holder in sorted(digests)
    )


def read_shares(raw: bytes, number: int) -> tuple[dict[int, bytes], dict[int, ShareDigests]]:
    """Read the shares of a participant: sealed ones by who can open them, and digests by holder.

    Raises:
        ExchangeError: another length, a holder twice, or nothing of its own.
    """
    found = _once((holder, (ShareDigests(*digests), sealed)) for holder, *digests, sealed in _records(_SHARE, raw))
    if number not in found:
        raise ExchangeError("it tells no digests of its own shares")
    sealed = {holder: sealed for holder, (_, sealed) in found.items() if holder != number}
    return sealed, {holder: digests for holder, (digests, _) in found.items()}


def write_carried(sealed: Mapping[int, Sealed]) -> bytes:
    """Write what was sealed, by who sealed it, as the centre carries it to those who have sealed, too."""
    return b"".join(
        _CARRIED.pack(sender, receiver, sealed[sender][receiver])
        for sender in sorted(sealed)
        for receiver in sorted(sealed[sender].keys() & sealed.keys())
    )


def read_carried(raw: bytes, number: int) -> tuple[dict[int, bytes], bool]:
    """Read what was sealed for a participant, by who sealed it; and whether what it sealed itself is carried, too.

    Raises:
        ExchangeError: another length, or the same twice.
    """
    records = list(_records(_CARRIED, raw))
    received = _once((sender, sealed) for sender, receiver, sealed in records if receiver == number)
    return received, any(sender == number for sender, _, _ in records)


def write_words(words: Words) -> bytes:
    """Write masked numbers."""
    return words.astype("<u4").tobytes()


def read_words(raw: bytes, size: int) -> Words:
    """Read them.

    Raises:
        ExchangeError: another length.
    """
    if len(raw) != 4 * size:
        raise ExchangeError(f"{len(raw)} bytes of masked numbers: allowed are {4 * size}, {size} numbers of 4 bytes")
    return np.frombuffer(raw, "<u4").astype(np.uint32)


def write_asked(asked: Asked) -> bytes:
    """Write whose secrets the centre needs shares of."""
    return b"".join(_ASKED.pack(number, number in asked.sent) for number in sorted(asked.sent | asked.gone))


def read_asked(raw: bytes) -> Asked:
    """Read it.

    Raises:
        ExchangeError: another length, or a number twice.
    """
    found = _once(_records(_ASKED, raw))
    sent = frozenset(number for number, has_sent in found.items() if has_sent)
    return Asked(sent=sent, gone=frozenset(found) - sent)


def write_revealed(revealed: Revealed) -> bytes:
    """Write one participant's shares of what was asked for."""
    return b"".join(
        _REVEALED.pack(number, of_key, share)
        for of_key, shares in ((False, revealed.seeds), (True, revealed.keys))
        for number, share in sorted(shares.items())
    )


def read_revealed(raw: bytes) -> Revealed:
    """Read them.

    Raises:
        ExchangeError: another length, or shares of the same twice.
    """
    found = _once((number, (of_key, share)) for number, of_key, share in _records(_REVEALED, raw))
    return Revealed(
        seeds={number: share for number, (of_key, share) in found.items() if not of_key},
        keys={number: share for number, (of_key, share) in found.items() if of_key},
    )


def _public_keys(sealing: bytes, masking: bytes, seed_digest: bytes) -> PublicKeys:
    return PublicKeys(sealing=sealing, masking=masking, seed_digest=seed_digest)


def _records(layout: struct.Struct, raw: bytes) -> Iterator[Any]:
    if len(raw) % layout.size:
        raise ExchangeError(f"{len(raw)} bytes: allowed is a multiple of {layout.size}")
    return layout.iter_unpack(raw)


def _once(pairs: Iterable[tuple[int, Any]]) -> dict[int, Any]:
    found: dict[int, Any] = {}
    for number, value in pairs:
        if number in found:
            raise ExchangeError(f"{number} is said twice")
        found[number] = value
    return found
