"""Value rules: what they refuse, what they say, and that they agree with the message's own bounds."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.unit.streams.telemetry.test_parse import NOW_MS, node, record, records
from thalweg.streams.contract import moments
from thalweg.streams.contract.messages import Sample, TelemetryRecord
from thalweg.streams.telemetry.parse import PARSED, parse
from thalweg.streams.telemetry.rules import RulesError, judge, load_rules

FILE = Path("conf/rules/telemetry.yaml")
LIMITS = {"future_limit_ms": 60_000}
RULES = load_rules(FILE, PARSED.names, LIMITS)


def parsed(*samples: dict[str, Any], **fields: Any) -> pa.Table:
    return parse(records(record(*samples, **fields)), "thalweg").samples


@pytest.mark.parametrize(
    ("sample", "rule"),
    [
        ({"kind": "disk"}, "kind_is_known"),
        ({"kind": "node"}, "node_has_an_id"),
        (node(node_id=""), "node_id_is_a_name"),
        (node(gpus=-1), "gpus_in_range"),
        (node(gpus=10**9), "gpus_in_range"),
        (node(gpu_utilisation=1.01), "gpu_utilisation_is_a_share"),
        (node(state="burning"), "state_is_known"),
        (node(observed_at=-1), "stamp_is_a_moment"),
        (node(observed_at=NOW_MS + 60_001), "stamp_is_not_in_the_future"),
        ({"kind": "link", "rtt_ms": 1.0}, "link_has_a_destination"),
        ({"kind": "price", "gpu_model": "A100"}, "price_has_a_value"),
        ({"kind": "price", "usd_per_gpu_hour": 1.0}, "price_has_a_gpu_model"),
    ],
)
def test_a_sample_that_breaks_a_rule_is_quarantined_under_its_name_and_its_neighbours_are_not(
    sample: dict[str, Any], rule: str
) -> None:
    verdict = judge(RULES, parsed(node(), sample, node()))

    assert verdict.quarantined["rule"].to_pylist() == [rule]
    assert verdict.quarantined["sample_index"].to_pylist() == [1]
    assert verdict.valid["sample_index"].to_pylist() == [0, 2]


def test_the_reason_names_the_value_seen_and_the_values_allowed() -> None:
    verdict = judge(RULES, parsed(node(gpus=-4)))

    assert verdict.quarantined["reason"].to_pylist() == ["gpus is -4; allowed is 0 to 1024"]


def test_a_stamp_at_the_limit_of_the_future_is_accepted() -> None:
    assert judge(RULES, parsed(node(observed_at=NOW_MS + 60_000))).quarantined.num_rows == 0


def test_a_value_that_compares_with_nothing_is_broken() -> None:
    rows = parsed(node(cpus=1.0)).set_column(PARSED.names.index("cpus"), "cpus", pa.array([float("nan")]))

    assert judge(RULES, rows).quarantined["rule"].to_pylist() == ["cpus_in_range"]


NUMBERS = st.integers(-5, 2_000) | st.integers(-(2**63), 2**63 - 1)
SAMPLES = st.fixed_dictionaries(
    {"kind": st.sampled_from(["node", "link", "price", "disk"])},
    optional={
        field.name: (
            st.sampled_from(["", "x", "ready", "gone", "y" * 181, "z" * 257])
            if "str" in str(field.type) or "Literal" in str(field.type)
            else st.booleans()
            if field.type is bool
            else NUMBERS
            if "int" in str(field.type)
            else st.floats(allow_nan=False, allow_infinity=False) | st.floats(-1, 2)
        )
        for field in msgspec.structs.fields(Sample)
        if field.name != "kind"
    },
)


@settings(max_examples=400, deadline=None)
@given(SAMPLES)
def test_the_rules_and_the_message_type_agree_on_what_a_value_may_be(sample: dict[str, Any]) -> None:
    # A moment that was probably meant in seconds is refused with its whole record, and that is tested elsewhere.
    assume(moments.objection("observed_at", sample.get("observed_at")) is None)
    message = {"region": "aws:us-west-2", "samples": [sample], "stamp": {"ms": 1}}
    try:
        msgspec.json.decode(json.dumps(message), type=TelemetryRecord)
        by_type = True
    except msgspec.ValidationError:
        by_type = False
    # Which fields a kind needs, which characters can be seen and what counts as nothing is more than a JSON type says:
    # those rules are left out of the comparison.
    bounds = [rule for rule in RULES if not rule.required and not rule.visible and rule.least is None]
    verdict = judge(bounds, parsed(sample, stamp={"ms": 1}))

    assert (verdict.valid.num_rows == 1) == by_type


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("rules: [{name: a, field: nope}]", "allowed are region"),
        ("rules: [{name: a, field: gpus, max: nope}]", "allowed are future_limit_ms"),
        ("rules: [{name: a, field: gpus, maximum: 3}]", "maximum"),
        ("rules: 7", "rules"),
        (": [", "rules.yaml"),
    ],
)
def test_a_rule_file_that_is_wrong_says_what_is_allowed(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(text)

    with pytest.raises(RulesError, match=words):
        load_rules(path, PARSED.names, LIMITS)
