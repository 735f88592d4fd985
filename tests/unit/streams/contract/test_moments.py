"""A moment in seconds where milliseconds are wanted is refused with words, wherever it comes from."""

import json

import pyarrow as pa
import pytest

from thalweg.streams.contract.moments import objection
from thalweg.streams.placement.requests import RequestError, read_request
from thalweg.streams.telemetry.parse import parse
from thalweg.streams.telemetry.record_rows import RECORDS

SECONDS, MS = 1_795_933_582, 1_795_933_582_000


@pytest.mark.parametrize("ms", [None, 0, 5_000, MS, 253_402_300_799_999])
def test_what_may_be_meant_is_let_through(ms: int | None) -> None:
    assert objection("deadline", ms) is None


def test_the_words_name_what_was_probably_meant() -> None:
    words = objection("deadline", SECONDS)
    assert words is not None
    assert "deadline 1795933582 is a moment of January 1970" in words
    assert "looks like seconds (2026-11-29" in words


@pytest.mark.parametrize("field", ["deadline", "observed_at"])
def test_a_request_in_seconds_is_refused(field: str) -> None:
    with pytest.raises(RequestError, match=f"{field} {SECONDS} .* seconds"):
        read_request(json.dumps({"task_id": "t", field: SECONDS}))
    assert read_request(json.dumps({"task_id": "t", field: MS})).task_id == "t"


def telemetry(**record: object) -> pa.Table:
    value = {"region": "east", "samples": [{"kind": "node", "node_id": "n", "gpus": 8}], **record}
    row = {"key": b"k", "value": json.dumps(value).encode(), "topic": "thalweg.telemetry.east"}
    row |= {"topic_partition": 0, "topic_offset": 0, "received_at": MS * 1_000}
    return pa.Table.from_pylist([row], schema=RECORDS)


@pytest.mark.parametrize(
    ("record", "name"),
    [
        ({"observed_at": SECONDS}, "observed_at"),
        ({"stamp": {"ms": SECONDS}}, "stamp.ms"),
        ({"samples": [{"kind": "node", "node_id": "n", "observed_at": SECONDS}]}, "samples[0].observed_at"),
    ],
)
def test_a_sample_in_seconds_is_refused_and_the_record_beside_it_is_not(record: dict[str, object], name: str) -> None:
    parsed = parse(pa.concat_tables([telemetry(observed_at=MS), telemetry(**record)]), "thalweg")
    assert parsed.samples["record_row"].to_pylist() == [0]
    (refusal,) = parsed.refusals
    assert (refusal.record_row, refusal.rule) == (1, "moments_are_milliseconds")
    assert refusal.reason.startswith(f"{name} {SECONDS} is a moment of January 1970")
