from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.streams.contract.envelope import Envelope, content_id, read_headers, write_headers

PARTS = st.lists(st.one_of(st.text(max_size=8), st.integers(0, 99), st.binary(max_size=8)), max_size=4)


def test_headers_are_cloudevents_in_binary_mode() -> None:
    event = Envelope(event_id="e1", source="/thalweg/place", event_type="assign", time_ms=1_700_000_000_042)
    assert dict(write_headers(event)) == {
        "ce_specversion": b"1.0",
        "ce_id": b"e1",
        "ce_source": b"/thalweg/place",
        "ce_type": b"thalweg.assign",
        "ce_time": b"2023-11-14T22:13:20.042Z",
        "content-type": b"application/json",
    }


@given(st.integers(0, 253_402_300_799_999), st.text(min_size=1), st.text(min_size=1))
def test_what_is_written_is_read_back(time_ms: int, event_id: str, source: str) -> None:
    event = Envelope(event_id=event_id, source=source, event_type="assign", time_ms=time_ms)
    assert read_headers(write_headers(event)) == event


def test_the_time_is_utc_whatever_the_machine() -> None:
    moment = datetime(2026, 11, 21, 10, 20, 30, 5_000, UTC)
    event = Envelope(event_id="e", source="s", event_type="t", time_ms=int(moment.timestamp() * 1000))
    assert dict(write_headers(event))["ce_time"] == b"2026-11-21T10:20:30.005Z"


def test_a_plain_producers_record_has_no_envelope() -> None:
    assert read_headers([]) is None
    assert read_headers([("ce_specversion", b"0.3"), ("ce_id", b"x")]) is None
    assert read_headers([("ce_specversion", b"1.0"), ("ce_id", b"x")]) is None


def test_headers_that_are_not_text_or_not_a_time_are_no_envelope() -> None:
    good = dict(write_headers(Envelope(event_id="e", source="s", event_type="t", time_ms=0)))
    for name, value in (("ce_id", b"\xff"), ("ce_time", b"yesterday")):
        assert read_headers(list((good | {name: value}).items())) is None


@given(PARTS, PARTS)
def test_ids_are_equal_exactly_when_contents_are(left: list[str | int | bytes], right: list[str | int | bytes]) -> None:
    same = [(type(part), part) for part in left] == [(type(part), part) for part in right]
    assert (content_id(*left) == content_id(*right)) == same


def test_moving_a_letter_between_parts_changes_the_id() -> None:
    assert content_id("ab", "c") != content_id("a", "bc")
    assert content_id(1) != content_id("1")


@pytest.mark.parametrize("time_ms", [-(2**63), -1, 2**63 - 1])
def test_a_record_whose_time_is_no_date_still_gets_an_envelope(time_ms: int) -> None:
    written = write_headers(Envelope(event_id="e", source="/s", event_type="t", time_ms=time_ms))
    assert read_headers(written) is not None
