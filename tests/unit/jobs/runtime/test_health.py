"""A query in a crash loop is not well, and is well again when it has held for long enough."""

import time

import pytest

from thalweg.jobs.local import _say_how_it_is, _with_store_words
from thalweg.jobs.runtime.background import failing_beside, run_in_background
from thalweg.jobs.runtime.health import (
    FAILURES,
    HINDERED_S,
    TOO_LONG_S,
    WAITING_S,
    WITHIN_S,
    BlockedStarts,
    CrashLoops,
    Pulse,
)
from thalweg.jobs.runtime.job import Stop
from thalweg.jobs.runtime.query_metrics import FAILING


def test_a_few_failures_within_minutes_are_a_crash_loop_and_old_ones_are_not() -> None:
    loops = CrashLoops()
    for second in range(FAILURES - 1):
        loops.note("place", "ZeroDivisionError", second)
        assert loops.failing(second) == {}
    loops.note("place", "ZeroDivisionError: again", 60.0)
    for now_s in (60.0, 90.0):
        assert loops.failing(now_s) == {"place": "place failed 3 times within 60 s, the last: ZeroDivisionError: again"}
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


def test_a_batch_that_hangs_is_trouble_while_it_hangs() -> None:
    now = [0.0]
    pulse = Pulse(lambda: now[0])
    assert pulse.trouble("place") is None
    with pulse.batch():
        now[0] = TOO_LONG_S - 1
        assert pulse.trouble("place") is None
        now[0] = TOO_LONG_S + 1
        assert pulse.trouble("place") == "place has been busy with one micro-batch for more than 2 min"
    assert pulse.trouble("place") is None
    with pytest.raises(ZeroDivisionError), pulse.batch():
        raise ZeroDivisionError
    now[0] *= 10
    assert pulse.trouble("place") is None


def test_what_hinders_a_batch_is_said_soon_and_not_once_it_is_over() -> None:
    now = [0.0]
    pulse = Pulse(lambda: now[0])
    with pulse.batch():
        pulse.hindered("the ledger cannot be written")
        now[0] = HINDERED_S - 1
        pulse.hindered("the disk is full")
        assert pulse.trouble("place") is None
        now[0] = HINDERED_S
        assert pulse.trouble("place") == "place stands still: the disk is full"
        pulse.hindered(None)
        assert pulse.trouble("place") is None
        pulse.hindered("no broker answers")
        now[0] += HINDERED_S
        assert pulse.trouble("place") == "place stands still: no broker answers"
    assert pulse.trouble("place") is None


def test_a_query_that_cannot_be_started_is_trouble_after_a_while_and_not_once_it_runs() -> None:
    waits = BlockedStarts()
    waits.note("place", "no broker answers", 0.0)
    waits.note("place", "the table is damaged", WAITING_S - 1)
    assert waits.failing(WAITING_S - 1) == {}
    assert waits.failing(WAITING_S) == {"place": "place cannot be started since 1 min: the table is damaged"}
    waits.note("place", None, WAITING_S)
    assert waits.failing(10 * WAITING_S) == {}


def test_a_thread_that_goes_on_failing_is_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    turns = iter([None, ZeroDivisionError("the table is damaged"), ZeroDivisionError("the table is damaged"), None])

    class Turns(Stop):
        """Four turns; the test looks after each."""

        def wait(self, seconds: float) -> bool:
            seen.append(failing_beside(time.monotonic() + WAITING_S))
            return len(seen) > 4

    def step() -> None:
        if (error := next(turns, None)) is not None:
            raise error

    seen: list[dict[str, str]] = []
    stop = Turns()
    run_in_background("place-tables", step, every_s=0.0, stop=stop)
    for thread in stop._beside:
        thread.join(10)
    words = "what it keeps up to date is as old: ZeroDivisionError: the table is damaged"
    assert [list(one) for one in seen] == [[], [], ["place-tables"], ["place-tables"], []]
    assert words in seen[2]["place-tables"]
    assert failing_beside(time.monotonic() + WAITING_S) == {}


def test_how_long_a_thread_has_failed_is_counted_on_and_no_word_of_why_is_cut_through() -> None:
    seen: list[str] = []

    class Turns(Stop):
        def wait(self, seconds: float) -> bool:
            seen.extend(failing_beside(time.monotonic() + 4 * WAITING_S + 1).values())
            return bool(seen)

    def step() -> None:
        raise OSError(" ".join(["a-path/of-some-file"] * 100))

    stop = Turns()
    run_in_background("place-tables", step, every_s=0.0, stop=stop)
    for thread in stop._beside:
        thread.join(10)
    assert seen[0].startswith("place-tables has failed for 4 min, ")
    assert seen[0].endswith(" a-path/of-some-file …")


def test_trouble_beside_a_stream_is_said_too_and_no_job_is_blamed(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[str] = []
    monkeypatch.setattr("thalweg.jobs.local.announce_ready", lambda: heard.append("ready"))
    monkeypatch.setattr("thalweg.jobs.local.announce_trouble", heard.append)
    said = _say_how_it_is({}, ("place",), "", {"place-tables": "tables are old"})
    assert (said, heard) == ("tables are old", ["tables are old"])
    assert FAILING.labels("place")._value.get() == 0


def test_a_store_that_is_not_reached_is_told_with_what_it_wants() -> None:
    assert "AWS_ENDPOINT_URL" in _with_store_words("Operation not supported", "s3://bucket/tables")
    assert _with_store_words("disk full", "/tables") == "disk full"
