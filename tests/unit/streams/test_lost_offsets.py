"""What a batch should have held and does not is noticed, and told apart from what nobody gets."""

import json
from pathlib import Path

import pyarrow as pa
import pytest

from conf.settings import Kafka
from streams.lost_offsets import LostOffsets
from streams.range_reader import SCHEMA

TOPIC = "thalweg.requests"


def batch(folder: Path, start: int, end: int) -> str:
    (folder / "offsets").mkdir()
    for batch_id, offset in ((6, start), (7, end)):
        ends = json.dumps({TOPIC: {"0": offset}, "thalweg.status.eu": {"0": 0}})
        (folder / "offsets" / str(batch_id)).write_text(f"v1\n{{}}\n{ends}")
    return str(folder)


def received(*offsets: int, topic: str = TOPIC) -> pa.Table:
    return pa.Table.from_pylist([{"topic": topic, "partition": 0, "offset": one} for one in offsets], schema=SCHEMA)


@pytest.mark.parametrize(
    ("start", "end", "offsets", "earliest", "lost"),
    [
        (10, 13, [10, 11, 12], 0, {}),
        (10, 13, [12], 12, {(TOPIC, 0): (10, 12)}),  # expired
        (10, 13, [12], 0, {}),  # taken back by its producer
        (10, 13, [], 20, {(TOPIC, 0): (10, 13)}),  # all of them expired
        (10, 13, [], 11, {(TOPIC, 0): (10, 11)}),
        (10, 3, [], 0, {(TOPIC, 0): (0, 3)}),  # the topic was made anew
        (10, 10, [], 50, {}),
    ],
)
def test_gaps(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    start: int,
    end: int,
    offsets: list[int],
    earliest: int,
    lost: dict[tuple[str, int], tuple[int, int]],
) -> None:
    looking = LostOffsets(Kafka(), [TOPIC])
    monkeypatch.setattr(looking, "_earliest", lambda places: dict.fromkeys(places, earliest))
    assert looking.look(batch(tmp_path, start, end), 7, received(*offsets)) == lost


def test_other_topics_and_a_broker_that_is_away_hold_up_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looking = LostOffsets(Kafka(), ["another"])
    monkeypatch.setattr(looking, "_earliest", lambda places: pytest.fail("nobody needs to be asked"))
    where = batch(tmp_path, 10, 13)
    assert looking.look(where, 7, received(12)) == {}
    assert looking.look("s3://bucket/checkpoint", 7, received(12)) == {}
    watching = LostOffsets(Kafka(), [TOPIC])
    monkeypatch.setattr(watching, "_earliest", lambda places: {})
    assert watching.look(where, 7, received(12)) == {}
