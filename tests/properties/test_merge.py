"""Merge is a join: any states that regions can reach, in any order, any grouping, any number of times."""

from functools import reduce

import hypothesis.strategies as st
from hypothesis import given, settings

from thalweg.sync.protocol.changes import Add, Assign, Change, Delete, Increment, Lower, Raise, Remove, changed_record
from thalweg.sync.protocol.merge import merge, merged_fields
from thalweg.sync.protocol.records import Record, decode_record, encode_record, view
from thalweg.sync.protocol.stamps import Hlc
from thalweg.sync.protocol.vectors import dominates

REGIONS = ("ap", "eu", "us")
FIELDS = st.sampled_from(["f", "g"])
ELEMENTS = st.sampled_from(["p", "q"])
CHANGES: st.SearchStrategy[Change] = st.one_of(
    st.builds(Assign, FIELDS, st.one_of(st.integers(0, 3), st.text(max_size=2), st.none(), st.lists(st.booleans()))),
    st.builds(Raise, FIELDS, st.integers(-3, 3)),
    st.builds(Lower, FIELDS, st.floats(-3, 3)),
    st.builds(Add, FIELDS, st.tuples(ELEMENTS)),
    st.builds(Remove, FIELDS, st.tuples(ELEMENTS)),
    st.builds(Increment, FIELDS, st.integers(-3, 3)),
    st.just(Delete()),
)
# (region, change, how far the region's clock moves, whose state it merges first)
MOVES = st.tuples(st.integers(0, 2), CHANGES, st.integers(0, 2), st.none() | st.integers(0, 2))


def states(moves: list[tuple[int, Change, int, int | None]]) -> list[Record]:
    """Every state that three regions pass through when they write and now and then hear each other."""
    now: list[Record | None] = [None, None, None]
    clock = [0, 0, 0]
    seen: list[Record] = []
    for seq, (region, change, step, heard) in enumerate(moves, start=1):
        other = now[heard] if heard is not None else None
        if other is not None:
            now[region] = merge(now[region], other)
        mine = now[region]
        clock[region] = max(clock[region] + step, mine.at.ms if mine else 0)
        counter = mine.at.counter + 1 if mine and mine.at.ms == clock[region] else 0
        at = Hlc(clock[region], counter, REGIONS[region])
        now[region] = changed_record("k", mine, (change,), f"{REGIONS[region]}@1000000", seq, at)
        seen += [record for record in now if record is not None]
    return seen


HISTORIES = st.lists(MOVES, min_size=2, max_size=14)


@settings(deadline=None, max_examples=300)
@given(HISTORIES, st.randoms(use_true_random=False))
def test_any_order_and_any_repetition_give_the_same_state(moves: list, random) -> None:  # type: ignore[type-arg, no-untyped-def]
    known = states(moves)
    again = known + random.choices(known, k=len(known))
    random.shuffle(again)
    assert reduce(merge, again) == reduce(merge, known)
    assert encode_record(reduce(merge, again)) == encode_record(reduce(merge, known))


@settings(deadline=None, max_examples=300)
@given(HISTORIES, st.data())
def test_merge_is_commutative_associative_and_idempotent(moves: list, data: st.DataObject) -> None:  # type: ignore[type-arg]
    known = st.sampled_from(states(moves))
    a, b, c = data.draw(known), data.draw(known), data.draw(known)
    assert merge(a, b) == merge(b, a)
    assert merge(a, merge(b, c)) == merge(merge(a, b), c)
    assert merge(a, a) == a
    assert merge(merge(a, b), b) == merge(a, b)


@settings(deadline=None, max_examples=300)
@given(HISTORIES, st.data())
def test_the_short_way_by_vectors_gives_what_the_fields_give(moves: list, data: st.DataObject) -> None:  # type: ignore[type-arg]
    known = st.sampled_from(states(moves))
    a, b = data.draw(known), data.draw(known)
    assert merge(a, b) == merged_fields(a, b)
    merged = merge(a, b)
    assert dominates(merged.vector, a.vector) and dominates(merged.vector, b.vector)


@settings(deadline=None, max_examples=200)
@given(HISTORIES)
def test_a_state_survives_its_encoding(moves: list) -> None:  # type: ignore[type-arg]
    for record in states(moves):
        assert decode_record(encode_record(record)) == record


@settings(deadline=None, max_examples=300)
@given(HISTORIES)
def test_nothing_older_than_the_delete_is_left(moves: list) -> None:  # type: ignore[type-arg]
    merged = reduce(merge, states(moves))
    registers = [*merged.last.values(), *(r for rs in (*merged.maxima.values(), *merged.minima.values()) for r in rs)]
    dots = [dot for elements in merged.sets.values() for dots in elements.values() for dot in dots.values()]
    tallies = [tally for by_actor in merged.counters.values() for tally in by_actor.values()]
    assert all(item.at > merged.deleted for item in (*registers, *dots, *tallies))
    assert (view(merged) is None) == (merged.written <= merged.deleted)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.text(max_size=1)), min_size=2, max_size=6), st.randoms())
def test_plain_producers_that_stamp_alike_still_converge(writes: list, random) -> None:  # type: ignore[type-arg, no-untyped-def]
    """Two values of one region with the same moment and version: no clock orders them, the encoding does."""
    records = [
        changed_record("k", None, (Assign("f", value),), f"eu@{partition}", 1, Hlc(ms, 0, "eu"))
        for partition, (ms, value) in enumerate(writes)
    ]
    assert reduce(merge, records) == reduce(merge, random.sample(records, len(records)))
