"""What is published agrees with what is decoded, and every reference in it leads somewhere."""

import json
from functools import cache
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from thalweg.conf.environment import PROJECT_ROOT
from thalweg.streams.contract.asyncapi import PUBLISHED, asyncapi, field_docs, message_name, message_schema
from thalweg.streams.contract.messages import MESSAGES, TaskRequest
from thalweg.streams.contract.state_messages import StateRecord
from thalweg.streams.contract.topics import CONTRACTS

NODE = {"kind": "node", "node_id": "n1", "gpus": 8, "gpu_utilisation": 0.5, "state": "ready", "observed_at": 1}
GOOD: dict[str, list[Any]] = {
    "requests": [
        {"task_id": "t"},
        {"task_id": "t", "op": "cancel", "unknown": {"kept": True}},
        {"task_id": "t", "per_worker": {"gpus": 8, "gpu_models": ["A100"], "cpus": 4, "memory_gb": 0.5}},
        {"task_id": "t", "data": [{"region": "r", "size_gb": 1e9}], "allowed_regions": ["a"], "replicas": 16},
        {"task_id": "t", "stamp": {"ms": 0}, "max_rtt_ms": None, "subtasks": [{"subtask_id": "s"}]},
        {"task_id": "t", "after": ["a", {"task_id": "b", "on": "end"}], "array": {"count": 9, "at_most": 2}},
        {"task_id": "t", "retries": {"at_most": 3, "not_on": [2], "by_cause": {"memory": 1}}, "not_before": 1},
        {"task_ids": ["a", "b"], "op": "hold"},
    ],
    "telemetry": [
        {"region": "r", "samples": []},
        {"region": "r", "samples": [NODE, {"kind": "price", "gpu_model": "A100", "usd_per_gpu_hour": 3.06}]},
    ],
    "status": [
        {"type": "heartbeat", "region": "r"},
        {"type": "inventory", "region": "r", "tasks": [["t", 3], ["u", 4]]},
        {"type": "progress", "region": "r", "task_id": "t", "epoch": 1, "progress": 1},
        {"type": "notice", "region": "r", "nodes": ["n"], "by": 1},
    ],
    "assignments": [
        {"event_id": "e", "type": "revoke", "task_id": "t", "epoch": 2, "region": "r"},
        {"event_id": "e", "type": "assign", "task_id": "t", "epoch": 1, "region": "r",
         "nodes": [{"node_id": "n", "gpus": 2, "devices": [0, 1]}, {"node_id": "m", "gpu_milli": 1200}]},
    ],
}  # fmt: skip
GOOD["answers"] = [
    {"answers": []},
    {"answers": [{"task_id": "t", "op": "cancel", "answer": "refused", "reason": "no such task", "offset": 7}]},
]
GOOD["control"] = [
    {"order": "drain", "region": "r", "node_id": "n", "by": 1, "who": "ann"},
    {"order": "tenant", "tenant": "t", "weight": 0.5, "quota_gpus": 0, "budget_usd_per_hour": None},
    {"order": "price", "region": "r", "gpu_model": "A100", "spot": True, "usd_per_gpu_hour": 0},
    {"order": "move", "task_id": "t", "region": "r", "copy": 0, "later": "kept"},
]
GOOD["results"] = [
    {"event_id": "e", "task_id": "t", "state": "refused", "tenant": "x", "reason": "no such parent", "offset": 7},
    {
        "event_id": "e",
        "task_id": "t",
        "state": "succeeded",
        "tenant": "x",
        "result": {"best": 1},
        "metrics": {"loss": 0.5},
    },
]
GOOD["calls"] = [
    {"kind": "end", "run": "r"},
    {
        "kind": "call",
        "run": "r",
        "participant": "p",
        "message_id": "a" * 64,
        "metadata": "AAA=",
        "content": {"sha256": "0" * 64, "size_bytes": 2, "inline": "AAA="},
        "until": 1_790_000_000_000,
    },
]
GOOD["replies"] = [
    {"kind": "join", "run": "r", "participant": "p", "life": 5},
    {"kind": "reply", "run": "r", "participant": "p", "message_id": "a" * 64, "metadata": "AAA=", "content": None},
]
GOOD["updates"] = [
    {"kind": "join", "model": "m", "participant": "p", "turn": 5},
    {"kind": "stop", "model": "m"},
    {"kind": "start", "model": "m", "run": {"parameters": 10, "rounds": 3, "privacy": None}},
    {
        "kind": "update",
        "model": "m",
        "participant": "p",
        "round": 3,
        "samples": 9,
        "payload": {"sha256": "0" * 64, "size_bytes": 2, "inline": "AAA="},
        "metrics": {"loss": 0.5},
    },
]
GOOD["models"] = [
    {
        "model": "m",
        "version": 0,
        "payload": {"sha256": "f" * 64, "size_bytes": 4},
        "run": {"parameters": 1, "rounds": 1},
    }
]
GOOD["servers"] = [
    {"model": "m", "server": "s", "region": "r", "url": "http://h:1", "version": 3, "figures": {"p99_ms": 1.5}},
]
GOOD["state"] = [
    {"value": {"size_gb": 12, "regions": ["a", "b"]}, "observed_at": 1, "version": 3},
    {"key": "k", "value": None, "observed_at": "2026-06-01T12:00:00Z", "policies": {"size_gb": "max"}},
    {"stamp": {"ms": 5}, "batch": []},
    {"batch": [{"kind": "leave", "region": "r", "epoch": 1, "last_seq": 9}]},
]
GOOD["replica"] = [
    {"kind": "forget", "key": "k", "vector": {"r@1": 3}},
    {"kind": "digest", "buckets": "00"},
    {"kind": "region", "region": "r", "epoch": 1, "contiguous": 4, "centre_ms": 5},
]
BAD: dict[str, list[Any]] = {
    "requests": [
        [],
        "t",
        None,
        {"task_id": ""},
        {"task_id": "x" * 257},
        {"task_id": 1},
        {"task_id": "t", "op": "explode"},
        {"task_id": "t", "per_worker": {"gpus": -1}},
        {"task_id": "t", "per_worker": {"gpus": 1.5}},
        {"task_id": "t", "per_worker": {"gpus": 10**9}},
        {"task_id": "t", "per_worker": {"gpu_milli": 1001}},
        {"task_id": "t", "expected_s": "3600"},
        {"task_id": "t", "spot_ok": 1},
        {"task_id": "t", "replicas": 0},
        {"task_id": "t", "data": [{"size_gb": 1e10}]},
        {"task_id": "t", "stamp": {}},
        {"task_id": "t", "after": [{"on": "end"}]},
        {"task_id": "t", "after": [7]},
        {"task_id": "t", "array": {"count": 10_001}},
        {"task_id": "t", "retries": {"by_cause": {"exit": -1}}},
        {"task_ids": [""], "op": "hold"},
    ],
    "telemetry": [
        {"region": "r"},
        {"samples": []},
        {"region": "r", "samples": [{"kind": "cat"}]},
        {"region": "r", "samples": [NODE | {"gpu_utilisation": 1.1}]},
        {"region": "r", "samples": [NODE | {"state": "lost", "tenant": "x"}]},
        {"region": "", "samples": []},
    ],
    "status": [
        {"type": "heartbeat"},
        {"type": "exploded", "region": "r"},
        {"type": "inventory", "region": "r", "tasks": [["t"]]},
        {"type": "inventory", "region": "r", "tasks": [["t", "3"]]},
        {"type": "progress", "region": "r", "progress": 2},
    ],
    "assignments": [
        {"event_id": "e", "type": "assign", "task_id": "t", "region": "r"},
        {"event_id": "e", "type": "move", "task_id": "t", "epoch": 1, "region": "r"},
        {"event_id": "e", "type": "assign", "task_id": "t", "epoch": -1, "region": "r"},
        {"event_id": "e", "type": "assign", "task_id": "t", "epoch": 1, "region": "r", "nodes": [{"workers": 1}]},
    ],
}

BAD["calls"] = [{}, {"kind": "join", "run": "r"}, {"kind": "call", "run": "r", "message_id": "1"}]
BAD["replies"] = [
    {},
    {"kind": "reply", "run": "r"},
    {"kind": "join", "run": "r", "participant": "p", "life": -1},
    {"kind": "reply", "run": "r", "participant": "p", "metadata": "no base64"},
]
BAD["updates"] = [
    {},
    {"kind": "dance", "model": "m"},
    {"kind": "update", "model": "m", "round": -1},
    {"kind": "update", "model": "m", "payload": {"sha256": "no digest", "size_bytes": 1}},
    {"kind": "start", "model": "m", "run": {"parameters": 0, "rounds": 1}},
    {"kind": "start", "model": "m", "run": {"parameters": 1, "rounds": 1, "strategy": "hope"}},
]
BAD["models"] = [{}, {"model": "m", "version": -1, "payload": {"sha256": "f" * 64, "size_bytes": 4}}]
BAD["servers"] = [
    {},
    {"model": "m", "server": "s", "region": "r"},
    {"model": "m", "server": "s", "region": "r", "url": "u", "version": -1},
    {"model": "m", "server": "s", "region": "r", "url": "u", "sha256": "short"},
]
BAD["control"] = [
    {},
    {"order": "stop"},
    {"order": "tenant", "tenant": "t", "weight": 0},
    {"order": "tenant", "tenant": "t", "quota_gpus": -1},
    {"order": "price", "usd_per_gpu_hour": 1e7},
    {"order": "drain", "region": ""},
    {"order": "move", "copy": -1},
]
BAD["answers"] = [
    {},
    {"answers": [{"task_id": "t", "op": "cancel"}]},
    {"answers": [{"task_id": "t", "op": "cancel", "answer": "perhaps"}]},
    {"answers": [{"task_id": "t", "op": "cancel", "answer": "taken", "offset": -1}]},
]
BAD["results"] = [
    {},
    {"event_id": "e", "task_id": "t", "state": "lost", "tenant": "x"},
    {"event_id": "e", "task_id": "t", "state": "failed", "tenant": "x", "metrics": {"loss": "low"}},
]
BAD["state"] = [
    [],
    {"key": 1},
    {"observed_at": -1},
    {"observed_at": 1.5},
    {"version": "3"},
    {"stamp": {"counter": 1}},
    {"policies": {"size_gb": "loudest"}},
    {"batch": [{"kind": "gossip"}]},
    {"batch": [{"kind": "leave", "region": "r"}]},
]
BAD["replica"] = [{}, {"kind": "gossip"}, {"kind": "forget", "key": "k"}, {"kind": "digest", "buckets": 7}]


def decodes(topic: str, value: Any) -> bool:
    try:
        msgspec.json.decode(json.dumps(value), type=PUBLISHED[topic])
    except msgspec.ValidationError:
        return False
    return True


@cache
def validator(topic: str) -> Draft202012Validator:
    schema = message_schema(topic)
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


@pytest.mark.parametrize("topic", sorted(GOOD))
def test_schema_and_decoder_accept_the_same_examples(topic: str) -> None:
    for value in GOOD[topic]:
        assert decodes(topic, value), value
        assert validator(topic).is_valid(value), value


@pytest.mark.parametrize("topic", sorted(BAD))
def test_schema_and_decoder_refuse_the_same_examples(topic: str) -> None:
    for value in BAD[topic]:
        assert not decodes(topic, value), value
        assert not validator(topic).is_valid(value), value


def values(depth: int = 0) -> st.SearchStrategy[Any]:
    leaves = st.one_of(
        st.none(), st.booleans(), st.integers(-2, 2_000), st.floats(-10, 2_000, allow_nan=False), st.text(max_size=3),
        st.sampled_from([10**16, 1e300, "node", "submit", "heartbeat", "assign", "ready"]),
    )  # fmt: skip
    return leaves if depth > 1 else st.one_of(leaves, st.lists(values(depth + 1), max_size=2))


@st.composite
def mutated(draw: st.DrawFn, topic: str) -> Any:
    """An example with some of its values, at any depth, replaced by others, or with fields left out or put in."""

    def mutate(value: Any) -> Any:
        if draw(st.integers(0, 7)) == 0:
            return draw(values())
        if isinstance(value, dict):
            kept = {key: mutate(item) for key, item in value.items() if draw(st.integers(0, 9))}
            names = PUBLISHED[topic].__struct_fields__
            return kept | {draw(st.sampled_from(names)): draw(values()) for _ in range(draw(st.integers(0, 1)))}
        if isinstance(value, list):
            return [mutate(item) for item in value]
        return value

    return mutate(draw(st.sampled_from(GOOD[topic])))


@pytest.mark.parametrize("topic", sorted(GOOD.keys() - {"replica"}))
@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_schema_and_decoder_agree_on_whatever_arrives(topic: str, data: st.DataObject) -> None:
    value = data.draw(mutated(topic))
    if whole_float(value):
        return
    assert validator(topic).is_valid(value) == decodes(topic, value), value


def whole_float(value: Any) -> bool:
    """A number written with a fraction of zero, or beyond 64 bits: to JSON Schema an integer, to the decoder none."""
    match value:
        case dict():
            return any(map(whole_float, value.values()))
        case list():
            return any(map(whole_float, value))
        case _:
            return isinstance(value, float) and value.is_integer()


def test_a_whole_number_written_with_a_fraction_is_where_schema_and_decoder_differ() -> None:
    assert validator("requests").is_valid({"task_id": "t", "priority": 5.0})
    assert not decodes("requests", {"task_id": "t", "priority": 5.0})
    page = (PROJECT_ROOT / "docs" / "reference" / "events.md").read_text(encoding="utf-8")
    assert "`5.0` is refused where an integer is wanted" in page


def test_every_message_has_examples_here() -> None:
    assert GOOD.keys() == BAD.keys() == PUBLISHED.keys()


def test_every_field_says_what_it_means() -> None:
    for topic, message in MESSAGES.items():
        schema = message_schema(topic)
        for name, definition in schema["$defs"].items():
            for field, described in definition.get("properties", {}).items():
                assert described.get("description"), f"{name}.{field} in streams/contract/messages.py has no docstring"
        assert message.__name__ in schema["$defs"]
    assert field_docs(StateRecord).keys() == set(StateRecord.__struct_fields__)
    assert field_docs(TaskRequest)["priority"] == "Higher goes first."


def test_every_reference_of_the_asyncapi_document_leads_somewhere() -> None:
    document = asyncapi("acme", "1.2.3")

    def references(part: Any) -> list[str]:
        if isinstance(part, dict):
            own = [part["$ref"]] if isinstance(part.get("$ref"), str) else []
            return own + [found for item in part.values() for found in references(item)]
        return [found for item in part for found in references(item)] if isinstance(part, list) else []

    found = references(document)
    assert len(found) > 50
    for reference in found:
        part = document
        for step in reference.removeprefix("#/").split("/"):
            assert step in part, reference
            part = part[step]


def test_the_asyncapi_document_has_every_topic_with_its_message() -> None:
    document = asyncapi("acme", "1.2.3")
    assert (document["asyncapi"], document["info"]["version"]) == ("3.0.0", "1.2.3")
    channels = document["channels"]
    assert channels.keys() == {contract.topic for contract in CONTRACTS}
    assert channels["telemetry"]["address"] == "acme.telemetry.{region}"
    assert channels["telemetry"]["parameters"].keys() == {"region"}
    assert channels["models"]["bindings"]["kafka"]["topicConfiguration"]["cleanup.policy"] == ["compact"]
    actions = {name: operation["action"] for name, operation in document["operations"].items()}
    assert actions["sendAssignments"] == "send"
    assert actions["receiveRequests"] == "receive"
    messages = document["components"]["messages"]
    for topic, message in MESSAGES.items():
        assert messages[topic]["payload"] == {"$ref": f"#/components/schemas/{message.__name__}"}
    assert messages["state"]["payload"] == {"$ref": "#/components/schemas/sync.StateRecord"}
    assert message_name("state") == "StateRecord"
    assert all("payload" in messages[topic] for topic in PUBLISHED)
