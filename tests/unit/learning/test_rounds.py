"""The referee and the director: what is obeyed, what is refused and why, when rounds end; facts are the state."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.learning.privacy.audit import audited_epsilon
from thalweg.learning.privacy.budget import epsilon
from thalweg.learning.privacy.terms import PrivacyTerms
from thalweg.learning.rounds.director import Director
from thalweg.learning.rounds.facts import Fact, FactKind
from thalweg.learning.rounds.referee import RULES, judge
from thalweg.learning.rounds.run import Run, Runs, replayed, take
from thalweg.learning.rounds.run_spec import MOST_MISSED, RunSpec, RunSpecError
from thalweg.learning.rounds.said import SaidKind, Statement
from thalweg.learning.vectors.parameters import digest, from_bytes, to_bytes

SIZE = 4
ZERO = to_bytes(np.zeros(SIZE, np.float32))


class Rounds:
    """Runs with payloads in memory and a clock that the test moves."""

    def __init__(self, secret: bytes = b"s") -> None:
        self.runs: Runs = {}
        self.facts: list[Fact] = []
        self.payloads: dict[str, bytes] = {}
        self.now_ms = 1_000
        self.director = Director(self.payloads.__getitem__, self.keep, secret)

    def keep(self, raw: bytes) -> None:
        self.payloads[digest(raw)] = raw

    def hear(self, said: Statement) -> Fact:
        fact = judge(self.runs, said, lambda key, text, signature: signature == f"{key} signs".encode())
        if said.payload is not None:
            self.keep(said.payload)
        return self.note(fact)

    def note(self, fact: Fact) -> Fact:
        take(self.runs, fact)
        self.facts.append(fact)
        return fact

    def direct(self, heard_until_ms: int | None = None) -> list[FactKind]:
        heard = self.now_ms if heard_until_ms is None else heard_until_ms
        return [
            self.note(fact).kind for run in self.runs.values() for fact in self.director.due(run, self.now_ms, heard)
        ]

    def start(self, **fields: object) -> Fact:
        spec = RunSpec(**{"parameters": SIZE, "rounds": 3, "deadline_ms": 100, **fields})  # type: ignore[arg-type]
        raw = to_bytes(np.zeros(spec.size, np.float32))
        return self.hear(self.said("start", region="", spec=spec, payload=raw, sha256=digest(raw)))

    def said(self, kind: SaidKind, participant: str = "", **fields: object) -> Statement:
        known = {"kind": kind, "model": "m", "at_ms": self.now_ms, "region": "r", "participant": participant}
        return Statement(**{**known, **fields})  # type: ignore[arg-type]

    def join(self, *names: str, **fields: object) -> None:
        for name in names:
            assert self.hear(self.said("join", name, **fields)).kind is FactKind.JOINED

    def update(self, name: str, numbers: object = 1.0, **fields: object) -> Statement:
        """What an honest participant would send now."""
        run = self.runs["m"]
        raw = to_bytes(np.full(run.spec.size, numbers, np.float32))
        known = {
            "round_number": run.last_round, "version": run.version, "samples": 10, "payload": raw,
            "sha256": digest(raw),
            "metrics": {"loss": 0.5},
        }  # fmt: skip
        return self.said("update", name, **{**known, **fields})

    @property
    def run(self) -> Run:
        return self.runs["m"]

    @property
    def vector(self) -> list[float]:
        return from_bytes(self.payloads[self.run.sha256], self.run.spec.size).tolist()  # type: ignore[no-any-return]


def begun(*names: str, **fields: object) -> Rounds:
    rounds = Rounds()
    assert rounds.start(**fields).kind is FactKind.STARTED
    rounds.join(*(names or ("a", "b", "c")))
    assert rounds.direct() == [FactKind.OPENED]
    return rounds


def test_a_round_ends_when_everybody_has_answered() -> None:
    rounds = begun()
    for name, number, samples in (("c", 4.0, 1), ("a", 1.0, 1), ("b", 1.0, 2)):
        assert rounds.direct() == []
        assert rounds.hear(rounds.update(name, number, samples=samples)).kind is FactKind.ACCEPTED
    assert rounds.direct() == [FactKind.CLOSED, FactKind.OPENED]
    assert rounds.vector == [1.75] * SIZE
    assert rounds.facts[-2].metrics == {"loss": 0.5}
    assert (rounds.facts[-2].updates, rounds.facts[-2].samples) == (3, 4)


def test_a_round_ends_at_its_deadline_with_those_who_were_in_time_and_not_before_all_of_them_were_heard() -> None:
    rounds = begun(quorum=1)
    deadline = rounds.now_ms + 100
    rounds.hear(rounds.update("a"))
    rounds.now_ms = deadline + 50
    assert rounds.direct(heard_until_ms=deadline) == [], "what arrived at the very end may not have been read"
    assert rounds.hear(replace(rounds.update("b", 3.0), at_ms=deadline)).kind is FactKind.ACCEPTED
    late = rounds.hear(replace(rounds.update("c"), at_ms=deadline + 1))
    assert (late.rule, late.kind) == ("late", FactKind.REFUSED)
    assert rounds.direct() == [FactKind.CLOSED, FactKind.OPENED]
    assert rounds.vector == [2.0] * SIZE
    assert rounds.hear(replace(rounds.update("c"), round_number=1)).rule == "late"


def test_without_a_quorum_a_round_is_missed_and_asked_again_but_not_for_ever() -> None:
    rounds = begun(quorum=2)
    for missed in range(1, MOST_MISSED + 1):
        rounds.hear(rounds.update("a"))
        rounds.now_ms += 101
        expected = [FactKind.MISSED, FactKind.OPENED if missed < MOST_MISSED else FactKind.ENDED]
        assert rounds.direct() == expected
    assert "without a quorum of 2" in rounds.run.ended
    assert rounds.vector == [0.0] * SIZE


def test_who_leaves_is_not_waited_for_and_who_joins_is_called_next_time() -> None:
    rounds = begun()
    rounds.hear(rounds.update("a"))
    rounds.hear(rounds.update("b"))
    rounds.join("d")
    assert rounds.hear(rounds.update("d")).rule == "not_called"
    rounds.hear(rounds.said("leave", "c"))
    assert rounds.direct() == [FactKind.CLOSED, FactKind.OPENED]
    assert rounds.facts[-1].called == ("a", "b", "d")


def test_a_run_ends_when_its_versions_are_made_or_it_is_stopped() -> None:
    rounds = begun("a", rounds=2)
    for _ in range(2):
        rounds.hear(rounds.update("a"))
        rounds.direct()
    assert rounds.run.ended == "complete"
    assert rounds.hear(rounds.update("a")).rule == "ended"
    rounds = begun("a")
    rounds.hear(rounds.said("stop", region=""))
    assert rounds.run.ended == "stopped"
    assert rounds.direct() == []


def test_some_are_called_by_a_lot_that_falls_the_same_again() -> None:
    names = [f"p{index}" for index in range(30)]
    called = []
    for _ in range(2):
        rounds = begun(*names, per_round=5, seed=3)
        for _ in range(2):
            for name in sorted(rounds.run.open.called if rounds.run.open else ()):
                rounds.hear(rounds.update(name))
            rounds.direct()
        called.append([fact.called for fact in rounds.facts if fact.kind is FactKind.OPENED])
    assert called[0] == called[1]
    assert [len(names) for names in called[0]] == [5, 5, 5]
    assert len(set(called[0])) == 3


def test_the_first_round_waits_for_as_many_as_it_is_told() -> None:
    rounds = Rounds()
    rounds.start(begin_with=2)
    rounds.join("a")
    assert rounds.direct() == []
    rounds.join("b")
    assert rounds.direct() == [FactKind.OPENED]


def bad_updates(rounds: Rounds) -> dict[str, Statement]:
    """One of each kind that must change nothing, sent while round 2 waits for b and c; a has answered it."""
    honest = rounds.update("b")
    wrong = np.full(SIZE, 1.0, np.float32)
    wrong[2] = np.nan

    def with_payload(raw: bytes, **fields: object) -> Statement:
        return replace(honest, payload=raw, sha256=digest(raw), **fields)  # type: ignore[arg-type]

    return {
        "a repetition": replace(rounds.update("a"), participant="a"),
        "another answer of who has answered": rounds.update("a", 9.0),
        "of an earlier round": replace(honest, round_number=1),
        "of a round to come": replace(honest, round_number=3),
        "after the deadline": replace(honest, at_ms=rounds.now_ms + 101),
        "of a stranger": replace(honest, participant="x"),
        "by another region's topic": replace(honest, region="elsewhere"),
        "from another version": replace(honest, version=0),
        "of another model": replace(honest, model="n"),
        "without samples": replace(honest, samples=0),
        "of more samples than allowed": replace(honest, samples=10**7),
        "without a payload": replace(honest, payload=None),
        "with another payload than it names": replace(honest, sha256=digest(b"x")),
        "of too few numbers": with_payload(to_bytes(np.zeros(SIZE - 1, np.float32))),
        "of too many numbers": with_payload(to_bytes(np.zeros(SIZE + 1, np.float32))),
        "with a NaN": with_payload(to_bytes(wrong)),
        "with an infinity": with_payload(to_bytes(np.full(SIZE, np.inf, np.float32))),
        "with numbers beyond all use": with_payload(to_bytes(np.full(SIZE, 1e35, np.float32))),
        "start by a region": replace(honest, kind="start"),
        "stop by a region": replace(honest, kind="stop"),
        "a join by another region": replace(honest, kind="join", region="elsewhere"),
        "an update by operators": replace(honest, region=""),
        "a leave of another life": replace(honest, kind="leave", turn=7),
    }


@given(st.permutations(range(23)))
def test_bad_updates_change_nothing_and_are_facts_with_their_reason(order: list[int]) -> None:
    def until_round_two() -> Rounds:
        rounds = begun()
        for name in "abc":
            rounds.hear(rounds.update(name))
        rounds.direct()
        rounds.hear(rounds.update("a"))
        return rounds

    rounds, undisturbed = until_round_two(), until_round_two()
    bad = list(bad_updates(rounds).values())
    assert len(bad) == len(order)
    for index in order:
        fact = rounds.hear(bad[index])
        assert fact.kind is FactKind.REFUSED, bad[index]
        assert fact.rule in RULES and fact.reason.startswith(RULES[fact.rule])
    for both in (rounds, undisturbed):
        both.hear(both.update("b"))
        both.hear(both.update("c"))
        assert both.direct() == [FactKind.CLOSED, FactKind.OPENED]
    assert rounds.run == undisturbed.run


def test_each_rule_refuses_something() -> None:
    rounds = begun()
    for name in "abc":
        rounds.hear(rounds.update(name))
    rounds.direct()
    rounds.hear(rounds.update("a"))
    found = {rounds.hear(said).rule for said in bad_updates(rounds).values()}
    found |= {rounds.start().rule, Rounds().start(liars=0.9).rule}
    elsewhere = {"unreadable", "not_called", "ended", "stale", "forged", "full"}
    elsewhere |= {"false_share", "told_alone"}  # of secret updates
    assert found | elsewhere == set(RULES)


def test_only_the_key_that_joined_can_speak_for_a_name() -> None:
    rounds = Rounds()
    rounds.start(signed=True)
    assert rounds.hear(rounds.said("join", "a")).rule == "forged"
    assert rounds.hear(rounds.said("join", "a", public_key="A", signature=b"B signs")).rule == "forged"
    rounds.join("a", public_key="A", signature=b"A signs")
    rounds.join("b", public_key="B", signature=b"B signs")
    rounds.direct()
    assert rounds.hear(rounds.update("a")).rule == "forged"
    assert rounds.hear(rounds.update("a", signature=b"B signs")).rule == "forged"
    assert rounds.hear(rounds.update("a", signature=b"A signs")).kind is FactKind.ACCEPTED
    assert rounds.hear(rounds.said("join", "a", public_key="B", signature=b"B signs", turn=9)).rule == "forged"
    rounds.hear(rounds.said("leave", "a", signature=b"A signs"))
    again = rounds.hear(rounds.said("join", "a", public_key="A", signature=b"A signs"))
    assert again.rule == "repeated", "what was said once cannot be said again by who has only heard it"


def test_with_a_key_a_later_life_may_be_in_another_region_and_the_earlier_one_is_heard_no_more() -> None:
    rounds = Rounds()
    rounds.start()

    def joined(region: str, life: int, key: str = "k1") -> Fact:
        signature = f"{key} signs".encode()
        return rounds.hear(
            rounds.said("join", "a", region=region, turn=life, public_key=key, signature=signature if key else b"")
        )

    assert joined("bern", 1).kind is FactKind.JOINED
    assert joined("oslo", 1).rule == "wrong_region", "the same life cannot be in two regions"
    assert joined("oslo", 2).kind is FactKind.JOINED
    assert rounds.run.members["a"].region == "oslo"
    assert joined("bern", 1).rule == "repeated"
    assert joined("bern", 3, "k2").rule == "forged"
    rounds.direct()
    signed = {"signature": b"k1 signs"}
    assert rounds.hear(rounds.update("a", region="bern", **signed)).rule == "wrong_region"
    assert rounds.hear(rounds.update("a", region="oslo", **signed)).kind is FactKind.ACCEPTED


def test_without_a_key_nobody_can_say_that_a_participant_is_elsewhere_now() -> None:
    rounds = Rounds()
    rounds.start()
    rounds.join("a", region="bern")
    assert rounds.hear(rounds.said("join", "a", region="oslo", turn=2)).rule == "wrong_region"


def test_a_run_asks_for_tasks_of_its_own_only_and_knows_who_of_them_is_absent() -> None:
    rounds = Rounds()
    assert rounds.start(rounds=1).kind is FactKind.STARTED  # without any
    assert rounds.run.absent() == []
    raw = to_bytes(np.zeros(SIZE, np.float32))
    spec = RunSpec(parameters=SIZE, rounds=1, deadline_ms=100)

    def start(model: str, *asked: str) -> Fact:
        said = rounds.said("start", region="", spec=spec, payload=raw, sha256=digest(raw), asked=asked)
        return rounds.hear(replace(said, model=model))

    for stranger in ("train-7", "federated/other/x", "federated/n/x/y", "federated/n/"):
        refused = start("n", "federated/n/x", stranger)
        assert refused.rule == "bad_run" and stranger in refused.reason
    assert start("n", "federated/n/x", "federated/n/y").kind is FactKind.STARTED
    assert replayed(rounds.facts) == rounds.runs
    run = rounds.runs["n"]
    assert run.absent() == ["federated/n/x", "federated/n/y"]
    rounds.hear(replace(rounds.said("join", "federated/n/y"), model="n"))
    assert run.absent() == ["federated/n/x"]


def test_a_version_that_is_told_by_its_change_is_what_the_change_says() -> None:
    rounds = Rounds()
    changes: dict[int, bytes] = {}
    rounds.director = Director(
        rounds.payloads.__getitem__, rounds.keep, b"s", lambda model, version, change: changes.update({version: change})
    )
    rounds.start(rounds=3, downlink="delta+bits=4+zstd")
    rounds.join("a")
    rounds.direct()
    told = np.zeros(SIZE, np.float32)
    for version, wanted in enumerate(([0.1, 0.77, -0.3, 5.0], [0.2, 0.7, -0.4, 5.0], [0.0, 0.0, 0.0, 0.0]), start=1):
        rounds.hear(rounds.update("a", np.array(wanted, np.float32)))
        rounds.direct()
        told = told + rounds.run.spec.telling.decode(changes[version], SIZE)
        assert rounds.vector == told.tolist(), "who adds up the changes has every version, to the last bit"
        assert np.abs(told - wanted).max() < 0.5
    assert rounds.vector != wanted, "a change in four bits is not exact: the version is what was told"


@pytest.mark.parametrize("downlink", ["delta+top=0.1", "whole+zstd", "whole+bits=8", "half"])
def test_a_downlink_that_would_leave_somebody_without_a_version_is_refused(downlink: str) -> None:
    refused = Rounds().start(downlink=downlink)
    assert refused.rule == "bad_run" and ("downlink" in refused.reason or "codec" in refused.reason)


def test_fedbuff_takes_whoever_comes_each_turn_once_and_not_too_old() -> None:
    rounds = begun("a", "b", strategy="fedbuff", codec="delta", buffer=2, most_stale=1, rounds=9)

    def turn(name: str, number: int, version: int) -> Fact:
        return rounds.hear(rounds.update(name, 1.0, turn=number, version=version, round_number=0))

    assert turn("a", 1, 0).kind is FactKind.ACCEPTED
    assert turn("a", 1, 0).rule == "repeated"
    assert turn("a", 2, 0).kind is FactKind.ACCEPTED
    assert rounds.direct() == [FactKind.CLOSED, FactKind.OPENED]
    assert rounds.vector == [1.0] * SIZE
    assert turn("b", 1, 0).kind is FactKind.ACCEPTED
    assert turn("b", 2, 2).rule == "wrong_version"
    assert turn("a", 3, 1).kind is FactKind.ACCEPTED
    rounds.direct()
    assert turn("b", 3, 0).rule == "stale"
    assert rounds.vector[0] == pytest.approx(1 + (1 + 2**-0.5) / 2, abs=1e-5)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"strategy": "x"}, "allowed are fedavg, fedbuff, scaffold"),
        ({"aggregate": "x"}, "allowed are mean, clipped"),
        ({"codec": "x"}, "allowed are `whole` or `delta`"),
        ({"strategy": "fedbuff"}, "need changes"),
        ({"aggregate": "clipped"}, "need changes"),
        ({"aggregate": "krum", "quorum": 3, "liars": 0.3}, "a quorum of 3 is too small"),
        ({"per_round": 2, "quorum": 3}, "at least the quorum of 3"),
        ({"liars": 0.6}, "allowed are 0 to 0.49"),
        ({"strategy": "fedbuff", "codec": "delta", "aggregate": "median"}, "fedbuff takes whoever comes"),
    ],
)
def test_what_does_not_go_together_is_refused_before_it_begins(fields: dict[str, object], words: str) -> None:
    with pytest.raises(RunSpecError, match=words):
        RunSpec(**{"parameters": 1, "rounds": 1, **fields}).check()  # type: ignore[arg-type]


TERMS = PrivacyTerms(clip_norm=1.0, noise_multiplier=1.0, sample_rate=0.5, delta=1e-3, budget_epsilon=4.0)


def test_a_private_run_ends_before_its_budget_is_passed_and_says_what_was_spent() -> None:
    pytest.importorskip("dp_accounting", reason="the extra `learning` is not installed")
    rounds = Rounds()
    rounds.start(privacy=TERMS, codec="delta", rounds=1_000, deadline_ms=10)
    rounds.join(*(f"p{index}" for index in range(20)))
    rounds.direct()
    while not rounds.run.ended:
        assert rounds.run.open is not None
        for name in sorted(rounds.run.open.called):
            rounds.hear(rounds.update(name, 100.0))
        rounds.now_ms += 11
        rounds.direct()
    spent = [fact.epsilon for fact in rounds.facts if fact.kind is FactKind.CLOSED]
    assert spent == sorted(spent) and 0 < spent[0] < spent[-1] <= 4.0
    assert "the budget is 4" in rounds.run.ended
    assert rounds.run.version == len(spent) < 1_000


def test_a_private_version_is_clipped_noisy_and_the_same_when_it_is_made_again() -> None:
    pytest.importorskip("dp_accounting", reason="the extra `learning` is not installed")

    def version(number: float, secret: bytes = b"s") -> list[float]:
        rounds = Rounds(secret)
        rounds.start(privacy=replace(TERMS, sample_rate=1.0, noise_multiplier=0.5, budget_epsilon=99.0), codec="delta")
        rounds.join(*(f"p{index}" for index in range(10)))
        rounds.direct()
        for index in range(10):
            rounds.hear(rounds.update(f"p{index}", number))
        rounds.direct()
        return rounds.vector

    assert version(100.0) == version(100.0)
    np.testing.assert_allclose(version(100.0), version(1e6), atol=1e-6)  # both are clipped to the same
    assert version(100.0) != version(100.0, secret=b"t")
    assert np.abs(np.array(version(100.0)) - 0.5).max() < 0.5  # a length of 1 over four numbers, and noise of 0.05


class RandomRounds:
    """Random histories: joins, leaves, updates good and bad, time passing."""

    def __init__(self, data: st.DataObject) -> None:
        self.rounds = Rounds()
        self.rounds.start(quorum=2, rounds=5)
        for _ in range(data.draw(st.integers(1, 40))):
            name = data.draw(st.sampled_from("abcd"))
            match data.draw(st.sampled_from(["join", "leave", "update", "bad", "time"])):
                case "join":
                    self.rounds.hear(self.rounds.said("join", name))
                case "leave":
                    self.rounds.hear(self.rounds.said("leave", name))
                case "update":
                    self.rounds.hear(self.rounds.update(name, data.draw(st.floats(-9, 9, width=32))))
                case "bad":
                    number = data.draw(st.integers(0, 9))
                    self.rounds.hear(self.rounds.update(name, np.nan, round_number=number))
                case "time":
                    self.rounds.now_ms += data.draw(st.integers(1, 150))
            self.rounds.direct()


@given(st.data())
def test_the_facts_are_the_state(data: st.DataObject) -> None:
    rounds = RandomRounds(data).rounds
    assert replayed(rounds.facts) == rounds.runs
    versions = [fact.version for fact in rounds.facts if fact.kind is FactKind.CLOSED]
    assert versions == list(range(1, len(versions) + 1))
    opened = [fact.round_number for fact in rounds.facts if fact.kind is FactKind.OPENED]
    assert opened == list(range(1, len(opened) + 1))


def test_an_attack_proves_some_loss_of_privacy_and_never_more_than_is_claimed() -> None:
    pytest.importorskip("dp_accounting", reason="the extra `learning` is not installed")
    terms = replace(TERMS, sample_rate=1.0)
    found = audited_epsilon(terms, size=2, releases=1_000, confidence=0.95, seed=1)
    assert 0.5 < found <= epsilon(terms, 1)
