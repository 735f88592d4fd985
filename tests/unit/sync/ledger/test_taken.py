"""Requests are known again by where they lay, and news is not taken for them."""

from typing import Any

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from thalweg.sync.delta.contracts import DECISIONS
from thalweg.sync.ledger.taken import COLUMNS, TakenRequests


def rows(*facts: tuple[str, int, int]) -> pa.Table:
    """Rows of requests (task id, offset, timestamp), and one that came from none."""
    found = [
        {"task_id": task, "topic": "r", "topic_partition": 0, "topic_offset": offset, "topic_timestamp_ms": at}
        for task, offset, at in facts
    ]
    schema = pa.schema([DECISIONS.schema.field(name) for name in COLUMNS])
    return pa.Table.from_pylist([*found, {"task_id": "t"}], schema=schema)


def taken(table: pa.Table) -> TakenRequests:
    made = TakenRequests(lambda: table)
    made.reach.note(table)
    return made


def test_what_was_taken_and_what_was_judged_before_it_is_known() -> None:
    known = taken(rows(("t", 5, 100), ("t", 9, 200), ("u", 7, 150)))
    assert known.has("t", "r", 0, 5, 100)
    assert known.has("t", "r", 0, 6, 120), "judged before offset 9, and it gave no row"
    assert not known.has("u", "r", 0, 8, 160)
    assert not known.has("new", "r", 0, 6, 120)
    assert not known.has("t", "r", 1, 5, 100)
    assert not known.has("t", "other", 0, 5, 100)


def test_a_topic_made_anew_holds_news() -> None:
    assert not taken(rows(("t", 5, 100))).has("t", "r", 0, 5, 101)


def test_clocks_that_jump_hide_nothing_that_was_taken() -> None:
    known = taken(rows(("t", 5, 9_000), ("t", 6, 8_000)))
    assert known.has("t", "r", 0, 5, 9_000) and known.has("t", "r", 0, 6, 8_000)


def test_the_index_is_only_made_when_the_past_arrives() -> None:
    def load() -> pa.Table:
        raise AssertionError("nobody asked for the past")

    made = TakenRequests(load)
    made.reach.note(rows(("t", 5, 100)))
    assert not made.has("t", "r", 0, 6, 100)


@given(st.lists(st.tuples(st.sampled_from("tu"), st.integers(0, 30), st.integers(0, 9)), max_size=8))
def test_every_row_is_known(facts: Any) -> None:
    known = taken(rows(*facts))
    assert all(known.has(task, "r", 0, offset, at) for task, offset, at in facts)
    assert not known.has("t", "r", 0, 31, 0)
