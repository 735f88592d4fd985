"""All queries in one process: one that cannot run does not hold the others up, is started again, and is told of."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from thalweg.conf.settings import Settings, load_settings
from thalweg.jobs import local
from thalweg.jobs.microbatch.host import Host
from thalweg.jobs.runtime import health
from thalweg.jobs.runtime.job import Stop
from thalweg.streams.broker.errors import BrokerUnavailableError
from thalweg.sync.clock import Clock
from thalweg.sync.delta.store import AnotherWriterError

TURNS = 12


class Query:
    """A streaming query that runs until it is stopped, or until it has failed."""

    def __init__(self, error: str | None = None) -> None:
        self.isActive = True
        self.error = error
        self.stopped = False

    def exception(self) -> str | None:
        return self.error

    def fail(self, error: str) -> None:
        self.isActive, self.error = False, error

    def stop(self) -> None:
        self.isActive, self.stopped = False, True


class Stage:
    """`local.run` without a JVM: its jobs are functions, its turns are counted, and every second of it is a turn."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.told: list[str] = []
        self.begun: list[tuple[str, Query | str]] = []
        self.order: list[str] = []
        self.each_turn: Callable[[int], None] = lambda _: None
        self.turn = 0
        self.starts: dict[str, Callable[[], Query]] = {}
        self.stop = Stop()
        monkeypatch.setattr(local, "Stop", self._stop)
        monkeypatch.setattr(local, "spark_session", self._session)
        monkeypatch.setattr(local, "keep_pulse", lambda: None)
        monkeypatch.setattr(local, "announce_progress", lambda _: None)
        monkeypatch.setattr(local, "announce_ready", lambda: self.told.append("ready"))
        monkeypatch.setattr(local, "announce_trouble", self.told.append)
        monkeypatch.setattr(local, "failing_beside", lambda _: {})
        monkeypatch.setattr(local.importlib, "import_module", self._module)
        monkeypatch.setattr(local.time, "monotonic", lambda: float(self.turn))
        monkeypatch.setattr(local, "RESTART_AFTER_S", 0.0)
        monkeypatch.setattr(health, "WAITING_S", 3.0)
        self._made = 0

    def _stop(self) -> Stop:
        self._made += 1
        return self.stop if self._made == 1 else Stop()

    @contextmanager
    def _session(self, _name: str, _settings: Settings) -> Iterator[None]:
        self.order.append("session")
        yield None

    def _module(self, name: str) -> SimpleNamespace:
        job = name.rpartition(".")[2]

        def start(_spark: object, _settings: Settings, _clock: Clock, _stop: Stop, _host: Host) -> Query:
            self.order.append(f"start {job}")
            return self.starts[job]()

        return SimpleNamespace(
            start=start,
            prepare=lambda *_: self.order.append("prepare"),
            stand_by=lambda *_: self.order.append("stand by"),
        )

    def run(self, *jobs: str, settings: Settings | None = None) -> None:
        def wait(seconds: float) -> bool:
            if seconds:
                self.turn += 1
                self.each_turn(self.turn)
            if self.turn >= TURNS:
                self.stop.ask()
            return self.stop.asked()

        self.stop.on_signals = lambda: self.stop  # type: ignore[method-assign]
        self.stop.wait = wait  # type: ignore[method-assign]
        local.run(settings or load_settings(None), jobs)


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    before = sys.getswitchinterval()
    yield Stage(monkeypatch)
    sys.setswitchinterval(before)


def test_every_query_is_started_once_is_ready_and_is_stopped_in_the_end(stage: Stage) -> None:
    queries = {name: Query() for name in ("place", "observe")}
    stage.starts = {name: lambda name=name: queries[name] for name in queries}  # type: ignore[misc]
    stage.run("place", "observe")
    assert [done for done in stage.order if done.startswith("start")] == ["start place", "start observe"]
    assert stage.told == ["ready"]
    assert all(query.stopped for query in queries.values())
    assert sys.getswitchinterval() == pytest.approx(local.SWITCH_INTERVAL_S), "a batch does not wait for who folds"


def test_a_query_that_cannot_be_started_again_is_told_of_after_a_while_and_not_once_it_runs(stage: Stage) -> None:
    queries = [Query(), Query()]

    def place() -> Query:
        if 1 <= stage.turn < 8:
            raise BrokerUnavailableError("localhost:9092", TimeoutError())
        return queries[stage.turn > 0]

    told_by: dict[int, list[str]] = {}

    def each(turn: int) -> None:
        if turn == 1:
            queries[0].fail("the broker went away")
        told_by[turn] = list(stage.told)

    stage.starts, stage.each_turn = {"place": place, "observe": Query}, each
    stage.run("place", "observe")
    assert told_by[3] == ["ready"], "a broker that restarts is no trouble"
    words = "no Kafka broker answers at localhost:9092"
    assert [told for told in told_by[8][1:] if not (told.startswith("place cannot be started") and words in told)] == []
    assert len(told_by[8]) > 1
    assert stage.told[-1] == "ready" and queries[1].stopped
    assert stage.order.count("start observe") == 1, "the other one goes on"


def test_a_query_that_fails_is_started_again_and_a_crash_loop_is_told(stage: Stage) -> None:
    begun: list[Query] = []
    stage.starts = {"place": lambda: begun.append(Query()) or begun[-1]}  # type: ignore[func-returns-value]

    def fail(turn: int) -> None:
        if turn <= 4 and begun[-1].isActive:
            begun[-1].fail("ZeroDivisionError: again")

    stage.each_turn = fail
    stage.run("place")
    assert len(begun) > health.FAILURES
    assert stage.told[0] == "ready"
    assert stage.told[-1].startswith("place failed 3 times") and "ZeroDivisionError: again" in stage.told[-1]
    assert begun[-1].stopped


def test_a_process_whose_warehouse_another_one_writes_ends(stage: Stage) -> None:
    query = Query()
    stage.starts = {"place": lambda: query}
    words = f"{AnotherWriterError.__name__}: another process has written"
    stage.each_turn = lambda turn: query.fail(words) if turn == 2 else None
    with pytest.raises(SystemExit):
        stage.run("place")


def test_of_two_that_do_the_same_each_waits_for_its_turn_before_it_starts(stage: Stage) -> None:
    stage.starts = {"place": Query, "observe": Query}
    standby = load_settings(None, ("place.standby=true",))
    stage.run("place", settings=standby)
    assert [done for done in stage.order if done != "prepare"] == ["session", "stand by", "start place"]
    assert "prepare" in stage.order
    stage.order.clear()
    stage.turn, stage.stop, stage._made = 0, Stop(), 0
    stage.run("observe", settings=standby)
    assert stage.order == ["session", "start observe"], "only placement has two"
