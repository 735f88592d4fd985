"""The open round of a run whose updates are secret, as the centre has it: four exchanges, of each what was accepted.

What the centre knows of a participant is what lies here: public keys, sealed shares, numbers under their masks, and of
each secret either the shares of the own mask's seed or those of the mask key. What follows from an exchange depends on
the set of its answers alone.
"""

from collections.abc import Callable
from dataclasses import dataclass

from thalweg.learning.rounds.facts import Fact
from thalweg.learning.rounds.run import Round, Run
from thalweg.learning.secrecy.exchanges import (
    KEYS,
    MASKED,
    SHARES,
    UNMASK,
    ExchangeError,
    read_keys,
    read_revealed,
    read_shares,
    read_words,
    write_all_keys,
    write_asked,
    write_carried,
)
from thalweg.learning.secrecy.secret_terms import SecretRound, round_context, secret_round
from thalweg.learning.secrecy.secure_sum import (
    Asked,
    PublicKeys,
    SecureCentre,
    SecureSumError,
    digest_of,
    is_public_key,
)
from thalweg.learning.vectors.parameters import Vector

Load = Callable[[str], bytes]
"""Gives a payload by its digest."""


class FalseShareError(ValueError):
    """A share is not the one that its owner told a digest of."""


@dataclass(frozen=True, slots=True)
class SecureRound:
    """The open round of a run."""

    run: Run
    open: Round
    load: Load

    @property
    def here(self) -> SecretRound:
        """The round as participants see it."""
        spec = self.run.spec
        assert spec.secrecy is not None
        context = round_context(self.run.model, self.open.number, self.run.sha256)
        return secret_round(spec.secrecy, context, self.open.called, spec.quorum, spec.most_samples)

    def going_on(self) -> frozenset[str]:
        """Name who may answer the exchange: whose answer of the one before was taken."""
        return frozenset(self._answers(self.open.exchange - 1)) if self.open.exchange > KEYS else self.open.called

    def answered(self) -> frozenset[str]:
        """Name whose answer of the exchange was taken."""
        return frozenset(self._answers(self.open.exchange))

    def check(self, name: str, raw: bytes) -> None:
        """Refuse what is no answer of a participant to the exchange.

        Raises:
            ExchangeError: it cannot be read, or says what was not asked.
            FalseShareError: it gives a share that its owner has not given.
        """
        here = self.here
        number = here.number(name)
        if self.open.exchange == KEYS:
            keys = read_keys(raw)
            if not (is_public_key(keys.sealing) and is_public_key(keys.masking)):
                raise ExchangeError("a public key that gives no secret with anybody")
        elif self.open.exchange == SHARES:
            _, digests = read_shares(raw, number)
            wanted = {number, *here.terms.neighbours(number)} & set(map(here.number, self._answers(KEYS)))
            if digests.keys() != wanted:
                raise ExchangeError(f"shares for {sorted(digests)}: asked for are {sorted(wanted)}")
        elif self.open.exchange == MASKED:
            read_words(raw, self.run.spec.size + 1)
        else:
            self._check_revealed(number, raw)

    def carried(self) -> bytes:
        """Return what the exchange has brought, for those who go on.

        Raises:
            SecureSumError: too few are left.
        """
        exchange, left = self.open.exchange, len(self.answered())
        needed = max(self.run.spec.quorum, self.here.terms.threshold)
        if left < needed:
            called = len(self.open.called)
            raise SecureSumError(f"{left} of {called} called have answered exchange {exchange}, needed are {needed}")
        if exchange == KEYS:
            return write_all_keys(self._keys())
        centre = self._centre()
        return write_carried(centre.sealed) if exchange == SHARES else write_asked(centre.asked())

    def mean(self) -> tuple[Vector, int]:
        """Return the mean change of those who have sent, and the samples of all of them together.

        Raises:
            SecureSumError: too few have given shares, or what was sent cannot be a sum of numbers within the limits.
        """
        centre, here = self._centre(), self.here
        given = {here.number(name): read_revealed(raw) for name, raw in self._payloads(UNMASK).items()}
        total = centre.total(given)
        _, samples = here.writing.read(total)
        sent = len(centre.words)
        if not sent <= samples <= sent * self.run.spec.most_samples:
            raise SecureSumError(
                f"the sum is of {samples} samples, and {sent} participants have {sent} to "
                f"{sent * self.run.spec.most_samples}: somebody has not kept to the protocol"
            )
        return here.writing.mean(total), samples

    def sent(self) -> int:
        """Count whose numbers are in the sum."""
        return len(self._answers(MASKED))

    def _check_revealed(self, number: int, raw: bytes) -> None:
        revealed, asked = read_revealed(raw), self._asked()
        strangers = (revealed.seeds.keys() - asked.sent) | (revealed.keys.keys() - asked.gone)
        if strangers or not (revealed.seeds or revealed.keys):
            raise ExchangeError(f"shares of {sorted(strangers)}: they were not asked for" if strangers else "no shares")
        names = self.here.names
        for of_key, shares in enumerate((revealed.seeds, revealed.keys)):
            for owner, share in shares.items():
                _, digests = read_shares(self.load(self._answers(SHARES)[names[owner - 1]].sha256), owner)
                if number not in digests or digests[number][of_key] != digest_of(share):
                    raise FalseShareError(f"of {names[owner - 1]}")

    def _centre(self) -> SecureCentre:
        here, size = self.here, self.run.spec.size + 1
        return SecureCentre(
            here.terms,
            size,
            keys=self._keys(),
            sealed={
                here.number(name): read_shares(raw, here.number(name))[0]
                for name, raw in self._payloads(SHARES).items()
            },
            words={here.number(name): read_words(raw, size) for name, raw in self._payloads(MASKED).items()},
        )

    def _asked(self) -> Asked:
        number = self.here.number
        sent = frozenset(map(number, self._answers(MASKED)))
        return Asked(sent=sent, gone=frozenset(map(number, self._answers(SHARES))) - sent)

    def _keys(self) -> dict[int, PublicKeys]:
        number = self.here.number
        return {number(name): read_keys(raw) for name, raw in self._payloads(KEYS).items()}

    def _payloads(self, exchange: int) -> dict[str, bytes]:
        return {name: self.load(fact.sha256) for name, fact in self._answers(exchange).items()}

    def _answers(self, exchange: int) -> dict[str, Fact]:
        found = {name: fact for (name, turn), fact in self.open.accepted.items() if turn == exchange}
        return dict(sorted(found.items()))
