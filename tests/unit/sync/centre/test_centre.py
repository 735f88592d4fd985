"""The centre, one batch at a time: what it merges, finds, refuses, keeps aside and forgets."""

from collections.abc import Callable

import msgspec
import pytest

from thalweg.sync.centre.centre import KEPT_ALONE, Centre, MergeOutcome
from thalweg.sync.protocol.changes import Add, Assign, Change, ChangeRefusedError, Delete, Increment
from thalweg.sync.protocol.entries import (
    BucketEntry,
    Entry,
    ForgetEntry,
    Join,
    Leave,
    PlainWrite,
    RecordEntry,
    RegionEntry,
    RepairRequest,
    Update,
    UpMessage,
)
from thalweg.sync.protocol.gaps import GapStatus
from thalweg.sync.protocol.records import MAX_DEPTH, CounterTally, Dot, Register, view
from thalweg.sync.protocol.stamps import FutureLimits, Hlc, Stamp
from thalweg.sync.replica.memory_store import MemoryStore
from thalweg.sync.replica.replica import FencedError, NotJoinedError, Replica

NOW = 1_700_000_000_000


class Pair:
    """A centre with a log, and replicas that read it."""

    def __init__(self, **options: object) -> None:
        self.centre = Centre(**options)  # type: ignore[arg-type]
        self.log: list[Entry] = []
        self.now = NOW

    def take(self, *messages: UpMessage) -> MergeOutcome:
        self.now += 10
        out = self.centre.merge_batch(messages, self.now)
        self.log += out.entries
        self.centre.published(len(self.log))
        return out

    def join(self, region: str) -> Replica:
        replica = Replica(region, MemoryStore())
        self.take(replica.join(self.now))
        self.read(replica)
        assert replica.state.joined
        return replica

    def read(self, *replicas: Replica) -> None:
        for replica in replicas:
            replica.apply(self.log[replica.state.position :], len(self.log), self.now)

    def exchange(self, *replicas: Replica) -> MergeOutcome:
        out = self.take(*(m for r in replicas for m in (*r.outgoing(), r.heartbeat(self.now))))
        self.read(*replicas)
        return out


def put(replica: Replica, key: str, change: Change, at: int = NOW) -> UpMessage:
    return replica.write(key, (change,), at)


def plain(
    change: Change, offset: int, ms: int = NOW, version: int = 1, key: str = "k", region: str = "eu"
) -> PlainWrite:
    return PlainWrite(
        key, (change,), Stamp(ms=ms, counter=version, region=region, epoch=0, seq=offset, version=version)
    )


def test_every_concurrent_pair_is_a_row_and_a_causal_one_is_none() -> None:
    pair = Pair()
    eu, us = pair.join("eu"), pair.join("us")
    put(eu, "k", Assign("f", 1))
    put(eu, "k", Assign("f", 2))
    put(us, "k", Assign("f", 3))
    put(us, "k", Assign("g", 4))
    rows = pair.exchange(eu, us).conflicts
    assert len(rows) == len({row.conflict_id for row in rows}) == 4
    assert {(row.policy, row.resolution) for row in rows} == {("last_writer", "newer_wins"), ("none", "disjoint")}
    assert all(row.left.at < row.right.at for row in rows)
    put(eu, "k", Assign("f", 5))
    assert pair.exchange(eu, us).conflicts == []
    assert eu.read("k") == us.read("k") == {"f": 5, "g": 4}


def test_a_hole_is_a_gap_at_once_is_asked_for_and_is_closed() -> None:
    pair = Pair()
    eu = pair.join("eu")
    lost, kept = put(eu, "a", Assign("f", 1)), put(eu, "b", Assign("f", 2))
    eu.outgoing()
    out = pair.take(kept)
    assert [(g.first_seq, g.last_seq, g.status) for g in out.gaps] == [(1, 1, GapStatus.OPEN)]
    pair.read(eu)
    assert eu.outgoing() == [lost]
    assert [g.status for g in pair.take(lost).gaps] == [GapStatus.CLOSED]


def test_a_lost_tail_is_a_gap_as_soon_as_a_heartbeat_tells() -> None:
    pair = Pair()
    eu = pair.join("eu")
    put(eu, "a", Assign("f", 1))
    eu.outgoing()
    assert [(g.first_seq, g.last_seq) for g in pair.take(eu.heartbeat(NOW)).gaps] == [(1, 1)]


def test_what_a_destroyed_store_never_delivered_is_lost_and_says_so() -> None:
    pair = Pair()
    eu = pair.join("eu")
    put(eu, "a", Assign("f", 1))
    pair.take(put(eu, "b", Assign("f", 2)))
    fresh = Replica("eu", MemoryStore())
    out = pair.take(fresh.join(NOW + 5_000))
    assert [(g.first_seq, g.status) for g in out.gaps] == [(1, GapStatus.LOST)]


def test_a_stamp_ahead_of_time_waits_and_neither_wins_nor_blocks_nor_pushes() -> None:
    pair = Pair()
    eu, us = pair.join("eu"), pair.join("us")
    early = put(eu, "k", Assign("f", "early"), NOW + 600_000)
    out = pair.exchange(eu, us)
    assert out.parked == [early] and out.records == {}
    put(us, "k", Assign("f", "now"), pair.now)
    pair.exchange(us)
    assert us.read("k") == {"f": "now"}
    assert us.state.clock.ms < NOW + 60_000
    pair.now = NOW + 600_000
    assert len(pair.exchange(us, eu).conflicts) == 1
    assert us.read("k") == eu.read("k") == {"f": "early"}


def test_a_stamp_a_day_ahead_is_refused_and_a_second_ahead_is_reported() -> None:
    pair = Pair()
    eu = pair.join("eu")
    assert len(pair.take(put(eu, "k", Assign("f", 1), NOW + 2_000)).warned) == 1
    out = pair.take(put(eu, "k", Assign("f", 2), NOW + 90_000_000))
    assert out.merged == [] and "ahead" in out.refused[0].reason


def test_limits_are_settings() -> None:
    pair = Pair(limits=FutureLimits(park_ms=10, warn_ms=5))
    assert len(pair.take(put(pair.join("eu"), "k", Assign("f", 1), NOW + 1_000)).parked) == 1


def test_an_update_from_a_closed_life_is_refused_and_its_store_is_fenced() -> None:
    pair = Pair()
    old = pair.join("eu")
    pair.take(put(old, "a", Assign("f", 1)))
    copy = put(old, "a", Assign("f", 2))
    fresh = Replica("eu", MemoryStore())
    pair.take(fresh.join(NOW + 5_000))
    assert "closed by epoch" in pair.take(copy).refused[0].reason
    pair.read(old, fresh)
    with pytest.raises(FencedError, match="old copy"):
        put(old, "a", Assign("f", 3))
    put(fresh, "a", Assign("f", 4), NOW + 5_000)
    assert pair.exchange(fresh).refused == []


def test_a_restored_copy_that_gives_sequences_again_is_refused() -> None:
    pair = Pair()
    eu = pair.join("eu")
    before = eu.state
    for n in range(3):
        put(eu, "a", Assign("f", n), NOW + n)
    pair.take(*eu.outgoing())
    eu.store.save_state(before)
    restored = Replica("eu", eu.store)
    again = put(restored, "a", Assign("f", 9), NOW + 90)
    assert "restored from a copy" in pair.take(again).refused[0].reason


@pytest.mark.parametrize(
    ("broken", "word"),
    [
        ({"seq": 0}, "sequence 0"),
        ({"seq": 7}, "sequence 7"),
        ({"ms": -1}, "ms"),
        ({"ms": NOW - 5}, "newest"),
        ({"region": "us"}, "not joined"),
        ({"epoch": NOW * 2}, "current is epoch"),
    ],
)
def test_a_stamp_with_wrong_parts_is_refused_and_the_batch_goes_on(broken: dict[str, int], word: str) -> None:
    pair = Pair()
    eu = pair.join("eu")
    good, other = put(eu, "a", Assign("f", 1)), put(eu, "b", Assign("f", 2))
    bad = msgspec.structs.replace(good, stamp=msgspec.structs.replace(good.stamp, **broken))  # type: ignore[type-var]
    out = pair.take(bad, other)
    assert word in out.refused[0].reason
    assert out.merged == [other]


@pytest.mark.parametrize(
    ("broken", "word"),
    [
        ({"maxima": {"m": (Register("high", Hlc(1, 0, "eu")),)}}, "numbers"),
        ({"minima": {"m": ()}}, "numbers"),
        ({"counters": {"n": {}}}, "totals"),
        ({"sets": {"s": {"x": {}}}}, "nobody added"),
    ],
)
def test_a_state_without_meaning_is_refused_and_the_batch_goes_on(broken: dict[str, object], word: str) -> None:
    pair = Pair()
    eu = pair.join("eu")
    good, other = put(eu, "a", Assign("f", 1)), put(eu, "b", Assign("f", 2))
    bad = msgspec.structs.replace(good, record=msgspec.structs.replace(good.record, **broken))  # type: ignore[union-attr, type-var]
    out = pair.take(bad, other)
    assert word in out.refused[0].reason and out.merged == [other]


def test_an_update_that_names_a_field_it_does_not_have_is_refused_and_the_batch_goes_on() -> None:
    pair = Pair()
    eu = pair.join("eu")
    good, other = put(eu, "a", Assign("f", 1)), put(eu, "b", Assign("f", 2))
    for changed in (("last_writer:g",), ("loudest:f",)):
        bad = msgspec.structs.replace(good, changed=changed)  # type: ignore[type-var]
        pair = Pair()
        pair.take(eu.join(NOW))
        out = pair.take(bad, other)
        assert "cannot be merged" in out.refused[0].reason
        assert view(pair.centre.records["b"]) == {"f": 2} and "a" not in pair.centre.records


def test_an_unjoined_replica_does_not_write() -> None:
    with pytest.raises(NotJoinedError, match="connect"):
        put(Replica("eu", MemoryStore()), "k", Assign("f", 1))


def test_a_tombstone_goes_once_every_region_has_acknowledged_it_and_not_before() -> None:
    pair = Pair()
    eu, us = pair.join("eu"), pair.join("us")
    put(eu, "k", Assign("f", 1))
    pair.exchange(eu, us)
    put(eu, "k", Delete(), NOW + 100)
    pair.exchange(eu)
    pair.exchange(eu)
    assert not pair.centre.records["k"].live
    late = put(us, "k", Assign("g", 2), NOW - 50_000)  # us has not heard of the delete
    pair.read(us)
    assert pair.take(us.heartbeat(NOW)).forgotten == [], (
        "an acknowledgement counts only after what was written before it"
    )
    out = pair.take(late, us.heartbeat(NOW))
    assert len(out.conflicts) == 1
    pair.read(eu, us)
    forgotten = [key for _ in range(3) for key in pair.exchange(eu, us).forgotten]
    assert forgotten == ["k"] and pair.centre.records == {}
    assert eu.store.get("k") is None and us.store.get("k") is None


def test_a_tombstone_may_have_to_grow_old_first() -> None:
    pair = Pair(tombstone_age_ms=60_000)
    eu = pair.join("eu")
    put(eu, "k", Delete())
    assert [pair.exchange(eu).forgotten for _ in range(3)] == [[], [], []]
    pair.now += 60_000
    assert pair.exchange(eu).forgotten == ["k"]


def test_a_plain_producers_pair_is_enough_and_a_replay_changes_nothing() -> None:
    pair = Pair()
    us = pair.join("us")
    writes = [
        plain(Assign("f", "old"), 1, NOW - 10),
        plain(Assign("f", "new"), 2, NOW),
        plain(Assign("f", "late"), 3, NOW - 5),
        plain(Increment("n", 2), 4),
        plain(Increment("n", 3), 5),
        plain(Add("s", ("p",)), 6),
        plain(Add("s", ("q",)), 7),
    ]
    pair.take(*writes)
    assert pair.take(*writes).repeated == 7
    pair.read(us)
    assert us.read("k") == view(pair.centre.records["k"]) == {"f": "new", "n": 5, "s": ["p", "q"]}
    put(us, "k", Assign("f", "us"), pair.now)
    assert pair.exchange(us).conflicts == [], "the region has seen the plain writes"
    assert us.read("k") == {"f": "us", "n": 5, "s": ["p", "q"]}


def test_plain_writes_of_two_regions_conflict_until_the_regions_have_seen_them() -> None:
    pair = Pair()
    eu = pair.join("eu")
    rows = pair.take(plain(Assign("f", 1), 1), plain(Assign("f", 2), 1, NOW + 1, region="us")).conflicts
    assert [(r.left.actor, r.right.actor) for r in rows] == [("eu@0", "us@0")]
    for _ in range(3):
        pair.exchange(eu)
    assert pair.take(plain(Assign("f", 3), 2, NOW + 2)).conflicts == []


def test_a_plain_write_ahead_of_time_is_kept_aside_and_the_later_ones_go_ahead() -> None:
    pair = Pair()
    eu = pair.join("eu")
    out = pair.take(plain(Increment("n", 1), 1, NOW + 120_000), plain(Increment("n", 10), 2))
    assert len(out.parked) == 1
    pair.now += 120_000
    pair.take()
    pair.read(eu)
    assert eu.read("k") == {"n": 11}


def test_a_plain_write_older_than_a_forgotten_delete_is_refused() -> None:
    pair = Pair()
    eu = pair.join("eu")
    put(eu, "k", Delete())
    for _ in range(3):
        pair.exchange(eu)
    assert pair.centre.records == {}
    assert "forgotten" in pair.take(plain(Assign("f", 1), 1, NOW - 1_000)).refused[0].reason
    assert pair.take(plain(Assign("f", 1), 2, NOW + 1_000)).refused == []


def test_digests_name_the_bucket_that_differs_and_only_that_one_is_sent() -> None:
    pair = Pair()
    eu, us = pair.join("eu"), pair.join("us")
    for n in range(600):
        put(eu, f"key-{n}", Assign("f", n))
    pair.exchange(eu)
    pair.take(*eu.outgoing(1_000), eu.heartbeat(NOW))
    pair.read(eu, us)
    us.store.drop("key-7")
    ghost = msgspec.structs.replace(eu.store.get("key-8"), key="ghost")  # type: ignore[type-var]
    us.store.put(ghost)
    pair.log.append(pair.centre.digest_entry())
    pair.centre.published(len(pair.log))
    pair.read(eu, us)
    assert eu.digest_agrees and eu.repair_request() is None
    request = us.repair_request()
    assert us.digest_agrees is False and request is not None and len(request.buckets) == 2
    sent = [e for e in pair.take(request).entries if isinstance(e, RecordEntry)]
    assert 1 <= len(sent) < 40
    pair.read(us)
    pair.log.append(pair.centre.digest_entry())
    pair.read(us)
    assert us.digest_agrees and us.store.get("ghost") is None and us.read("key-7") == {"f": 7}


@pytest.mark.parametrize("depth", [0, 1, 2, MAX_DEPTH])
@pytest.mark.parametrize("around", [lambda inner: [inner], lambda inner: {"of": inner}], ids=["lists", "objects"])
def test_whatever_a_region_may_write_the_centre_takes_and_others_read(
    depth: int, around: Callable[[object], object]
) -> None:
    pair = Pair()
    eu, us = pair.join("eu"), pair.join("us")
    value: object = "innermost"
    for _ in range(depth):
        value = around(value)
    put(eu, "k", Assign("f", value))
    assert pair.exchange(eu, us).refused == []
    pair.read(us)
    assert us.read("k") == {"f": value}
    with pytest.raises(ChangeRefusedError):
        for _ in range(MAX_DEPTH + 1 - depth):
            value = around(value)
        put(eu, "k", Assign("f", value))


def test_a_region_that_joins_late_loads_a_snapshot_and_goes_on_from_its_position() -> None:
    pair = Pair()
    eu = pair.join("eu")
    put(eu, "k", Assign("f", 1))
    pair.exchange(eu)
    snapshot = pair.centre.snapshot()
    put(eu, "k", Assign("f", 2))
    pair.exchange(eu)
    late = Replica("us", MemoryStore())
    late.restore(snapshot.records, snapshot.position, snapshot.clock)
    assert late.read("k") == {"f": 1}
    pair.take(late.join(NOW))
    pair.read(late)
    assert late.read("k") == {"f": 2} and late.state.joined
    assert put(late, "k", Delete(), NOW - 3_600_000).stamp.hlc > eu.state.clock  # type: ignore[union-attr]


def test_a_centre_that_starts_again_has_the_clock_it_had_whatever_the_order_of_its_records() -> None:
    pair = Pair()
    eu, us = pair.join("eu"), pair.join("us")
    for number, replica in enumerate((eu, us, eu)):
        put(replica, f"k{number}", Assign("f", number), NOW + 7 * number)
        pair.exchange(eu, us)
    centre = pair.centre
    for records in (centre.records, dict(reversed(centre.records.items()))):
        assert Centre(records).snapshot().clock == centre.snapshot().clock


def test_a_centre_that_starts_again_knows_what_is_durable() -> None:
    pair = Pair()
    eu, us = pair.join("eu"), pair.join("us")
    put(eu, "k", Assign("f", 1))
    parked = put(us, "p", Assign("f", 2), NOW + 600_000)
    out = pair.exchange(eu, us)
    again = Centre(
        pair.centre.records,
        pair.centre.recents,
        out.regions.values(),
        position=len(pair.log),
    )
    assert len(again.parking) == 1
    assert again.merge_batch([parked], NOW).repeated == 1
    assert again.regions["eu"].received.contiguous == 1


def test_a_join_with_an_old_epoch_is_told_the_current_one() -> None:
    pair = Pair()
    pair.join("eu")
    out = pair.take(Join(region="eu", epoch=1_000_001, at_ms=NOW))
    entry = next(e for e in out.entries if isinstance(e, RegionEntry))
    assert entry.epoch == NOW and entry.member


def test_a_region_that_leaves_is_not_waited_for() -> None:
    pair = Pair()
    eu, us = pair.join("eu"), pair.join("us")
    put(eu, "k", Delete())
    pair.exchange(eu)
    pair.exchange(eu)
    assert "k" in pair.centre.records
    out = [e for _ in range(2) for e in pair.take(us.leave(), eu.heartbeat(NOW)).entries]
    assert any(isinstance(entry, ForgetEntry) for entry in out)


def forged(update: UpMessage, **changed: object) -> Update:
    assert isinstance(update, Update)
    return msgspec.structs.replace(update, record=msgspec.structs.replace(update.record, **changed))


def test_a_region_cannot_claim_to_have_seen_anothers_writes_before_they_are_there() -> None:
    pair = Pair()
    eu, us = pair.join("eu"), pair.join("us")
    theirs = put(us, "k", Assign("f", "us"))
    mine = put(eu, "k", Assign("f", "eu"))
    vector = {**mine.record.vector, str(theirs.stamp.actor): 5}  # type: ignore[union-attr]
    out = pair.take(forged(mine, vector=vector))
    assert "cannot have seen another's writes" in out.refused[0].reason and out.merged == []
    # A batch may hold the regions one after another, so what comes later in it counts as there.
    vector = {**vector, str(theirs.stamp.actor): 1}  # type: ignore[union-attr]
    assert pair.take(forged(mine, vector=vector), theirs).refused == []


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"last": {"f": Register(1, Hlc(NOW + 10**9, 0, "eu"))}}, "allowed is after"),
        ({"last": {"f": Register(1, Hlc(NOW - 2, 0, "eu"))}, "deleted": Hlc(NOW - 1, 0, "eu")}, "allowed is after"),
        ({"sets": {"s": {"p": {"eu@1700000000000": Dot(9, Hlc(NOW, 0, "eu"))}}}}, "not in the record's vector"),
        ({"counters": {"n": {"us@7": CounterTally(1, 5, Hlc(NOW, 0, "eu"))}}}, "not in the record's vector"),
        ({"version": 7}, "version"),
    ],
)
def test_a_state_that_would_win_by_what_nobody_judged_is_refused(changed: dict[str, object], word: str) -> None:
    pair = Pair()
    eu = pair.join("eu")
    out = pair.take(forged(put(eu, "k", Assign("f", 1)), **changed))
    assert word in out.refused[0].reason and out.records == {}


def test_an_epoch_far_ahead_does_not_lock_a_region_out() -> None:
    pair = Pair()
    wrong = Replica("eu", MemoryStore())
    assert "set the clock" in pair.take(wrong.join(NOW * 2)).refused[0].reason
    assert wrong.join(pair.now).epoch == pair.now  # the same store, once its clock is right
    assert pair.join("eu").state.joined


def test_a_region_that_has_left_does_not_write_any_more() -> None:
    pair = Pair()
    eu = pair.join("eu")
    sent = put(eu, "k", Assign("f", 1))
    pair.exchange(eu)
    late = put(eu, "k", Assign("f", 2))
    assert isinstance(sent, Update)
    pair.take(Leave(region="eu", epoch=sent.stamp.epoch, last_seq=1))
    assert "has left" in pair.take(late).refused[0].reason
    assert pair.take(sent).repeated == 1
    pair.read(eu)
    assert eu.fenced


def test_no_more_updates_wait_than_allowed_and_the_rest_stays_with_the_writer() -> None:
    pair = Pair(max_parked=2)
    eu = pair.join("eu")
    sent = [put(eu, f"k{n}", Assign("f", n), NOW + 600_000) for n in range(4)]
    out = pair.exchange(eu)
    assert out.parked == sent[:2] and [(g.first_seq, g.last_seq) for g in out.gaps] == [(3, 4)]
    plain_out = pair.take(plain(Assign("f", 1), 1, NOW + 600_000))
    assert "wait" in plain_out.refused[0].reason
    pair.now = NOW + 600_000
    for _ in range(3):
        pair.exchange(eu)
    assert sorted(pair.centre.records) == ["k0", "k1", "k2", "k3"] and eu.state.confirmed == 4


def test_without_any_region_a_record_keeps_a_bounded_number_of_writes_and_still_finds_conflicts() -> None:
    pair = Pair()
    rows = [pair.take(plain(Assign("f", n), n, NOW + n, region=("eu", "us")[n % 2])).conflicts for n in range(1, 301)]
    assert len(pair.centre.recents["k"]) == KEPT_ALONE
    assert [len(found) for found in rows[:4]] == [0, 1, 1, 2] and len(rows[-1]) == KEPT_ALONE // 2
    assert len(pair.centre.unstable) <= 1
    eu = pair.join("eu")
    for _ in range(3):
        pair.exchange(eu)
    assert pair.centre.recents == {}, "from the first region on, writes wait for its acknowledgement"


def test_plain_writes_whose_clock_goes_back_lose_nothing_that_is_newer() -> None:
    pair = Pair()
    eu = pair.join("eu")
    pair.take(
        plain(Add("s", ("p",)), 1, NOW + 100),
        plain(Increment("n", 5), 2, NOW + 100),
        plain(Delete(), 3, NOW),
        plain(Add("s", ("p",)), 4, NOW + 50),
        plain(Increment("n", 1), 5, NOW + 50),
    )
    pair.read(eu)
    assert eu.read("k") == {"n": 6, "s": ["p"]}, "the delete is older than both"
    pair.take(plain(Delete(), 6, NOW + 70))
    pair.read(eu)
    assert eu.read("k") == {"n": 6, "s": ["p"]}, "still older than what was stamped at 100"
    pair.take(plain(Delete(), 7, NOW + 101))
    pair.read(eu)
    assert eu.read("k") is None


def test_many_buckets_are_repaired_in_one_pass() -> None:
    pair = Pair()
    eu = pair.join("eu")
    for n in range(2_000):
        put(eu, f"k{n}", Assign("f", n))
    pair.take(*eu.outgoing(5_000))
    request = RepairRequest(region="eu", epoch=eu.state.epoch, buckets=tuple(range(256)))
    entries = pair.take(request).entries
    assert sum(isinstance(entry, RecordEntry) for entry in entries) == 2_000
    listed = [entry for entry in entries if isinstance(entry, BucketEntry)]
    assert len(listed) == 256 and sum(len(entry.keys) for entry in listed) == 2_000
