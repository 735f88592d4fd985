"""Over topics: what is repeated, late, forged, lost or interrupted counts once or not at all."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

pytest.importorskip("flwr", reason="Flower has an environment of its own: ./run test-flower")

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict

from tests.flower_stage import (
    NAMES,
    PREFIX,
    REGIONS,
    SIZE,
    STRATEGIES,
    FlowerStage,
    Repeating,
    learning_app,
    names_and_configs,
    outcome,
)
from thalweg.flower.answer_memory import AnswerMemory, BrokenMemoryError
from thalweg.flower.client_node import ClientNode
from thalweg.flower.kafka_grid import FlowerRunEndedError
from thalweg.flower.local_grid import LocalGrid
from thalweg.flower.numbers import number_of
from thalweg.flower.participant import AGAIN_AFTER_S
from thalweg.streams.broker.errors import NotAcknowledgedError
from thalweg.streams.broker.publish import OutgoingRecord, Publisher
from thalweg.streams.contract.topics import CALLS, REPLIES, topic_name
from thalweg.streams.learning.calls import read_reply


class Death(BaseException):
    """The process is gone."""


@dataclass
class DyingPublisher:
    """Dies at the n-th reply: before it is written, or after."""

    inner: Publisher
    at: int
    after: bool
    replies: int = 0

    def publish(self, records: Sequence[OutgoingRecord]) -> None:
        self.replies += any(b'"kind":"reply"' in (record.value or b"") for record in records)
        if self.replies == self.at and not self.after:
            raise Death
        self.inner.publish(records)
        if self.replies == self.at and self.after:
            raise Death

    def close(self) -> None:
        self.inner.close()


class Trainings:
    """Counts them."""

    def __init__(self) -> None:
        self.ended: Counter[tuple[str, int]] = Counter()

    def __call__(self, what: str, name: str, number: int) -> None:
        self.ended[name, number] += what == "ends"


def undisturbed(name: str, run: str = "r") -> object:
    made = learning_app()
    nodes = [ClientNode(run, one, made, node_config=config) for one, config in names_and_configs()]
    return outcome(LocalGrid(run, nodes), STRATEGIES[name]())


def asked(number: int, ttl: float | None = None) -> Message:
    arrays = ArrayRecord([np.ones(SIZE, np.float32)])
    return Message(
        RecordDict({"arrays": arrays, "config": ConfigRecord({"server-round": 1})}), number, "train", ttl=ttl
    )


@pytest.mark.parametrize("name", STRATEGIES)
def test_everything_twice_and_late_changes_no_bit(tmp_path: Path, name: str) -> None:
    stage, trainings = FlowerStage(tmp_path), Trainings()
    for one in NAMES:
        stage.participant("r", one, learning_app(trainings), publisher=Repeating(stage.broker))
    grid = stage.grid("r", publisher=Repeating(stage.broker))
    assert outcome(grid, STRATEGIES[name]()) == undisturbed(name)
    assert set(trainings.ended.values()) == {1}
    assert grid.repeated > 10 and grid.refused == 0


@pytest.mark.parametrize("after", [False, True], ids=["before its reply is written", "after"])
@pytest.mark.parametrize("name", STRATEGIES)
def test_a_participant_that_dies_with_its_reply_and_comes_back_computes_nothing_twice(
    tmp_path: Path, name: str, after: bool
) -> None:
    stage, trainings = FlowerStage(tmp_path), Trainings()
    for one in NAMES:
        stage.participant("r", one, learning_app(trainings))
    dying = DyingPublisher(stage.broker, at=2, after=after)
    stage.participant("r", "oslo", learning_app(trainings), publisher=dying)
    turn, died = stage.turn, []

    def turn_and_revive() -> None:
        try:
            turn()
        except Death:
            died.append(stage.participant("r", "oslo", learning_app(trainings)))

    grid = stage.grid("r")
    grid._reader.turn = turn_and_revive
    assert outcome(grid, STRATEGIES[name]()) == undisturbed(name)
    assert len(died) == 1 and set(trainings.ended.values()) == {1}


def test_without_a_memory_it_computes_anew_what_it_had_not_said_and_the_first_reply_counts(tmp_path: Path) -> None:
    stage, trainings = FlowerStage(tmp_path), Trainings()
    dying = DyingPublisher(stage.broker, at=1, after=False)
    stage.participant("r", "oslo", learning_app(trainings), publisher=dying, remembers=False)
    grid = stage.grid("r")
    grid.push_messages([asked(number_of("r", "oslo"))])
    with pytest.raises(Death):
        stage.turn()
    stage.participant("r", "oslo", learning_app(trainings), remembers=False)
    stage.turn()
    assert trainings.ended == {("oslo", 1): 2}


def test_a_server_app_that_dies_goes_on_from_what_was_answered(tmp_path: Path) -> None:
    stage, trainings = FlowerStage(tmp_path), Trainings()
    for one in NAMES:
        stage.participant("r", one, learning_app(trainings))
    outcome(stage.grid("r"), STRATEGIES["FedAdam"](), rounds=2)
    before = trainings.ended.copy()
    assert outcome(stage.grid("r"), STRATEGIES["FedAdam"]()) == undisturbed("FedAdam")
    assert set(trainings.ended.values()) == {1} and len(trainings.ended) == len(before) + len(NAMES)


def test_large_contents_lie_in_the_store_once_and_small_ones_in_the_message(tmp_path: Path) -> None:
    for inline, files in ((0, True), (100_000, False)):
        stage = FlowerStage(tmp_path / str(inline))
        for one in NAMES:
            stage.participant("r", one, learning_app(), inline_bytes=inline)
        assert outcome(stage.grid("r", inline_bytes=inline), STRATEGIES["FedAvg"]()) == undisturbed("FedAvg")
        stored = [file for file in (stage.folder / "payloads").rglob("*") if file.is_file()]
        # Of each of three rounds: what all are asked to train and to evaluate, five trainings, and one equal figure.
        assert len(stored) == (3 * 8 if files else 0)


@pytest.mark.parametrize("spoilt", ["damaged", "gone"])
def test_a_reply_whose_content_is_not_what_it_names_does_not_count(tmp_path: Path, spoilt: str) -> None:
    stage = FlowerStage(tmp_path)
    stage.participant("r", "oslo", learning_app())
    grid = stage.grid("r")
    grid.push_messages([asked(number_of("r", "oslo"))])
    stage.turn()
    (record,) = [
        one for one in stage.broker.topics[topic_name(REPLIES, PREFIX, REGIONS["oslo"])] if b'"reply"' in one.value
    ]
    content = read_reply(record).content
    file = tmp_path / "payloads" / content.sha256[:2] / content.sha256
    if spoilt == "gone":
        file.unlink()
    else:
        file.write_bytes(b"something else")
    assert grid.pull_messages(list(grid._open)) == []
    assert grid.refused == 1 and len(grid._open) == 1


def test_what_is_no_message_or_of_another_run_or_of_somebody_else_does_not_count(tmp_path: Path) -> None:
    stage = FlowerStage(tmp_path)
    stage.participant("r", "oslo", learning_app())
    stage.participant("r", "rome", learning_app())
    grid = stage.grid("r")
    (name,) = grid.push_messages([asked(number_of("r", "oslo"))])
    topic = topic_name(REPLIES, PREFIX, REGIONS["oslo"])  # before its own reply, which is written in its turn
    wrong = [
        b"nonsense",
        b'{"kind":"reply","run":"s","participant":"oslo","message_id":"%s","metadata":""}' % name.encode(),
        b'{"kind":"reply","run":"r","participant":"rome","message_id":"%s","metadata":""}' % name.encode(),
        b'{"kind":"reply","run":"r","participant":"oslo","message_id":"%s","metadata":"AAAA"}' % name.encode(),
    ]
    stage.broker.publish([OutgoingRecord(topic=topic, key=None, value=value) for value in (*wrong, None)])
    stage.broker.publish([OutgoingRecord(topic=topic_name(CALLS, PREFIX), key=None, value=b"nonsense")])
    (reply,) = grid.send_and_receive([asked(number_of("r", "rome"))], timeout=5)
    assert reply.has_content()
    (reply,) = grid.pull_messages([name])
    assert reply.has_content() and grid.refused == 3


def test_a_late_reply_does_not_count_and_who_is_late_is_told_as_an_error(tmp_path: Path) -> None:
    stage, trainings = FlowerStage(tmp_path), Trainings()
    quick, slow = (stage.participant("r", name, learning_app(trainings)) for name in ("oslo", "rome"))
    grid = stage.grid("r")
    del stage.participants["rome"]
    numbers = [number_of("r", "oslo"), number_of("r", "rome")]
    (reply,) = grid.send_and_receive([asked(number, ttl=10) for number in numbers], timeout=1)
    assert reply.metadata.src_node_id == numbers[0]
    (open_,) = grid._open
    slow.step(0)  # in time for the clock it has read, and late on the topic
    record = stage.broker.topics[topic_name(REPLIES, PREFIX, REGIONS["rome"])].pop()
    stage.now_ms += 10_001
    stage.broker.publish([OutgoingRecord(topic=record.topic, key=record.key, value=record.value)])
    (reply,) = grid.pull_messages([open_])
    assert reply.has_error() and reply.error.reason == "rome has not replied in time"
    assert grid.refused == 1 and trainings.ended["rome", 1] == 1
    grid.push_messages([asked(numbers[1], ttl=1)])
    stage.now_ms += 1_001
    slow.step(0)
    assert trainings.ended["rome", 1] == 1, "what nobody waits for any more is not computed"
    assert quick.computed == 1


def test_a_participant_says_its_reply_again_when_the_broker_did_not_take_it(tmp_path: Path) -> None:
    stage, trainings = FlowerStage(tmp_path), Trainings()
    one = stage.participant("r", "oslo", learning_app(trainings), remembers=False)
    del stage.participants["oslo"]
    grid = stage.grid("r")
    (name,) = grid.push_messages([asked(number_of("r", "oslo"))])
    stage.broker.down = True
    one._hear(stage.broker.topics[topic_name(CALLS, PREFIX)][-1])
    for _ in range(2):
        with pytest.raises(NotAcknowledgedError):
            one.step(0)
    stage.broker.down = False
    one.step(0)
    assert trainings.ended == {("oslo", 1): 1}
    assert len(grid.pull_messages([name])) == 1


def test_a_participant_waits_for_the_broker(tmp_path: Path) -> None:
    stage = FlowerStage(tmp_path)
    one = stage.participant("r", "oslo", learning_app())
    stage.grid("r").push_messages([asked(number_of("r", "oslo"))])
    stage.broker.down, waited = True, []

    def wait(seconds: float) -> None:
        waited.append(seconds)
        stage.broker.down = False
        stage.grid("r").end()

    one.follow(wait)
    assert waited == [AGAIN_AFTER_S]


def test_who_leaves_is_called_no_more_and_what_an_earlier_life_says_late_does_not_count(tmp_path: Path) -> None:
    stage = FlowerStage(tmp_path)
    first = stage.participant("r", "oslo", learning_app())
    grid = stage.grid("r")
    assert list(grid.members()) == ["oslo"]
    first.leave()
    assert list(grid.members()) == []
    stage.now_ms += 1
    stage.participant("r", "oslo", learning_app())
    first.leave()
    assert list(grid.members()) == ["oslo"]


def test_a_server_app_waits_for_as_many_as_it_wants_and_says_how_many_there_are(tmp_path: Path) -> None:
    stage = FlowerStage(tmp_path)
    stage.participant("r", "oslo", learning_app())
    grid = stage.grid("r")
    with pytest.raises(TimeoutError, match="1 of 2 participants have joined 'r'"):
        grid.wait_for(2, timeout_s=1)
    looks = []

    def turn() -> None:
        looks.append(1)
        if len(looks) == 5:
            stage.participant("r", "rome", learning_app())

    grid._reader.turn = turn
    grid.wait_for(2)
    assert list(grid.members()) == ["oslo", "rome"]


def test_a_run_that_was_ended_lets_its_participants_go_and_is_not_gone_on_with(tmp_path: Path) -> None:
    stage = FlowerStage(tmp_path)
    one = stage.participant("r", "oslo", learning_app())
    grid = stage.grid("r")
    grid.end()
    one.follow(lambda seconds: None)
    assert one.ended and list(grid.members()) == ["oslo"], "it did not leave: there is nothing to leave"
    with pytest.raises(FlowerRunEndedError, match="'r' has ended"):
        stage.grid("r")
    stage.grid("s")


def test_a_damaged_memory_is_named(tmp_path: Path) -> None:
    memory = AnswerMemory(tmp_path, "r", "oslo")
    assert memory.read() is None
    stage = FlowerStage(tmp_path)
    stage.participant("r", "oslo", learning_app())
    stage.grid("r").push_messages([asked(number_of("r", "oslo"))])
    stage.turn()
    (file,) = (tmp_path / "memory").iterdir()
    file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(BrokenMemoryError, match="answered"):
        stage.participant("r", "oslo", learning_app())
