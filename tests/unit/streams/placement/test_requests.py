"""What a request may not ask for, beyond what its types say."""

import json
from typing import Any

import msgspec
import pytest

from thalweg.streams.contract.messages import TaskRequest
from thalweg.streams.placement.requests import RequestError, read_request
from thalweg.streams.placement.task_specs import read_spec


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


MEANINGLESS: list[tuple[dict[str, Any], str]] = [
    ({"time_limit_s": 0}, "time_limit_s 0: nothing ends within it, so it would always fail; allowed are 0.001 seconds"),
    ({"time_limit_s": 1e-9}, "time_limit_s 1e-09: nothing ends within it"),
    ({"per_worker": {"cpus": 0.0004}}, "cpus 0.0004: it counts as nothing; allowed are 0, and 0.001 and more"),
    ({"per_worker": {"memory_gb": 1e-6}}, "memory_gb 1e-06: it counts as nothing"),
    ({"subtasks": [{"subtask_id": "s", "per_worker": {"cpus": 1e-5}}]}, "cpus 1e-05 of 's': it counts as nothing"),
    ({"per_worker": {"gpus": 1, "gpu_models": []}}, r"gpu_models \[\]: no GPU is of no model; allowed are names"),
    ({"subtasks": [{"subtask_id": "s"}], "workers": 4}, "subtasks beside workers 4 and per_worker: these would be"),
    ({"subtasks": [{"subtask_id": "s"}], "per_worker": {"gpus": 8}}, "subtasks beside workers 1 and per_worker"),
    (
        {"deadline": 1_900_000_000_000, "not_before": 1_900_000_000_000},
        "deadline 1900000000000 with not_before 1900000000000: it would be late before it may start; allowed is",
    ),
    ({"retries": {"back_off_s": 900}}, "retries.back_off_s 900 with most_back_off_s 600: the first wait would be"),
    ({"retries": {"not_on": [0]}}, "retries.not_on 0: no run that failed ends so; allowed are exit codes 1 to 255"),
    ({"retries": {"not_on": [1, 4_000]}}, "retries.not_on 4000"),
]
NUMBERS_BELOW: list[tuple[dict[str, Any], str]] = [
    ({"priority": -1}, "priority"),
    ({"priority": 1_001}, "priority"),
    ({"workers": 0}, "workers"),
    ({"workers": -1}, "workers"),
    ({"min_workers": 0}, "min_workers"),
    ({"max_workers": 0}, "max_workers"),
    ({"replicas": 0}, "replicas"),
    ({"expected_s": -1}, "expected_s"),
    ({"expected_s": 1e10}, "expected_s"),
    ({"time_limit_s": -1}, "time_limit_s"),
    ({"max_rtt_ms": -1, "origin_region": "a"}, "max_rtt_ms"),
    ({"max_usd_per_hour": -0.01}, "max_usd_per_hour"),
    ({"deadline": -1}, "deadline"),
    ({"not_before": -1}, "not_before"),
    ({"array": {"count": 0}}, "array.count"),
    ({"array": {"count": 1, "at_most": 0}}, "array.at_most"),
    ({"retries": {"at_most": -1}}, "retries.at_most"),
    ({"retries": {"back_off_s": -1}}, "retries.back_off_s"),
    ({"retries": {"most_back_off_s": -1}}, "retries.most_back_off_s"),
    ({"retries": {"by_cause": {"exit": -1}}}, "retries.by_cause.exit"),
    ({"per_worker": {"gpus": -1}}, "per_worker.gpus"),
    ({"per_worker": {"gpu_milli": 1_001}}, "per_worker.gpu_milli"),
    ({"per_worker": {"cpus": -1}}, "per_worker.cpus"),
    ({"per_worker": {"memory_gb": -1}}, "per_worker.memory_gb"),
    ({"data": [{"region": "a", "size_gb": -1}]}, r"data\[0\].size_gb"),
]


@pytest.mark.parametrize(("asked", "words"), MEANINGLESS)
def test_a_number_that_can_mean_nothing_is_refused_with_what_is_allowed(asked: dict[str, Any], words: str) -> None:
    with pytest.raises(RequestError, match=words):
        read_request(json.dumps({"task_id": "t", **asked}))


@pytest.mark.parametrize(("asked", "words"), MEANINGLESS)
def test_what_an_older_version_took_is_read_from_the_ledger_still(asked: dict[str, Any], words: str) -> None:
    assert read_spec(json.dumps({"task_id": "t", **asked})).replicas == 1, words


@pytest.mark.parametrize(("asked", "field"), NUMBERS_BELOW)
def test_a_number_beyond_its_bounds_is_refused_with_its_field(asked: dict[str, Any], field: str) -> None:
    with pytest.raises(RequestError, match=field):
        read_request(json.dumps({"task_id": "t", **asked}))


def test_no_number_of_a_request_is_without_bounds() -> None:
    """Every integer and float that a request may carry says how small and how large it may be."""

    def unbounded(kind: msgspec.inspect.Type, path: str) -> list[str]:
        match kind:
            case msgspec.inspect.IntType() | msgspec.inspect.FloatType():
                bounds = (kind.ge, kind.gt), (kind.le, kind.lt)
                return [] if all(any(one is not None for one in pair) for pair in bounds) else [path]
            case msgspec.inspect.UnionType():
                return [found for one in kind.types for found in unbounded(one, path)]
            case msgspec.inspect.ListType():
                return unbounded(kind.item_type, f"{path}[]")
            case msgspec.inspect.StructType():
                return [found for field in kind.fields for found in unbounded(field.type, f"{path}.{field.name}")]
            case _:
                return []

    found = unbounded(msgspec.inspect.type_info(TaskRequest), "")
    assert found == [".retries.not_on[]"], "and this one is judged by its rule"


@pytest.mark.parametrize(
    "asked",
    [
        {"expected_s": 0}, {"max_usd_per_hour": 0}, {"max_rtt_ms": 0, "origin_region": "a"}, {"time_limit_s": 0.5},
        {"retries": {"at_most": 0, "not_on": [1, 255, -9]}}, {"retries": {"back_off_s": 900, "most_back_off_s": 900}},
        {"per_worker": {"cpus": 0.001, "memory_gb": 0.001}}, {"data": [{"dataset": "d", "size_gb": 0}]},
    ],
)  # fmt: skip
def test_a_zero_that_means_something_is_taken(asked: dict[str, Any]) -> None:
    assert read_request(json.dumps({"task_id": "t", **asked})).task_id == "t"
