"""Secure aggregation: the centre learns the sum of what participants send, and of no one alone.

Bonawitz et al. 2017, "Practical Secure Aggregation for Privacy-Preserving Machine Learning", for a centre that follows
the protocol and is curious; with few neighbours each as in Bell et al. 2020 (SecAgg+). Four exchanges:

1. `keys`     each participant tells two public keys
2. `share`    each splits its mask key and the seed of its own mask among its neighbours and itself
3. `masked`   each sends its numbers plus its own mask, plus or minus one shared with each neighbour still there
4. `unmask`   of who sent, neighbours give shares of the own mask's seed; of who is gone, of the mask key

Shared masks cancel in the sum; the centre takes away the own ones and what is left of those who are gone. Everything is
modulo 2³², so the sum is exact. A participant that is asked for both halves of anybody's secret, or a second time for
something else, refuses.

With its keys each tells a digest of its own mask's seed, and with its shares a digest of every one: what is revealed is
checked against them, so a share that is not the one its owner gave is known when it arrives, and a secret that is not
the one its owner has is never taken for it. Seeds and shares are too random to be guessed from a digest.

Primitives by `cryptography` (an extra): X25519, HKDF-SHA-256, ChaCha20 as the mask's generator, ChaCha20-Poly1305.
"""

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from thalweg.learning.secrecy.fixed_point import Words
from thalweg.learning.secrecy.shares import SHARE_BYTES, Entropy, joined, split

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

SECRET_BYTES: Final = 32


class SecureSumError(Exception):
    """The protocol cannot go on: too few are left, or what is asked for would reveal somebody's numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What all of a round have been told."""

    context: bytes
    """Of this model and round: keys of one round are no keys of another."""
    participants: tuple[int, ...]
    """Numbers from 1."""
    threshold: int
    """How many of a neighbourhood, a participant and its neighbours, must be there to the end."""
    degree: int = 0
    """Neighbours of each; 0 makes everybody everybody's."""

    def neighbours(self, number: int) -> tuple[int, ...]:
        """Name who shares masks with a participant: those next to it in a ring, as many on either side."""
        ring, count = self.participants, len(self.participants)
        if self.degree == 0 or self.degree >= count - 1:
            return tuple(other for other in ring if other != number)
        place = ring.index(number)
        reach = (self.degree + 1) // 2
        around = {ring[(place + step) % count] for step in range(-reach, reach + 1)}
        return tuple(sorted(around - {number}))

    def check(self) -> None:
        """Refuse terms under which sums could not be had, or too few could tell somebody's numbers.

        Raises:
            SecureSumError: the threshold is not above half of a neighbourhood, or is above all of it.
        """
        least = min(1 + len(self.neighbours(number)) for number in self.participants)
        if not least // 2 < self.threshold <= least:
            raise SecureSumError(
                f"a threshold of {self.threshold} in a neighbourhood of {least}: "
                f"allowed are {least // 2 + 1} to {least}, so that no two halves can each unmask"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicKeys:
    """One participant's, for sealing shares and for agreeing on masks."""

    sealing: bytes
    masking: bytes
    seed_digest: bytes
    """Of the seed of its own mask."""


Sealed = Mapping[int, bytes]
"""Shares, sealed, by who can open them."""


class ShareDigests(NamedTuple):
    """Of what one holder is given."""

    seed: bytes
    key: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Whose secrets the centre wants shares of."""

    sent: frozenset[int]
    """Their numbers are in the sum: the seeds of their own masks."""
    gone: frozenset[int]
    """They shared and did not send: their mask keys."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Revealed:
    """One participant's shares of what was asked for."""

    seeds: Mapping[int, bytes]
    keys: Mapping[int, bytes]


@dataclass(slots=True)
class SecureParticipant:
    """One participant in one round."""

    number: int
    terms: Terms
    entropy: Entropy
    _sealing: bytes = field(init=False, repr=False)
    _masking: bytes = field(init=False, repr=False)
    _seed: bytes = field(init=False, repr=False)
    _keys: Mapping[int, PublicKeys] = field(init=False, default_factory=dict)
    _held: dict[int, bytes] = field(init=False, default_factory=dict, repr=False)
    _own_share: bytes = field(init=False, default=b"", repr=False)
    _revealed: Asked | None = field(init=False, default=None)
    digests: Mapping[int, ShareDigests] = field(init=False, default_factory=dict)
    """Of the shares that it has given, by holder, itself among them; told with them."""

    def __post_init__(self) -> None:
        self._sealing, self._masking, self._seed = (self.entropy(SECRET_BYTES) for _ in range(3))

    def keys(self) -> PublicKeys:
        """First exchange."""
        return PublicKeys(
            sealing=_public(self._sealing), masking=_public(self._masking), seed_digest=digest_of(self._seed)
        )

    def share(self, keys: Mapping[int, PublicKeys]) -> Sealed:
        """Second exchange: shares for the neighbours who told keys.

        Raises:
            SecureSumError: too few neighbours did.
        """
        self._keys = {number: keys[number] for number in self.terms.neighbours(self.number) if number in keys}
        if 1 + len(self._keys) < self.terms.threshold:
            raise SecureSumError(f"{len(self._keys)} neighbours told keys: needed are {self.terms.threshold - 1}")
        holders = sorted({*self._keys, self.number})
        seeds = split(self._seed, holders, self.terms.threshold, self.entropy)
        masks = split(self._masking, holders, self.terms.threshold, self.entropy)
        self._own_share = seeds[self.number]
        self.digests = {holder: ShareDigests(digest_of(seeds[holder]), digest_of(masks[holder])) for holder in holders}
        return {other: self._seal(other, seeds[other] + masks[other]) for other in sorted(self._keys)}

    def masked(self, words: Words, received: Sealed) -> Words:
        """Third exchange: the numbers under their masks.

        Args:
            words: the numbers.
            received: what neighbours have sealed for this one, by neighbour: they are there still.

        Raises:
            SecureSumError: too few are, or a share was not sealed by who it is said to be of.
        """
        for other, sealed in received.items():
            self._held[other] = self._open(other, sealed)
        if 1 + len(self._held) < self.terms.threshold:
            raise SecureSumError(f"{len(self._held)} neighbours shared: needed are {self.terms.threshold - 1}")
        total = words + _mask(self._seed, words.size)
        for other in self._held:
            shared = _mask(_pair_seed(self._masking, self._keys[other].masking, self.terms.context), words.size)
            total = total + shared if self.number < other else total - shared
        return total

    def unmask(self, asked: Asked) -> Revealed:
        """Fourth exchange: shares of neighbours' secrets, of each one kind only, and only once.

        Raises:
            SecureSumError: it would reveal somebody's numbers.
        """
        if asked.sent & asked.gone:
            raise SecureSumError(f"both secrets of {sorted(asked.sent & asked.gone)} were asked for: refused")
        if len(asked.sent) < self.terms.threshold:
            raise SecureSumError(f"a sum of {len(asked.sent)}: allowed are {self.terms.threshold} and more")
        if self._revealed not in (None, asked):
            raise SecureSumError("something else was asked for before: refused")
        self._revealed = asked
        own = {self.number: self._own_share} if self.number in asked.sent else {}
        return Revealed(
            seeds=own | {other: self._held[other][:SHARE_BYTES] for other in asked.sent & self._held.keys()},
            keys={other: self._held[other][SHARE_BYTES:] for other in asked.gone & self._held.keys()},
        )

    def _seal(self, other: int, plain: bytes) -> bytes:
        return _aead(self._sealing, self._keys[other].sealing, self.terms.context).encrypt(
            _nonce(self.number, other), plain, None
        )

    def _open(self, other: int, sealed: bytes) -> bytes:
        from cryptography.exceptions import InvalidTag

        if other not in self._keys:
            raise SecureSumError(f"{other} is no neighbour of {self.number} that told keys")
        try:
            return _aead(self._sealing, self._keys[other].sealing, self.terms.context).decrypt(
                _nonce(other, self.number), sealed, None
            )
        except InvalidTag:
            raise SecureSumError(f"what is said to be of {other} was not sealed by it") from None


@dataclass(slots=True)
class SecureCentre:
    """The centre in one round: it carries sealed shares, and adds."""

    terms: Terms
    size: int
    keys: dict[int, PublicKeys] = field(default_factory=dict)
    sealed: dict[int, Sealed] = field(default_factory=dict)
    """By who sealed."""
    words: dict[int, Words] = field(default_factory=dict)
    """What was sent, by participant: what the centre sees of each."""

    def shares_for(self, number: int) -> Sealed:
        """Return what others have sealed for a participant."""
        return {other: sealed[number] for other, sealed in self.sealed.items() if number in sealed}

    def asked(self) -> Asked:
        """Say whose secrets are needed, once nobody is waited for any more.

        Raises:
            SecureSumError: too few have sent.
        """
        sent = frozenset(self.words)
        if len(sent) < self.terms.threshold:
            raise SecureSumError(f"{len(sent)} have sent: needed are {self.terms.threshold}")
        return Asked(sent=sent, gone=frozenset(self.sealed.keys() - sent))

    def total(self, revealed: Mapping[int, Revealed]) -> Words:
        """Return the exact sum, modulo 2³², of what `asked` calls sent.

        Args:
            revealed: by who is still there.

        Raises:
            SecureSumError: too few are.
        """
        asked = self.asked()
        total = np.zeros(self.size, np.uint32)
        for number in sorted(asked.sent):
            seed = self._joined(number, revealed, "seeds")
            if digest_of(seed) != self.keys[number].seed_digest:
                raise SecureSumError(f"the shares of {number}'s seed are not of the one that it told a digest of")
            total = total + self.words[number] - _mask(seed, self.size)
        for gone in sorted(asked.gone):
            key = self._joined(gone, revealed, "keys")
            if _public(key) != self.keys[gone].masking:
                raise SecureSumError(f"the shares of {gone}'s key are not of the one that it told the public half of")
            for other in sorted(asked.sent & set(self.terms.neighbours(gone)) & self.sealed[gone].keys()):
                mask = _mask(_pair_seed(key, self.keys[other].masking, self.terms.context), self.size)
                total = total - mask if other < gone else total + mask
        return total

    def _joined(self, number: int, revealed: Mapping[int, Revealed], kind: str) -> bytes:
        found: Collection[tuple[int, bytes]] = [
            (holder, getattr(of_holder, kind)[number])
            for holder, of_holder in revealed.items()
            if number in getattr(of_holder, kind)
        ]
        if len(found) < self.terms.threshold:
            raise SecureSumError(f"{len(found)} shares of {number}'s secret: needed are {self.terms.threshold}")
        return joined(dict(found), self.terms.threshold, SECRET_BYTES)


def digest_of(secret: bytes) -> bytes:
    """Return what is told of a seed or a share before it is revealed."""
    return hashlib.sha256(secret).digest()


def is_public_key(raw: bytes) -> bool:
    """Tell whether others can agree on secrets with a key: those of small order give nobody any (RFC 7748, 6.1)."""
    try:
        _agreed(bytes(31) + b"\1", raw, b"")
    except ValueError:
        return False
    return True


def _private(raw: bytes) -> "X25519PrivateKey":
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    return X25519PrivateKey.from_private_bytes(raw)


def _public(raw: bytes) -> bytes:
    return _private(raw).public_key().public_bytes_raw()


def _agreed(own: bytes, other: bytes, purpose: bytes) -> bytes:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    secret = _private(own).exchange(X25519PublicKey.from_public_bytes(other))
    return HKDF(algorithm=SHA256(), length=SECRET_BYTES, salt=None, info=purpose).derive(secret)


def _pair_seed(own: bytes, other: bytes, context: bytes) -> bytes:
    return _agreed(own, other, b"thalweg mask\0" + context)


def _aead(own: bytes, other: bytes, context: bytes) -> "ChaCha20Poly1305":
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

    return ChaCha20Poly1305(_agreed(own, other, b"thalweg seal\0" + context))


def _nonce(sender: int, receiver: int) -> bytes:
    """One key serves both ways of a pair, once each."""
    return sender.to_bytes(6, "big") + receiver.to_bytes(6, "big")


def _mask(seed: bytes, size: int) -> Words:
    """Stretch a seed to a mask: ChaCha20's key stream. Each seed is one mask, so the nonce is zero."""
    from cryptography.hazmat.primitives.ciphers import Cipher
    from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20

    stream = Cipher(ChaCha20(seed, bytes(16)), mode=None).encryptor().update(bytes(4 * size))
    return np.frombuffer(stream, "<u4").astype(np.uint32)
