"""Who asks is told what became of it: taken, known already, or refused; and nothing rests on it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.unit.jobs.test_place_batch import BEAT, placer, received
from tests.unit.jobs.test_place_edge import REQUESTS, STATUS, request, shifted
from thalweg.jobs.placement import answers as desk_module
from thalweg.jobs.placement.answers import AnswerDesk
from thalweg.streams.broker.errors import NotAcknowledgedError
from thalweg.streams.broker.publish import OutgoingRecord, check_sizes
from thalweg.streams.contract.messages import Answer, Answers


class Topic:
    def __init__(self, refuse: int = 0) -> None:
        self.records: list[OutgoingRecord] = []
        self.refuse = refuse
        self.closed = False

    def publish(self, records: Sequence[OutgoingRecord]) -> None:
        check_sizes(records)
        if self.refuse:
            self.refuse -= 1
            raise NotAcknowledgedError(1, 1, 10, ["answers"], "broker away")
        self.records += records

    def close(self) -> None:
        self.closed = True

    def told(self) -> list[Answer]:
        decoder = msgspec.json.Decoder(Answers)
        return [answer for record in self.records for answer in decoder.decode(record.value or b"").answers]


def answered(folder: Path, *batches: tuple[tuple[str, object], ...]) -> list[list[Answer]]:
    """What each batch's requests are answered."""
    job, _ = placer(folder)
    topic = Topic()
    job.placer.answers = AnswerDesk("thalweg", lambda: topic)
    told = []
    for number, rows in enumerate(batches):
        job.take(shifted(received(BEAT, *rows), number * 100), "q", number)
        job.placer.answers.tell()
        told.append(topic.told())
        topic.records.clear()
    return told


def outline(answers: list[Answer]) -> list[tuple[str, str, str, str]]:
    return [(answer.task_id, answer.op, answer.answer, answer.state) for answer in answers]


def test_a_request_is_taken_once_and_known_after_that(tmp_path: Path) -> None:
    first, again = answered(tmp_path, (request("t"),), (request("t"),))
    assert outline(first) == [("t", "submit", "taken", "waiting")]
    assert outline(again) == [("t", "submit", "known", "assigned")]


def test_other_content_under_a_known_id_and_an_unknown_task_are_refused_with_reasons(tmp_path: Path) -> None:
    _, told = answered(
        tmp_path, (request("t"),), (request("t", priority=1), (REQUESTS, {"task_id": "never", "op": "cancel"}))
    )
    assert outline(told) == [("t", "submit", "refused", "assigned"), ("never", "cancel", "refused", "")]
    assert "submitted before with other content" in told[0].reason
    assert "no such task was submitted" in told[1].reason


def test_a_cancel_says_how_many_copies_have_to_stop_and_a_second_one_that_it_has_ended(tmp_path: Path) -> None:
    cancel = (REQUESTS, {"task_id": "t", "op": "cancel"})
    impossible = request("waits", per_worker={"gpus": 64})
    _, told, again = answered(
        tmp_path, (request("t"), impossible), (cancel, (REQUESTS, {"task_id": "waits", "op": "cancel"})), (cancel,)
    )
    assert outline(told) == [("t", "cancel", "taken", "cancelled"), ("waits", "cancel", "taken", "cancelled")]
    assert [answer.copies for answer in told] == [1, 0]
    assert outline(again) == [("t", "cancel", "known", "cancelled")]


def test_a_task_that_has_ended_is_known_with_its_end(tmp_path: Path) -> None:
    ended = (STATUS, {"type": "succeeded", "region": "east", "task_id": "t", "epoch": 1})
    _, _, told = answered(tmp_path, (request("t"),), (ended,), (request("t"),))
    assert outline(told) == [("t", "submit", "known", "succeeded")]


def test_an_answer_names_its_request(tmp_path: Path) -> None:
    ((answer,),) = answered(tmp_path, (request("t", observed_at=1_700_000_000_000),))
    assert (answer.observed_at, answer.partition, answer.offset) == (1_700_000_000_000, 0, 1)


def test_what_the_broker_does_not_take_is_kept_and_told_in_order(tmp_path: Path) -> None:
    topic = Topic(refuse=1)
    desk = AnswerDesk("thalweg", lambda: topic)
    desk.tell()
    desk.put([Answer(task_id="a", op="submit", answer="taken")])
    with pytest.raises(NotAcknowledgedError):
        desk.tell()
    desk.put([Answer(task_id="b", op="submit", answer="taken")])
    desk.tell()
    desk.tell()
    assert [answer.task_id for answer in topic.told()] == ["a", "b"]
    assert len(topic.records) == 1


def test_the_longest_answers_fit_the_topic_and_too_many_are_given_up_oldest_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    topic = Topic()
    desk = AnswerDesk("thalweg", lambda: topic)
    longest: dict[str, Any] = {"task_id": "\U0001f600" * 256, "reason": "\x01" * desk_module.LONGEST_REASON}
    desk.put([Answer(op="submit", answer="refused", **longest)] * (desk_module.PER_RECORD + 1))
    desk.tell()
    assert len(topic.records) == 2
    monkeypatch.setattr(desk_module, "MOST_KEPT", 2)
    desk.put([Answer(task_id=str(number), op="submit", answer="taken") for number in range(5)])
    topic.records.clear()
    desk.tell()
    assert [answer.task_id for answer in topic.told()] == ["3", "4"]


def test_a_record_that_is_nothing_is_answered_to_nobody(tmp_path: Path) -> None:
    assert answered(tmp_path, ((REQUESTS, b"no JSON"),)) == [[]]


def test_a_request_that_cannot_be_read_as_a_whole_is_answered_by_what_can(tmp_path: Path) -> None:
    (told,) = answered(
        tmp_path,
        (
            (REQUESTS, {"task_id": "a", "workers": "two", "observed_at": 7}),
            (REQUESTS, {"task_id": "b", "op": "submit it", "observed_at": "then"}),
            (REQUESTS, {"task_id": "c", "op": "cancel", "task_ids": ["d"]}),
            (REQUESTS, {"task_id": 3, "op": "cancel"}),
            (REQUESTS, {"task_id": "x" * 300}),
        ),
    )
    assert outline(told) == [
        ("a", "submit", "refused", ""),
        ("b", "submit", "refused", ""),
        ("c", "cancel", "refused", ""),
    ]
    assert [answer.observed_at for answer in told] == [7, None, None]
    assert [answer.offset for answer in told] == [1, 2, 3]
    assert "workers" in told[0].reason
