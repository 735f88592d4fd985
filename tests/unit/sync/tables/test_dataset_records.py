import json
from pathlib import Path

from deltalake import DeltaTable

from thalweg.scheduling.world.world import DatasetFacts
from thalweg.sync.delta.contracts import RECORDS
from thalweg.sync.delta.store import table_uri
from thalweg.sync.protocol.changes import Add, Assign, Remove, changed_record
from thalweg.sync.protocol.records import encode_record, view
from thalweg.sync.protocol.stamps import Hlc
from thalweg.sync.tables.dataset_records import dataset_facts, read_dataset_facts
from thalweg.sync.tables.replicate_tables import ReplicateTables, record_rows


def test_a_dataset_that_moves_lies_elsewhere(tmp_path: Path) -> None:
    tables = ReplicateTables(str(tmp_path))
    here = changed_record("dataset/a", None, (Assign("size_gb", 7), Add("copies", ("eu",))), "eu@1", 1, Hlc(1, 0, "eu"))
    moved = changed_record(
        "dataset/a", here, (Add("copies", ("us",)), Remove("copies", ("eu",))), "eu@1", 2, Hlc(2, 0, "eu")
    )
    other = changed_record("datasets", None, (Assign("copies", ["eu"]),), "eu@1", 3, Hlc(3, 0, "eu"))
    for state, regions in ((here, ("eu",)), (moved, ("us",))):
        records = {record.key: record for record in (state, other)}
        encoded = {key: encode_record(record) for key, record in records.items()}
        tables.write_records(record_rows(records, {}, encoded, 1_000), 1_000)
        assert read_dataset_facts(DeltaTable(table_uri(str(tmp_path), RECORDS.name))) == {
            "a": DatasetFacts(regions=regions, size_gb=7.0)
        }
    assert view(moved) == {"copies": ["us"], "size_gb": 7}


def test_what_is_no_dataset_is_left_out() -> None:
    rows = {
        "dataset/deleted": None,
        "dataset/text": '"x"',
        "dataset/nowhere": '{"copies": [], "size_gb": 1}',
        "dataset/odd copies": '{"copies": [1]}',
        "dataset/odd size": json.dumps({"copies": ["eu"], "size_gb": "7"}),
        "dataset/negative": json.dumps({"copies": ["eu"], "size_gb": -1}),
        "config": json.dumps({"copies": ["eu"]}),
        "dataset/unknown size": json.dumps({"copies": ["us", "eu"]}),
    }
    assert dataset_facts(rows.items()) == {"unknown size": DatasetFacts(regions=("eu", "us"), size_gb=0.0)}
