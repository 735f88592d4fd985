"""Rounds of secret updates over the topics: sums that are exact whoever drops out, and nothing else to be seen."""

import itertools
import json
from base64 import b64decode, b64encode
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

pytest.importorskip("cryptography", reason="the extra `learning` is not installed")

from thalweg.federation.participant import Participant, Train, Trained
from thalweg.federation.rehearsal import MODEL, PREFIX, REGIONS, RehearsalStage, RehearsedCentre, key_of, moved
from thalweg.jobs.federation.fact_rows import facts_of, rows_of
from thalweg.learning.privacy.terms import PrivacyTerms
from thalweg.learning.rounds.facts import Fact, FactKind
from thalweg.learning.rounds.run_spec import RunSpec, RunSpecError
from thalweg.learning.secrecy.exchanges import EXCHANGES, KEYS, MASKED, SHARES, UNMASK
from thalweg.learning.secrecy.fixed_point import FixedPoint, OutOfRangeError
from thalweg.learning.secrecy.secret_terms import SecrecyTerms
from thalweg.learning.vectors.parameters import Vector, digest, from_bytes
from thalweg.streams.contract.messages import ModelState, ModelUpdate, Payload
from thalweg.streams.contract.topics import MODELS, UPDATES, topic_name
from thalweg.streams.learning.payloads import PayloadStore
from thalweg.streams.learning.updates import run_of, spec_of

SPEC = RunSpec(
    parameters=24, rounds=1, quorum=3, begin_with=5, deadline_ms=1_000, codec="delta", most_samples=50,
    secrecy=SecrecyTerms(largest=8.0),
)  # fmt: skip
NAMES = [f"p{index}" for index in range(5)]


class SecretStage(RehearsalStage):
    """Five participants, a centre, and who falls silent when."""

    def __init__(self, folder: Path, spec: RunSpec = SPEC, *, keyed: bool = True) -> None:
        super().__init__(str(folder))
        self.spec = spec
        self.keyed = keyed
        self.start(spec, np.zeros(spec.size, np.float32))
        self.centre = RehearsedCentre(self)
        self.centre.settle()
        self.cast = {name: self.life(name) for name in NAMES}

    def life(self, name: str, train: Train | None = None) -> Participant:
        region = REGIONS[NAMES.index(name) % 2]
        one = self.participant(name, region, train or moved(name), key_of(name) if self.keyed else None)
        one.join()
        return one

    def exchange(self, silent: tuple[str, ...] = ()) -> None:
        """Let all but some answer, and the centre go on, past the deadline where somebody is waited for."""
        self.centre.settle()
        over = len(self.facts_of_rounds())
        for name, one in self.cast.items():
            if name not in silent:
                one.step(0)
        self.centre.settle()
        if silent and len(self.facts_of_rounds()) == over:
            self.now_ms += SPEC.deadline_ms + 1
            self.centre.settle()

    def carry_out(self, drops: dict[str, int]) -> None:
        """Carry one round out; who drops is silent from that exchange on."""
        for exchange in EXCHANGES:
            if self.of(FactKind.MISSED):
                return
            self.exchange(tuple(name for name, first in drops.items() if exchange >= first))

    @property
    def facts(self) -> list[Fact]:
        return self.ledger.read()

    def facts_of_rounds(self) -> list[Fact]:
        return [fact for fact in self.facts if fact.kind in (FactKind.ADVANCED, FactKind.CLOSED, FactKind.MISSED)]

    def of(self, kind: FactKind) -> list[Fact]:
        return [fact for fact in self.facts if fact.kind is kind]

    def version(self) -> Vector:
        (closed,) = self.of(FactKind.CLOSED)
        return from_bytes(PayloadStore(self.folder).get(closed.sha256), self.spec.size)

    def said(self) -> list[ModelUpdate]:
        """What participants have said of updates."""
        records = [record for region in REGIONS for record in self.broker.topics[topic_name(UPDATES, PREFIX, region)]]
        found = [msgspec.json.decode(record.value or b"", type=ModelUpdate) for record in records]
        return [message for message in found if message.kind == "update"]

    def state(self) -> ModelState:
        last = self.broker.topics[topic_name(MODELS, PREFIX)][-1]
        return msgspec.json.decode(last.value or b"", type=ModelState)


def trained(name: str, spec: RunSpec = SPEC) -> Trained:
    """What a participant learns in the first round."""
    state = ModelState(model=MODEL, version=0, payload=Payload(sha256="", size_bytes=1), run=run_of(spec), round=1)
    return moved(name)(np.zeros(spec.size, np.float32), state)


def expected(names: list[str], called: int = 5) -> tuple[Vector, int]:
    """The mean of what they learn, by the numbers that are hidden, without any hiding."""
    writing = FixedPoint(largest=8.0, participants=called, most_weight=SPEC.most_samples)
    total = np.zeros(SPEC.size + 1, np.uint32)
    for name in names:
        learned = trained(name)
        total = total + writing.write(learned.parameters, learned.samples)
    return writing.mean(total), writing.read(total)[1]


def test_the_version_is_the_mean_of_what_all_have_learned(tmp_path: Path) -> None:
    stage = SecretStage(tmp_path)
    stage.carry_out({})
    wanted, samples = expected(NAMES)
    assert (stage.version() == wanted).all()
    (closed,) = stage.of(FactKind.CLOSED)
    assert (closed.updates, closed.samples) == (5, samples)
    assert [fact.turn for fact in stage.of(FactKind.ADVANCED)] == [2, 3, 4]
    learned = [trained(name) for name in NAMES]
    plain = np.average([one.parameters for one in learned], axis=0, weights=[one.samples for one in learned])
    np.testing.assert_allclose(stage.version(), plain, atol=8.0 * 5 * SPEC.most_samples / 2**31 * 2)


SETS = [dropped for count in (1, 2) for dropped in itertools.combinations(NAMES, count)]


@pytest.mark.parametrize("exchange", EXCHANGES)
def test_it_is_exact_for_every_set_of_dropouts_that_leaves_the_threshold(exchange: int, tmp_path: Path) -> None:
    for number, dropped in enumerate(SETS):
        stage = SecretStage(tmp_path / str(number))
        stage.carry_out(dict.fromkeys(dropped, exchange))
        there = [name for name in NAMES if exchange == UNMASK or name not in dropped]
        wanted, samples = expected(there)
        assert (stage.version() == wanted).all(), dropped
        assert stage.of(FactKind.CLOSED)[0].samples == samples


def test_too_few_make_no_sum_and_reveal_none(tmp_path: Path) -> None:
    for exchange in EXCHANGES:
        stage = SecretStage(tmp_path / str(exchange))
        stage.carry_out(dict.fromkeys(NAMES[:3], exchange))
        missed = stage.of(FactKind.MISSED)[0]
        assert "needed are 3" in missed.reason
        assert not stage.of(FactKind.CLOSED)
        revealed = [message for message in stage.said() if message.round == 1 and message.turn == UNMASK]
        assert len(revealed) == (2 if exchange == UNMASK else 0)
        assert stage.state().round == 2, "and the next round asks again"


@pytest.mark.parametrize("exchange", [KEYS, SHARES, MASKED])
def test_a_quorum_above_the_threshold_counts_and_fewer_reveal_nothing(exchange: int, tmp_path: Path) -> None:
    stage = SecretStage(tmp_path, replace(SPEC, quorum=4))
    stage.carry_out(dict.fromkeys(NAMES[:2], exchange))
    assert "needed are 4" in stage.of(FactKind.MISSED)[0].reason
    assert not any(message.turn == UNMASK for message in stage.said())


def test_what_the_centre_is_told_of_one_is_neither_samples_nor_figures_nor_numbers(tmp_path: Path) -> None:
    stage = SecretStage(tmp_path)
    stage.carry_out({})
    assert {(message.samples, len(message.metrics)) for message in stage.said()} == {(0, 0)}
    writing = FixedPoint(largest=8.0, participants=5, most_weight=SPEC.most_samples)
    for message in stage.said():
        if message.turn == MASKED:
            learned = trained(message.participant)
            assert message.payload is not None and message.payload.inline is not None
            seen = np.frombuffer(b64decode(message.payload.inline), "<u4")
            bits = np.unpackbits((seen ^ writing.write(learned.parameters, learned.samples)).view(np.uint8))
            assert abs(bits.mean() - 0.5) < 5 * 0.5 / np.sqrt(bits.size), "what hides them looks like coin flips"
    left = [path.name for path in tmp_path.rglob("*") if path.is_file()]
    assert sorted(left) == sorted({stage.of(FactKind.STARTED)[0].sha256, stage.of(FactKind.CLOSED)[0].sha256})


def test_who_says_something_else_changes_nothing_and_is_a_row_with_its_reason(tmp_path: Path) -> None:
    """In every exchange somebody writes something false, then what is right, then that again."""
    false: dict[int, Callable[[bytes], bytes]] = {
        KEYS: lambda raw: bytes(32) + raw[32:],  # a key that gives no secret with anybody
        SHARES: lambda raw: raw[: len(raw) // 5],
        MASKED: lambda raw: raw + raw[:4],
        UNMASK: lambda raw: raw[:-1] + bytes([raw[-1] ^ 1]),
    }
    for keyed in (True, False):
        stage = SecretStage(tmp_path / str(keyed), keyed=keyed)
        stage.centre.settle()
        for exchange in EXCHANGES:
            for one in reversed(stage.cast.values()):
                one.step(0)
            honest = stage.broker.topics[topic_name(UPDATES, PREFIX, REGIONS[0])].pop().value or b""
            message = json.loads(honest)
            told = message["payload"]
            true = b64decode(told["inline"]) if "inline" in told else PayloadStore(stage.folder).get(told["sha256"])
            raw = false[exchange](true)
            message["payload"] = {"sha256": digest(raw), "size_bytes": len(raw), "inline": b64encode(raw).decode()}
            stage.say(REGIONS[0], json.dumps(message).encode(), honest, honest)
            stage.centre.settle()
        rules = [(fact.participant, fact.rule) for fact in stage.of(FactKind.REFUSED)]
        assert [rule for _, rule in rules[1::2]] == ["repeated"] * 4
        of_false = ["forged"] * 4 if keyed else ["bad_payload"] * 3 + ["false_share"]
        assert [rule for _, rule in rules[::2]] == of_false
        assert {name for name, _ in rules} == {"p0"} and all(fact.reason for fact in stage.of(FactKind.REFUSED))
        assert (stage.version() == expected(NAMES)[0]).all()


def test_answers_of_other_exchanges_and_what_tells_of_one_alone_are_refused(tmp_path: Path) -> None:
    stage = SecretStage(tmp_path, keyed=False)
    stage.exchange(silent=("p0",))
    stage.cast["p0"].step(0)  # its state is of the second exchange: its keys came too late
    (known, *_) = [message for message in stage.said() if message.participant == "p2"]
    for change in (
        {"turn": 1, "participant": "p0"},
        {"turn": 3},
        {"turn": 2, "samples": 3},
        {"turn": 2, "participant": "p0"},
    ):
        stage.say(REGIONS[0], msgspec.json.encode(msgspec.structs.replace(known, **change)))
    stage.centre.settle()
    assert [fact.rule for fact in stage.of(FactKind.REFUSED)] == ["late", "unknown_round", "told_alone", "not_called"]


def test_who_comes_back_goes_on_with_the_same_bytes_and_is_silent_where_it_learned_something_else(
    tmp_path: Path,
) -> None:
    for again in (True, False):
        stage = SecretStage(tmp_path / str(again))
        stage.exchange()
        stage.exchange()
        train = moved("p1" if again else "p2")
        stage.now_ms += 1  # a later life
        stage.cast["p1"] = stage.life("p1", train)
        silent = () if again else ("nobody",)
        stage.exchange(silent)
        stage.exchange(silent)
        sent = [message.participant for message in stage.said() if message.turn == MASKED]
        assert sorted(sent) == (NAMES if again else ["p0", "p2", "p3", "p4"])
        assert (stage.version() == expected(sorted(sent))[0]).all()


def test_who_has_no_key_is_silent_when_it_comes_back_within_a_round(tmp_path: Path) -> None:
    stage = SecretStage(tmp_path, keyed=False)
    stage.exchange()
    stage.now_ms += 1
    stage.cast["p1"] = stage.life("p1")
    for _ in (SHARES, MASKED, UNMASK):
        stage.exchange(silent=("nobody",))
    assert (stage.version() == expected(["p0", "p2", "p3", "p4"])[0]).all()


def test_a_number_that_does_not_fit_is_not_clipped_and_the_others_go_on(tmp_path: Path) -> None:
    stage = SecretStage(tmp_path)

    def wild(vector: Vector, state: ModelState) -> Trained:
        return Trained(parameters=np.full(vector.size, 8.1, np.float32), samples=1)

    stage.cast["p3"].leave()
    stage.centre.settle()
    stage.now_ms += 1
    wild_one = stage.life("p3", wild)
    stage.centre.settle()
    with pytest.raises(OutOfRangeError, match="allowed are 8"):
        wild_one.step(0)
    wild_one.leave()  # as `take_part` does with any training that fails
    del stage.cast["p3"]
    for _ in EXCHANGES:
        stage.exchange()
    assert (stage.version() == expected(["p0", "p1", "p2", "p4"])[0]).all()


def test_few_neighbours_are_enough(tmp_path: Path) -> None:
    spec = replace(SPEC, secrecy=SecrecyTerms(largest=8.0, neighbours=2))
    stage = SecretStage(tmp_path, spec)
    stage.carry_out({"p1": MASKED})
    assert (stage.version() == expected(["p0", "p2", "p3", "p4"])[0]).all()


def test_its_facts_and_its_terms_are_read_back_as_they_were(tmp_path: Path) -> None:
    stage = SecretStage(tmp_path)
    stage.carry_out({"p1": MASKED})
    assert facts_of(rows_of(stage.facts, 1).to_pylist()) == stage.facts
    assert spec_of(run_of(SPEC)) == SPEC
    again = RehearsedCentre(stage)
    assert again.federator.runs == stage.centre.federator.runs
    (row,) = again.federator.books.rounds.values()
    assert (row["called"], row["accepted"], row["samples"]) == (5, 4, stage.of(FactKind.CLOSED)[0].samples)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"codec": "whole"}, "codec delta"),
        ({"codec": "delta+bits=8"}, "codec delta"),
        ({"aggregate": "median"}, "aggregate mean"),
        ({"quorum": 2}, "at least 3"),
        ({"most_samples": 2**28}, "their product must be below"),
        ({"secrecy": SecrecyTerms(largest=0.0)}, "largest above 0"),
        ({"secrecy": SecrecyTerms(largest=1.0, threshold=0.5)}, "threshold above 0.5"),
        ({"secrecy": SecrecyTerms(largest=1.0, neighbours=3)}, "an even number"),
    ],
)
def test_what_does_not_go_with_secret_updates_is_refused(fields: dict[str, object], words: str) -> None:
    with pytest.raises(RunSpecError, match=words):
        replace(SPEC, **fields).check()  # type: ignore[arg-type]


def test_terms_that_are_refused_are_named_as_they_are_written() -> None:
    private = PrivacyTerms(clip_norm=0, noise_multiplier=1.1, sample_rate=0.1, delta=1e-5, budget_epsilon=8)
    for spec, words in (
        (replace(SPEC, secrecy=SecrecyTerms(largest=0.0)), "secrecy (largest 0, threshold 0.6, neighbours 0): allowed"),
        (
            replace(SPEC, secrecy=None, privacy=private),
            "privacy (clip_norm 0, noise_multiplier 1.1, sample_rate 0.1, delta 1e-05, budget_epsilon 8): allowed",
        ),
    ):
        with pytest.raises(RunSpecError) as refused:
            spec.check()
        assert str(refused.value).startswith(words)
