"""A disk that takes nothing: the agent says so in words, takes nothing new, keeps what runs, and is well afterwards.

The disk is full as the kernel says it: no file of this process may be written (RLIMIT_FSIZE).
"""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from tests.unit.thalweg.agents import REGION, World, assign, revoke
from thalweg.agent.agent import WRITE_AGAIN_MS, RegionalAgent
from thalweg.agent.store import AgentStore
from thalweg.streams.broker.errors import StoreFullError


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(folder=tmp_path / "agent")
    world.steps()
    return world


@contextmanager
def full_disk() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def states(world: World) -> set[str | None]:
    return {sample.state for sample in world.telemetry()[-1].samples if sample.kind == "node"}


def beats(world: World) -> int:
    return sum(report.type == "heartbeat" for report in world.reports())


def test_what_runs_goes_on_and_what_arrives_waits_until_there_is_space(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.send(assign("runs", expected_s=5.0, devices=[0]))
    world.steps(5)
    assert world.told("runs") == ["accepted", "running"]
    before = beats(world)
    with full_disk():
        world.send(assign("waits", devices=[1]))
        world.steps(20, advance_ms=500)  # `runs` ends meanwhile
        assert world.told("waits") == []
        assert world.told("runs") == ["accepted", "running"], "what is not in the file is not told"
        assert world.held() == {"runs": 1}
        assert states(world) == {"draining"}
        assert beats(world) > before + 5, "the region is heard all the while"
    words = [record.getMessage() for record in caplog.records if "cannot be written" in record.getMessage()]
    assert len(words) == 1, "said once"
    assert "Nothing new is taken" in words[0]
    assert "nothing new is taken" in world.announced[0]
    world.steps(10, advance_ms=500)
    assert world.told("runs") == ["accepted", "running", "succeeded"]
    assert world.told("waits") == ["accepted", "running", "succeeded"]
    assert states(world) == {"ready"} and world.announced[1:] == [""]
    assert any("can be written again" in record.getMessage() for record in caplog.records)
    sequences = [r.stamp.seq for r in world.reports() if r.stamp is not None and r.task_id is not None]
    assert sequences == list(range(1, len(sequences) + 1)), "no report is missing and none came twice"


def test_a_disk_that_takes_nothing_is_asked_now_and_then_and_not_at_every_step(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[int] = []
    commit = RegionalAgent._commit
    monkeypatch.setattr(
        RegionalAgent, "_commit", lambda agent, now: (tried.append(world.clock.now_ms), commit(agent, now))[1]
    )
    with full_disk():
        world.send(assign("waits"))
        world.steps(50, advance_ms=100)
    apart = [later - earlier for earlier, later in pairwise(tried)]
    assert apart and min(apart) >= WRITE_AGAIN_MS, tried


def test_a_revoke_that_cannot_be_noted_is_obeyed_once_it_can(world: World) -> None:
    world.send(assign("stops", expected_s=500.0, devices=[0]))
    world.steps(5)
    with full_disk():
        world.send(revoke("stops", 2))
        world.steps(4, advance_ms=1_000)
        assert world.held() == {"stops": 1}
    world.steps(4, advance_ms=1_000)
    assert world.told("stops") == ["accepted", "running", "revoked"]
    assert world.held() == {}
    assert world.agent.tasks.capacity.objection(assign("next", devices=[0, 1, 2, 3])) is None, "its GPU is free"


def test_an_agent_that_dies_on_a_full_disk_runs_nothing_twice(world: World) -> None:
    world.send(assign("once", expected_s=1.0, devices=[0]))
    world.steps(5)
    with full_disk():
        world.send(assign("later", devices=[1]))
        world.steps(6, advance_ms=500)
    world.restart()
    world.steps(10, advance_ms=500)
    assert world.told("once") == ["accepted", "running", "succeeded"]
    assert world.told("later") == ["accepted", "running", "succeeded"]


def test_what_is_acknowledged_is_not_sent_again_and_again(world: World) -> None:
    world.send(assign("told", expected_s=500.0))
    world.agent.step(0)  # committed and published; struck off by the next step
    with full_disk():
        world.steps(40)
        assert world.told("told") == ["accepted"]
        assert world.agent.tasks.held(REGION)
    world.steps(60)
    assert world.told("told") == ["accepted", "running"]


def test_an_agent_that_starts_on_a_full_disk_says_so(tmp_path: Path) -> None:
    with full_disk(), pytest.raises(StoreFullError, match="Free space where it lies"):
        AgentStore(tmp_path / "agent")
    AgentStore(tmp_path / "agent").close()
