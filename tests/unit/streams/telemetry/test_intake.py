"""Taking in a batch: nothing lost, nothing twice, every refusal with its bytes."""

from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest

from tests.unit.streams.telemetry.test_parse import NOW_MS, node, record, records
from thalweg.streams.broker.deadletter import dead_letter
from thalweg.streams.telemetry import intake
from thalweg.streams.telemetry.intake import take_in
from thalweg.streams.telemetry.parse import PARSED, Parsed
from thalweg.streams.telemetry.rules import load_rules
from thalweg.sync.delta.contracts import QUARANTINE

RULES = load_rules(Path("conf/rules/telemetry.yaml"), PARSED.names, {"future_limit_ms": 60_000})


def test_every_sample_and_record_is_accounted_for_with_its_bytes() -> None:
    batch = records(record(node(), node(gpus=-1, note="kept")), b"not json", record(node()))
    taken = take_in(batch, RULES, "thalweg")

    assert taken.history["topic_offset"].to_pylist() == [0, 2]
    assert taken.quarantine.schema.equals(QUARANTINE.schema)
    rows = taken.quarantine.to_pylist()
    assert [(row["topic_offset"], row["sample_index"], row["rule"]) for row in rows] == [
        (1, None, "json_is_well_formed"),
        (0, 1, "gpus_in_range"),
    ]
    assert rows[0]["raw"] == b"not json"
    assert rows[1]["raw"] == b'{"kind": "node", "node_id": "n1", "gpus": -1, "note": "kept"}'
    assert {int(row["quarantined_at"].timestamp() * 1000) for row in rows} == {NOW_MS}
    assert [refused.offset for refused in taken.refused] == [1]


def test_a_dead_letter_carries_the_raw_bytes_the_reason_and_the_position() -> None:
    (refused,) = take_in(records(b"not json"), RULES, "p").refused
    letter = dead_letter(refused, "p")
    assert refused.received_ms == NOW_MS
    headers = dict(letter.headers)

    assert letter.topic == "p.deadletter"
    assert letter.value == b"not json"
    assert headers["topic"].decode() == "thalweg.telemetry.aws.us-west-2"
    assert (headers["partition"], headers["offset"], headers["rule"]) == (b"0", b"0", b"json_is_well_formed")
    assert headers["reason"]
    assert "content-type" not in headers


def test_a_repeated_batch_gives_the_same_rows_and_the_same_dead_letter_ids() -> None:
    batch = records(record(node(gpus=-1)), b"not json", record(node()))
    first, second = take_in(batch, RULES, "p"), take_in(batch, RULES, "p")

    assert first.history.equals(second.history)
    assert first.quarantine.equals(second.quarantine)
    assert [dead_letter(one, "p").headers for one in first.refused] == [
        dead_letter(one, "p").headers for one in second.refused
    ]


def test_splitting_a_batch_changes_nothing() -> None:
    batch = records(record(node(), node(gpus=-1)), b"x", record(node()), None, record(node(state="?")))
    whole = take_in(batch, RULES, "p")
    parts = [take_in(batch.slice(row, 1), RULES, "p") for row in range(batch.num_rows)]

    assert pa.concat_tables([part.history for part in parts]).equals(whole.history)
    positions = Counter(
        (row["topic_offset"], row["sample_index"]) for part in parts for row in part.quarantine.to_pylist()
    )
    assert positions == Counter((row["topic_offset"], row["sample_index"]) for row in whole.quarantine.to_pylist())


def test_a_record_that_our_own_code_fails_on_is_refused_and_the_others_are_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parse = intake.parse

    def fails_on_poison(batch: pa.Table, prefix: str) -> Parsed:
        if any(value and b"poison" in value for value in batch["value"].to_pylist()):
            raise ZeroDivisionError("not thought of")
        return parse(batch, prefix)

    monkeypatch.setattr(intake, "parse", fails_on_poison)
    batch = records(record(node()), record(node(node_id="poison")), record(node(gpus=-1)), b"x", b"poison")
    taken = take_in(batch, RULES, "thalweg")
    assert taken.history["topic_offset"].to_pylist() == [0]
    assert [(refused.offset, refused.rule) for refused in taken.refused] == [
        (1, "record_can_be_processed"),
        (3, "json_is_well_formed"),
        (4, "record_can_be_processed"),
    ]
    assert taken.refused[0].reason == "it cannot be processed (ZeroDivisionError: not thought of)"
    assert taken.quarantine["topic_offset"].to_pylist() == [1, 2, 3, 4]
