"""What Spark's offsets log says a micro-batch consists of."""

from pathlib import Path

from thalweg.streams.broker.range_reader import batch_ranges


def entry(checkpoint: Path, batch_id: int, source: str, *, lines: int = 3) -> None:
    folder = checkpoint / "offsets"
    folder.mkdir(exist_ok=True)
    (folder / str(batch_id)).write_text("\n".join(["v1", '{"batchTimestampMs": 1}', source][:lines]))


def test_a_batch_is_what_lies_between_two_entries(tmp_path: Path) -> None:
    entry(tmp_path, 4, '{"requests": {"0": 10, "1": 7}, "status.a": {"0": 3}}')
    entry(tmp_path, 5, '{"requests": {"0": 12, "1": 7}, "status.a": {"0": 4}}')
    assert batch_ranges(str(tmp_path), 5) == {("requests", 0): (10, 12), ("status.a", 0): (3, 4)}


def test_what_is_not_plain_is_left_to_spark(tmp_path: Path) -> None:
    entry(tmp_path, 4, '{"requests": {"0": 10}}')
    entry(tmp_path, 5, '{"requests": {"0": 12}, "status.new": {"0": 4}}')
    entry(tmp_path, 6, "not json")
    entry(tmp_path, 7, "", lines=2)
    assert batch_ranges(str(tmp_path), 5) is None, "a partition that the batch before did not have"
    assert batch_ranges(str(tmp_path), 6) is None
    assert batch_ranges(str(tmp_path), 7) is None
    assert batch_ranges(str(tmp_path), 9) is None
    assert batch_ranges(str(tmp_path), 0) is None
    assert batch_ranges("hdfs://host/checkpoint", 5) is None
