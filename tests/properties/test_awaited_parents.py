"""A child that is read before its parent starts after it, whatever lies between the two; one without a parent ends."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.hearing_stage import REQUESTS_TOPIC, Stage
from tests.properties.test_hearing import TROUBLE, happens
from thalweg.conf.settings import PlaceSettings

WAIT_S = 12
READ_LATE = st.tuples(st.just("requests late"), st.integers(1, 45))


def patient(folder: Path, seed: int = 0) -> Stage:
    return Stage(folder=folder, seed=seed, place=PlaceSettings(parent_wait_ms=WAIT_S * 1_000)).run(2)


def goes_on(stage: Stage, what: str, how: object) -> None:
    """Trouble as elsewhere, or a partition of requests that is read one by one while others write there."""
    if what == "requests late" and isinstance(how, int):
        for _ in range(how):
            stage.append(REQUESTS_TOPIC, b'{"task_id": "somebody else", "op": "cancel"}', stage.wall_ms)
        stage.late = frozenset({REQUESTS_TOPIC})
        return
    happens(stage, what, how)


def rows_of(stage: Stage, task_id: str) -> list[str]:
    return [change for name, change, _, _ in stage.told() if name == task_id and change != "waiting"]


@given(
    trouble=st.lists(st.one_of(TROUBLE, READ_LATE), max_size=5),
    between_s=st.integers(0, WAIT_S - 2),
    seed=st.integers(0, 99),
)
@settings(max_examples=12, deadline=None)
def test_a_child_that_is_written_a_little_before_its_parent_waits_for_it(
    trouble: list[tuple[str, object]], between_s: int, seed: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        stage = patient(Path(folder), seed)
        stage.submit("child", after=["parent"]).run(between_s)
        for what, how in trouble[:1]:
            if what == "requests late":
                goes_on(stage, what, how)
        stage.submit("parent")
        for what, how in trouble:
            goes_on(stage, what, how)
        stage.run(60)
        stage.late = frozenset()
        stage.run(WAIT_S + 30)
        assert rows_of(stage, "child") == ["submitted"], "its parent runs for ever"
        assert "running" in rows_of(stage, "parent")


@given(trouble=st.lists(TROUBLE, max_size=5), seed=st.integers(0, 99))
@settings(max_examples=12, deadline=None)
def test_a_child_whose_parent_never_comes_ends_in_time(trouble: list[tuple[str, object]], seed: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        stage = patient(Path(folder), seed)
        stage.submit("child", after=["parent"]).submit("grandchild", after=["child"])
        for what, how in trouble:
            happens(stage, what, how)
        stage.run(2 * WAIT_S)
        assert rows_of(stage, "child") == ["submitted", "cancelled"]
        assert rows_of(stage, "grandchild") == ["submitted", "cancelled"]


@pytest.mark.parametrize("restarts", [0, 1])
def test_a_child_waits_so_long_and_not_longer_and_a_restart_begins_anew(tmp_path: Path, restarts: int) -> None:
    stage = patient(tmp_path).submit("child", after=["parent"]).run(WAIT_S - 1)
    for _ in range(restarts):
        stage.start()
        stage.run(WAIT_S - 1)
    assert rows_of(stage, "child") == ["submitted"]
    stage.run(4)
    assert rows_of(stage, "child") == ["submitted", "cancelled"]
    reasons = [row["reason"] for table in stage.placer.ledger.all_rows() for row in table.to_pylist()]
    assert reasons[-1] == "cancelled: its parent parent was not submitted within 12 s"
