"""One rule for every name that a producer chooses, wherever it is judged and in whatever language."""

import json
import re
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.streams.telemetry.test_parse import node, record, records
from thalweg.agent.fleet import FleetError, read_fleet
from thalweg.scheduling.decisions.decide import RequestOrigin
from thalweg.streams.broker.consume import IncomingRecord
from thalweg.streams.contract import names
from thalweg.streams.contract.decode import UndecodableError
from thalweg.streams.learning.calls import read_reply
from thalweg.streams.learning.updates import read_update
from thalweg.streams.placement.inbox import COLUMNS, Malformed, ReceivedOrder, ReceivedRequest, ReceivedStatus, read
from thalweg.streams.placement.orders import read_order
from thalweg.streams.placement.requests import RequestError, read_request
from thalweg.streams.telemetry.parse import PARSED, parse
from thalweg.streams.telemetry.rules import judge, load_rules

RULES = load_rules(Path("conf/rules/telemetry.yaml"), PARSED.names, {"future_limit_ms": 60_000})
UNSEEN = ["n\0", "\u202en", "n\u200b", " n", "n ", "n\n", "\u00a0n", "a\tb", " ", "\ufeffn", "\ue000", "a\u2028b"]
SEEN = ["n", "a b", "node-1/ä é", "日本", "🐀", "e\u0301", "]-^\\[&&~|"]
ORIGIN = RequestOrigin(topic="t", partition=0, offset=0, timestamp_ms=0)


def request(**fields: object) -> bytes:
    return json.dumps({"task_id": "t"} | fields).encode()


@pytest.mark.parametrize("name", SEEN)
def test_what_can_be_seen_is_a_name(name: str) -> None:
    assert names.can_be_seen(name) and re.search(names.unseen_pattern(), name) is None
    assert read_request(request(task_id=name, tenant=name)).tenant == name


@given(st.text(max_size=4) | st.text(alphabet=" a\n\0\u202e\u00e9[]^-\\&|~", max_size=5))
def test_the_pattern_says_what_the_rule_says(name: str) -> None:
    try:
        name.encode()
    except UnicodeEncodeError:
        return  # no column holds it
    refused = not names.can_be_seen(name)
    assert (re.search(names.unseen_pattern(), name) is not None) == refused
    found = judge([rule for rule in RULES if rule.visible], rows(node_id=name)).quarantined
    assert (found.num_rows == 1) == refused


def rows(**fields: object) -> pa.Table:
    return parse(records(record(node(**fields))), "thalweg").samples


@pytest.mark.parametrize("name", UNSEEN)
@pytest.mark.parametrize("field", ["node_id", "gpu_model", "dst_region"])
def test_a_sample_with_a_name_that_cannot_be_seen_is_quarantined_with_its_reason(field: str, name: str) -> None:
    verdict = judge(RULES, rows(**{field: name}))
    assert verdict.quarantined["rule"].to_pylist() == [f"{field}_can_be_seen"]
    (reason,) = verdict.quarantined["reason"].to_pylist()
    assert reason == f"{field} is {name!r}; allowed is characters that can be seen, and blanks between them"


@pytest.mark.parametrize("name", UNSEEN)
@pytest.mark.parametrize(
    "fields, where",
    [
        (lambda name: {"task_id": name}, "task_id"),
        (lambda name: {"tenant": name}, "tenant"),
        (lambda name: {"name": name}, "name"),
        (lambda name: {"origin_region": name}, "origin_region"),
        (lambda name: {"allowed_regions": ["x", name]}, "allowed_regions[1]"),
        (lambda name: {"data": [{"dataset": name}]}, "data[0].dataset"),
        (lambda name: {"data": [{"region": name}]}, "data[0].region"),
        (lambda name: {"per_worker": {"gpu_models": [name]}}, "per_worker.gpu_models[0]"),
        (lambda name: {"subtasks": [{"subtask_id": name}]}, "subtasks[0].subtask_id"),
    ],
)
def test_a_request_with_one_is_refused(fields: object, where: str, name: str) -> None:
    with pytest.raises(RequestError) as refused:
        read_request(request(**fields(name)))  # type: ignore[operator]
    assert str(refused.value) == f"{where} {name!r}: allowed are {names.ALLOWED}"


def test_a_variable_whose_name_ends_a_line_is_refused() -> None:
    for fields in ({"env": {"A\n": "x"}}, {"secrets": ["A\n"]}):
        with pytest.raises(RequestError, match="characters that can be seen"):
            read_request(request(**fields))


@pytest.mark.parametrize("op", ["cancel", "hold", "release", "rerun"])
def test_what_older_versions_took_can_still_be_done_something_with(op: str) -> None:
    assert read_request(request(task_id="  lead", op=op)).task_id == "  lead"
    assert read_request(json.dumps({"task_ids": ["trail ", "n\0"], "op": op})).task_ids == ["trail ", "n\0"]
    assert read_request(request(after=["  lead"])).after == ["  lead"]


@pytest.mark.parametrize(
    "order", [{"order": "hold", "tenant": "n\0"}, {"order": "drain", "region": "eu", "node_id": "n\0"},
              {"order": "price", "region": "eu", "gpu_model": " H100", "usd_per_gpu_hour": 1}]
)  # fmt: skip
def test_an_order_with_one_is_refused_and_what_stands_is_taken_back(order: dict[str, object]) -> None:
    with pytest.raises(RequestError, match="characters that can be seen"):
        read_order(json.dumps(order))
    back = {"hold": {"order": "release"}, "drain": {"order": "undrain"}}.get(str(order["order"]), {"reset": True})
    order.pop("usd_per_gpu_hour", None)
    assert read_order(json.dumps(order | back))


def item(topic: str, message: dict[str, object]) -> object:
    row = {
        "topic": topic,
        "partition": 0,
        "offset": 0,
        "timestamp_ms": 0,
        "key": b"",
        "value": json.dumps(message).encode(),
    }
    (found,) = read(pa.Table.from_pylist([{name: row[name] for name in COLUMNS}]), "thalweg")
    return found


def test_a_report_with_one_is_refused_but_the_end_of_a_task_is_heard_whatever_it_is_called() -> None:
    topic, told = "thalweg.status.eu", {"region": "eu", "agent_id": "a"}
    assert isinstance(item(topic, told | {"type": "heartbeat"}), ReceivedStatus)
    for wrong in ({"agent_id": "a\0"}, {"type": "notice", "by": 10**12, "nodes": ["n", "\u202en"]}):
        refused = item(topic, {"type": "heartbeat"} | told | wrong)
        assert isinstance(refused, Malformed) and "characters that can be seen" in refused.reason
    end = {"type": "succeeded", "task_id": "  lead", "metrics": {"loss\n": 1.0}}
    assert isinstance(item(topic, told | end), ReceivedStatus)
    assert isinstance(item("thalweg.requests", {"task_id": "t"}), ReceivedRequest)
    assert isinstance(item("thalweg.control", {"order": "hold", "tenant": "t"}), ReceivedOrder)


def said(topic: str, **fields: object) -> IncomingRecord:
    return IncomingRecord(
        topic=topic, partition=0, offset=0, timestamp_ms=0, key=b"", value=json.dumps(fields).encode(), headers=()
    )


@pytest.mark.parametrize("field", ["model", "participant"])
def test_who_joins_under_one_is_refused_and_who_has_joined_may_leave(field: str) -> None:
    fields = {"model": "m", "participant": "p", field: "x\u200b"}
    with pytest.raises(UndecodableError, match=f"{field} .*characters that can be seen"):
        read_update(said("thalweg.updates.eu", kind="join", **fields), "thalweg", lambda _: None)
    assert read_update(said("thalweg.updates.eu", kind="leave", **fields), "thalweg", lambda _: None)
    flower = {"run": "m", "participant": "p", {"model": "run"}.get(field, field): "x\u200b"}
    with pytest.raises(UndecodableError, match="characters that can be seen"):
        read_reply(said("thalweg.replies.eu", kind="join", **flower))
    assert read_reply(said("thalweg.replies.eu", kind="leave", **flower))


@pytest.mark.parametrize(
    "text",
    [
        'nodes: [{node_id: "n\\0"}]',
        'nodes: [{node_id: n, gpu_model: " H100"}]',
        'nodes: [{node_id: n}]\nlinks: {"eu ": {rtt_ms: 1, gbps: 1, usd_per_gb: 1}}',
        'nodes: [{node_id: n}]\nprices: [{gpu_model: "\\u202eH", usd_per_gpu_hour: 1}]',
    ],
)
def test_a_fleet_with_one_is_refused_before_its_samples_are(text: str, tmp_path: Path) -> None:
    (tmp_path / "fleet.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(FleetError, match="characters that can be seen"):
        read_fleet(tmp_path / "fleet.yaml", "eu")


@pytest.mark.parametrize(
    "fields, rule",
    [
        ({"kind": "price", "gpu_model": "H100", "usd_per_gpu_hour": 1e-320}, "gpu_price_counts"),
        ({"kind": "link", "dst_region": "eu", "usd_per_gb": 1e-7}, "egress_price_counts"),
        ({"kind": "link", "dst_region": "eu", "gbps": 1e-320}, "bandwidth_counts"),
        ({"kind": "node", "node_id": "n", "cpus": 1e-9}, "cpus_count"),
        ({"kind": "node", "node_id": "n", "memory_gb": 0.0009}, "memory_counts"),
    ],
)
def test_a_sample_of_what_counts_as_nothing_is_quarantined(fields: dict[str, object], rule: str) -> None:
    verdict = judge(RULES, parse(records(record(fields)), "thalweg").samples)
    assert verdict.quarantined["rule"].to_pylist() == [rule]
    assert "; allowed is 0, or " in verdict.quarantined["reason"].to_pylist()[0]
    zero = {name: 0 if isinstance(value, float) else value for name, value in fields.items()}
    assert judge(RULES, parse(records(record(zero)), "thalweg").samples).quarantined.num_rows == 0


@pytest.mark.parametrize(
    "order",
    [
        {"order": "price", "region": "eu", "gpu_model": "H100", "usd_per_gpu_hour": 1e-320},
        {"order": "tenant", "tenant": "t", "weight": 1e-320},
        {"order": "tenant", "tenant": "t", "quota_gpus": 1e-5},
        {"order": "tenant", "tenant": "t", "budget_usd_per_hour": 1e-9},
    ],
)
def test_an_order_of_what_counts_as_nothing_is_refused(order: dict[str, object]) -> None:
    with pytest.raises(RequestError, match="counts as nothing"):
        read_order(json.dumps(order))


def test_a_price_that_counts_as_nothing_is_refused_in_requests_and_fleets(tmp_path: Path) -> None:
    for field in ("max_usd_per_hour", "value_usd_per_hour"):
        with pytest.raises(
            RequestError, match=f"{field} 1e-12: it counts as nothing; allowed are 0, and 1e-06 and more"
        ):
            read_request(request(**{field: 1e-12}))
    (tmp_path / "f.yaml").write_text("nodes: [{node_id: n}]\nprices: [{gpu_model: H, usd_per_gpu_hour: 1.0e-320}]")
    with pytest.raises(FleetError, match="counts as nothing"):
        read_fleet(tmp_path / "f.yaml", "eu")
