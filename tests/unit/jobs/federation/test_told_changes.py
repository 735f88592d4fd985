"""Versions told by what changed: who follows needs no whole one again, and who does not get a change gets the whole."""

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

pytest.importorskip("cryptography", reason="the extra `learning` is not installed")

from thalweg.federation.participant import Participant
from thalweg.federation.rehearsal import MODEL, PREFIX, REGIONS, RehearsalStage, RehearsedCentre, moved
from thalweg.learning.rounds.run_spec import RunSpec
from thalweg.learning.vectors.parameters import digest, to_bytes
from thalweg.streams.broker.memory import MemoryReader
from thalweg.streams.contract.messages import ModelState
from thalweg.streams.contract.topics import MODELS, topic_name
from thalweg.streams.learning.payloads import PayloadError, PayloadStore
from thalweg.streams.learning.updates import payload_of

SPEC = RunSpec(parameters=60, rounds=6, quorum=1, begin_with=1, deadline_ms=10**9, downlink="delta+bits=8+zstd")


def follower(stage: RehearsalStage, name: str, store: PayloadStore | None) -> Participant:
    return Participant(
        model=MODEL,
        name=name,
        region=REGIONS[0],
        train=moved(name),
        reader=MemoryReader(stage.broker, topics=[topic_name(MODELS, PREFIX)]),
        publisher=stage.publisher,
        topic_prefix=PREFIX,
        clock=stage.clock,
        store=store,
        inline_bytes=256,
    )


def states(stage: RehearsalStage) -> list[ModelState]:
    records = stage.broker.topics[topic_name(MODELS, PREFIX)]
    return [msgspec.json.decode(record.value or b"", type=ModelState) for record in records]


def begun(folder: Path) -> tuple[RehearsalStage, Participant]:
    stage = RehearsalStage(str(folder))
    stage.start(SPEC, np.zeros(SPEC.size, np.float32))
    RehearsedCentre(stage).settle()
    participant = follower(stage, "p", None)  # without a store: it could not get a whole version after the first one
    participant.join()
    return stage, participant


def test_who_follows_is_told_what_changed_and_has_every_version_by_it(tmp_path: Path) -> None:
    stage, participant = begun(tmp_path)
    centre = RehearsedCentre(stage)
    for version in range(SPEC.rounds):
        centre.settle()
        state = participant.step(0)
        assert state is not None and state.version == version
        assert (state.change is None) == (version == 0)
    centre.settle()
    final = participant.step(0)
    assert final is not None and final.ended == "complete"
    assert digest(to_bytes(participant.parameters(final))) == final.payload.sha256
    small = [state.change.size_bytes for state in states(stage) if state.change is not None]
    assert max(small) < 4 * SPEC.size / 2
    assert all(state.payload.inline is None for state in states(stage) if state.change is not None)


def test_who_comes_later_or_misses_a_version_gets_the_whole_from_the_store(tmp_path: Path) -> None:
    stage, participant = begun(tmp_path)
    centre = RehearsedCentre(stage)
    for _ in range(3):
        centre.settle()
        participant.step(0)
    centre.settle()
    late = follower(stage, "late", PayloadStore(str(tmp_path)))
    state = late.step(0)
    assert state is not None and state.version == 3 and state.change is not None
    assert digest(to_bytes(late.parameters(state))) == state.payload.sha256
    with pytest.raises(PayloadError, match="lies in a store"):
        follower(stage, "poor", None).parameters(state)


def test_a_change_that_is_not_what_it_should_be_is_not_believed(tmp_path: Path) -> None:
    stage, participant = begun(tmp_path)
    centre = RehearsedCentre(stage)
    centre.settle()
    participant.step(0)
    centre.settle()
    topic = stage.broker.topics[topic_name(MODELS, PREFIX)]
    honest = states(stage)[-1]
    assert honest.change is not None
    wrong = payload_of(SPEC.telling.encode(np.ones(SPEC.size, np.float32)), honest.change.sha256, 256)
    forged = msgspec.structs.replace(honest, change=wrong)
    topic[-1] = replace(topic[-1], value=msgspec.json.encode(forged))
    with pytest.raises(PayloadError, match="lies in a store"):  # it asks for the whole
        participant.step(0)


def test_a_centre_that_was_started_anew_tells_the_version_whole(tmp_path: Path) -> None:
    stage, participant = begun(tmp_path)
    centre = RehearsedCentre(stage)
    centre.settle()
    participant.step(0)
    centre.settle()
    assert states(stage)[-1].change is not None
    RehearsedCentre(stage).settle()
    again = states(stage)[-1]
    assert again.version == 1 and again.change is None and again.payload.inline is not None
    participant.step(0)
    assert digest(to_bytes(participant.parameters(again))) == again.payload.sha256
