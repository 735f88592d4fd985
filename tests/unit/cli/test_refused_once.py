"""A dead letter that is said again is one refusal."""

from dataclasses import replace
from datetime import UTC, datetime

from thalweg.cli.refused_command import _columns, refused_submissions, said_once
from thalweg.streams.broker.deadletter import RefusedRecord

LETTER = RefusedRecord(
    flow="place",
    rule="decodes",
    reason="no",
    topic="t.requests",
    partition=0,
    offset=7,
    key=b"k",
    value=b"{",
    received_ms=5,
)


def test_what_was_refused_again_counts_once_and_when_it_first_was() -> None:
    again = replace(LETTER, received_ms=9, reason="no, in other words")
    assert said_once([LETTER, replace(LETTER, offset=8), again]) == [LETTER, replace(LETTER, offset=8)]


def test_another_flow_or_another_record_at_the_place_is_another_refusal() -> None:
    letters = [LETTER, replace(LETTER, flow="observe"), replace(LETTER, value=b"["), replace(LETTER, partition=1)]
    assert said_once(letters) == letters


def test_what_others_put_into_the_topic_is_counted_as_it_is() -> None:
    stray = replace(LETTER, flow="", topic="", partition=-1, offset=-1)
    assert len(said_once([stray, stray])) == 2


def test_a_task_is_refused_by_its_submission_alone() -> None:
    asked = replace(LETTER, rule="request", value=b'{"task_id": "t"}')
    others = [
        replace(asked, value=b'{"task_id": "u", "op": "cancel"}'),
        replace(asked, value=b'{"task_id": 5}'),
        replace(asked, value=None),
        replace(asked, rule="report", value=b'{"task_id": "v"}'),
    ]
    assert refused_submissions([asked, *others, replace(asked, reason="newer")]) == {"t": "newer"}


def test_one_long_id_does_not_make_every_row_as_wide() -> None:
    (what,) = (column for column in _columns(datetime.now(UTC)) if column.name == "what")
    assert what.say is not None
    assert [len(what.say("x" * length)) for length in (8, 600)] == [8, 64]
