import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.sync.protocol.stamps import (
    MAX_COUNTER,
    ZERO,
    Admission,
    FutureLimits,
    Hlc,
    Stamp,
    StampError,
    admission,
    checked_stamp,
    observed,
    tick,
)

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


@pytest.mark.parametrize(
    ("ms", "counter", "region", "word"),
    [
        (-1, 1, "eu", "ms"),
        (10**15, 1, "eu", "ms"),
        (1, -1, "eu", "counter"),
        (1, MAX_COUNTER + 1, "eu", "counter"),
        (1, 1, "", "region"),
        (1, 1, "eu@7", "region"),
        (1, 1, "e" * 181, "region"),
    ],
)
def test_a_wrong_stamp_is_refused_with_the_part_named(ms: int, counter: int, region: str, word: str) -> None:
    with pytest.raises(StampError, match=word):
        checked_stamp(Stamp(ms=ms, counter=counter, region=region))
