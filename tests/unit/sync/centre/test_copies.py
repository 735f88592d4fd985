"""Stores put back from a copy, doubled, and with clocks far ahead: recognised, and nothing is deleted unsent."""

import pytest

from tests.unit.sync.centre.test_centre import NOW, Pair, put
from thalweg.sync.protocol.changes import Add, Assign, Delete, Increment, Remove
from thalweg.sync.protocol.entries import ForgetEntry, RegionEntry
from thalweg.sync.replica.memory_store import MemoryStore
from thalweg.sync.replica.replica import FencedError, Replica

DAY_MS = 86_400_000


class Shore(Pair):
    """A centre with replicas whose stores have openings."""

    def __init__(self) -> None:
        super().__init__()
        self.token = 0

    def open(self, region: str, store: MemoryStore) -> Replica:
        self.token += 1
        return Replica(region, store, token=self.token)

    def join(self, region: str) -> Replica:
        replica = self.open(region, MemoryStore())
        self.talk(replica)
        assert replica.state.joined
        return replica

    def hear(self, replica: Replica, now: int | None = None) -> None:
        for _ in range(2):
            replica.apply(self.log[replica.state.position :], len(self.log), now or self.now)
            if not replica.settle(len(self.log), now or self.now):
                return

    def talk(self, *replicas: Replica, rounds: int = 1, now: int | None = None) -> None:
        for _ in range(rounds):
            for replica in replicas:
                if replica.must_join:
                    self.take(replica.join(now or self.now))
                else:
                    heartbeat = replica.heartbeat(now or self.now)
                    self.take(heartbeat, *replica.outgoing())
            for replica in replicas:
                self.hear(replica, now)

    def agree(self, *replicas: Replica) -> None:
        for _ in range(4):
            self.talk(*replicas, rounds=2)
            self.log.append(self.centre.digest_entry())
            self.centre.published(len(self.log))
            for replica in replicas:
                self.hear(replica)
                request = replica.repair_request()
                self.take(*([request] if request else []))
        assert all(replica.digest_agrees for replica in replicas)
        assert all(replica.state.confirmed == replica.state.seq for replica in replicas)


def test_a_copy_that_wrote_offline_begins_a_new_life_with_all_it_wrote() -> None:
    shore = Shore()
    eu, us = shore.join("eu"), shore.join("us")
    put(eu, "n", Increment("c", 1))
    shore.talk(eu, us)
    put(eu, "n", Increment("c", 10), shore.now)  # in the copy, and delivered by the original
    backup = eu.store.copy()  # type: ignore[attr-defined]
    for step in range(5):
        put(eu, "k", Assign("x", step), shore.now)
        shore.talk(eu, us)
    copy = shore.open("eu", backup)
    put(copy, "n", Increment("c", 100), shore.now + 60)
    put(copy, "k2", Assign("y", "offline"), shore.now + 60)
    before = copy.state.epoch
    shore.agree(copy, us)
    assert copy.state.epoch > before
    assert copy.read("k2") == us.read("k2") == {"y": "offline"}
    assert copy.read("n") == us.read("n") == {"c": 111}
    assert copy.read("k") == {"x": 4}


def test_a_copy_whose_writes_come_first_goes_on_and_the_originals_late_ones_are_told() -> None:
    shore = Shore()
    eu, us = shore.join("eu"), shore.join("us")
    put(eu, "k", Assign("x", 0))
    shore.talk(eu, us)
    backup = eu.store.copy()  # type: ignore[attr-defined]
    late = put(eu, "k", Assign("x", "the original's, on its way"), shore.now)
    copy = shore.open("eu", backup)
    put(copy, "k", Assign("x", "the copy's"), shore.now)
    shore.agree(copy, us)
    assert "another copy" in shore.take(late).refused[0].reason
    assert us.read("k") == {"x": "the copy's"}


def test_a_copy_that_knows_less_than_was_acknowledged_brings_nothing_back() -> None:
    shore = Shore()
    eu, us = shore.join("eu"), shore.join("us")
    put(us, "gone", Assign("f", "old"))
    shore.talk(us, eu, rounds=3)
    backup = eu.store.copy()  # type: ignore[attr-defined]
    assert backup.get("gone") is not None
    put(us, "gone", Delete(), shore.now)
    shore.talk(us, eu, rounds=4)
    assert "gone" not in shore.centre.records, "forgotten, because both have acknowledged"
    copy = shore.open("eu", backup)
    put(copy, "gone", Assign("g", "new"), shore.now)
    shore.agree(copy, us)
    assert us.read("gone") == copy.read("gone") == {"g": "new"}


def test_of_two_live_copies_one_goes_on_and_the_other_is_told() -> None:
    shore = Shore()
    eu, us = shore.join("eu"), shore.join("us")
    put(eu, "n", Increment("c", 1))
    shore.talk(eu, us)
    double = shore.open("eu", eu.store.copy())  # type: ignore[attr-defined]
    put(eu, "n", Increment("c", 10), shore.now)
    put(double, "n", Increment("c", 100), shore.now)
    for _ in range(8):
        for replica in (eu, double):
            if not replica.fenced:
                shore.talk(replica, us)
        shore.hear(eu)
        shore.hear(double)
    assert [eu.fenced, double.fenced] == [True, False]
    assert us.read("n") == double.read("n") == {"c": 111}
    with pytest.raises(FencedError):
        put(eu, "n", Increment("c", 1), shore.now)


@pytest.mark.parametrize("corrected", [True, False])
def test_a_clock_that_was_days_ahead_comes_back_and_no_write_is_lost(corrected: bool) -> None:
    shore = Shore()
    eu, us = shore.join("eu"), shore.join("us")
    put(us, "s", Add("e", ("p", "q")))
    shore.talk(us, eu)
    wrong = shore.now + 2 * DAY_MS
    put(eu, "s", Remove("e", ("p",)), wrong)
    put(eu, "n", Increment("c", 1), wrong)
    out = shore.take(eu.heartbeat(wrong), *eu.outgoing())
    assert out.merged == [] and len(out.refused) == 2
    shore.hear(eu, wrong)
    assert eu.state.confirmed == 0 != eu.state.seq, "what is refused is not confirmed"
    shift = 0 if corrected else 2 * DAY_MS
    for number in range(3):
        put(eu, "n", Increment("c", 10), shore.now + shift)
        shore.talk(eu, now=shore.now + shift)
        shore.talk(us)
        assert eu.state.clock.ms < shore.now + 60_000, number
    for _ in range(3):
        shore.talk(eu, now=shore.now + shift)
        shore.talk(us)
    assert eu.state.confirmed == eu.state.seq
    assert us.read("n") == {"c": 31} and us.read("s") == {"e": ["q"]}
    assert len(shore.centre.regions["eu"].closed) == 1, "one new life is enough"


def test_what_was_refused_for_its_stamp_is_never_taken_late() -> None:
    shore = Shore()
    eu, us = shore.join("eu"), shore.join("us")
    early = put(eu, "n", Increment("c", 1), shore.now + DAY_MS + 3_600_000)
    assert shore.take(early).refused
    shore.now += 2 * 3_600_000
    assert "nothing from sequence 1" in shore.take(early).refused[0].reason
    shore.agree(eu, us)
    shore.take(early)
    assert us.read("n") == {"c": 1}


def test_a_centre_that_has_lost_a_life_is_told_of_it_again() -> None:
    shore = Shore()
    eu = shore.join("eu")
    older = RegionEntry(region="eu", epoch=eu.state.epoch - 1, contiguous=0, centre_ms=NOW)
    eu.apply([older], eu.state.position + 1, NOW)
    assert eu.must_join and eu.join(NOW).epoch == eu.state.epoch
    put(eu, "k", Assign("f", 1))
    assert eu.outgoing() == []


def test_what_lies_under_an_unconfirmed_write_goes_once_all_of_it_is_forgotten_and_not_before() -> None:
    shore = Shore()
    eu, us = shore.join("eu"), shore.join("us")
    put(us, "k", Assign("x", 1), shore.now)
    shore.talk(us, eu)
    put(eu, "k", Assign("y", 2), shore.now)
    under = eu.store.base("k")
    assert under is not None
    earlier = {actor: seq - 1 for actor, seq in under.vector.items()}
    eu.apply([ForgetEntry(key="k", vector=earlier)], eu.state.position, shore.now)
    assert eu.store.base("k") == under
    eu.apply([ForgetEntry(key="k", vector={**under.vector, "asia:1": 1})], eu.state.position, shore.now)
    assert eu.store.base("k") is None
    assert eu.read("k") == {"x": 1, "y": 2}, "what was written here is still to be sent"
