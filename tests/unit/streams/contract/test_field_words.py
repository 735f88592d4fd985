"""What is refused is refused in words: what was seen where, what is allowed, and what to write instead."""

from datetime import UTC, datetime
from typing import Any

import pytest

from thalweg.client.client import InvalidRequestError, checked_request, checked_requests
from thalweg.client.orders import checked_order


def refusal(**content: Any) -> str:
    with pytest.raises(InvalidRequestError) as refused:
        checked_request({"task_id": "t"} | content, "submit")
    return refused.value.problem


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"workers": "two"}, "workers 'two': allowed is a whole number from 1 to 10,000"),
        ({"workers": "2"}, "; write 2, without quotes"),
        ({"workers": True}, "workers true: allowed is a whole number"),
        ({"priority": 1.5}, "priority 1.5: allowed is a whole number from 0 to 1,000"),
        ({"per_worker": {"gpus": -1}}, "per_worker.gpus -1: allowed is a whole number from 0 to 1,024"),
        ({"per_worker": 3}, "per_worker 3: allowed is a mapping with gpus, gpu_milli,"),
        ({"time_limit_s": "1:30:00"}, "a number of seconds from 0 to 1,000,000,000 or null; 1:30:00 is 5400"),
        ({"time_limit_s": "90m"}, "; 90m is 5400"),
        ({"data": [{"size_gb": "x"}]}, "data[0].size_gb 'x': allowed is a number of GB"),
        ({"not_before": 1_796_000_000_000.0}, "whole number or null; write 1796000000000, without a point"),
        ({"not_before": "2026-12-31T10:00:00Z"}, "milliseconds since 1970, a whole number or null; "
         "2026-12-31T10:00:00+00:00 is 1798711200000"),
        ({"not_before": "2026-12-31T10:00:00"}, "names no zone"),
        ({"deadline": datetime(2026, 12, 31, 10, tzinfo=UTC)}, "is 1798711200000"),
        ({"command": "echo hi"}, 'allowed is a list, for example ["sh", "-c", "echo hi"] or null'),
        ({"command": "date -u"}, '; write ["sh", "-c", "date -u"]'),
        ({"command": []}, "command []: allowed is"),
        ({"command": ["sleep", 3]}, 'command[1] 3: allowed is text; write it in quotes: "3"'),
        ({"allowed_regions": "aws:x"}, '; write ["aws:x"]'),
        ({"env": {"A": "1", "A=B": "x"}}, "env has the name 'A=B': allowed is letters, digits and _"),
        ({"env": {"A": "1", "LONG": "x" * 40_000}}, "env.LONG has 40,000 characters: allowed is text of 0 to 32,768"),
        ({"env": {"A": "1", "N": 3}}, 'env.N 3: allowed is text of 0 to 32,768 characters; write it in quotes: "3"'),
        ({"env": {"A": "x\0y"}}, "env.A 'x\\x00y': allowed is text without NUL characters"),
        ({"env": {"A": "x\ud800"}}, "env.A 'x\\ud800' holds half a character (U+D800) at position 1"),
        ({"name": "\udfff"}, "name '\\udfff' holds half a character"),
        ({"kind": "foo"}, "kind 'foo': allowed is train, infer, batch, federated"),
        ({"after": [{"task_id": "x", "on": "foo"}]}, "after[0].on 'foo': allowed is success, end"),
        ({"subtasks": [{}]}, "subtasks[0] has no subtask_id, which is required"),
        ({"spot_ok": "yes"}, "spot_ok 'yes': allowed is true or false; write true, without quotes"),
        ({"expected_s": None}, "expected_s null: allowed is a number of seconds"),
        ({1: 2}, "unknown field '1'"),
    ],
)  # fmt: skip
def test_a_refusal_says_what_was_seen_and_what_is_allowed(content: dict[str, Any], words: str) -> None:
    said = refusal(**content) if all(isinstance(name, str) for name in content) else _of_any(content)
    assert words in said
    assert "Expected `" not in said
    said.encode()  # it can be printed


def _of_any(content: dict[Any, Any]) -> str:
    with pytest.raises(InvalidRequestError) as refused:
        checked_request({"task_id": "t"} | content, "submit")
    return refused.value.problem


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize(
    ("field", "wrap"),
    [
        ("max_usd_per_hour", lambda number: number),
        ("time_limit_s", lambda number: number),
        ("expected_s", lambda number: number),
        ("per_worker.cpus", lambda number: number),
        ("data[1].size_gb", lambda number: [{"region": "r"}, {"region": "r", "size_gb": number}]),
    ],
)
def test_a_number_that_json_cannot_write_is_no_missing_one(field: str, wrap: Any, number: float) -> None:
    name, _, inner = field.partition(".")
    content = {inner: number} if inner and "[" not in field else wrap(number)
    said = refusal(**{name.partition("[")[0]: content})
    assert said.startswith(f"{field} {number}: allowed are finite numbers")


def test_an_order_says_so_too() -> None:
    price = {"order": "price", "region": "r", "gpu_model": "A100"}
    for content, words in (
        (price | {"usd_per_gpu_hour": float("nan")}, "usd_per_gpu_hour nan: allowed are finite numbers"),
        (price | {"usd_per_gpu_hour": "2"}, "is a number of US dollars a GPU-hour from 0 to 1,000,000 or null"),
        ({"order": "tenant", "tenant": "t", "weight": float("inf")}, "weight inf"),
        ({"order": "tenant", "tenant": "t\ud800", "weight": 1}, "holds half a character"),
        ({"order": "paint"}, "order 'paint': allowed is drain, undrain,"),
    ):
        with pytest.raises(InvalidRequestError) as refused:
            checked_order(content)
        assert words in str(refused.value)


def test_of_many_requests_the_wrong_one_is_named() -> None:
    many = [{"task_id": "a"}, {"task_id": "b", "workers": "two"}, {"task_id": "c"}]
    with pytest.raises(InvalidRequestError) as refused:
        checked_requests(many, "submit")
    assert str(refused.value).startswith("the request was not sent: 2 of 3, task_id 'b': workers 'two': allowed is")
    assert "none of the others was sent either" in str(refused.value)
    with pytest.raises(InvalidRequestError, match="2 of 2, without a task_id"):
        checked_requests([{"task_id": "a"}, {"workers": 1}], "submit")
