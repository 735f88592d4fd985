"""A query in a crash loop is not well, and is well again when it has held for long enough."""

import pytest

from thalweg.jobs.local import _say_how_it_is
from thalweg.jobs.runtime.health import FAILURES, WITHIN_S, CrashLoops
from thalweg.jobs.runtime.query_metrics import FAILING


def test_a_few_failures_within_minutes_are_a_crash_loop_and_old_ones_are_not() -> None:
    loops = CrashLoops()
    for second in range(FAILURES - 1):
        loops.note("place", "ZeroDivisionError", second)
        assert loops.failing(second) == {}
    loops.note("place", "ZeroDivisionError: again", 60.0)
    assert loops.failing(60.0) == {"place": "place failed 3 times within 60 s, the last: ZeroDivisionError: again"}
    assert loops.failing(WITHIN_S + 0.5) == {}


def test_failures_far_apart_are_none() -> None:
    loops = CrashLoops()
    for number in range(10):
        loops.note("place", "broker away", number * WITHIN_S)
        assert loops.failing(number * WITHIN_S) == {}


def test_it_is_said_once_and_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[str] = []
    monkeypatch.setattr("thalweg.jobs.local.announce_ready", lambda: heard.append("ready"))
    monkeypatch.setattr("thalweg.jobs.local.announce_trouble", heard.append)
    said = None
    for failing in ({}, {}, {"place": "place failed"}, {"place": "place failed"}, {}):
        said = _say_how_it_is(failing, ("place", "observe"), said)
        assert FAILING.labels("place")._value.get() == len(failing)
    assert heard == ["ready", "place failed", "ready"]
