"""An edge in a roll-out: what is desired is carried out, both versions answer, and what came of each is reported."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.unit.jobs.rollout.small_plane import MODEL, SmallPlane
from tests.unit.thalweg.serving.models import fragile, model, question, version
from tests.unit.thalweg.serving.rollout_edge import RolloutEdge, named, wanted
from thalweg.learning.rollout.facts import RolloutKind
from thalweg.learning.rollout.records import RolloutWish, desired_key
from thalweg.learning.rollout.waves import answers
from thalweg.learning.vectors.parameters import digest
from thalweg.serving.edge_records import EdgeRecords
from thalweg.serving.tensors import InferRequest, RequestTensor, TensorError
from thalweg.serving.transfer import difference, ways_of
from thalweg.serving.version_record import (
    FIELD,
    ModelVersion,
    VersionRecordError,
    Way,
    key_of,
    stored_key,
    written,
)

ONE, TWO, THREE = model(1), model(2), model(3)
WIDE, FRAGILE = model(3, inputs=5), fragile(5)
V1, V2, V3 = named(1, ONE), named(2, TWO), named(3, THREE)
HOUR_MS = 3_600_000


@pytest.fixture
def edge(tmp_path: Path) -> RolloutEdge:
    made = RolloutEdge(tmp_path, SmallPlane())
    made.store.put([ONE, TWO, THREE, WIDE, FRAGILE, b"no model"])
    return made


def asked(name: str, values: list[float] | None = None) -> InferRequest:
    return InferRequest(inputs=[RequestTensor(**question(values))], id=name)


def answered(edge: RolloutEdge, name: str, values: list[float] | None = None) -> dict[str, Any]:
    told: dict[str, Any] = msgspec.json.decode(edge.server.answer(asked(name, values)))
    return told


def by(edge: RolloutEdge, names: range) -> list[int]:
    """Ask, and say which version answered each."""
    return [int(answered(edge, f"r{number}")["model_version"]) for number in names]


def test_an_edge_says_that_it_is_there_and_serves_what_is_declared_until_something_is_desired(
    edge: RolloutEdge,
) -> None:
    edge.plane.write(key_of(MODEL), {FIELD: written(version(3, THREE))})
    edge.steps()
    assert edge.serves == 3
    said = edge.reported()
    assert (said.number, said.version, said.sha256) == (0, "3", V3.sha256)
    edge.desire(wanted(1, V1))
    assert edge.serves == 1
    edge.plane.write(key_of(MODEL), {FIELD: written(version(4, TWO))})
    edge.steps()
    assert edge.serves == 1, "what is desired of the edge goes before what is declared for all"
    assert (edge.reported().number, edge.reported().version) == (1, "1")


def test_in_a_wave_the_coin_says_which_version_answers_and_both_are_counted(edge: RolloutEdge) -> None:
    edge.desire(wanted(3, V1, V2, share=0.3))
    found = by(edge, range(200))
    assert found == [2 if answers(3, edge.name, f"r{number}", 0.3) else 1 for number in range(200)]
    edge.steps(1)
    said = edge.reported()
    assert (said.number, said.version, said.beside) == (3, "1", V2.sha256)
    assert (said.new.requests, said.last.requests) == (found.count(2), found.count(1))
    assert said.new.failed == said.last.failed == said.new.slow == 0
    assert edge.server.told()["tried_version"] == 2


def test_a_request_without_an_id_gets_one_by_which_its_truth_can_be_told_once(edge: RolloutEdge) -> None:
    edge.desire(wanted(3, V1, V2))
    names = [answered(edge, "")["id"] for _ in range(20)]
    assert names[:2] == ["made-1", "made-2"]
    assert all(edge.server.judged(name, correct=number >= 3) for number, name in enumerate(names))
    assert not edge.server.judged(names[0], correct=False), "it was judged"
    assert not edge.server.judged("nobody", correct=False)
    edge.steps(1)
    said = edge.reported()
    assert (said.new.judged + said.last.judged, said.new.wrong + said.last.wrong) == (20, 3)
    edge.desire(wanted(4, V1, V3))
    answered(edge, "late")
    edge.desire(wanted(5, V1, V2))
    assert not edge.server.judged("late", correct=False), "it was of another roll-out"


def test_rolled_back_or_completed_one_version_answers(edge: RolloutEdge) -> None:
    edge.desire(wanted(1, V1, V2))
    assert set(by(edge, range(40))) == {1, 2}
    edge.desire(wanted(1, V1))
    assert set(by(edge, range(40))) == {1} and edge.server.candidate is None
    edge.desire(wanted(2, V1, V3))
    assert set(by(edge, range(40))) == {1, 3}
    before = len(edge.fetches)
    edge.desire(wanted(2, V3))
    assert set(by(edge, range(40))) == {3} and edge.server.candidate is None
    assert len(edge.fetches) == before, "what was tried is here, and is fetched again"
    assert edge.server.told()["failed"] == edge.server.told()["refused"] == 0


def test_a_start_in_a_wave_serves_the_last_good_version_and_goes_on_counting(edge: RolloutEdge, tmp_path: Path) -> None:
    edge.plane.write(key_of(MODEL), {FIELD: written(version(9, THREE))})
    edge.desire(wanted(1, V1, V2))
    by(edge, range(40))
    edge.steps(1)
    before = edge.reported()
    after = RolloutEdge(tmp_path, edge.plane)
    after.away = True
    assert after.server.take_up() is not None
    after.steps(2)
    assert set(by(after, range(40))) == {1}, "cut off, it stays on what served last"
    after.away = False
    served = []
    for _ in range(12):
        after.steps(1)
        served.append(after.serves)
    assert set(served) == {1}, "what is declared for all is not gone to on the way"
    assert set(by(after, range(40, 80))) == {1, 2}
    after.steps(1)
    said = after.reported()
    assert said.new.requests + said.last.requests == before.new.requests + before.last.requests + 40 == 80


def test_an_edge_that_is_cut_off_goes_on_with_both_and_tells_when_it_is_back(edge: RolloutEdge) -> None:
    edge.desire(wanted(1, V1, V2))
    edge.away = True
    edge.plane.write(desired_key(MODEL, edge.name), msgspec.to_builtins(wanted(1, V1)))
    edge.steps()
    assert set(by(edge, range(60))) == {1, 2}
    edge.away = False
    edge.steps(8)
    assert set(by(edge, range(60))) == {1}
    assert edge.reported().new.requests + edge.reported().last.requests == 60


@pytest.mark.parametrize(
    ("beside", "words"),
    [
        (named(2, b"no model"), "no ONNX model"),
        (named(2, WIDE), "other inputs than version 1"),
        (named("v2", TWO), "whole numbers"),
    ],
    ids=["no model", "other inputs", "a name that is no number"],
)
def test_what_cannot_be_loaded_fails_each_of_its_requests_and_the_last_good_version_answers_them(
    edge: RolloutEdge, beside: Any, words: str
) -> None:
    edge.desire(wanted(1, V1, beside))
    assert set(by(edge, range(40))) == {1}
    edge.steps(1)
    said = edge.reported()
    assert said.new.failed == said.new.requests > 10 and said.last.failed == 0
    assert words in edge.follower.status().trouble


def test_a_version_that_fails_a_request_is_told_so_and_the_other_answers(edge: RolloutEdge) -> None:
    edge.desire(wanted(1, V1, named(2, FRAGILE)))
    found = [answered(edge, f"r{number}", [9.0 * (number % 2), 0, 0])["model_version"] for number in range(60)]
    coins = [answers(1, edge.name, f"r{number}", 0.5) for number in range(60)]
    assert found == ["2" if coin and number % 2 == 0 else "1" for number, coin in enumerate(coins)]
    edge.steps(1)
    said = edge.reported()
    assert said.new.failed == sum(coins[1::2]) > 5 and said.last.failed == 0


def test_a_request_that_no_version_could_take_counts_for_none(edge: RolloutEdge) -> None:
    edge.desire(wanted(1, V1, V2))
    for number in range(10):
        with pytest.raises(TensorError):
            edge.server.answer(InferRequest(inputs=[], id=f"r{number}"))
    edge.steps(1)
    assert edge.reported().new.requests == edge.reported().last.requests == 0


def test_while_the_new_version_is_on_its_way_nothing_is_counted(edge: RolloutEdge) -> None:
    late = model(5)
    edge.desire(wanted(1, V1, named(2, late)))
    assert set(by(edge, range(40))) == {1}
    edge.steps(1)
    assert edge.reported().new.requests == edge.reported().last.requests == 0
    assert "is not in" in edge.follower.status().trouble
    edge.store.put([late])
    edge.steps(6)
    assert set(by(edge, range(40))) == {1, 2}


def test_two_versions_that_are_not_those_desired_are_not_compared(edge: RolloutEdge) -> None:
    edge.desire(wanted(1, V1, V2))
    edge.desire(wanted(2, named(4, model(5)), V2))
    assert set(by(edge, range(40))) == {1}, "the version to compare with is not here yet"
    edge.steps(1)
    assert edge.reported().new.requests == edge.reported().last.requests == 0


def test_a_truth_that_is_told_after_the_end_does_not_count(edge: RolloutEdge) -> None:
    edge.desire(wanted(1, V1, V2))
    by(edge, range(1))
    edge.desire(wanted(1, V1))
    assert not edge.server.judged("r0", correct=False)


def test_names_that_cannot_be_part_of_a_record_are_refused() -> None:
    for name in ("", "a/b", "a b", "x" * 181):
        with pytest.raises(VersionRecordError, match="no blank and no slash"):
            EdgeRecords(MODEL, name)


@pytest.mark.parametrize(
    ("new", "cost_s", "end", "rule"),
    [
        (TWO, 0.0, RolloutKind.COMPLETED, "safe"),
        (TWO, 0.08, RolloutKind.ROLLED_BACK, "slow"),
        (FRAGILE, 0.0, RolloutKind.ROLLED_BACK, "failed"),
    ],
    ids=["good", "slow", "fails"],
)
def test_the_roll_out_ends_by_what_servers_have_measured(
    new: bytes, cost_s: float, end: RolloutKind, rule: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plane = SmallPlane()
    edges = [RolloutEdge(tmp_path, plane, f"edge-{number}") for number in range(3)]
    edges[0].store.put([ONE, new])

    def wish(number: int, raw: bytes) -> None:
        served = named(number, raw)
        plane.wish(
            RolloutWish(
                wish=f"start-{number}", op="start", version=served.version, sha256=served.sha256,
                margins={"failed": 0.02, "slow": 0.1}, slow_ms=50.0, soak_s=60.0, deadline_s=86_400.0, waves=(0.3, 1.0),
            )
        )  # fmt: skip

    def an_hour(requests: int) -> None:
        plane.now_ms += HOUR_MS
        for edge in edges:
            edge.steps(3)
            held = edge.server.candidate
            if held is not None and held.loaded is not None:
                _cost(edge, held.loaded, cost_s, monkeypatch)
            for number in range(requests):
                assert answered(edge, f"{plane.now_ms}-{number}", [9.0 * (number % 4 == 0), 0, 0])
            edge.steps(1)
        plane.look()

    wish(1, ONE)
    for _ in range(3):  # the edges say that they are there, and are told; the first version goes to all at once
        an_hour(0)
    assert {edge.serves for edge in edges} == {1}
    wish(2, new)
    for _ in range(12):
        an_hour(150)
    ends = [fact for fact in plane.ledger.facts if fact.version == "2" and fact.kind in (
        RolloutKind.COMPLETED, RolloutKind.ROLLED_BACK)]  # fmt: skip
    assert [(fact.kind, fact.rule) for fact in ends] == [(end, rule)], plane.ledger.facts[-1]
    assert not [fact for fact in plane.ledger.facts if fact.kind is RolloutKind.REFUSED]
    assert {edge.serves for edge in edges} == {2 if end is RolloutKind.COMPLETED else 1}
    assert all(edge.server.candidate is None for edge in edges)
    assert all(edge.server.told()["failed"] == edge.server.told()["refused"] == 0 for edge in edges)


def _cost(edge: RolloutEdge, loaded: Any, cost_s: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a version take so long by the edge's clock."""
    infer = type(loaded).infer

    def slowly(*arguments: Any) -> Any:
        edge.now_s += cost_s
        return infer(loaded, *arguments)

    monkeypatch.setattr(loaded, "infer", slowly)


def stored(edge: RolloutEdge, number: int, raw: bytes, base: bytes) -> ModelVersion:
    """Store a version as `publish --for-rollout` does, and say where its bytes lie."""
    ways = ways_of(raw, base)
    edge.store.put(ways.values())
    found = version(number, raw, ways=tuple(ways))
    edge.plane.write(stored_key(MODEL, found.sha256), {FIELD: written(found)})
    return found


def test_a_version_on_trial_is_fetched_as_what_it_differs_by_from_what_serves(edge: RolloutEdge) -> None:
    edge.desire(wanted(1, V1))
    edge.fetches.clear()
    before = edge.server.told()["fetched_bytes"]
    (way,) = (one for one in stored(edge, 2, TWO, ONE).ways if one.codec == "delta")
    edge.desire(wanted(2, V1, V2))
    assert edge.fetches == [way.sha256]
    assert edge.server.told()["fetched_bytes"] - before == way.size_bytes < len(TWO) / 2
    edge.desire(wanted(2, V2))
    assert (edge.serves, edge.fetches) == (2, [way.sha256]), "its bytes are at hand"


def test_where_the_way_is_not_there_or_leads_elsewhere_the_bytes_are_fetched_as_they_are(edge: RolloutEdge) -> None:
    edge.desire(wanted(1, V1))
    for number, (raw, named_) in enumerate(((TWO, V2), (THREE, V3)), start=2):
        found = stored(edge, number, raw, ONE)
        (way,) = (one for one in found.ways if one.codec == "delta")
        if raw is TWO:
            edge.store.drop([way.sha256])
        else:
            wrong = difference(ONE, TWO)
            edge.store.put([wrong])
            another = Way(codec="delta", sha256=digest(wrong), size_bytes=1, base=digest(TWO))
            edge.plane.write(
                stored_key(MODEL, found.sha256), {FIELD: written(version(number, raw, ways=(*found.ways, another)))}
            )
        edge.desire(wanted(number, named_))
        assert (edge.serves, edge.fetches[-1]) == (number, digest(raw))
