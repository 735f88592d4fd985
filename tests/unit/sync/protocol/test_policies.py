"""What each policy means, in cases small enough to check by hand."""

from functools import reduce

import pytest

from thalweg.sync.protocol.changes import (
    Add,
    Assign,
    Change,
    ChangeRefusedError,
    Delete,
    Increment,
    Lower,
    Raise,
    Remove,
    changed_record,
    changes_from_value,
)
from thalweg.sync.protocol.merge import merge
from thalweg.sync.protocol.policies import MergePolicy
from thalweg.sync.protocol.records import KeyRefusedError, Record, canonical, checked_key, view
from thalweg.sync.protocol.stamps import Hlc


def write(base: Record | None, change: Change, ms: int, region: str = "eu", seq: int | None = None) -> Record:
    return changed_record("k", base, (change,), f"{region}@1000000", seq or ms, Hlc(ms, 0, region))


@pytest.mark.parametrize(("less", "more"), [(1, 2), ("a", "b"), ("a", "aa"), (None, "x"), ([1], [2]), (2, "1")])
def test_of_two_values_stamped_alike_the_larger_encoding_wins_in_either_order(less: object, more: object) -> None:
    if canonical(less) > canonical(more):
        less, more = more, less
    at = Hlc(5, 0, "eu")
    one, other = (changed_record("k", None, (Assign("f", v),), f"eu@{n}", 1, at) for n, v in enumerate((less, more)))
    assert view(merge(one, other)) == view(merge(other, one)) == {"f": more}


def test_the_last_writer_wins_a_field_and_others_stay() -> None:
    base = write(None, Assign("size_gb", 1), 1)
    eu = write(base, Assign("size_gb", 2), 5)
    us = write(base, Assign("owner", "us"), 4, "us")
    assert view(merge(eu, us)) == {"owner": "us", "size_gb": 2}
    newer = write(base, Assign("size_gb", 3), 6, "us")
    assert view(merge(eu, newer)) == {"size_gb": 3}


def test_equal_clock_readings_are_ordered_by_region() -> None:
    eu, us = write(None, Assign("f", "eu"), 5), write(None, Assign("f", "us"), 5, "us")
    assert view(merge(eu, us)) == view(merge(us, eu)) == {"f": "us"}


def test_an_addition_wins_against_a_concurrent_removal() -> None:
    base = write(None, Add("copies", ("a",)), 1)
    removed = write(base, Remove("copies", ("a",)), 3, "us")
    added = write(base, Add("copies", ("a",)), 2)
    assert view(merge(removed, added)) == {"copies": ["a"]}
    assert view(merge(removed, base)) == {}


def test_counters_add_what_every_region_counted() -> None:
    base = write(None, Increment("runs", 5), 1)
    eu = write(base, Increment("runs", 2), 2)
    us = write(base, Increment("runs", -1), 3, "us")
    assert view(merge(eu, us)) == {"runs": 6}


def test_a_delete_uncovers_the_next_largest_value_that_is_newer() -> None:
    high = write(None, Raise("peak", 9), 1)
    low = write(None, Raise("peak", 3), 5, "us")
    gone = write(high, Delete(), 4)
    assert view(reduce(merge, (high, low))) == {"peak": 9}
    assert view(reduce(merge, (high, low, gone))) == view(reduce(merge, (gone, merge(high, low)))) == {"peak": 3}


def test_the_smallest_number_is_kept_by_min() -> None:
    assert view(merge(write(None, Lower("price", 2.5), 1), write(None, Lower("price", 2), 9, "us"))) == {"price": 2}


def test_a_deleted_record_returns_only_by_a_newer_stamp() -> None:
    gone = write(write(None, Assign("f", 1), 1), Delete(), 10)
    assert view(merge(gone, write(None, Assign("f", 2), 9, "us"))) is None
    assert view(merge(gone, write(None, Assign("f", 2), 11, "us"))) == {"f": 2}


def test_a_field_with_two_policies_shows_the_one_written_last() -> None:
    text, number = write(None, Assign("size", "big"), 1), write(None, Raise("size", 7), 2, "us")
    assert view(merge(text, number)) == {"size": 7}


def test_a_delete_comes_alone() -> None:
    with pytest.raises(ChangeRefusedError, match="alone"):
        changed_record("k", None, (Delete(), Assign("f", 1)), "eu@1000000", 1, Hlc(1, 0, "eu"))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), True, 2**60])
def test_a_number_that_does_not_order_is_refused(value: float) -> None:
    with pytest.raises(ChangeRefusedError, match="peak"):
        write(None, Raise("peak", value), 1)


def test_a_counter_does_not_pass_what_json_can_hold() -> None:
    with pytest.raises(ChangeRefusedError, match="runs"):
        write(write(None, Increment("runs", 2**53 - 1), 1), Increment("runs", 1), 2)


def test_a_plain_value_is_read_by_the_fields_policies() -> None:
    policies = {
        "copies": MergePolicy.ADD_WINS_SET,
        "version": MergePolicy.MAX,
        "hits": MergePolicy.COUNTER,
        "floor": MergePolicy.MIN,
    }
    value = {"copies": ["eu"], "version": 3, "hits": 1, "floor": 2, "size_gb": 7.5}
    assert changes_from_value(value, policies) == (
        Add("copies", ("eu",)),
        Raise("version", 3),
        Increment("hits", 1),
        Lower("floor", 2),
        Assign("size_gb", 7.5),
    )
    assert changes_from_value([1], {}) == (Assign("value", [1]),)


@pytest.mark.parametrize(
    ("value", "policy"),
    [
        ("eu", MergePolicy.ADD_WINS_SET),
        ([1], MergePolicy.ADD_WINS_SET),
        ("3", MergePolicy.MAX),
        (1.5, MergePolicy.COUNTER),
        (True, MergePolicy.MIN),
    ],
)
def test_a_plain_value_that_does_not_fit_its_policy_is_refused(value: object, policy: MergePolicy) -> None:
    with pytest.raises(ChangeRefusedError, match="'f'"):
        changes_from_value({"f": value}, {"f": policy})


def test_an_empty_addition_leaves_no_empty_set_behind() -> None:
    record = changed_record("k", None, (Add("s", ()), Increment("n", 1)), "eu@1000000", 1, Hlc(1, 0, "eu"))
    assert record.sets == {} and view(record) == {"n": 1}


def test_a_counter_counts_whole_numbers() -> None:
    with pytest.raises(ChangeRefusedError, match="whole"):
        write(None, Increment("n", 1.5), 1)  # type: ignore[arg-type]


def test_a_value_nested_too_deep_is_refused() -> None:
    value: object = 1
    for _ in range(64):
        value = [value]
    assert view(write(None, Assign("f", value), 1)) == {"f": value}
    with pytest.raises(ChangeRefusedError, match="deeper than 64"):
        write(None, Assign("f", [value]), 1)


@pytest.mark.parametrize("key", ["ключ", "鍵", "🔑", "a b/c\n", "e\u0301", "\x01"])
def test_a_key_may_be_any_unicode(key: str) -> None:
    assert checked_key(key) == key


@pytest.mark.parametrize(
    ("key", "word"), [("", "0 bytes"), ("k" * 1025, "1025"), ("\ud800", "Unicode"), ("\0x", "reserved")]
)
def test_a_key_that_cannot_travel_is_refused(key: str, word: str) -> None:
    with pytest.raises(KeyRefusedError, match=word):
        checked_key(key)
