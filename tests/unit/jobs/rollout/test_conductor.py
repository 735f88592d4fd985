"""A whole roll-out through the records: waves, harm, absences, deaths at every point, and reports that lie."""

import json
import random
from collections.abc import Sequence
from typing import Any

import pytest

from tests.unit.jobs.rollout.small_plane import MODEL, PREFIX, MemoryFacts, SmallEdge, SmallPlane
from thalweg.jobs.rollout.rollout_rows import facts_of, rows_of
from thalweg.learning.rollout.facts import RolloutFact, RolloutKind
from thalweg.learning.rollout.records import RolloutWish, desired_key, reported_key, value_of, wish_key
from thalweg.learning.rollout.rollout import Rollouts, take
from thalweg.streams.contract.state_messages import StateInput, read_state
from thalweg.streams.learning.rollout_writes import REGION, state_record
from thalweg.sync.protocol.changes import Assign
from thalweg.sync.protocol.entries import PlainWrite

GOOD = {"7": 0.1, "8": 0.1}
BAD = {"7": 0.1, "8": 0.6}
TICK_MS = 60_000


def wish(version: str, **fields: Any) -> RolloutWish:
    return RolloutWish(
        wish=f"start-{version}", op="start", version=version, sha256=version * 64, waves=(0.1, 0.5, 1.0),
        margins={"slow": 0.2, "failed": 0.1}, soak_s=60.0, **fields,
    )  # fmt: skip


def played(slow: dict[str, float], deaths: Sequence[int] = (), ticks: int = 80, away: int = 0) -> SmallPlane:
    """Begin with version 7, then roll 8 out over thirty edges, of which some are away now and then."""
    plane = SmallPlane(ledger=MemoryFacts(deaths=set(deaths)))
    edges = [SmallEdge(f"edge-{number}", plane, slow) for number in range(30)]
    plane.wish(wish("7"))
    for tick in range(ticks):
        plane.now_ms += TICK_MS
        if tick == 2:
            plane.wish(wish("8"))
        for number, edge in enumerate(edges):
            edge.tick(20, online=(tick + number) % 10 >= away or tick >= ticks - 3)
        plane.look()
    return plane


def serving(plane: SmallPlane) -> set[tuple[Any, ...]]:
    """What the edges' records say they serve, and whether anything is tried."""
    found = set()
    for number in range(30):
        said, wanted = (plane.read(key(MODEL, f"edge-{number}")) for key in (reported_key, desired_key))
        assert said is not None and wanted is not None
        found.add((said["version"], wanted["serve"]["version"], wanted["beside"]))
    return found


def test_a_good_version_reaches_every_edge_wave_by_wave_though_a_third_is_always_away() -> None:
    plane = played(GOOD, away=3)
    kinds = [fact.kind for fact in plane.ledger.facts if fact.version == "8" and fact.kind is not RolloutKind.LOOKED]
    assert kinds == [RolloutKind.STARTED, *[RolloutKind.WIDENED] * 3, RolloutKind.COMPLETED]
    assert serving(plane) == {("8", "8", None)}


def test_a_first_version_waits_for_an_edge_and_then_goes_to_all() -> None:
    plane = SmallPlane()
    plane.wish(wish("7"))
    plane.look()
    assert [fact.kind for fact in plane.ledger.facts] == [RolloutKind.STARTED]
    SmallEdge("edge-1", plane, GOOD).tick(0)
    plane.look()
    last = plane.ledger.facts[-1]
    assert (last.kind, last.rule, last.edges) == (RolloutKind.COMPLETED, "first", 1)
    wanted = plane.read(desired_key(MODEL, "edge-1"))
    assert wanted is not None and wanted["serve"]["version"] == "7"


def test_a_harmful_version_is_taken_back_in_its_first_wave_and_every_edge_returns_to_the_last_good_one() -> None:
    plane = played(BAD, away=3)
    last = [fact for fact in plane.ledger.facts if fact.kind is not RolloutKind.LOOKED][-1]
    assert (last.kind, last.rule, last.stage) == (RolloutKind.ROLLED_BACK, "slow", 0)
    assert serving(plane) == {("7", "7", None)}


@pytest.mark.parametrize("slow", [GOOD, BAD])
def test_killed_anywhere_and_begun_anew_it_decides_the_same(slow: dict[str, float]) -> None:
    undisturbed = played(slow)
    points = undisturbed.ledger.passed
    assert undisturbed.lives == 1 and points > 40
    for seed in range(5):
        rng = random.Random(seed)
        plane = played(slow, deaths=sorted(rng.sample(range(1, points), 20)))
        assert plane.lives == 21
        assert plane.ledger.facts == undisturbed.ledger.facts
        assert serving(plane) == serving(undisturbed)


def test_facts_are_the_same_when_they_are_read_back_from_their_rows() -> None:
    facts = played(GOOD).ledger.facts
    rows = rows_of(facts, 1)
    assert rows.num_rows == len(facts) > 5
    again: list[RolloutFact] = facts_of(rows.to_pylist())
    assert again == facts
    first, second = Rollouts(), Rollouts()
    for one, other in zip(facts, again, strict=True):
        take(first, one)
        take(second, other)
    assert first == second and first.newest[MODEL].serving == ("8", "8" * 64)


def test_an_edge_that_lies_is_a_row_once_with_its_reason_and_nothing_else() -> None:
    honest = played(GOOD, ticks=40)
    plane = SmallPlane()
    edges = [SmallEdge(f"edge-{number}", plane, GOOD) for number in range(30)]
    plane.wish(wish("7"))
    for tick in range(40):
        plane.now_ms += TICK_MS
        if tick == 2:
            plane.wish(wish("8"))
        for edge in edges:
            edge.tick(20)
        plane.write(reported_key(MODEL, "liar"), {"number": 2, "at_ms": -1})
        plane.look()
    refused = [fact for fact in plane.ledger.facts if fact.kind is RolloutKind.REFUSED]
    assert [(fact.edge, fact.rule) for fact in refused] == [("liar", "unreadable")] * len(refused)
    assert [fact.number for fact in refused] == [1, 2] and "at_ms" in refused[0].reason
    rest = [fact for fact in plane.ledger.facts if fact.kind is not RolloutKind.REFUSED]
    assert rest == honest.ledger.facts


def test_a_stop_takes_the_version_back_and_a_clock_that_was_set_back_does_not_lose_what_is_desired() -> None:
    plane = SmallPlane()
    edges = [SmallEdge(f"edge-{number}", plane, GOOD) for number in range(30)]
    plane.wish(wish("7"))
    for tick in range(12):
        plane.now_ms += TICK_MS if tick != 8 else -30 * TICK_MS
        if tick == 2:
            plane.wish(wish("8", deadline_s=10_000.0))
        if tick == 8:
            plane.wish(RolloutWish(wish="stop", op="stop"))
            plane.write(f"rollout/{MODEL}/wish", {"wish": "stop", "op": "stop"}, plane.now_ms + 40 * TICK_MS)
        for edge in edges:
            edge.tick(2)
        plane.look()
    last = plane.ledger.facts[-1]
    assert (last.kind, last.rule) == (RolloutKind.STOPPED, "asked")
    assert serving(plane) == {("7", "7", None)}


def test_a_reporter_that_starts_again_goes_on_from_what_it_had_reported() -> None:
    plane = SmallPlane()
    edges = [SmallEdge(f"edge-{number}", plane, GOOD) for number in range(30)]
    plane.wish(wish("7"))
    for tick in range(8):
        plane.now_ms += TICK_MS
        if tick == 2:
            plane.wish(wish("8", deadline_s=10_000.0))
        for edge in edges:
            edge.tick(3)
            edge.begin()
        plane.look()
    assert not [fact for fact in plane.ledger.facts if fact.kind is RolloutKind.REFUSED]
    counted = [plane.read(reported_key(MODEL, edge.name)) for edge in edges]
    assert sum(said["new"]["requests"] + said["last"]["requests"] for said in counted if said is not None) > 30


def test_what_is_written_is_a_plain_write_as_the_centre_reads_it() -> None:
    value = value_of(wish("8"))
    record = state_record(wish_key(MODEL), value, 1_700_000_000_123, PREFIX)
    said = StateInput(
        topic=record.topic, partition=0, offset=4, timestamp_ms=5, key=record.key, value=record.value
    )  # fmt: skip
    (write,) = read_state(said, PREFIX, {})
    assert isinstance(write, PlainWrite)
    assert (write.key, write.stamp.region, write.stamp.ms) == (wish_key(MODEL), REGION, 1_700_000_000_123)
    assert {change.field: change.value for change in write.changes if isinstance(change, Assign)} == json.loads(
        json.dumps(value)
    )
