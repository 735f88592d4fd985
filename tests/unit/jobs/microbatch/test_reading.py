"""A batch's records are the same whoever hands them over, and what the broker holds no longer is told."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from thalweg.jobs.microbatch.reading import Reading
from thalweg.streams.broker.range_reader import SCHEMA, Ranges


def records(offsets: range) -> pa.Table:
    rows = [
        {"topic": "t", "partition": 0, "offset": offset, "timestamp_ms": 1, "key": None, "value": b"v"}
        for offset in offsets
    ]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


class Frame:
    """What Spark has of a batch."""

    def __init__(self, offsets: range) -> None:
        self.offsets = offsets

    def selectExpr(self, *_: str) -> "Frame":  # noqa: N802
        return self

    def toArrow(self) -> pa.Table:  # noqa: N802
        return records(self.offsets)


@pytest.fixture
def checkpoint(tmp_path: Path) -> str:
    (tmp_path / "offsets").mkdir()
    for batch, end in ((3, 10), (4, 14)):
        lines = ["v1", "{}", json.dumps({"t": {"0": end}})]
        (tmp_path / "offsets" / str(batch)).write_text("\n".join(lines))
    return str(tmp_path)


def reading(checkpoint: str, ahead: Any, told: list[Any]) -> Reading[pa.Table]:
    def unread(ranges: Ranges, first: Mapping[tuple[str, int], int]) -> None:
        told.append((dict(ranges), dict(first)))

    return Reading(job="place", checkpoint=checkpoint, ahead=ahead, made_of=lambda table: table, unread=unread)


def test_who_is_ahead_is_asked_for_exactly_the_batch_and_spark_when_it_is_behind(checkpoint: str) -> None:
    asked: list[Ranges] = []
    for behind in (False, True):

        def ahead(ranges: Ranges, _: float, behind: bool = behind) -> pa.Table | None:
            asked.append(ranges)
            return None if behind else records(range(10, 14))

        told: list[Any] = []
        taken = reading(checkpoint, ahead, told)(Frame(range(10, 14)), 4)
        assert taken.equals(records(range(10, 14))) and told == []
    assert asked == [{("t", 0): (10, 14)}] * 2


def test_what_the_broker_holds_no_longer_is_told(checkpoint: str) -> None:
    told: list[Any] = []
    reading(checkpoint, None, told)(Frame(range(12, 14)), 4)
    assert told == [({("t", 0): (10, 14)}, {("t", 0): 12})]


def test_a_batch_that_the_log_does_not_tell_plainly_is_read_through_spark(checkpoint: str) -> None:
    def ahead(*_: Any) -> pa.Table:
        raise AssertionError("not asked")

    assert reading(checkpoint, ahead, [])(Frame(range(3)), 0).num_rows == 3
