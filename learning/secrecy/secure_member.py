"""One participant of a round whose updates are secret: what the centre has carried in, its next answer out.

All that it draws follows from its secret, the round and the numbers that it will send. So whoever dies and comes back
in the midst of a round answers with the same bytes, and where training did not come to the same, its keys are others
than the ones it has told, and it is silent: two different vectors are never hidden under one mask, whose difference
everybody could read. (As nonces are made from what they protect: RFC 8452.)
"""

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field

from thalweg.learning.secrecy.exchanges import (
    read_all_keys,
    read_asked,
    read_carried,
    write_keys,
    write_revealed,
    write_shares,
    write_words,
)
from thalweg.learning.secrecy.fixed_point import Words
from thalweg.learning.secrecy.secret_terms import SecretRound
from thalweg.learning.secrecy.secure_sum import SecureParticipant, SecureSumError
from thalweg.learning.vectors.parameters import Vector


class SecureMember:
    """One participant in one round."""

    def __init__(self, name: str, round_: SecretRound, change: Vector, weight: int, secret: bytes) -> None:
        """Decide what it will send.

        Args:
            name: its own, which was called.
            round_: the round.
            change: what training has changed.
            weight: on how many samples.
            secret: 32 bytes that nobody else has; with the same ones a later life goes on where this one ended.

        Raises:
            OutOfRangeError: a number, or the weight, is larger than the run allows; nothing is clipped.
        """
        self._number = round_.number(name)
        self._round = round_
        self._words: Words = round_.writing.write(change, weight)
        drawn = hmac.new(secret, round_.terms.context + b"\0" + name.encode() + b"\0", hashlib.sha256)
        drawn.update(hashlib.sha256(write_words(self._words)).digest())
        self._seed = drawn.digest()
        self._heard: list[bytes] = []

    def answer(self, carried: Sequence[bytes]) -> bytes | None:
        """Answer the exchange that follows those whose outcome is carried; None where it is not asked.

        Args:
            carried: of each exchange that is over, what the centre tells everybody.

        Raises:
            SecureSumError: it would reveal somebody's numbers, too few are left, or something else was told before.
            ExchangeError: what is carried cannot be read.
        """
        if list(carried[: len(self._heard)]) != self._heard:
            raise SecureSumError("something else was told of this round before: refused")
        self._heard = list(carried)
        one = SecureParticipant(self._number, self._round.terms, _Stream(self._seed).take)
        own = one.keys()
        if not carried:
            return write_keys(own)
        keys = read_all_keys(carried[0])
        if keys.get(self._number) != own:
            return None  # its keys came too late, or are of an earlier life that had learned something else
        sealed = one.share(keys)
        if len(carried) == 1:
            return write_shares(sealed, one.digests)
        received, carried_on = read_carried(carried[1], self._number)
        if not carried_on:
            return None
        masked = one.masked(self._words, received)
        if len(carried) == 2:
            return write_words(masked)
        asked = read_asked(carried[2])
        if self._number not in asked.sent:
            return None
        if len(asked.sent) < self._round.quorum:
            raise SecureSumError(f"a sum of {len(asked.sent)}: the run makes none of fewer than {self._round.quorum}")
        return write_revealed(one.unmask(asked))


@dataclass(slots=True)
class _Stream:
    """Bytes that follow from a seed, one after another."""

    seed: bytes
    _blocks: int = 0
    _left: bytes = field(default=b"")

    def take(self, count: int) -> bytes:
        """Return the next bytes."""
        while len(self._left) < count:
            self._left += hmac.new(self.seed, self._blocks.to_bytes(8, "big"), hashlib.sha512).digest()
            self._blocks += 1
        taken, self._left = self._left[:count], self._left[count:]
        return taken
