"""A life of the federating job without a broker: rounds close in time, and deadlines wait for what arrived."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

pytest.importorskip("cryptography", reason="the extra `learning` is not installed")

from thalweg.conf.settings import FederateSettings, KafkaSettings, Settings, WarehouseSettings
from thalweg.federation.rehearsal import PREFIX, REGIONS, RehearsalStage, moved
from thalweg.jobs import federate
from thalweg.jobs.federate import Arrivals
from thalweg.jobs.federation.federator import Federator
from thalweg.jobs.federation.ledger import DeltaLedger
from thalweg.jobs.microbatch.host import Host
from thalweg.jobs.runtime.job import Stop
from thalweg.learning.privacy.terms import PrivacyTerms
from thalweg.learning.rounds.run_spec import RunSpec
from thalweg.streams.broker.memory import MemoryReader
from thalweg.streams.contract.messages import ModelState
from thalweg.streams.contract.topics import DEADLETTER, MODELS, topic_name

SPEC = RunSpec(parameters=20, rounds=2, quorum=1, begin_with=1, deadline_ms=60_000)
PRIVATE = PrivacyTerms(clip_norm=1, noise_multiplier=1.1, sample_rate=0.1, delta=1e-5, budget_epsilon=8)


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RehearsalStage:
    """Topics in memory, where the job looks for a broker."""
    stage = RehearsalStage(str(tmp_path / "payloads"))

    def reader(_kafka: KafkaSettings, *, client_id: str, **options: object) -> MemoryReader:
        return MemoryReader(stage.broker, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(federate, "KafkaReader", reader)
    monkeypatch.setattr(federate, "KafkaPublisher", lambda *_, **__: stage.publisher)
    monkeypatch.setattr(federate, "ensure_topics", lambda *_: None)
    monkeypatch.setattr(federate, "announce_ready", lambda: None)
    return stage


def settings_of(stage: RehearsalStage) -> Settings:
    folder = Path(stage.folder)
    return Settings(
        kafka=KafkaSettings(topic_prefix=PREFIX),
        warehouse=WarehouseSettings(path=str(folder.parent / "warehouse")),
        federate=FederateSettings(payloads=str(folder), look_every_ms=1),
    )


def states(stage: RehearsalStage) -> list[ModelState]:
    records = stage.broker.topics[topic_name(MODELS, PREFIX)]
    return [msgspec.json.decode(record.value or b"", type=ModelState) for record in records]


def lives(stage: RehearsalStage, turns: int, each: Callable[[int], object] = lambda _: None) -> None:
    """Live for so many turns of the job's loop; something happens before each."""
    turn = 0

    def until(_: Federator) -> bool:
        nonlocal turn
        turn += 1
        each(turn)
        return turn > turns

    federate.live(settings_of(stage), stage.clock, Stop(), Host(), until)


def test_a_run_goes_from_its_start_to_its_last_version_over_two_lives(stage: RehearsalStage) -> None:
    stage.start(SPEC, np.zeros(SPEC.size, np.float32))
    participant = stage.participant("p", REGIONS[0], moved("p"))
    participant.join()
    lives(stage, 3, lambda _: participant.step(0))
    before = len(states(stage))
    lives(stage, 12, lambda _: participant.step(0))
    assert states(stage)[-1].version == SPEC.rounds
    assert len(states(stage)) > before, "the second life goes on where the first ended"
    assert not stage.broker.topics[topic_name(DEADLETTER, PREFIX)]


def test_a_round_that_nobody_answers_ends_when_its_time_is_over_and_not_before(stage: RehearsalStage) -> None:
    stage.start(SPEC, np.zeros(SPEC.size, np.float32))
    participant = stage.participant("p", REGIONS[0], moved("p"))
    participant.join()
    seen: list[int] = []

    def each(turn: int) -> None:
        if turn == 6:
            stage.now_ms = states(stage)[-1].deadline
        if turn == 9:
            seen.append(states(stage)[-1].round)
            stage.now_ms += 1

    lives(stage, 14, each)
    last = states(stage)[-1]
    assert seen == [1], "at its last moment it is open"
    assert last.version == 0 and (last.round != 1 or last.ended)


def test_a_private_run_needs_the_key_of_its_noise_and_any_other_does_not(stage: RehearsalStage) -> None:
    stage.start(replace(SPEC, codec="delta", privacy=PRIVATE), np.zeros(SPEC.size, np.float32), "private")
    stage.start(SPEC, np.zeros(SPEC.size, np.float32), "open")
    lives(stage, 4)
    assert {state.model for state in states(stage)} == {"open"}
    reasons = [fact.reason for fact in DeltaLedger(settings_of(stage).warehouse.path).read() if fact.reason]
    (reason,) = reasons
    assert reason.endswith("a private run needs the setting federate.noise_key")


class Positions:
    """A reader that is where the test says."""

    def __init__(self) -> None:
        self.asked, self.at, self.end = 0, 0, 5

    def end_offsets(self) -> dict[tuple[str, int], int]:
        self.asked += 1
        return {("t", 0): self.end}

    def position(self, _topic: str, _partition: int) -> int:
        return self.at


def test_until_when_all_was_read_is_known_once_what_had_arrived_by_then_is_read() -> None:
    now = [100]
    reader = Positions()
    arrivals = Arrivals(reader, lambda: now[0])
    assert arrivals.until_ms(None) == arrivals.until_ms(100) == 0 and reader.asked == 0, "nobody waits for it yet"
    now[0] = 101
    assert arrivals.until_ms(100) == 0 and reader.asked == 1, "five have arrived, and none is read"
    now[0], reader.at, reader.end = 150, 5, 9
    assert arrivals.until_ms(100) == 101 and reader.asked == 1, "as it was when the broker was asked"
    assert arrivals.until_ms(120) == 101 and reader.asked == 2, "a later moment asks anew"
    reader.at = 9
    assert arrivals.until_ms(120) == 150
