"""Parsing telemetry: every record becomes rows or one refusal, whatever its bytes."""

import json
from typing import Any

import msgspec
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thalweg.streams.contract.messages import Sample
from thalweg.streams.telemetry.parse import parse
from thalweg.streams.telemetry.record_rows import RECORDS

REGION = "aws:us-west-2"
TOPIC = "thalweg.telemetry.aws.us-west-2"
NOW_MS = 1_700_000_000_000


def records(*values: object, topic: str = TOPIC) -> pa.Table:
    raw = [value if value is None or isinstance(value, bytes) else json.dumps(value).encode() for value in values]
    count = len(raw)
    return pa.table(
        [
            pa.nulls(count, pa.binary()),
            pa.array(raw, pa.binary()),
            pa.array([topic] * count, pa.string()),
            pa.array([0] * count, pa.int32()),
            pa.array(range(count), pa.int64()),
            pa.array([NOW_MS * 1000] * count, pa.timestamp("us", tz="UTC")),
        ],
        schema=RECORDS,
    )


def record(*samples: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"region": REGION, "samples": list(samples), **fields}


def node(**fields: Any) -> dict[str, Any]:
    return {"kind": "node", "node_id": "n1", **fields}


def test_a_record_of_many_samples_becomes_a_row_each_in_order_with_its_position() -> None:
    parsed = parse(records(record(node(gpus=1), node(gpus=2)), record(), record(node(gpus=3))), "thalweg")

    assert parsed.refusals == ()
    rows = parsed.samples.select(["gpus", "topic_offset", "sample_index", "record_row"]).to_pylist()
    assert [tuple(row.values()) for row in rows] == [(1, 0, 0, 0), (2, 0, 1, 0), (3, 2, 0, 2)]


def test_a_stamp_is_shared_by_the_samples_of_its_record() -> None:
    stamp = {"ms": 17, "counter": 3, "region": "edge", "version": 9}
    (row,) = parse(records(record(node(observed_at=16), stamp=stamp)), "thalweg").samples.to_pylist()

    assert (row["stamp_ms"], row["stamp_counter"], row["stamp_region"], row["version"]) == (17, 3, "edge", 9)
    assert row["observed_ms"] == 16
    assert row["ahead_ms"] == 17 - NOW_MS


@pytest.mark.parametrize(
    ("sample", "outer", "expected"),
    [
        ({"observed_at": 5, "version": 2}, {"observed_at": 7}, (5, 5, 2)),
        ({}, {"observed_at": 7}, (7, 7, 0)),
        ({}, {}, (NOW_MS, NOW_MS, 0)),
    ],
    ids=["the sample's own time", "the record's time", "the broker's time"],
)
def test_the_stamp_of_a_plain_producer_is_completed(
    sample: dict[str, Any], outer: dict[str, Any], expected: tuple[int, int, int]
) -> None:
    (row,) = parse(records(record(node(**sample), **outer)), "thalweg").samples.to_pylist()

    assert (row["observed_ms"], row["stamp_ms"], row["stamp_counter"]) == expected
    assert row["stamp_region"] == REGION


@pytest.mark.parametrize(
    ("value", "rule"),
    [
        (None, "record_has_a_value"),
        (b"", "json_is_well_formed"),
        (b"{", "json_is_well_formed"),
        (b"\xff\xfe", "json_is_well_formed"),
        (b'{"region": "aws:us-west-2", "samples": []} trailing', "json_is_well_formed"),
        (b'{"region": "aws:us-west-2", "samples": [{"kind": "node", "cpus": NaN}]}', "json_is_well_formed"),
        (b'{"x": ' + b"[" * 100_000, "json_is_well_formed"),
        ([], "types_are_right"),
        ({"samples": []}, "types_are_right"),
        ({"region": None, "samples": []}, "types_are_right"),
        ({"task_id": "t1", "op": "submit"}, "types_are_right"),
        (record(node(gpus="eight")), "types_are_right"),
        (record(node(gpus=8.5)), "types_are_right"),
        (record(node(gpus=True)), "types_are_right"),
        (record(node(gpus=2**63)), "types_are_right"),
        (record(node(gpus=10**400)), "types_are_right"),
        (record(node(spot="yes")), "types_are_right"),
        (record(node(node_id=7)), "types_are_right"),
        (record(node(), stamp={"counter": 1}), "types_are_right"),
        (record(*[node()] * 10_001), "types_are_right"),
        ({"region": "aws:us-east-1", "samples": []}, "region_matches_topic"),
    ],
)
def test_a_record_that_cannot_be_read_is_refused_with_its_reason_and_the_others_are_taken(
    value: object, rule: str
) -> None:
    parsed = parse(records(record(node()), value, record(node())), "thalweg")

    assert [(refusal.record_row, refusal.rule) for refusal in parsed.refusals] == [(1, rule)]
    assert parsed.refusals[0].reason
    assert parsed.samples["topic_offset"].to_pylist() == [0, 2]


def test_values_out_of_range_pass_the_parser_because_the_rules_judge_them() -> None:
    parsed = parse(records(record(node(gpus=-4, cpus=1e300, state="burning"), {"kind": "disk"})), "thalweg")

    assert parsed.refusals == ()
    assert parsed.samples["gpus"].to_pylist() == [-4, None]


def test_unknown_fields_are_ignored() -> None:
    parsed = parse(records(record(node(colour="red"), note="x", stamp={"ms": 1, "wall": 2})), "thalweg")

    assert parsed.refusals == ()
    assert parsed.samples.num_rows == 1


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
WILD_SAMPLES = st.lists(
    st.dictionaries(
        st.sampled_from([field.name for field in msgspec.structs.fields(Sample)]), JSON_VALUES, max_size=4
    ).map(lambda fields: {"kind": "node", **fields}),
    max_size=3,
)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.binary(max_size=30)
        | JSON_VALUES.map(lambda value: json.dumps(value).encode())
        | WILD_SAMPLES.map(lambda samples: json.dumps(record(*samples)).encode()),
        max_size=5,
    )
)
def test_whatever_arrives_every_record_is_either_read_or_refused(values: list[bytes]) -> None:
    parsed = parse(records(*values), "thalweg")

    refused = {refusal.record_row for refusal in parsed.refusals}
    assert len(refused) == len(parsed.refusals)
    read = [json.loads(value) for row, value in enumerate(values) if row not in refused]
    assert parsed.samples.num_rows == sum(len(one["samples"]) for one in read)
