"""The gate: what is too large, too wrong or too slow does not pass, and is told with the figures."""

from hypothesis import given
from hypothesis import strategies as st

from thalweg.learning.shrink.gate import Judged, Limits, Measured, judge

FULL = Measured(size_bytes=4_000, accuracy=0.95, p50_us=10.0, p99_us=20.0)
LIMITS = Limits()


def small(**fields: float) -> Judged:
    told = {"size_bytes": 1_000, "accuracy": 0.95, "p50_us": 10.0, "p99_us": 20.0, **fields}
    return judge("tried", FULL, Measured(**told), LIMITS)  # type: ignore[arg-type]


def test_what_is_at_every_limit_passes() -> None:
    assert small(accuracy=0.945).passed


def test_each_limit_is_its_own_reason() -> None:
    assert small(size_bytes=1_001).reasons == ("4.00 times smaller (4,000 to 1,001 bytes); asked are 4 times",)
    assert small(accuracy=0.9449).reasons == ("0.51 points lost (95.00 % to 94.49 %); allowed are 0.5",)
    assert small(p99_us=20.1).reasons == (
        "p99 of one answer 20.1 µs of processor time; the model as it was takes 20.0",
    )
    assert len(small(size_bytes=3_000, accuracy=0.5, p99_us=30.0).reasons) == 3


@given(
    st.integers(1, 10_000),
    st.floats(0, 1),
    st.floats(0.1, 100),
    st.integers(1, 10_000),
    st.floats(0, 1),
    st.floats(0.1, 100),
    st.floats(1, 10),
    st.floats(0, 5),
)
def test_what_passes_keeps_to_all_limits(
    size: int,
    right: float,
    slow: float,
    small_size: int,
    small_right: float,
    small_slow: float,
    times: float,
    most: float,
) -> None:  # fmt: skip
    full = Measured(size_bytes=size, accuracy=right, p50_us=slow, p99_us=slow)
    found = judge(
        "tried", full, Measured(size_bytes=small_size, accuracy=small_right, p50_us=1.0, p99_us=small_slow),
        Limits(times_smaller=times, points=most),
    )  # fmt: skip
    keeps = size >= times * small_size and 100 * (right - small_right) <= most + 1e-9 and small_slow <= slow
    if abs(size - times * small_size) > 1e-6 * size:
        assert found.passed == keeps
