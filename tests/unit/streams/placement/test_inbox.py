"""The order in which a batch is taken, and what tells two batches apart."""

from itertools import groupby
from typing import Any

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from thalweg.streams.broker.range_reader import SCHEMA
from thalweg.streams.placement.batch_offsets import offsets_digest
from thalweg.streams.placement.inbox import in_order

ROWS = st.lists(
    st.tuples(st.sampled_from("ab"), st.integers(0, 1), st.integers(0, 20), st.integers(-1, 9)),
    unique_by=lambda row: row[:3],
    max_size=12,
)


def table(rows: list[tuple[Any, ...]]) -> pa.Table:
    names = ("topic", "partition", "offset", "timestamp_ms")
    return pa.Table.from_pylist([dict(zip(names, row, strict=True)) for row in rows], schema=SCHEMA)


@given(ROWS, st.randoms())
def test_within_a_partition_the_order_is_the_brokers_whatever_the_clocks_say(rows: list[Any], random: Any) -> None:
    ordered = in_order(rows)
    assert sorted(ordered) == sorted(rows)
    for _, partition in groupby(sorted(ordered, key=lambda row: row[:2]), key=lambda row: row[:2]):
        offsets = [row[2] for row in partition]
        assert offsets == sorted(offsets)
    shuffled = list(rows)
    random.shuffle(shuffled)
    assert in_order(shuffled) == ordered


def test_between_partitions_time_decides_and_no_record_waits_for_a_clock_that_is_behind() -> None:
    rows = [("a", 0, 1, 5_000), ("a", 0, 2, 10), ("b", 0, 1, 100), ("b", 0, 2, 6_000)]
    assert [row[:3] for row in in_order(rows)] == [("b", 0, 1), ("a", 0, 1), ("a", 0, 2), ("b", 0, 2)]


@given(ROWS, ROWS)
def test_batches_with_other_spans_have_other_digests(left: list[Any], right: list[Any]) -> None:
    def spans(rows: list[Any]) -> dict[Any, Any]:
        places: dict[Any, list[int]] = {}
        for row in rows:
            places.setdefault(row[:2], []).append(row[2])
        return {place: (min(found), max(found), len(found)) for place, found in places.items()}

    assert (offsets_digest(table(left)) == offsets_digest(table(right))) == (spans(left) == spans(right))
    assert offsets_digest(table(left[::-1])) == offsets_digest(table(left)) < 2**60
