"""What a request may not ask for, beyond what its types say."""

import json
from typing import Any

import pytest

from thalweg.streams.placement.requests import RequestError, read_request


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"replicas": 2, "allowed_regions": ["a", "a"]}, "replicas 2 in distinct regions, but allowed_regions names 1"),
        ({"subtasks": [{"subtask_id": "s"}, {"subtask_id": "s"}]}, "subtask_id 's' is there 2 times: allowed is once"),
    ],
)
def test_what_is_named_twice_counts_once(asked: dict[str, Any], words: str) -> None:
    with pytest.raises(RequestError, match=words):
        read_request(json.dumps({"task_id": "t", **asked}))
    once = {
        name: [*dict.fromkeys(value)] if name == "allowed_regions" else value[:1] if name == "subtasks" else 1
        for name, value in asked.items()
    }
    assert read_request(json.dumps({"task_id": "t", **once})).task_id == "t"


@pytest.mark.parametrize("task_id", ["   ", "\t", "a\nb", "\x1fprobe", "nul\x00", "\u202eevil", "\u00a0"])
def test_a_new_task_has_an_id_that_can_be_seen(task_id: str) -> None:
    with pytest.raises(RequestError, match="allowed are characters that can be seen, and blanks between them"):
        read_request(json.dumps({"task_id": task_id}))
    # Older versions took such ids; what they took can be ended.
    assert read_request(json.dumps({"task_id": task_id, "op": "cancel"})).task_id == task_id


@pytest.mark.parametrize("task_id", ["a b", "ü" * 256, "a/../b", "🙂", "s[0]"])
def test_an_id_may_be_of_any_script(task_id: str) -> None:
    assert read_request(json.dumps({"task_id": task_id})).task_id == task_id
