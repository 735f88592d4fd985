"""Back-offs end in the order of their ends, however they came to be known."""

from hypothesis import given
from hypothesis import strategies as st

from thalweg.scheduling.ids import RegionId, TaskId
from thalweg.scheduling.world.back_offs import BackOff, BackOffs

R = RegionId("r")


def back_off(until_ms: int) -> BackOff:
    return BackOff(until_ms, R, TaskId(f"t{until_ms}"), 1)


@given(st.lists(st.integers(100, 1_000), min_size=2, unique=True), st.integers(100, 1_000))
def test_those_of_an_image_end_in_their_order_whatever_order_it_has(ends: list[int], now_ms: int) -> None:
    offs = BackOffs()
    offs.restore(back_off(end) for end in ends)
    over = [one.until_ms for one in offs.ended(now_ms)]
    assert over == sorted(end for end in ends if end <= now_ms)
    assert [one.until_ms for one in offs.ended(1_000)] == sorted(end for end in ends if end > now_ms)


def test_one_that_begins_later_may_end_earlier() -> None:
    offs = BackOffs()
    offs.restore([back_off(900), back_off(200)])
    offs.bar(TaskId("t"), R, 500, 10)
    assert [one.until_ms for one in offs.ended(600)] == [200, 500]
