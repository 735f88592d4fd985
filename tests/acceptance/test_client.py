"""The client library against a real broker; the test itself plays the place job and the region."""

import json
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner
from kafka import KafkaConsumer

from thalweg.agent.store import status_record
from thalweg.cli.main import cli
from thalweg.client.client import Client, InvalidRequestError, OutcomeState, RequestRefusedError, WaitTimeoutError
from thalweg.conf.settings import KafkaSettings
from thalweg.streams.broker.admin import ensure_topics
from thalweg.streams.broker.deadletter import RefusedRecord, dead_letter
from thalweg.streams.broker.errors import BrokerUnavailableError, FenceError, MessageTooLargeError
from thalweg.streams.broker.publish import KafkaPublisher, OutgoingRecord, outgoing
from thalweg.streams.contract.envelope import Envelope, read_headers
from thalweg.streams.contract.messages import AssignmentEvent, StatusEvent, TaskEnd, TaskRequest
from thalweg.streams.contract.topics import ANSWERS, ASSIGNMENTS, REQUESTS, RESULTS, topic_name

pytestmark = pytest.mark.acceptance
REGION = "aws:us-east-1"


class Installation:
    """A broker with the topics, and whatever the test says in the name of the jobs and the region."""

    def __init__(self, bootstrap: str) -> None:
        self.kafka = KafkaSettings(bootstrap_servers=bootstrap, topic_prefix=f"client-{uuid.uuid4().hex[:8]}")
        ensure_topics(self.kafka, [REGION])
        self.publisher = KafkaPublisher(self.kafka)

    def client(self) -> Client:
        return Client(kafka=self.kafka)

    def report(self, kind: str, task_id: str, epoch: int = 1, **more: Any) -> None:
        status = StatusEvent(type=kind, region=REGION, task_id=task_id, epoch=epoch, observed_at=1, **more)  # type: ignore[arg-type]
        self.publisher.publish([status_record(status, self.kafka.topic_prefix)])

    def refuse(self, task_id: str, reason: str) -> None:
        refused = RefusedRecord(
            flow="place",
            rule="request",
            reason=reason,
            topic=topic_name(REQUESTS, self.kafka.topic_prefix),
            partition=0,
            offset=0,
            key=task_id.encode(),
            value=b"{}",
            received_ms=1,
        )
        self.publisher.publish([dead_letter(refused, self.kafka.topic_prefix)])

    def letter(self, reason: str, value: bytes, key: bytes | None = None) -> None:
        """A dead letter of what a plain producer has sent."""
        topic = topic_name(REQUESTS, self.kafka.topic_prefix)
        refused = RefusedRecord(
            flow="place", rule="request", reason=reason, topic=topic, partition=0, offset=7, key=key, value=value,
            received_ms=int(time.time() * 1_000),
        )  # fmt: skip
        self.publisher.publish([dead_letter(refused, self.kafka.topic_prefix)])

    def answer(self, *answers: dict[str, Any]) -> None:
        """Answer as the place job does; `observed_at` True is that of the newest request of the task."""
        newest = {json.loads(one.value)["task_id"]: json.loads(one.value)["observed_at"] for one in self.requests()}
        told = [
            answer | {"observed_at": newest[answer["task_id"]]} if answer.get("observed_at") is True else answer
            for answer in answers
        ]
        topic = topic_name(ANSWERS, self.kafka.topic_prefix)
        value = json.dumps({"answers": [{"op": "submit", "answer": "taken"} | answer for answer in told]}).encode()
        self.publisher.publish([OutgoingRecord(topic=topic, key=None, value=value)])

    def assign(self, task_id: str, epoch: int = 1, kind: str = "assign") -> None:
        event = AssignmentEvent(
            event_id=f"{kind}-{task_id}-{epoch}",
            type=kind,
            task_id=task_id,
            epoch=epoch,
            region=REGION,
            decided_at=epoch,  # type: ignore[arg-type]
        )
        envelope = Envelope(event_id=event.event_id, source="/test", event_type=kind, time_ms=1)
        prefix = self.kafka.topic_prefix
        record = outgoing(ASSIGNMENTS, prefix, event, key=task_id, region=REGION, event=envelope)
        self.publisher.publish([record])

    def requests(self) -> list[Any]:
        consumer = KafkaConsumer(
            topic_name(REQUESTS, self.kafka.topic_prefix),
            bootstrap_servers=self.kafka.bootstrap_servers,
            auto_offset_reset="earliest",
            consumer_timeout_ms=3_000,
        )
        found = list(consumer)
        consumer.close()
        return found


@pytest.fixture
def installation(broker: str) -> Iterator[Installation]:
    made = Installation(broker)
    yield made
    made.publisher.close()


def test_a_minimal_request_arrives_with_its_key_its_time_and_its_envelope(installation: Installation) -> None:
    with installation.client() as client:
        assert client.submit({"task_id": "t1", "per_worker": {"gpus": 2}, "colour": "blue"}, keep_unknown=True) == "t1"
        client.submit(TaskRequest(task_id="t2", expected_s=60))
        client.cancel("t1")
    sent = {(record.key, json.loads(record.value)["op"]): record for record in installation.requests()}
    assert set(sent) == {(b"t1", "submit"), (b"t2", "submit"), (b"t1", "cancel")}
    content = json.loads(sent[b"t1", "submit"].value)
    assert content["colour"] == "blue"
    assert content["observed_at"] > 1_700_000_000_000
    envelope = read_headers(sent[b"t1", "submit"].headers)
    assert envelope is not None
    assert (envelope.event_type, envelope.source) == ("request.submit", "/thalweg/client")


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({}, "task_id and task_ids: exactly one of the two is allowed"),
        ({"task_id": "t", "per_worker": {"gpus": 1, "gpu_milli": 5}}, "allowed is one of the two"),
        ({"task_id": "t", "per_worker": {"gpus": -1}}, r"per_worker\.gpus -1: allowed is a whole number from 0 to"),
        ({"task_id": "t", "expected_s": float("nan")}, "expected_s"),
        ({"task_id": "t", "workers": "two"}, "workers"),
        ({"task_id": "t", "op": "cancel"}, "op is 'cancel', but submit was called"),
        ({"task_id": "t", "workers": 10**400}, "not sent"),
        ({"task_id": "t", "data": object()}, "not sent"),
        ({"task_id": "t", "gpus": 8}, r"unknown field 'gpus' \(is 'per_worker\.gpus' meant\?\)"),
        ({"task_id": "t", "depends_on": ["a"]}, "unknown field 'depends_on'"),
        ({"task_id": "t", "deadline": 1_795_933_582}, "looks like seconds"),
        ({"task_id": "t", "stamp": {"ms": 1_795_933_582}}, "looks like seconds"),
    ],
)
def test_what_is_no_request_is_refused_before_sending(
    installation: Installation, request_: dict[str, Any], words: str
) -> None:
    with installation.client() as client, pytest.raises(InvalidRequestError, match=words):
        client.submit(request_)


def test_a_request_over_the_limit_is_refused_before_sending(installation: Installation) -> None:
    with installation.client() as client, pytest.raises(MessageTooLargeError, match="Nothing was sent"):
        client.submit({"task_id": "t", "command": ["x" * 2_000_000]})


def test_waiting_ends_with_success_and_where(installation: Installation) -> None:
    with installation.client() as client:
        client.submit({"task_id": "t"})
        for kind in ("accepted", "running", "succeeded"):
            installation.report(kind, "t", exit_code=0 if kind == "succeeded" else None)
        outcome = client.wait("t", timeout_s=20)
    assert (outcome.state, outcome.region, outcome.epoch, outcome.exit_code) == (OutcomeState.SUCCEEDED, REGION, 1, 0)


def test_a_failed_run_is_no_end_until_the_last_attempt(installation: Installation) -> None:
    with installation.client() as client:
        client.submit({"task_id": "t"})
        installation.report("failed", "t", 1, detail="exit code 3")
        with pytest.raises(WaitTimeoutError, match="last seen: failed in aws:us-east-1, epoch 1 exit code 3"):
            client.wait("t", timeout_s=1)
        installation.report("failed", "t", 1)  # the same run, reported again
        installation.report("failed", "t", 2)
        with pytest.raises(WaitTimeoutError):
            client.wait("t", timeout_s=1)
        installation.report("failed", "t", 3, detail="again")
        assert client.wait("t", timeout_s=20).state is OutcomeState.FAILED


def test_a_task_of_two_copies_has_succeeded_when_both_have(installation: Installation) -> None:
    with installation.client() as client:
        client.submit({"task_id": "t", "replicas": 2})
        installation.report("succeeded", "t", 1)
        with pytest.raises(WaitTimeoutError):
            client.wait("t", timeout_s=1)
        installation.report("succeeded", "t", 2)
        assert client.wait("t", timeout_s=20).state is OutcomeState.SUCCEEDED


def test_a_refused_request_says_why(installation: Installation) -> None:
    with installation.client() as client:
        client.submit({"task_id": "t"})
        installation.refuse("t", "it was submitted before with other content")
        with pytest.raises(RequestRefusedError, match="task 't' was refused: it was submitted before"):
            client.wait("t", timeout_s=20)


def test_a_cancelled_task_ends_with_its_revocation(installation: Installation) -> None:
    with installation.client() as client:
        client.submit({"task_id": "t"})
        installation.report("running", "t")
        client.cancel("t")
        installation.report("revoked", "t")
        assert client.wait("t", timeout_s=20).state is OutcomeState.CANCELLED


def test_somebody_elses_task_can_be_waited_for(installation: Installation) -> None:
    with installation.client() as client:
        client.submit({"task_id": "mine"})
        installation.report("succeeded", "mine")
        installation.report("succeeded", "theirs")
        assert client.wait("mine", timeout_s=20).task_id == "mine"
        assert client.wait("theirs", timeout_s=20).task_id == "theirs"


def test_assignments_come_once_and_what_was_not_finished_comes_again(
    installation: Installation, tmp_path: Path
) -> None:
    state = tmp_path / "fence.sqlite"
    for task_id in ("a", "b", "c"):
        installation.assign(task_id)
    installation.assign("a")
    with installation.client() as client:
        seen = []
        for event in client.assignments(REGION, state=state):
            if event.task_id == "b":
                break  # b is not done
            seen.append(event.task_id)
        assert seen == ["a"]
        assert [e.task_id for e in client.assignments(REGION, state=state, idle_s=2)] == ["b", "c"]
        installation.assign("a", 2, "revoke")
        installation.assign("b")
        assert [(e.type, e.task_id) for e in client.assignments(REGION, state=state, idle_s=2)] == [("revoke", "a")]


def test_a_fence_of_another_installation_is_refused(installation: Installation, broker: str, tmp_path: Path) -> None:
    state = tmp_path / "fence.sqlite"
    with installation.client() as client:
        assert list(client.assignments(REGION, state=state, idle_s=0.5)) == []
    other = Installation(broker)
    with other.client() as client, pytest.raises(FenceError, match="belongs to topic prefix"):
        list(client.assignments(REGION, state=state, idle_s=0.5))


def test_without_a_broker_the_client_says_what_to_do() -> None:
    with pytest.raises(BrokerUnavailableError, match="thalweg up"):
        Client(kafka=KafkaSettings(bootstrap_servers="127.0.0.1:1", request_timeout_ms=500))


def call(installation: Installation, *arguments: str, input_: str | None = None) -> tuple[int, str]:
    settings = ["--set", f"kafka.bootstrap_servers={installation.kafka.bootstrap_servers}"]
    settings += ["--set", f"kafka.topic_prefix={installation.kafka.topic_prefix}"]
    if arguments[0] in ("submit", "cancel") and "--answer" not in arguments:
        settings += ["--answer", "0"]  # there is no place job
    result = CliRunner().invoke(cli, [*arguments, *settings], input=input_)
    return result.exit_code, result.output


def test_submit_takes_options_files_and_standard_input(installation: Installation, tmp_path: Path) -> None:
    code, out = call(installation, "submit", "--task", "t1", "--gpus", "2", "--data", "aws:us-east-1=12.5", "--json")
    told = {"tasks": [{"task_id": "t1", "state": "submitted", "answer": None}], "format": "options", "losses": []}
    assert (code, json.loads(out)) == (0, told)
    file = tmp_path / "tasks.jsonl"
    file.write_text('{"task_id": "t2"}\n{"task_id": "t3", "workers": 2}\n')
    assert call(installation, "submit", str(file)) == (0, "t2 submitted\nt3 submitted\n")
    assert call(installation, "submit", "-", input_='[{"task_id": "t4"}]') == (0, "t4 submitted\n")
    said = "t2: cancel sent, not answered\nt3: cancel sent, not answered\n"
    assert call(installation, "cancel", "t2", "t3") == (0, said)
    sent = [json.loads(record.value) for record in installation.requests()]
    assert [one["task_ids"] for one in sent if one["op"] == "cancel"] == [["t2", "t3"]]
    assert sorted(one["task_id"] for one in sent if one["op"] == "submit") == ["t1", "t2", "t3", "t4"]
    (first,) = [one for one in sent if one.get("task_id") == "t1"]
    assert first["data"] == [{"region": "aws:us-east-1", "size_gb": 12.5}]


def test_a_task_without_an_id_gets_the_same_one_each_time(installation: Installation) -> None:
    once = call(installation, "submit", "--gpus", "1")
    assert once == call(installation, "submit", "--gpus", "1")
    assert once != call(installation, "submit", "--gpus", "2")


@pytest.mark.parametrize(
    ("arguments", "text", "words"),
    [
        (["submit"], None, "nothing to submit"),
        (["submit", "-"], "{not json", "line 1"),
        (["submit", "-"], "[1]", "wanted is a mapping, seen int"),
        (["submit", "-"], "[]", "holds no task"),
        (["submit", "-"], '{"task_id": "t", "workers": 0}', "not sent"),
        (["submit", "--data", "nowhere"], None, "REGION=GB"),
        (
            ["submit", "-", "--gpus", "8"],
            '{"task_id": "t"}',
            "--gpus beside -: what a file says of a task is said there",
        ),
        (["submit", "-", "--spot"], '{"task_id": "t"}', "--spot beside"),
        (["submit", "-"], '{"task_id": "t", "gpus": 8}', "is 'per_worker.gpus' meant?"),
        (["submit", "-"], '{"task_id": "t"}\n{"task_id": "t", "workers": 2}', "task 2 of -: task_id 't' stands before"),
        (["submit", "-"], "[" * 100_000, "nested too deep"),
        (["submit", "--command", "bash -c 'exit"], None, "No closing quotation"),
        (["submit", "--task", "t", "--set", "kafka.nonsense=1"], None, "no such setting"),
    ],
)
def test_a_wrong_call_ends_with_2_and_says_what_is_wrong(
    installation: Installation, arguments: list[str], text: str | None, words: str
) -> None:
    code, out = call(installation, *arguments, input_=text)
    assert code == 2
    assert words in out


def test_submit_can_wait_for_the_end(installation: Installation) -> None:
    installation.report("succeeded", "t9", exit_code=0)
    code, out = call(installation, "submit", "--task", "t9", "--wait", "20", "--json")
    assert code == 0
    assert json.loads(out)["tasks"][0] | {"detail": ""} == {
        "task_id": "t9",
        "state": "succeeded",
        "region": REGION,
        "epoch": 1,
        "exit_code": 0,
        "detail": "",
        "answer": None,
    }


def test_a_file_of_another_system_is_sent_as_a_request(installation: Installation, tmp_path: Path) -> None:
    (tmp_path / "sky.yaml").write_text("resources: {accelerators: A100:8, disk_size: 100}\nrun: date\n")
    code, out = call(installation, "submit", str(tmp_path / "sky.yaml"))
    assert code == 0, out
    assert "line 1: resources.disk_size: 100: not said" in out
    (sent,) = installation.requests()
    assert json.loads(sent.value)["per_worker"] == {"gpus": 8, "gpu_models": ["A100"]}


def test_the_end_that_the_place_job_tells_brings_the_results(installation: Installation) -> None:
    with installation.client() as client:
        client.submit({"task_id": "t"})
        told = TaskEnd(event_id="e", task_id="t", state="succeeded", tenant="x", ended_at=1, result={"best": 3})
        topic = topic_name(RESULTS, installation.kafka.topic_prefix)
        installation.publisher.publish([OutgoingRecord(topic=topic, key=b"t", value=msgspec.json.encode(told))])
        assert client.wait("t", timeout_s=20).result == {"best": 3}


def test_a_command_is_taken_apart_as_a_shell_does(installation: Installation) -> None:
    assert call(installation, "submit", "--task", "t", "--command", "bash -c 'exit 0'")[0] == 0
    (sent,) = installation.requests()
    assert json.loads(sent.value)["command"] == ["bash", "-c", "exit 0"]


def test_a_new_id_runs_it_again(installation: Installation) -> None:
    first = call(installation, "submit", "--gpus", "1", "--new")
    assert first != call(installation, "submit", "--gpus", "1", "--new")
    assert call(installation, "submit", "--task", "t", "--new")[1].startswith("t-20")


def test_the_answer_to_ones_own_request_is_told_from_others(installation: Installation) -> None:
    with installation.client() as client:
        client.submit({"task_id": "t"})
        installation.answer({"task_id": "t", "answer": "refused", "reason": "of somebody else", "observed_at": 1})
        assert client.answered(["t"], timeout_s=1) == {}
        installation.answer({"task_id": "t", "state": "waiting", "observed_at": True})
        assert client.answered(["t"], timeout_s=20)["t"].answer == "taken"
        installation.letter("of somebody else", b'{"task_id": "t", "observed_at": 1}', key=b"t")
        installation.report("succeeded", "t")
        assert client.wait("t", timeout_s=20).state is OutcomeState.SUCCEEDED


def test_a_refused_request_is_known_by_its_answer_before_the_dead_letter(installation: Installation) -> None:
    with installation.client() as client:
        client.submit({"task_id": "t"})
        installation.answer({"task_id": "t", "answer": "refused", "reason": "other content", "observed_at": True})
        with pytest.raises(RequestRefusedError, match="other content"):
            client.wait("t", timeout_s=20)


def test_a_task_that_had_ended_before_it_was_submitted_again_has_that_end(installation: Installation) -> None:
    with installation.client() as client:
        client.submit({"task_id": "t"})
        installation.answer(
            {"task_id": "t", "answer": "known", "state": "failed", "reason": "exit code 3", "observed_at": True}
        )
        outcome = client.wait("t", timeout_s=20)
    assert (outcome.state, outcome.detail, outcome.region) == (OutcomeState.FAILED, "exit code 3", "")


def test_a_waiting_task_that_is_cancelled_has_ended(installation: Installation) -> None:
    with installation.client() as client:
        client.cancel("t")
        installation.answer({"task_id": "t", "op": "cancel", "state": "cancelled", "observed_at": True})
        assert client.wait("t", timeout_s=20).state is OutcomeState.CANCELLED


def test_a_cancelled_task_that_still_runs_has_not_ended(installation: Installation) -> None:
    with installation.client() as client:
        client.cancel("t")
        installation.answer({"task_id": "t", "op": "cancel", "state": "cancelled", "copies": 1, "observed_at": True})
        with pytest.raises(WaitTimeoutError, match="last seen: cancel taken, state cancelled"):
            client.wait("t", timeout_s=1)
        installation.report("revoked", "t")
        assert client.wait("t", timeout_s=20).state is OutcomeState.CANCELLED


@pytest.mark.parametrize("key", [None, b"of its own"])
def test_a_plain_producers_refusal_is_seen_whatever_its_key(installation: Installation, key: bytes | None) -> None:
    with installation.client() as client:
        installation.letter("workers: 0", b'{"task_id": "plain", "workers": 0}', key=key)
        with pytest.raises(RequestRefusedError, match="workers: 0"):
            client.wait("plain", timeout_s=20)


def test_who_is_not_answered_is_told_so(installation: Installation) -> None:
    with installation.client() as client:
        client.submit({"task_id": "t"})
        with pytest.raises(WaitTimeoutError, match="not even an answer to the request"):
            client.wait("t", timeout_s=1)
    code, out = call(installation, "submit", "--task", "u", "--answer", "1")
    assert code == 0
    assert "1 of 1 not answered within 1 s" in out


def test_refusals_are_listed_newest_first_with_whose_they_are(installation: Installation) -> None:
    installation.letter("first", b'{"task_id": "a"}')
    installation.letter("second", b"no JSON", key=b"k")
    code, out = call(installation, "refused", "--json")
    found = json.loads(out)
    assert code == 0
    assert [(row["what"], row["reason"]) for row in found["refused"]] == [("k", "second"), ("a", "first")]
    assert (found["in_all"], found["refused"][1]["value"]) == (2, '{"task_id": "a"}')
    assert json.loads(call(installation, "refused", "--json", "--task", "a")[1])["in_all"] == 1
    assert json.loads(call(installation, "refused", "--json", "--limit", "1")[1])["refused"][0]["what"] == "k"
    assert "2 of 2 refused since 1d ago" in call(installation, "refused")[1]
    assert call(installation, "refused", "--since", "17")[0] == 2
    assert call(installation, "refused", "--since", "99999999999d ago")[0] == 2


def test_nothing_refused_is_said(installation: Installation) -> None:
    assert call(installation, "refused")[1].endswith("Nothing was refused since 1d ago\n")
