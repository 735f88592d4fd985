"""A participant as a process: who it is by its task, when it joins and leaves, and what it gives."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from thalweg.federation.participant import Trained
from thalweg.federation.take_part import ANSWERS_OF_A_LIFE, NobodyError, Placed, TaskReport, placed_as, take_part
from thalweg.streams.broker.errors import BrokerUnavailableError
from thalweg.streams.contract.messages import LearningRun, ModelState, Payload

TASK = {"THALWEG_TASK_ID": "federated/m/bern", "THALWEG_REGION": "bern", "THALWEG_EPOCH": "3"}


def state(ended: str = "") -> ModelState:
    payload = Payload(sha256="0" * 64, size_bytes=4)
    return ModelState(model="m", version=1, payload=payload, run=LearningRun(parameters=1, rounds=2), ended=ended)


@dataclass
class Actor:
    """Takes part in a run that is told as given; an exception is raised in its turn."""

    told: list[ModelState | Exception | None]
    said: list[str] = field(default_factory=list)

    def join(self) -> None:
        self.said.append("join")

    def leave(self) -> None:
        self.said.append("leave")

    def step(self, timeout_ms: int = 100) -> ModelState | None:
        found = self.told.pop(0)
        if isinstance(found, Exception):
            raise found
        return found


def test_it_joins_when_its_run_is_known_and_does_not_leave_one_that_has_ended() -> None:
    actor = Actor([None, None, state(), state(), state("complete")])
    assert take_part(actor, lambda seconds: None).ended == "complete"
    assert actor.said == ["join"]


def test_it_does_not_join_a_run_that_has_ended() -> None:
    actor = Actor([None, state("stopped")])
    assert take_part(actor, lambda seconds: None).ended == "stopped"
    assert actor.said == []


def test_it_waits_while_the_broker_is_away() -> None:
    waited: list[float] = []
    away = BrokerUnavailableError("b:1", OSError("refused"))
    actor = Actor([away, state(), away, state("complete")])
    take_part(actor, waited.append)
    assert len(waited) == 2 and actor.said == ["join"]


def test_it_leaves_where_training_fails_so_that_no_round_waits_for_it() -> None:
    actor = Actor([state(), ValueError("no such class")])
    with pytest.raises(ValueError, match="no such class"):
        take_part(actor, lambda seconds: None)
    assert actor.said == ["join", "leave"]


def test_a_task_is_who_its_agent_says_in_the_life_of_its_epoch() -> None:
    who = placed_as(TASK, None, None)
    assert who == Placed(name="federated/m/bern", region="bern", life=3 * ANSWERS_OF_A_LIFE)
    later = placed_as(TASK | {"THALWEG_EPOCH": "4"}, None, None)
    assert who.life is not None and later.life is not None and later.life - who.life >= ANSWERS_OF_A_LIFE
    assert placed_as({}, "by hand", "oslo") == Placed(name="by hand", region="oslo", life=None)
    with pytest.raises(NobodyError, match="--name and --region"):
        placed_as({"THALWEG_REGION": "bern"}, None, None)


def test_a_task_gives_figures_of_each_training_and_in_the_end_what_it_has_done(tmp_path: Path) -> None:
    files = {"THALWEG_METRICS": str(tmp_path / "metrics"), "THALWEG_RESULT": str(tmp_path / "result")}
    report = TaskReport(environ=files)
    train = report.told(lambda vector, state: Trained(parameters=vector, samples=3, metrics={"loss": 0.5}))
    for _ in range(2):
        train(np.zeros(1, np.float32), state())
    assert json.loads((tmp_path / "metrics").read_text()) == {"loss": 0.5, "round": 0, "answered": 2}
    report.over(state("complete"))
    wanted = {"model": "m", "answered": 2, "version": 1, "ended": "complete"}
    assert json.loads((tmp_path / "result").read_text()) == wanted
    TaskReport(environ={}).over(state("complete"))  # by hand: nothing is written
