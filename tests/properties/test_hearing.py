"""No region is silenced by what happens between its word and the job's ear; one that is dead is found out in time."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.hearing_stage import PREFIX, Stage
from thalweg.streams.contract.topics import STATUS, topic_name

TASKS = tuple(f"t{number}" for number in range(9))
TIMEOUT_S = 10
HOURS_MS = 3 * 3_600_000

SECONDS = st.integers(1, 45)
STEPS_MS = st.sampled_from([-HOURS_MS, -30_000, 30_000, HOURS_MS])
NAMES = ("a", "bb", "ccc")
TROUBLE = st.one_of(
    st.tuples(st.just("quiet"), SECONDS),
    st.tuples(st.just("broker away"), SECONDS),
    st.tuples(st.just("job suspended"), SECONDS),
    st.tuples(st.just("job down"), SECONDS),
    st.tuples(st.just("checkpoint moved away"), SECONDS),
    st.tuples(st.just("long rebuild"), SECONDS),
    st.tuples(st.just("partition late"), st.tuples(st.sampled_from(NAMES), SECONDS)),
    st.tuples(st.just("driver's clock set"), STEPS_MS),
    st.tuples(st.just("region's clock set"), st.tuples(st.sampled_from(NAMES), STEPS_MS)),
    st.tuples(st.just("another task"), st.none()),
)


def happens(stage: Stage, what: str, how: object) -> None:
    match what, how:
        case "quiet", int(seconds):
            stage.run(seconds)
        case "broker away", int(seconds):
            stage.broker_down = True
            stage.run(seconds).broker_down = False
        case "job suspended", int(seconds):
            stage.suspended = True
            stage.run(seconds).suspended = False
        case (("job down" | "checkpoint moved away"), int(seconds)):
            stage.suspended = True
            stage.run(seconds).suspended = False
            stage.start(from_beginning=what != "job down")
        case "long rebuild", int(seconds):
            stage.start(rebuild_takes_s=seconds)
        case "partition late", (str(name), int(seconds)):
            stage.late = frozenset({topic_name(STATUS, PREFIX, name)})
            stage.run(seconds).late = frozenset()
        case "driver's clock set", int(step_ms):
            stage.clock_error_ms += step_ms
        case "region's clock set", (str(name), int(step_ms)):
            stage.regions[name].clock_error_ms += step_ms
        case "another task", None:
            stage.submit(f"more-{stage.steps}-{len(stage.told())}")
    stage.run(1)


@given(trouble=st.lists(TROUBLE, min_size=1, max_size=7), seed=st.integers(0, 99), says=st.booleans(), beat=st.just(1))
@settings(max_examples=12, deadline=None)
def test_whatever_happens_to_the_hearing_no_task_of_a_living_region_is_touched(
    trouble: list[tuple[str, object]], seed: int, says: bool, beat: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        stage = Stage(folder=Path(folder), seed=seed)
        for region in stage.regions.values():
            region.says_how_far, region.beat_every = says, beat
        stage.run(2).submit(*TASKS).run(3)
        for what, how in trouble:
            happens(stage, what, how)
        stage.run(25)
        assert stage.disturbed() == []
        assert {row[0] for row in stage.told() if row[1] == "running"} == {row[0] for row in stage.told()}


def killed(stage: Stage) -> None:
    """Nothing but the death."""


def with_a_set_clock(stage: Stage) -> None:
    stage.clock_error_ms -= HOURS_MS


def after_a_restart(stage: Stage) -> None:
    stage.start()


def after_a_replay(stage: Stage) -> None:
    stage.start(from_beginning=True)


def after_a_pause(stage: Stage) -> None:
    stage.suspended = True
    stage.run(40).suspended = False


@pytest.mark.parametrize("meanwhile", [killed, with_a_set_clock, after_a_restart, after_a_replay, after_a_pause])
def test_a_dead_region_is_lost_in_about_the_time_configured(meanwhile: Callable[[Stage], None], tmp_path: Path) -> None:
    stage = Stage(folder=tmp_path).run(2).submit(*TASKS)
    stage.run(20)
    dead = next(row[3] for row in stage.told() if row[1] == "running")
    assert dead is not None
    stage.regions[dead].alive = False
    meanwhile(stage)
    stage.run(TIMEOUT_S - 2)
    assert stage.disturbed() == []
    stage.run(5)
    lost = {(row[1], row[3]) for row in stage.disturbed() if row[1] != "assigned"}
    assert lost == {("lost", dead)}
    stage.run(5)
    assert all(task.state == "running" for task in stage.placer.world.tasks.values()), "they run elsewhere"
