"""Whose a checkpoint is: each way in which it, its table and its topics can be of different making is told apart."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.streams.broker.origin import (
    EARLIEST,
    CheckpointOrigin,
    MismatchKind,
    Present,
    Standing,
    beginning,
    compare,
    every_partition,
    still_meant,
)

ORIGIN = CheckpointOrigin(
    warehouse_id="w1", cluster_id="c1", topic_ids={"requests": "r1", "status": "s1"}, table_version=40
)
PLACES = {("requests", 0): 100, ("status", 0): 7, ("status", 1): 9}
STANDING = Standing(
    query_id="q", batch=12, planned=PLACES, done={("requests", 0): 90, ("status", 0): 7, ("status", 1): 9}
)
PRESENT = Present(
    warehouse_id="w1",
    table_version=41,
    table_batch=12,
    cluster_id="c1",
    topic_ids={"requests": "r1", "status": "s1"},
    starts=dict.fromkeys(PLACES, 0),
    ends=dict.fromkeys(PLACES, 1000),
)
PARTITIONS = {"requests": 1, "status": 2}


def test_what_belongs_together_goes_on() -> None:
    assert compare(ORIGIN, STANDING, PRESENT) == []
    assert beginning([], ORIGIN, STANDING, PARTITIONS) is None


@pytest.mark.parametrize(
    ("present", "kind", "begins"),
    [
        ({"cluster_id": "c2"}, MismatchKind.OTHER_CLUSTER, (EARLIEST, EARLIEST)),
        ({"warehouse_id": "w2"}, MismatchKind.OTHER_WAREHOUSE, (EARLIEST, EARLIEST)),
        ({"warehouse_id": "none", "table_version": None}, MismatchKind.OTHER_WAREHOUSE, (EARLIEST, EARLIEST)),
        ({"table_version": 39}, MismatchKind.TABLE_OLDER, (EARLIEST, EARLIEST)),
        ({"table_batch": 13}, MismatchKind.TABLE_NEWER, (90, 7)),
        ({"topic_ids": {"requests": "r2", "status": "s1"}}, MismatchKind.TOPIC_ANEW, (EARLIEST, 7)),
        ({"ends": {("requests", 0): 3}}, MismatchKind.TOPIC_ANEW, (EARLIEST, 7)),
        ({"starts": {("requests", 0): 250}}, MismatchKind.RECORDS_EXPIRED, None),
    ],
    ids=lambda value: str(value) if isinstance(value, MismatchKind) else "",
)
def test_each_difference_is_named_and_the_query_begins_where_nothing_is_skipped(
    present: dict[str, object], kind: MismatchKind, begins: tuple[int, int] | None
) -> None:
    found = compare(ORIGIN, STANDING, replace(PRESENT, **present))  # type: ignore[arg-type]
    assert [mismatch.kind for mismatch in found] == [kind]
    assert found[0].found
    assert found[0].follows
    assert found[0].remedy
    begin = beginning(found, ORIGIN, STANDING, PARTITIONS)
    if begins is None:
        assert begin is None
        assert found[0].lost == 150
    else:
        assert begin is not None
        assert (begin["requests", 0], begin["status", 0]) == begins
        assert begin.keys() == {("requests", 0), ("status", 0), ("status", 1)}


def test_a_topic_made_anew_that_has_outgrown_the_old_one_is_known_by_its_id_alone() -> None:
    anew = replace(PRESENT, topic_ids={"requests": "r2", "status": "s1"})
    assert anew.ends is not None
    assert anew.ends["requests", 0] > STANDING.planned["requests", 0]
    assert compare(ORIGIN, STANDING, anew)[0].kind is MismatchKind.TOPIC_ANEW


def test_a_checkpoint_that_does_not_say_whose_it_is_is_judged_by_its_offsets() -> None:
    assert compare(None, STANDING, replace(PRESENT, cluster_id="c2", warehouse_id="w2")) == []
    assert compare(None, STANDING, replace(PRESENT, ends={("requests", 0): 99}))[0].kind is MismatchKind.TOPIC_ANEW


def test_what_cannot_be_seen_is_not_judged() -> None:
    assert compare(ORIGIN, STANDING, Present()) == []


def test_a_checkpoint_without_a_batch_still_begins_where_it_was_meant_to() -> None:
    origin = replace(ORIGIN, begin_at={("requests", 0): EARLIEST, ("status", 0): 7})
    assert compare(origin, Standing(), PRESENT) == []
    assert still_meant(origin, PRESENT) == origin.begin_at
    assert still_meant(origin, replace(PRESENT, cluster_id="c2")) == {}
    anew = replace(PRESENT, topic_ids={"requests": "r1", "status": "s2"})
    assert still_meant(origin, anew) == {("requests", 0): EARLIEST}


@given(
    standing=st.dictionaries(st.tuples(st.sampled_from("abc"), st.integers(0, 2)), st.integers(0, 50)),
    partitions=st.dictionaries(st.sampled_from("abcd"), st.integers(1, 3)),
)
def test_every_partition_there_is_is_named_and_no_other(
    standing: dict[tuple[str, int], int], partitions: dict[str, int]
) -> None:
    begin = every_partition(standing, partitions)
    assert begin.keys() == {(topic, number) for topic, count in partitions.items() for number in range(count)}
    assert all(begin[place] == standing.get(place, EARLIEST) for place in begin)


def test_a_topic_that_was_away_when_the_last_batch_was_planned_is_known_by_the_mark() -> None:
    """The batch does not name it then, and its past would be taken for that of the one made anew."""
    away = replace(STANDING, planned={place: at for place, at in STANDING.planned.items() if place[0] != "requests"})
    anew = replace(PRESENT, topic_ids={"requests": "r2", "status": "s1"})
    (found,) = compare(ORIGIN, away, anew)
    assert (found.kind, found.topic) == (MismatchKind.TOPIC_ANEW, "requests")
    assert compare(ORIGIN, away, PRESENT) == []
