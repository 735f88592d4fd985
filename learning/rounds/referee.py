"""Judge what is said: it becomes a fact, and if it cannot be obeyed the fact is its refusal, with the reason.

Judging changes nothing. Whether an update is late is judged by the broker's time of its arrival, which is part of the
record; so a record that is read again, in whatever batch, is judged as before.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

import numpy as np

from thalweg.learning.rounds.asked import asked_name, not_of
from thalweg.learning.rounds.facts import Fact, FactKind
from thalweg.learning.rounds.run import Member, Run, Runs
from thalweg.learning.rounds.run_spec import RunSpecError
from thalweg.learning.rounds.said import Statement, signed_text
from thalweg.learning.rounds.secure_round import FalseShareError, Load, SecureRound
from thalweg.learning.secrecy.exchanges import ExchangeError
from thalweg.learning.vectors.parameters import VectorError, digest, from_bytes

Verify = Callable[[str, bytes, bytes], bool]
"""Tells whether a signature (third) of a text (second) was made with the private half of a public key (first, hex)."""

LARGEST: Final = 1e30
"""Of a number in an update: far beyond any use, and so far below the end of float32 that no sum of them gets there."""
MOST_MEMBERS: Final = 20_000
"""Of one run: who is called is listed in one message."""
LONGEST_REASON: Final = 300

RULES: Final = {
    "unreadable": "it is no message",
    "unknown_model": "no run of this model was started",
    "known_model": "a run of this model was started before",
    "bad_run": "the run cannot be carried out as described",
    "not_allowed": "starting and stopping is for operators, taking part for regions",
    "ended": "the run has ended",
    "unknown_participant": "it has not joined, or has left",
    "wrong_region": "it came by another region's topic than the one it joined by",
    "forged": "the signature is missing or not the participant's",
    "unknown_round": "no such round has been opened yet",
    "not_called": "it was not called into this round",
    "repeated": "an update of this participant was taken for this round, or turn, before",
    "late": "it came after the deadline, or after the round was closed",
    "stale": "it was trained from a version too long ago",
    "wrong_version": "it was trained from another version than the round's",
    "full": "the run has as many participants as it can call",
    "samples": "it claims no samples, or more than the run allows",
    "no_payload": "its payload is not there",
    "wrong_digest": "its payload is not the one it names",
    "bad_payload": "its payload holds no such vector, or numbers that are not finite",
    "false_share": "it gives a share of a secret that is not the one that its owner has given",
    "told_alone": "updates are secret, and it tells samples or metrics of its own",
}
"""Why something is refused, by the word in `rule`."""


class _RefusedError(Exception):
    def __init__(self, rule: str, detail: str = "") -> None:
        super().__init__(f"{RULES[rule]}{f': {detail}' if detail else ''}"[:LONGEST_REASON])
        self.rule = rule


def _nothing(name: str) -> bytes:
    raise LookupError(f"payload {name}: none were given")


def judge(runs: Runs, said: Statement, verify: Verify, load: Load = _nothing) -> Fact:
    """Make a fact of what was said.

    Args:
        runs: all, as they are.
        said: by anybody.
        verify: checks signatures.
        load: gives payloads that were accepted; needed where updates are secret.
    """
    fact = Fact(
        kind=FactKind.REFUSED,
        model=said.model,
        at_ms=said.at_ms,
        participant=said.participant,
        region=said.region,
        round_number=said.round_number,
        version=said.version,
        turn=said.turn,
        samples=said.samples,
        sha256=said.sha256,
        payload_bytes=len(said.payload or b""),
        metrics=said.metrics,
        public_key=said.public_key,
        place=said.place,
    )
    try:
        return _obeyed(runs, said, fact, verify, load)
    except _RefusedError as error:
        return replace(fact, rule=error.rule, reason=str(error))


def _obeyed(runs: Runs, said: Statement, fact: Fact, verify: Verify, load: Load) -> Fact:
    for_operators = said.kind in ("start", "stop")
    if for_operators != (said.region == ""):
        raise _RefusedError("not_allowed")
    run = runs.get(said.model)
    if said.kind == "start":
        return _start(run, said, fact)
    if run is None:
        raise _RefusedError("unknown_model", said.model)
    if run.ended:
        raise _RefusedError("ended", run.ended)
    match said.kind:
        case "stop":
            return replace(fact, kind=FactKind.ENDED, reason="stopped", version=run.version)
        case "join":
            _check_key(run, said, verify)
            if not 0 < len(said.participant) <= 256:
                raise _RefusedError("unknown_participant", "its name is empty or too long")
            if said.participant not in run.members and len(run.members) >= MOST_MEMBERS:
                raise _RefusedError("full", f"{MOST_MEMBERS}")
            return replace(fact, kind=FactKind.JOINED, version=run.version)
        case "leave":
            member = _check_member(run, said, verify)
            if said.turn != member.life:
                raise _RefusedError("repeated", f"it left another life: this one joined with turn {member.life}")
            return replace(fact, kind=FactKind.LEFT, version=run.version)
        case "update":
            _check_member(run, said, verify)
            _check_round(run, said)
            if run.spec.secrecy is not None:
                _check_exchange(run, said, load)
            else:
                _check_payload(run, said)
            return replace(fact, kind=FactKind.ACCEPTED)


def _start(run: Run | None, said: Statement, fact: Fact) -> Fact:
    if run is not None:
        raise _RefusedError("known_model", "give the new run a name of its own")
    if said.spec is None:
        raise _RefusedError("bad_run", "it says nothing of the run")
    try:
        said.spec.check()
    except RunSpecError as error:
        raise _RefusedError("bad_run", str(error)) from error
    if len(said.asked) > MOST_MEMBERS:
        raise _RefusedError("bad_run", f"{len(said.asked)} participants: allowed are {MOST_MEMBERS}")
    if stranger := not_of(said.model, said.asked):
        allowed = asked_name(said.model, "NAME")
        raise _RefusedError("bad_run", f"participant {stranger!r}: allowed is {allowed}, without further slashes")
    raw = _payload(said)
    try:
        from_bytes(raw, said.spec.size)
    except VectorError as error:
        raise _RefusedError("bad_payload", str(error)) from error
    return replace(fact, kind=FactKind.STARTED, spec=said.spec, called=said.asked)


def _check_key(run: Run, said: Statement, verify: Verify) -> None:
    """Whoever brings a key shows that it is theirs; a name that has one keeps it."""
    known = run.keys.get(said.participant, "")
    if run.spec.signed and not said.public_key:
        raise _RefusedError("forged", "the run takes only participants with a key")
    if known and said.public_key != known:
        raise _RefusedError("forged", "this name belongs to another key")
    if said.public_key and not verify(said.public_key, signed_text(said), said.signature):
        raise _RefusedError("forged")
    if said.turn < run.next_life.get(said.participant, 0):
        raise _RefusedError("repeated", f"it has joined with turn {said.turn}, or a later one, before")
    member = run.members.get(said.participant)
    # With a key, a later life may be elsewhere: its task was placed anew. Without one, anybody could say so.
    moved = bool(known) and member is not None and said.turn > member.life
    if member is not None and member.region != said.region and not moved:
        raise _RefusedError("wrong_region", f"it takes part in {member.region}")


def _check_member(run: Run, said: Statement, verify: Verify) -> Member:
    member = run.members.get(said.participant)
    if member is None:
        raise _RefusedError("unknown_participant", said.participant)
    if member.region != said.region:
        raise _RefusedError("wrong_region", f"it takes part in {member.region}, seen {said.region}")
    if member.public_key and not verify(member.public_key, signed_text(said), said.signature):
        raise _RefusedError("forged")
    return member


def _check_round(run: Run, said: Statement) -> None:
    if run.spec.way.asynchronous:
        _check_turn(run, said)
        return
    number = said.round_number
    if number > run.last_round or number < 1:
        raise _RefusedError("unknown_round", f"{number}, the newest is {run.last_round}")
    if run.spec.secrecy is None and run.answered.get(said.participant, 0) >= number:
        raise _RefusedError("repeated")
    if run.open is not None and run.open.number == number and (said.participant, said.turn) in run.open.accepted:
        raise _RefusedError("repeated", f"of exchange {said.turn}")
    if run.open is None or run.open.number != number:
        raise _RefusedError("late", f"round {number} is closed")
    if said.participant not in run.open.called:
        raise _RefusedError("not_called")
    if said.at_ms > run.open.deadline_ms:
        raise _RefusedError("late", f"{said.at_ms - run.open.deadline_ms} ms after the deadline")
    if said.version != run.version:
        raise _RefusedError("wrong_version", f"{said.version}, the round's is {run.version}")
    if said.turn and run.spec.secrecy is None:
        raise _RefusedError("repeated", "turns are numbered where updates come at any time; here each round has one")


def _check_turn(run: Run, said: Statement) -> None:
    if run.open is None:
        raise _RefusedError("unknown_round", "nothing is asked for yet")
    if said.turn <= run.answered.get(said.participant, 0):
        raise _RefusedError("repeated", f"turn {said.turn}")
    if said.version > run.version:
        raise _RefusedError("wrong_version", f"{said.version}, the newest is {run.version}")
    if run.version - said.version > run.spec.most_stale:
        raise _RefusedError("stale", f"{run.version - said.version} versions, allowed are {run.spec.most_stale}")


def _check_exchange(run: Run, said: Statement, load: Load) -> None:
    """Judge an answer to one of the exchanges of a round whose updates are secret."""
    assert run.open is not None
    asked = run.open.exchange
    if said.turn != asked:
        rule = "late" if 0 < said.turn < asked else "unknown_round"
        raise _RefusedError(rule, f"exchange {said.turn}, asked for is {asked}")
    if said.samples or said.metrics:
        raise _RefusedError("told_alone")
    here = SecureRound(run, run.open, load)
    if said.participant not in here.going_on():
        raise _RefusedError("not_called", f"its answer of exchange {asked - 1} was not there in time")
    raw = _payload(said)
    try:
        here.check(said.participant, raw)
    except ExchangeError as error:
        raise _RefusedError("bad_payload", str(error)) from error
    except FalseShareError as error:
        raise _RefusedError("false_share", str(error)) from error


def _check_payload(run: Run, said: Statement) -> None:
    if not 0 < said.samples <= run.spec.most_samples:
        raise _RefusedError("samples", f"{said.samples}, allowed are 1 to {run.spec.most_samples}")
    raw = _payload(said)
    try:
        vector = run.spec.writing.decode(raw, run.spec.size)
        if (largest := float(np.max(np.abs(vector)))) > LARGEST:
            raise VectorError(f"a number of size {largest:g}: allowed are {LARGEST:g}")
    except VectorError as error:
        raise _RefusedError("bad_payload", str(error)) from error


def _payload(said: Statement) -> bytes:
    if said.payload is None:
        raise _RefusedError("no_payload", said.sha256)
    if digest(said.payload) != said.sha256:
        raise _RefusedError("wrong_digest", f"it has {digest(said.payload)}, it names {said.sha256}")
    return said.payload
