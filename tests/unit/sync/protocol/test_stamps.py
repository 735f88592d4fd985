from datetime import UTC, datetime, timedelta, timezone

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.sync.protocol.stamps import (
    MAX_COUNTER,
    STAMP_ARROW,
    ZERO,
    Admission,
    FutureLimits,
    Hlc,
    Stamp,
    StampError,
    admission,
    complete_stamp,
    observed,
    stamp_from_mapping,
    stamp_to_mapping,
    tick,
)
from thalweg.sync.stamp_columns import latest_rows, newer_than, stamp_columns

REGIONS = st.sampled_from(["aws:us-east-1", "eu", "gcp:us-west1-a"])
HLCS = st.builds(Hlc, st.integers(0, 5), st.integers(0, 3), REGIONS)


@given(st.lists(st.one_of(st.integers(-4_000_000, 4_000_000).map(lambda n: n + 10_000_000), HLCS), max_size=40))
def test_a_clock_never_goes_back_whatever_the_wall_clock_and_the_others_say(moments: list[int | Hlc]) -> None:
    last = ZERO
    for moment in moments:
        before = last
        if isinstance(moment, int):
            last = tick(last, moment, "eu")
            assert last > before
            assert last.ms >= moment
        else:
            last = observed(last, moment)
            assert tick(last, 0, "eu") > max(before, moment)


def test_a_full_counter_moves_the_clock_one_millisecond_on() -> None:
    assert tick(Hlc(7, MAX_COUNTER, "eu"), 3, "eu") == Hlc(8, 0, "eu")


@pytest.mark.parametrize(
    ("ahead_ms", "expected"),
    [
        (-3_600_000, Admission.ACCEPT),
        (500, Admission.ACCEPT),
        (501, Admission.WARN),
        (60_000, Admission.WARN),
        (60_001, Admission.PARK),
        (86_400_000, Admission.PARK),
        (86_400_001, Admission.REFUSE),
    ],
)
def test_a_stamp_is_judged_by_how_far_it_is_ahead(ahead_ms: int, expected: Admission) -> None:
    assert admission(1_000_000 + ahead_ms, 1_000_000) is expected


def test_limits_are_arguments() -> None:
    assert admission(11, 0, FutureLimits(park_ms=10, warn_ms=5)) is Admission.PARK


def test_a_plain_producers_pair_always_gives_the_same_stamp() -> None:
    at = datetime(2026, 11, 21, 10, 0, 0, 250_999, tzinfo=UTC)
    text = complete_stamp("2026-11-21T10:00:00.250999Z", 3, "eu")
    assert text == complete_stamp(at, 3, "eu") == complete_stamp(1_795_255_200_250, 3, "eu")
    assert text == complete_stamp(at.astimezone(timezone(timedelta(hours=2))), 3, "eu")
    assert (text.counter, text.version, text.seq) == (3, 3, 0)


@pytest.mark.parametrize(
    ("observed_at", "version", "region", "word"),
    [
        ("2026-11-21T10:00:00", 1, "eu", "time zone"),
        ("yesterday", 1, "eu", "ISO 8601"),
        (True, 1, "eu", "ISO 8601"),
        (-1, 1, "eu", "ms"),
        (10**15, 1, "eu", "ms"),
        (1, -1, "eu", "counter"),
        (1, MAX_COUNTER + 1, "eu", "counter"),
        (1, 1, "", "region"),
        (1, 1, "eu@7", "region"),
        (1, 1, "e" * 181, "region"),
    ],
)
def test_a_wrong_pair_is_refused_with_the_part_named(observed_at: object, version: int, region: str, word: str) -> None:
    with pytest.raises(StampError, match=word):
        complete_stamp(observed_at, version, region)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "broken", [{}, {"ms": 1, "counter": 0}, {"ms": "1", "counter": 0, "region": "eu"}, {"ms": 1.5}]
)
def test_a_stamp_with_missing_or_wrong_parts_is_refused(broken: dict[str, object]) -> None:
    with pytest.raises(StampError):
        stamp_from_mapping(broken)


@given(
    st.builds(
        Stamp,
        ms=st.integers(0, 10**12),
        counter=st.integers(0, MAX_COUNTER),
        region=REGIONS,
        epoch=st.integers(0, 9),
        seq=st.integers(0, 9),
        version=st.integers(0, 9),
    )
)
def test_a_stamp_survives_json_and_arrow(stamp: Stamp) -> None:
    assert stamp_from_mapping(msgspec.json.decode(msgspec.json.encode(stamp))) == stamp
    column = pa.array([stamp_to_mapping(stamp)], type=STAMP_ARROW)
    assert stamp_from_mapping(column.to_pylist()[0]) == stamp


@given(st.lists(st.tuples(HLCS, HLCS), max_size=30))
def test_columns_are_ordered_like_single_stamps(pairs: list[tuple[Hlc, Hlc]]) -> None:
    left = stamp_columns(*zip(*(pair[0] for pair in pairs), strict=True)) if pairs else stamp_columns([], [], [])
    right = stamp_columns(*zip(*(pair[1] for pair in pairs), strict=True)) if pairs else stamp_columns([], [], [])
    assert newer_than(left, right).tolist() == [a > b for a, b in pairs]


@given(st.lists(st.tuples(st.integers(0, 3), HLCS), max_size=40))
def test_the_latest_row_of_each_entity_is_the_first_with_the_newest_stamp(rows: list[tuple[int, Hlc]]) -> None:
    expected = {}
    for index, (entity, hlc) in enumerate(rows):
        if entity not in expected or hlc > rows[expected[entity]][1]:
            expected[entity] = index
    stamps = stamp_columns(
        [h.ms for _, h in rows], [h.counter for _, h in rows], pa.array([h.region for _, h in rows], pa.string())
    )
    by_code = latest_rows(np.array([entity for entity, _ in rows], dtype=np.int64), stamps)
    by_name = latest_rows(pa.array([f"node-{entity}" for entity, _ in rows], pa.string()), stamps)
    assert by_code.tolist() == by_name.tolist() == sorted(expected.values())


def test_columns_of_unequal_length_are_refused() -> None:
    with pytest.raises(ValueError, match="2, 1 and 1 rows"):
        stamp_columns([1, 2], [0], ["eu"])
