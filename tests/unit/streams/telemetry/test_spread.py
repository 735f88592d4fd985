"""What a Spark task takes in is what the driver would: the same rows, once each, whatever pieces they come in."""

import json
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.unit.streams.telemetry.test_parse import NOW_MS, node, record
from thalweg.streams.broker.deadletter import RefusedRecord
from thalweg.streams.broker.range_reader import SCHEMA
from thalweg.streams.telemetry import spread
from thalweg.streams.telemetry.intake import take_in
from thalweg.streams.telemetry.parse import PARSED
from thalweg.streams.telemetry.record_rows import to_records
from thalweg.streams.telemetry.rules import load_rules

RULES = load_rules(Path("conf/rules/telemetry.yaml"), PARSED.names, {"future_limit_ms": 60_000})
TOPIC = "t.telemetry.aws.us-west-2"
"""Of the region that the records speak of: of another's they would all be refused."""
BAD = b"not json"


def received(*values: bytes) -> pa.Table:
    rows = [(TOPIC, 0, offset, NOW_MS, None, value) for offset, value in enumerate(values)]
    columns = zip(*rows, strict=True) if rows else [()] * len(SCHEMA)
    return pa.table([pa.array(column, kind.type) for column, kind in zip(columns, SCHEMA, strict=True)], schema=SCHEMA)


def good(*nodes: str) -> bytes:
    return json.dumps(record(*(node(node_id=name) for name in nodes))).encode()


def opened(part: bytes | None) -> list[dict[str, object]]:
    return pa.ipc.open_stream(part).read_all().to_pylist() if part is not None else []


@pytest.mark.parametrize("rows_a_file", [1, 2, 1_000])
@pytest.mark.parametrize("records_a_piece", [1, 2, 100])
@pytest.mark.parametrize(
    ("values", "good_rows"),
    [
        ((), 0),
        ((BAD,), 0),
        ((good("n1"),), 1),
        ((good("n1", "n2"), BAD, good("n3"), good("n1")), 4),
        ((json.dumps(record(node(), node(gpus=-1))).encode(), good("n2", "n3", "n4"), BAD), 4),
    ],
    ids=["nothing", "nothing good", "one row", "several", "a bad row among good ones"],
)
def test_a_task_writes_and_tells_what_taking_in_gives(
    values: tuple[bytes, ...],
    good_rows: int,
    records_a_piece: int,
    rows_a_file: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(spread, "ROWS_PER_FILE", rows_a_file)
    work = spread.SpreadWork(table_uri=str(tmp_path), rules=RULES, topic_prefix="t", now_ms=NOW_MS)
    batch = received(*values)
    told = spread.take_in_part(batch.to_batches(max_chunksize=records_a_piece), work).to_pylist()[0]
    whole = take_in(to_records(batch), RULES, "t")

    written = [pq.read_table(tmp_path / action["path"]) for action in json.loads(told["files"])]
    seen = [row for table in written for row in table.select(["topic_offset", "node_id"]).to_pylist()]
    assert sorted(map(str, seen)) == sorted(map(str, whole.history.select(["topic_offset", "node_id"]).to_pylist()))
    assert told["rows"] == whole.history.num_rows == good_rows
    assert all(table.num_rows for table in written), "no file without rows"
    refused = msgspec.msgpack.decode(told["refused"], type=list[RefusedRecord])
    assert tuple(refused) == whole.refused
    assert sorted(map(str, opened(told["quarantine"]))) == sorted(map(str, whole.quarantine.to_pylist()))
    names = [row["node_id"] for row in opened(told["node"])]
    assert sorted(map(str, names)) == sorted({str(name) for name in whole.history["node_id"].to_pylist()})
