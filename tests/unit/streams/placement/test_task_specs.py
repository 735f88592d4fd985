"""What requests ask placement for: the same needs are one object, whoever asks and whenever."""

import json
from typing import Any

import pytest

from thalweg.streams.placement.requests import read_request
from thalweg.streams.placement.task_specs import read_spec, spec_of

NEEDS: dict[str, Any] = {
    "per_worker": {"gpus": 1, "cpus": 4, "gpu_models": ["A100"]}, "expected_s": 600.5,
    "data": [{"region": "e", "size_gb": 1}], "after": ["p"], "tenant": "ü", "name": "n", "retries": {"at_most": 2},
}  # fmt: skip


def asked(task_id: str, **fields: Any) -> bytes:
    return json.dumps({"task_id": task_id, **NEEDS, **fields}).encode()


def test_who_asks_for_the_same_shares_one_spec_with_its_terms() -> None:
    first = read_spec(asked("t1"))
    again = asked("t2", observed_at=1_790_000_000_000, stamp={"ms": 5, "counter": 1, "actor": "a"}, op="update")
    other = read_spec(again)
    assert other is first and hash(other) == hash(first)
    assert (first.tenant, first.expected_s, first.terms.name) == ("ü", 600.5, "n")
    assert [parent.task_id for parent in first.terms.after] == ["p"]


@pytest.mark.parametrize(
    "fields",
    [
        {"expected_s": 601}, {"tenant": "u"}, {"per_worker": {"gpus": 2}}, {"data": []}, {"priority": 501},
        {"deadline": 1_790_000_000_000}, {"allowed_regions": ["e"]}, {"replicas": 2}, {"spot_ok": True},
    ],
)  # fmt: skip
def test_who_asks_for_something_else_has_another_spec(fields: dict[str, Any]) -> None:
    assert read_spec(asked("t", **fields)) != read_spec(asked("t"))


@pytest.mark.parametrize("fields", [{"name": "m"}, {"after": ["q"]}, {"retries": {"at_most": 3}}, {"kind": "infer"}])
def test_terms_make_no_other_class_and_are_each_task_s_own(fields: dict[str, Any]) -> None:
    own, first = read_spec(asked("t", **fields)), read_spec(asked("t"))
    assert own == first and hash(own) == hash(first) and own.terms != first.terms


def test_an_array_s_terms_name_the_array() -> None:
    ids = [spec_of(read_request(asked(task_id, array={"count": 3}))).terms.array for task_id in ("a", "b")]
    assert [terms.array_id for terms in ids if terms is not None] == ["a", "b"]
