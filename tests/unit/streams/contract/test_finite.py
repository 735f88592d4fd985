"""A number that JSON cannot write is found wherever it stands, and its place is said as a person would write it."""

from typing import Any

import msgspec
import pytest

from thalweg.streams.contract.finite import not_finite, objection

INF, NAN = float("inf"), float("nan")


class Part(msgspec.Struct):
    cpus: float = 1.0
    env: dict[str, Any] = {}


class Whole(msgspec.Struct):
    part: Part
    data: list[Any] = []


@pytest.mark.parametrize(
    ("content", "at"),
    [
        (INF, ""),
        ({"limit": INF}, "limit"),
        ({"limit": {"usd": {"an_hour": -INF}}}, "limit.usd.an_hour"),
        ([1.0, {"x": [2, INF]}], "[1].x[1]"),
        ({"first": INF, "second": INF}, "first"),
        ({1: {2: INF}}, "1.2"),
        (Whole(part=Part(cpus=INF)), "part.cpus"),
        (Whole(part=Part(env={"a": {"b": INF}}), data=[INF]), "part.env.a.b"),
        (Whole(part=Part(), data=[0, (1, {2: [INF]})]), "data[1][1].2[0]"),
    ],
)
def test_the_first_one_is_named_by_its_place(content: object, at: str) -> None:
    found = not_finite(content)
    assert found is not None and found[0] == at
    assert objection(content) is not None


def test_what_json_can_write_is_left_alone() -> None:
    for content in (None, True, 10**400, 1e308, "inf", {"x": [0.0, -1.5, "nan"]}, Whole(part=Part(), data=[None])):
        assert not_finite(content) is None and objection(content) is None


def test_no_number_is_not_finite_either() -> None:
    found = not_finite({"a": NAN})
    assert found is not None and found[0] == "a" and found[1] != found[1]
