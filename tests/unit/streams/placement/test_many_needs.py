import json
from typing import Any

import msgspec
import pytest

from thalweg.streams.contract.messages import TaskRequest
from thalweg.streams.placement.many_needs import _SAY_NOTHING, read_many
from thalweg.streams.placement.task_specs import read_spec

REQUESTS: list[dict[str, Any]] = [
    {},
    {"per_worker": {"gpus": 2, "gpu_models": ["A100"]}, "priority": 300},
    {"per_worker": {"gpus": 2, "gpu_models": ["A100"]}, "priority": 301},
    {"data": [{"dataset": "d", "size_gb": 3}], "allowed_regions": ["b", "a"]},
    {"subtasks": [{"subtask_id": "x", "workers": 2, "per_worker": {"cpus": 1}}, {"subtask_id": "y"}]},
    {"workers": 4, "splittable": True, "spread_workers": True},
    {"after": ["p", {"task_id": "q", "on": "end"}], "not_before": 5},
    {"deadline": 9_000_000, "expected_s": 60, "max_usd_per_hour": 2.5, "max_rtt_ms": 3, "origin_region": "é \"x\""},
    {"a field of somebody's": {"with": ["anything", None]}},
]  # fmt: skip
SAID: dict[str, Any] = {
    "task_id": "other",
    "task_ids": ["a"],
    "op": "update",
    "name": "run",
    "kind": "train",
    "image": "i",
    "env": {"A": "b"},
    "secrets": ["S"],
    "time_limit_s": 5,
    "retries": {"at_most": 2},
    "observed_at": 7,
    "stamp": {"ms": 1, "counter": 2, "region": "r", "epoch": 3, "seq": 4},
}


def test_many_are_read_as_one_by_one() -> None:
    texts = [json.dumps({"task_id": f"t{turn}-{index}", **one}, indent=turn or None)
             for turn in range(3) for index, one in enumerate(REQUESTS)]  # fmt: skip
    specs, of_request = read_many(texts)
    for text, number in zip(texts, of_request.tolist(), strict=True):
        assert specs[number] == read_spec(text), text
        assert (specs[number].terms.after, specs[number].terms.not_before_ms) == (
            read_spec(text).terms.after,
            read_spec(text).terms.not_before_ms,
        )


def test_those_written_alike_share_one() -> None:
    texts = [json.dumps({"task_id": f"t{index}", "command": [str(index)], "priority": 3}) for index in range(100)]
    specs, of_request = read_many(texts)
    assert len(specs) == 1
    assert not of_request.any()
    without = [json.dumps({"task_id": "t", "priority": 3} | said) for said in ({}, {"command": None}, {"command": []})]
    specs, of_request = read_many([*texts, *without])
    assert [specs[number].has_command for number in of_request.tolist()] == [True] * 100 + [False] * 3
    assert read_many([])[0] == []


@pytest.mark.parametrize("name", sorted(_SAY_NOTHING))
def test_what_is_left_out_says_nothing_of_needs(name: str) -> None:
    text = json.dumps({"task_id": "t", "workers": 2, "priority": 9})
    assert name in {field.name for field in msgspec.structs.fields(TaskRequest)}
    assert read_spec(json.dumps(json.loads(text) | {name: SAID[name]})) == read_spec(text)
