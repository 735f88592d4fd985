"""What is refused, parked or foreign has a row with when, who, which record and why; only long words are cut."""

from datetime import UTC, datetime
from typing import Any

import pytest

from thalweg.jobs.replication.refusals import foreign_rows, refused_record, refused_rows
from thalweg.streams.contract.state_messages import StateInput
from thalweg.sync.centre.centre import MergeOutcome, RefusedMessage
from thalweg.sync.delta.contracts import SYNC_REFUSED
from thalweg.sync.protocol.changes import Assign
from thalweg.sync.protocol.entries import PlainWrite
from thalweg.sync.protocol.stamps import Stamp

NOW = 1_700_000_000_123
AT = datetime.fromtimestamp(NOW / 1000, UTC)
RECORD = StateInput(topic="t.state.eu", partition=1, offset=7, timestamp_ms=NOW - 5, key=b"k", value=b"value")


def plain(key: str, ms: int) -> PlainWrite:
    return PlainWrite(key, (Assign("f", 1),), Stamp(ms=ms, counter=2, region="us", epoch=0, seq=3))


def rows_of(*unreadable: tuple[StateInput, str], **merged: Any) -> list[dict[str, Any]]:
    rows = refused_rows(MergeOutcome(**merged), unreadable, "t", 9, NOW)
    assert all(set(row) <= set(SYNC_REFUSED.schema.names) for row in rows), "what no column takes nobody reads"
    assert all((row["at"], row["batch_id"]) == (AT, 9) for row in rows)
    return rows


def test_what_cannot_be_read_is_told_by_where_it_lies() -> None:
    (row,) = rows_of((RECORD, "no JSON"))
    assert (row["region"], row["verdict"], row["key"], row["reason"]) == ("eu", "refused", "k", "no JSON")
    assert (row["topic"], row["topic_partition"], row["topic_offset"]) == ("t.state.eu", 1, 7)


def test_what_the_centre_refused_is_told_beside_it_and_what_waits_too() -> None:
    refusal = RefusedMessage(region="us", reason="of a closed life", message=plain("a", NOW))
    unreadable, refused, parked = rows_of((RECORD, "no JSON"), refused=[refusal], parked=[plain("b", NOW + 600)])
    assert unreadable["key"] == "k"
    assert (refused["region"], refused["verdict"], refused["key"]) == ("us", "refused", "a")
    assert refused["reason"] == "of a closed life"
    assert (parked["region"], parked["verdict"], parked["key"]) == ("us", "parked", "b")
    assert "600 ms ahead" in parked["reason"]


@pytest.mark.parametrize(("length", "kept"), [(999, 999), (1_000, 1_000), (1_001, 1_000), (50_000, 1_000)])
def test_long_words_are_cut_the_same_wherever_they_are_told(length: int, kept: int) -> None:
    words = "x" * length
    refusal = RefusedMessage(region="us", reason=words, message=plain("a", NOW))
    told = [row["reason"] for row in rows_of((RECORD, words), refused=[refusal])]
    told.append(refused_record(RECORD, "refused", words).reason)
    assert [len(one) for one in told] == [kept] * 3


def test_a_dead_letter_has_the_record_as_it_came() -> None:
    letter = refused_record(RECORD, "refused", "why")
    assert (letter.flow, letter.rule, letter.reason) == ("replicate", "refused", "why")
    assert (letter.topic, letter.partition, letter.offset) == ("t.state.eu", 1, 7)
    assert (letter.key, letter.value, letter.received_ms) == (b"k", b"value", NOW - 5)


def test_what_somebody_else_wrote_to_the_replica_topic_is_one_row_however_much_it_is() -> None:
    assert foreign_rows(range(5, 5), "t", 9, NOW) == []
    for foreign, words in ((range(5, 6), "a record here"), (range(5, 8), "3 records here")):
        (row,) = foreign_rows(foreign, "t", 9, NOW)
        assert (row["at"], row["verdict"], row["batch_id"]) == (AT, "foreign", 9)
        assert (row["topic"], row["topic_partition"], row["topic_offset"]) == ("t.replica", 0, 5)
        assert row["reason"].startswith(words)
