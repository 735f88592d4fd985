"""Gaps: a missing range is open until all of it has arrived, whatever the order."""

import hypothesis.strategies as st
from hypothesis import given

from thalweg.sync.protocol.gaps import Gap, GapLog, GapStatus, Received

NEWEST = 9


@given(st.permutations(range(1, NEWEST + 1)), st.lists(st.booleans(), min_size=NEWEST, max_size=NEWEST))
def test_a_gap_is_open_until_all_of_it_has_arrived(order: list[int], reviewed: list[bool]) -> None:
    received, log = Received(), GapLog()
    received.announce(NEWEST)
    rows: dict[int, Gap] = {}
    for now_ms, (seq, now) in enumerate(zip(order, reviewed, strict=True)):
        received.add(seq)
        if not now and now_ms < NEWEST - 1:
            continue  # the next one arrives in the same batch
        rows |= {row.first_seq: row for row in log.review("eu", 1, received, now_ms)}
        missing = {seq for first, last in received.missing() for seq in range(first, last + 1)}
        open_rows = [row for row in rows.values() if row.status is GapStatus.OPEN]
        told = [set(range(row.first_seq, row.last_seq + 1)) for row in open_rows]
        assert all(within & missing for within in told), "one of which nothing is missing is closed"
        assert missing <= set().union(*told), "what is missing lies in one that is open"
    assert not missing and {row.status for row in rows.values()} <= {GapStatus.CLOSED}
