"""A bucket that differs is taken over as the centre has it, but for what the centre has not merged."""

import pytest

from thalweg.sync.protocol.changes import Assign, Change, changed_record
from thalweg.sync.protocol.digests import bucket_of, digests_of, encode_digests
from thalweg.sync.protocol.entries import BucketEntry, DigestEntry, RecordEntry, RegionEntry
from thalweg.sync.protocol.merge import merge
from thalweg.sync.protocol.records import Record
from thalweg.sync.protocol.stamps import Hlc
from thalweg.sync.replica.memory_store import MemoryStore
from thalweg.sync.replica.replica import Replica

NOW = 1_700_000_000_000
KEY = "k"


def written(field: str, actor: str, seq: int, key: str = KEY) -> Record:
    change: Change = Assign(field, actor)
    return changed_record(key, None, (change,), actor, seq, Hlc(NOW + seq, 0, actor.partition("@")[0]))


ENDED, BEGUN_ANEW = written("before", "us@1", 5), written("after", "ap@1", 9)


def joined() -> Replica:
    replica = Replica("eu", MemoryStore())
    epoch = replica.join(NOW).epoch
    replica.apply([RegionEntry(region="eu", epoch=epoch, contiguous=0, centre_ms=NOW)], 1, NOW)
    return replica


def asking(held: Record, centre_has: Record) -> Replica:
    """A replica that has asked for the bucket of a record which the centre has otherwise."""
    replica = joined()
    replica.apply([RecordEntry(record=held)], 2, NOW)
    replica.apply([DigestEntry(buckets=encode_digests(digests_of([centre_has])))], 3, NOW)
    request = replica.repair_request()
    assert request is not None and request.buckets == (bucket_of(KEY),)
    assert replica.repair_request() is None, "asked for once"
    return replica


@pytest.mark.parametrize(
    ("merged", "left"),
    [
        ({"us@1": 5, "ap@1": 9}, BEGUN_ANEW),
        ({"us@1": 7, "ap@1": 20, "sa@1": 1}, BEGUN_ANEW),
        ({"us@1": 4, "ap@1": 9}, merge(ENDED, BEGUN_ANEW)),
        ({"ap@1": 9}, merge(ENDED, BEGUN_ANEW)),
    ],
)
def test_a_record_that_was_forgotten_and_begun_anew_is_the_new_one_where_all_its_writes_are_merged(
    merged: dict[str, int], left: Record
) -> None:
    replica = asking(ENDED, BEGUN_ANEW)
    entry = BucketEntry(bucket=bucket_of(KEY), keys=(KEY,), merged=merged)
    replica.apply([RecordEntry(record=BEGUN_ANEW), entry], 5, NOW)
    assert replica.store.get(KEY) == left


@pytest.mark.parametrize(("merged", "stays"), [({"us@1": 5}, False), ({"us@1": 4}, True), ({"ap@1": 9}, True)])
def test_a_record_that_is_not_listed_goes_where_all_its_writes_are_merged(merged: dict[str, int], stays: bool) -> None:
    other = next(key for key in map(str, range(10_000)) if bucket_of(key) == bucket_of(KEY))
    replica = asking(ENDED, written("x", "ap@1", 9, other))
    replica.apply([BucketEntry(bucket=bucket_of(KEY), keys=(other,), merged=merged)], 4, NOW)
    assert (replica.store.get(KEY) is not None) == stays


def test_what_was_published_since_it_was_asked_for_and_nothing_else_counts_as_the_centres() -> None:
    # Nobody asked: the bucket's end says which keys there are, and not how the records are.
    replica = joined()
    replica.apply([RecordEntry(record=ENDED), RecordEntry(record=BEGUN_ANEW)], 3, NOW)
    entry = BucketEntry(bucket=bucket_of(KEY), keys=(KEY,), merged={"us@1": 5, "ap@1": 9})
    replica.apply([entry], 4, NOW)
    assert replica.store.get(KEY) == merge(ENDED, BEGUN_ANEW)


def test_a_life_that_the_centre_does_not_know_any_more_is_told_once_more_before_it_writes() -> None:
    replica = joined()
    assert not replica.must_join
    closed = RegionEntry(region="eu", epoch=replica.state.epoch - 1, contiguous=0, centre_ms=NOW)
    replica.apply([closed], 2, NOW)
    assert replica.state.joined and replica.must_join, "what it has is its own, but the centre has lost it"
    assert Replica("eu", MemoryStore()).must_join
