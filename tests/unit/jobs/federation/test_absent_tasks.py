"""When a run ends, tasks of participants who never came are cancelled; those who take part see the end themselves."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

pytest.importorskip("cryptography", reason="the extra `learning` is not installed")

from thalweg.federation.rehearsal import (
    PREFIX,
    REGIONS,
    Deaths,
    PlannedDeathError,
    RehearsalStage,
    RehearsedCentre,
    moved,
)
from thalweg.learning.rounds.run_spec import RunSpec
from thalweg.streams.contract.messages import TaskRequest
from thalweg.streams.contract.topics import REQUESTS, topic_name
from thalweg.streams.learning.absent_tasks import MOST_IDS, cancel_absent

SPEC = RunSpec(parameters=4, rounds=1, quorum=1, begin_with=1, deadline_ms=10**9)
CAME, NEVER = "federated/m/bern", "federated/m/oslo"


def requested(stage: RehearsalStage) -> list[TaskRequest]:
    records = stage.broker.topics[topic_name(REQUESTS, PREFIX)]
    return [msgspec.json.decode(record.value or b"", type=TaskRequest) for record in records]


def carried_out(folder: Path, deaths: frozenset[int] = frozenset()) -> RehearsalStage:
    """One of two participants comes and answers the one round; the centre dies as planned, and begins again."""
    stage = RehearsalStage(str(folder), Deaths())
    stage.start(SPEC, np.zeros(SPEC.size, np.float32), asked=(CAME, NEVER))
    RehearsedCentre(stage).settle()
    participant = stage.participant(CAME, REGIONS[0], moved(CAME))
    participant.join()
    RehearsedCentre(stage).settle()
    participant.step(0)
    assert requested(stage) == [], "nobody is cancelled while the run goes on"
    stage.deaths.at, stage.deaths.passed = deaths, 0
    while True:
        try:
            RehearsedCentre(stage).settle()
            return stage
        except PlannedDeathError:
            continue


def test_who_never_came_is_cancelled_when_the_run_ends(tmp_path: Path) -> None:
    (request,) = requested(carried_out(tmp_path))
    assert (request.op, request.task_ids, request.who) == ("cancel", [NEVER], "federate")


def test_wherever_the_centre_dies_they_are_cancelled_and_nobody_else(tmp_path: Path) -> None:
    undisturbed = carried_out(tmp_path / "undisturbed")
    points = undisturbed.deaths.passed
    assert points > 5
    for point in range(1, points + 1):
        asked = requested(carried_out(tmp_path / str(point), frozenset({point})))
        assert asked and all(request.task_ids == [NEVER] for request in asked), point


def test_many_go_in_messages_that_the_topic_takes() -> None:
    absent = [f"federated/m/{number:0240d}" for number in range(MOST_IDS + 1)]
    records = cancel_absent("m", absent, "t", 5)
    found = [msgspec.json.decode(record.value or b"", type=TaskRequest).task_ids for record in records]
    assert [len(ids) for ids in found] == [MOST_IDS, 1] and [*found[0], *found[1]] == absent
    assert all(record.size_bytes() < record.max_bytes for record in records)
    assert cancel_absent("m", absent, "t", 9)[0].headers[1] == records[0].headers[1], "asking again has the same id"
