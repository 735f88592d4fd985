"""What happens to a run by itself: a round opens, closes or is missed, the run ends.

Everything that this needs to know is given: the time, the payloads, the secret of a private run. The version that a
round makes depends on the set of its updates alone.
"""

import hashlib
from collections.abc import Callable, Iterator
from typing import Final

import numpy as np

from thalweg.learning.aggregates.strategies import ReceivedUpdate
from thalweg.learning.privacy.budget import epsilon
from thalweg.learning.privacy.terms import drawn, private_step
from thalweg.learning.rounds.facts import Fact, FactKind
from thalweg.learning.rounds.run import Round, Run
from thalweg.learning.rounds.run_spec import MOST_MISSED, RunSpecError
from thalweg.learning.rounds.secure_round import Load, SecureRound
from thalweg.learning.secrecy.exchanges import UNMASK
from thalweg.learning.secrecy.secure_sum import SecureSumError
from thalweg.learning.vectors.parameters import Vector, digest, from_bytes, to_bytes

Store = Callable[[bytes], None]
"""Takes a payload that a fact will name."""

Announce = Callable[[str, int, bytes], None]
"""Takes how a version of a model, by its number, differs from the last one, as participants may be told it."""

COMPLETE: Final = "complete"


class Director:
    """Directs every run of one centre."""

    def __init__(
        self, load: Load, store: Store, secret: bytes = b"", announce: Announce = lambda model, version, change: None
    ) -> None:
        """Hold what is needed.

        Args:
            load: gives payloads.
            store: takes the vectors of new versions, before the fact that names them.
            secret: draws who is called and makes the noise, of private runs.
            announce: takes the changes of runs whose versions are told as such.
        """
        self._load = load
        self._store = store
        self._secret = secret
        self._announce = announce

    def due(self, run: Run, now_ms: int, heard_until_ms: int) -> Iterator[Fact]:
        """Yield what is due, each fact to be taken before the next is asked for.

        Args:
            run: as it is.
            now_ms: the time.
            heard_until_ms: everything that arrived until then has been judged. A round is closed at its deadline only
                when this has passed it, so who is in time does not depend on how fast the centre reads.
        """
        while not run.ended:
            fact = self._open(run, now_ms) if run.open is None else self._close(run, run.open, now_ms, heard_until_ms)
            if fact is None:
                return
            yield fact

    def _open(self, run: Run, now_ms: int) -> Fact | None:
        spec = run.spec
        if run.version >= spec.rounds:
            return _ended(run, now_ms, COMPLETE)
        if run.missed >= MOST_MISSED:
            return _ended(run, now_ms, f"{MOST_MISSED} rounds in a row without a quorum of {spec.quorum}")
        if spec.privacy is not None:
            after = epsilon(spec.privacy, run.released + 1)
            if after > spec.privacy.budget_epsilon:
                return _ended(
                    run,
                    now_ms,
                    f"the next round would spend epsilon {after:.4f}, the budget is {spec.privacy.budget_epsilon:g}",
                )
        if len(run.members) < max(spec.quorum, spec.begin_with if run.last_round == 0 else 0):
            return None
        number = run.last_round + 1
        called = () if spec.way.asynchronous else tuple(sorted(self._called(run, number)))
        try:
            spec.check_called(len(called))
        except RunSpecError as error:
            return _ended(run, now_ms, str(error))
        return Fact(
            kind=FactKind.OPENED,
            model=run.model,
            at_ms=now_ms,
            round_number=number,
            version=run.version,
            sha256=run.sha256,
            called=called,
            deadline_ms=0 if spec.way.asynchronous else now_ms + spec.deadline_ms,
        )

    def _called(self, run: Run, number: int) -> list[str]:
        spec = run.spec
        if spec.privacy is not None:
            rate = spec.privacy.sample_rate
            return [name for name in run.members if drawn(self._secret, run.model, number, name) < rate]
        if spec.per_round == 0 or len(run.members) <= spec.per_round:
            return list(run.members)

        def lot(name: str) -> bytes:
            return hashlib.sha256(f"{spec.seed}\0{run.model}\0{number}\0{name}".encode()).digest()

        return sorted(run.members, key=lot)[: spec.per_round]

    def _close(self, run: Run, open_: Round, now_ms: int, heard_until_ms: int) -> Fact | None:
        spec, count = run.spec, len(open_.accepted)
        if spec.way.asynchronous:
            return self._version(run, open_, now_ms) if count >= spec.buffer else None
        if spec.secrecy is not None:
            return self._exchanged(run, open_, now_ms, heard_until_ms)
        answered = {participant for participant, _ in open_.accepted}
        waited_for = (open_.called & run.members.keys()) - answered
        # A private round of nobody is as long as one of nobody who answers: it must not be told apart.
        waiting = bool(waited_for) or (spec.privacy is not None and not open_.called)
        if waiting and heard_until_ms <= open_.deadline_ms:
            return None
        if count >= spec.quorum or spec.privacy is not None:
            return self._version(run, open_, now_ms)
        return _missed(run, open_, now_ms, f"{count} updates of {len(open_.called)} called, needed are {spec.quorum}")

    def _exchanged(self, run: Run, open_: Round, now_ms: int, heard_until_ms: int) -> Fact | None:
        """End an exchange of a round whose updates are secret: carry on what it brought, or make the version."""
        here = SecureRound(run, open_, self._load)
        waited_for = (here.going_on() & run.members.keys()) - here.answered()
        if waited_for and heard_until_ms <= open_.deadline_ms:
            return None
        try:
            if open_.exchange == UNMASK:
                return self._secret_version(run, open_, here, now_ms)
            raw = here.carried()
        except SecureSumError as error:
            return _missed(run, open_, now_ms, str(error))
        self._store(raw)
        return Fact(
            kind=FactKind.ADVANCED,
            model=run.model,
            at_ms=now_ms,
            round_number=open_.number,
            version=run.version,
            turn=open_.exchange + 1,
            sha256=digest(raw),
            payload_bytes=len(raw),
            updates=len(here.answered()),
            deadline_ms=now_ms + run.spec.deadline_ms,
        )

    def _secret_version(self, run: Run, open_: Round, here: SecureRound, now_ms: int) -> Fact:
        change, samples = here.mean()
        vector = from_bytes(self._load(run.sha256), run.spec.size)
        return self._made(run, open_, now_ms, self._told(run, vector, vector + change), here.sent(), samples)

    def _version(self, run: Run, open_: Round, now_ms: int) -> Fact:
        spec = run.spec
        received = [
            ReceivedUpdate(
                participant=fact.participant,
                vector=spec.writing.decode(self._load(fact.sha256), spec.size),
                samples=fact.samples,
                staleness=run.version - fact.version,
            )
            for fact in open_.accepted.values()
        ]
        vector = from_bytes(self._load(run.sha256), spec.size)
        wanted = self._advanced(run, open_, vector, received)
        samples = sum(fact.samples for fact in open_.accepted.values())
        return self._made(run, open_, now_ms, self._told(run, vector, wanted), len(received), samples)

    def _made(self, run: Run, open_: Round, now_ms: int, vector: Vector, updates: int, samples: int) -> Fact:
        spec, raw = run.spec, to_bytes(vector)
        self._store(raw)
        return Fact(
            kind=FactKind.CLOSED,
            model=run.model,
            at_ms=now_ms,
            round_number=open_.number,
            version=run.version + 1,
            sha256=digest(raw),
            updates=updates,
            payload_bytes=sum(fact.payload_bytes for fact in open_.accepted.values()),
            samples=samples,
            epsilon=None if spec.privacy is None else epsilon(spec.privacy, run.released + 1),
            metrics=_weighted(list(open_.accepted.values())),
        )

    def _told(self, run: Run, vector: Vector, wanted: Vector) -> Vector:
        """Make the version what participants can be told: of a change in few bits, the version is what these say."""
        codec = run.spec.telling
        if not codec.delta:
            return wanted
        change = codec.encode((wanted - vector).astype(np.float32))
        self._announce(run.model, run.version + 1, change)
        return vector + codec.decode(change, run.spec.size)

    def _advanced(self, run: Run, open_: Round, vector: Vector, received: list[ReceivedUpdate]) -> Vector:
        spec = run.spec
        if spec.privacy is None:
            return spec.way.advance(vector, received, spec.combining, open_.members)
        expected = spec.privacy.sample_rate * open_.members
        return vector + private_step(received, spec.size, spec.privacy, expected, self._secret, run.model, open_.number)


def _missed(run: Run, open_: Round, now_ms: int, reason: str) -> Fact:
    return Fact(
        kind=FactKind.MISSED,
        model=run.model,
        at_ms=now_ms,
        round_number=open_.number,
        version=run.version,
        sha256=run.sha256,
        reason=reason,
    )


def _ended(run: Run, now_ms: int, reason: str) -> Fact:
    return Fact(
        kind=FactKind.ENDED, model=run.model, at_ms=now_ms, version=run.version, sha256=run.sha256, reason=reason
    )


def _weighted(accepted: list[Fact]) -> dict[str, float]:
    """Means of what participants report, by samples, summed in one order."""
    ordered = sorted(accepted, key=lambda fact: (fact.participant, fact.turn))
    means = {}
    for name in sorted({name for fact in ordered for name in fact.metrics}):
        told = [(fact.metrics[name], fact.samples) for fact in ordered if name in fact.metrics]
        means[name] = sum(value * weight for value, weight in told) / sum(weight for _, weight in told)
    return means
