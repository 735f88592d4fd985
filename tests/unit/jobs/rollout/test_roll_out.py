"""The job itself, with its real ledger, over records in memory: lives that end anywhere, and who came second."""

from pathlib import Path
from typing import Any

import pytest

from tests.unit.jobs.rollout.small_plane import MODEL, PREFIX, SmallEdge, SmallPlane
from tests.unit.jobs.rollout.test_conductor import GOOD, TICK_MS, serving, wish
from thalweg.conf.settings import KafkaSettings, RolloutSettings, Settings, WarehouseSettings
from thalweg.jobs import roll_out
from thalweg.jobs.rollout.conductor import Conductor
from thalweg.jobs.rollout.rollout_rows import facts_of, rows_of
from thalweg.jobs.runtime.fact_ledger import DeltaFacts
from thalweg.jobs.runtime.job import Stop
from thalweg.learning.rollout.facts import RolloutFact, RolloutKind
from thalweg.streams.broker.consume import IncomingRecord
from thalweg.sync.delta.contracts import ROLLOUTS
from thalweg.sync.delta.store import AnotherWriterError


class LogReader:
    """Reads the plane's topic `replica` from its beginning, a few records at a time."""

    def __init__(self, plane: SmallPlane) -> None:
        self._plane, self._next = plane, 0

    def poll(self, timeout_ms: int) -> list[IncomingRecord]:
        found = self._plane.log[self._next : self._next + 7]
        self._next += len(found)
        return found

    def end_offsets(self) -> dict[tuple[str, int], int]:
        return {(f"{PREFIX}.replica", 0): len(self._plane.log)}

    def position(self, topic: str, partition: int) -> int:
        return self._next

    def close(self) -> None:
        """Nothing is open."""


@pytest.fixture
def plane(monkeypatch: pytest.MonkeyPatch) -> SmallPlane:
    made = SmallPlane()
    monkeypatch.setattr(roll_out, "ensure_topics", lambda *_: None)
    monkeypatch.setattr(roll_out, "announce_ready", lambda: None)
    monkeypatch.setattr(roll_out, "KafkaPublisher", lambda *_, **__: made)
    monkeypatch.setattr(roll_out, "KafkaReader", lambda *_, **__: LogReader(made))
    return made


def settings_in(folder: Path) -> Settings:
    return Settings(
        kafka=KafkaSettings(topic_prefix=PREFIX),
        warehouse=WarehouseSettings(path=str(folder)),
        rollout=RolloutSettings(look_every_ms=1),
    )


def facts_in(folder: Path) -> list[RolloutFact]:
    return DeltaFacts[RolloutFact](
        ROLLOUTS, str(folder), application="reader", rows_of=rows_of, facts_of=facts_of
    ).read()


def test_a_roll_out_ends_as_it_should_though_the_job_lives_many_short_lives(plane: SmallPlane, tmp_path: Path) -> None:
    edges = [SmallEdge(f"edge-{number}", plane, GOOD) for number in range(30)]
    plane.wish(wish("7"))
    lives = 0

    def a_life(rounds: int) -> None:
        left = rounds

        def pass_time(conductor: Conductor) -> bool:
            nonlocal left
            run = conductor.rollouts.newest.get(MODEL)
            if run is not None and run.plan.version == "7" and run.end is not None:
                plane.wish(wish("8"))
            plane.now_ms += TICK_MS
            for edge in edges:
                edge.tick(20)
            left -= 1
            return left < 0

        roll_out.live(settings_in(tmp_path), lambda: plane.now_ms, Stop(), pass_time)

    while lives < 40 and not any(
        fact.kind is RolloutKind.COMPLETED and fact.version == "8" for fact in facts_in(tmp_path)
    ):
        lives += 1
        a_life(3)
    a_life(3)
    kinds = [fact.kind for fact in facts_in(tmp_path) if fact.version == "8" and fact.kind is not RolloutKind.LOOKED]
    assert kinds == [RolloutKind.STARTED, *[RolloutKind.WIDENED] * 3, RolloutKind.COMPLETED]
    assert 3 < lives < 40
    assert serving(plane) == {("8", "8", None)}


def test_a_second_job_on_the_same_warehouse_stops_the_first(plane: SmallPlane, tmp_path: Path) -> None:
    edges = [SmallEdge(f"edge-{number}", plane, GOOD) for number in range(3)]

    def meddled(conductor: Conductor) -> bool:
        if not plane.records:
            roll_out.live(settings_in(tmp_path), lambda: plane.now_ms, Stop(), lambda _: True)
            plane.wish(wish("7"))
            for edge in edges:
                edge.tick(1)
        plane.now_ms += TICK_MS
        return False

    with pytest.raises(AnotherWriterError):
        roll_out.live(settings_in(tmp_path), lambda: plane.now_ms, Stop(), meddled)
    assert facts_in(tmp_path) == []


def test_what_a_life_raises_is_said_and_another_one_begins(
    plane: SmallPlane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lived: list[Any] = []
    stop = Stop()
    monkeypatch.setattr(roll_out, "hold_lease", lambda *_: None)
    monkeypatch.setattr(roll_out, "keep_pulse", lambda: None)
    monkeypatch.setattr(roll_out, "RESTART_AFTER_S", 0.0)
    monkeypatch.setattr(Stop, "on_signals", lambda _: stop)
    said: list[str] = []
    monkeypatch.setattr(roll_out, "announce_trouble", said.append)

    def live(*_: object) -> None:
        lived.append(None)
        if len(lived) == 1:
            raise OSError("the disk is full")
        stop.ask()

    monkeypatch.setattr(roll_out, "live", live)
    roll_out.run(settings_in(tmp_path))
    assert len(lived) == 2 and said == ["roll_out: OSError: the disk is full"]
