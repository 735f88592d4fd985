"""One rule file, three readings: Arrow in the stream, a Spark column, Great Expectations. They find the same."""

import random
from typing import Any

import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from tests.unit.streams.telemetry.test_rules import RULES, parsed
from thalweg.streams.telemetry.rule_columns import split
from thalweg.streams.telemetry.rule_expectations import broken_rows
from thalweg.streams.telemetry.rules import broken_by, judge

pytestmark = pytest.mark.spark


def wild_samples(count: int, seed: int) -> list[dict[str, Any]]:
    """Samples of which about half break something, at the edges of the bounds and beyond."""
    chance = random.Random(seed)
    values: dict[str, list[Any]] = {
        "node_id": ["", "n1", "x" * 256, "x" * 257, "n\0", " n", "n ", "n\n", "\u202en", "\ue000", "a b", "é-]^🐀"],
        "gpu_model": ["", "A100", "A\t100", "A\u2028", "[A|100&&]\\"],
        "gpus": [-1, 0, 1024, 1025, 2**62],
        "cpus": [-0.1, 0.0, 0.000_9, 0.001, 100_000.0, 100_000.1],
        "gpu_utilisation": [-0.001, 0.0, 1.0, 1.001],
        "state": ["ready", "gone", "burning", ""],
        "dst_region": ["", "r", "x" * 181],
        "usd_per_gpu_hour": [-1.0, 0.0, 1e-320, 2.5, 1e10],
        "observed_at": [-1, 0, 253_402_300_799_999, 253_402_300_800_000],
        "version": [-1, 0, 2**53 - 1, 2**53],
    }
    samples = []
    for _ in range(count):
        fields = {name: chance.choice(values[name]) for name in chance.sample(sorted(values), chance.randrange(3))}
        sound = {"kind": "node", "node_id": "n", "dst_region": "r", "gpu_model": "A100", "usd_per_gpu_hour": 1.0}
        samples.append({**sound, "kind": chance.choice(["node", "node", "link", "price", "disk"]), **fields})
    return samples


def test_the_three_readings_of_the_rule_file_agree(spark: SparkSession) -> None:
    rows = parsed(*wild_samples(600, seed=7))
    verdict = judge(RULES, rows)
    assert 100 < verdict.quarantined.num_rows < 550

    valid, quarantined = split(spark.createDataFrame(rows), RULES)
    assert sorted(row.sample_index for row in valid.select("sample_index").collect()) == sorted(
        verdict.valid["sample_index"].to_pylist()
    )
    by_spark = {row.sample_index: row.rule for row in quarantined.select("sample_index", "rule").collect()}
    by_arrow = dict(
        zip(verdict.quarantined["sample_index"].to_pylist(), verdict.quarantined["rule"].to_pylist(), strict=True)
    )
    assert by_spark == by_arrow

    by_expectations = broken_rows(RULES, rows.to_pandas())
    by_masks = {rule.name: _positions(broken_by(rule, rows)) for rule in RULES}
    assert by_expectations == {name: found for name, found in by_masks.items() if found}


def test_a_quarantined_row_says_what_was_seen_and_what_is_allowed(spark: SparkSession) -> None:
    _, quarantined = split(spark.createDataFrame(parsed({"kind": "node", "node_id": "n", "gpus": -4})), RULES)

    assert [row.reason for row in quarantined.collect()] == ["gpus is -4; allowed is 0 to 1024"]


def _positions(mask: pa.ChunkedArray) -> list[int]:
    return [row for row, broken in enumerate(mask.to_pylist()) if broken]
