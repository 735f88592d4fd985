"""A checkpoint's folder: how far it is, whose it is, and that a kill while writing leaves it readable."""

import json
from pathlib import Path

import pytest

from thalweg.streams.broker.origin import CheckpointOrigin, Standing
from thalweg.streams.broker.query_checkpoint import MARK, DamagedCheckpointError, QueryCheckpoint

ORIGIN = CheckpointOrigin(
    warehouse_id="w",
    cluster_id="c",
    topic_ids={"requests": "r"},
    table_version=3,
    begin_at={("requests", 0): -2},
    known_until={("requests", 0): 17},
)


def batch(folder: Path, number: int, offset: int, *, done: bool) -> None:
    for part in ("offsets", "commits"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    (folder / "offsets" / str(number)).write_text("v1\n{}\n" + json.dumps({"requests": {"0": offset}}))
    if done:
        (folder / "commits" / str(number)).write_text('v1\n{"nextBatchWatermarkMs":0}')


def test_it_stands_where_the_last_batch_that_is_done_ended(tmp_path: Path) -> None:
    assert QueryCheckpoint(tmp_path / "none").standing() == Standing()
    batch(tmp_path, 0, 10, done=True)
    batch(tmp_path, 1, 20, done=False)
    (tmp_path / "metadata").write_text('{"id":"q"}')
    standing = QueryCheckpoint(tmp_path).standing()
    assert standing == Standing(query_id="q", batch=1, planned={("requests", 0): 20}, done={("requests", 0): 10})


def test_what_it_was_made_with_is_read_back(tmp_path: Path) -> None:
    checkpoint = QueryCheckpoint(tmp_path / "place")
    assert checkpoint.origin() is None
    with pytest.raises(FileNotFoundError):  # a mark would stand for a checkpoint that is not there
        checkpoint.write_origin(ORIGIN)
    checkpoint.begin()
    checkpoint.write_origin(ORIGIN)
    assert checkpoint.origin() == ORIGIN
    assert checkpoint.standing() == Standing()


@pytest.mark.parametrize("damage", ["", "{", "[]", "{}", '{"warehouse_id": 1}', "\0\0"])
def test_a_damaged_word_of_its_making_is_none(tmp_path: Path, damage: str) -> None:
    (tmp_path / MARK).write_text(damage)
    assert QueryCheckpoint(tmp_path).origin() is None


def test_damaged_offsets_are_named(tmp_path: Path) -> None:
    batch(tmp_path, 0, 10, done=True)
    (tmp_path / "offsets" / "0").write_text("")
    with pytest.raises(DamagedCheckpointError, match="offsets/0 cannot be read"):
        QueryCheckpoint(tmp_path).standing()


def test_each_one_set_aside_has_a_place_of_its_own(tmp_path: Path) -> None:
    places = set()
    for number in range(3):
        batch(tmp_path / "place", number, number, done=True)
        places.add(QueryCheckpoint(tmp_path / "place").set_aside())
        assert not (tmp_path / "place").exists()
    assert len(places) == 3
    assert all((Path(place) / "offsets").is_dir() for place in places)
