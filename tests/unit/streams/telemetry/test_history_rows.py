"""What passed the rules as rows of the history."""

import msgspec

from tests.unit.streams.telemetry.test_parse import node, record, records
from thalweg.streams.contract.messages import Sample
from thalweg.streams.telemetry.history_rows import history_rows
from thalweg.streams.telemetry.parse import PARSED, parse
from thalweg.sync.delta.contracts import TELEMETRY


def test_every_field_of_a_sample_has_its_column_and_reaches_the_history() -> None:
    fields = {field.name for field in msgspec.structs.fields(Sample)}
    assert fields - {"observed_at"} <= set(PARSED.names)

    full = {
        **node(observed_at=1, version=2, gpu_model="A100", spot=True, gpus=8, cpus=1.5, memory_gb=2.5),
        "gpu_utilisation": 0.1,
        "cpu_utilisation": 0.2,
        "memory_used_gb": 0.3,
        "state": "ready",
        "dst_region": "r",
        "rtt_ms": 0.4,
        "gbps": 0.5,
        "usd_per_gb": 0.6,
        "usd_per_gpu_hour": 0.7,
    }
    assert set(full) == fields
    history = history_rows(parse(records(record(full)), "thalweg").samples)
    assert history.schema.equals(TELEMETRY.schema)
    (row,) = history.to_pylist()
    assert {name: row[name] for name in full if name != "observed_at"} == {
        name: value for name, value in full.items() if name != "observed_at"
    }
    assert row["observed_at"].timestamp() == 0.001
    assert row["day"].isoformat() == "2023-11-14"
