"""The window's hands at a real broker; the test plays the place job."""

import asyncio
import json
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from kafka import KafkaConsumer

from tests.unit.thalweg.window.conftest import OpenWindow, Serving
from tests.unit.thalweg.window.conftest import serving as serving
from thalweg.conf.settings import KafkaSettings
from thalweg.streams.broker.admin import ensure_topics
from thalweg.streams.broker.publish import KafkaPublisher, OutgoingRecord
from thalweg.streams.contract.topics import ANSWERS, REQUESTS, topic_name
from thalweg.sync.clock import system_clock
from thalweg.window.acts import ActSender
from thalweg.window.keys import Caller

pytestmark = pytest.mark.acceptance


class PlayedPlace:
    """Answers every request as the place job would: a known id again, a refused one with its reason."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self.kafka = kafka
        self.seen: list[dict[str, Any]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        requests = topic_name(REQUESTS, self.kafka.topic_prefix)
        consumer = KafkaConsumer(requests, bootstrap_servers=self.kafka.bootstrap_servers, auto_offset_reset="earliest")
        taken: set[str] = set()
        with KafkaPublisher(self.kafka) as publisher:
            while not self._stop.is_set():
                for records in consumer.poll(50).values():
                    answers = [self._answer(json.loads(record.value), taken) for record in records]
                    value = json.dumps({"answers": [one for one in answers if one is not None]}).encode()
                    topic = topic_name(ANSWERS, self.kafka.topic_prefix)
                    publisher.publish([OutgoingRecord(topic=topic, key=None, value=value)])
        consumer.close()

    def _answer(self, request: dict[str, Any], taken: set[str]) -> dict[str, Any] | None:
        self.seen.append(request)
        task_id = request["task_id"]
        told = {"task_id": task_id, "op": request["op"], "observed_at": request["observed_at"], "state": "waiting"}
        if task_id.startswith("silent"):
            return None
        if task_id.startswith("wrong"):
            return told | {"answer": "refused", "reason": "allowed_regions has no region that is known", "state": ""}
        known = request["op"] == "submit" and task_id in taken
        taken.add(task_id)
        return told | {"answer": "known" if known else "taken"}

    def close(self) -> None:
        self._stop.set()
        self._thread.join()


@pytest.fixture
def place(broker: str) -> Iterator[PlayedPlace]:
    kafka = KafkaSettings(bootstrap_servers=broker, topic_prefix=f"window-{uuid.uuid4().hex[:8]}")
    ensure_topics(kafka, ["aws:us-east-1"])
    played = PlayedPlace(kafka)
    yield played
    played.close()


def post(window: OpenWindow, path: str, body: object = None, key: str = "all") -> tuple[int, Any]:
    status, found, _ = window.ask(f"/v1/tasks{path}?wait_s=30", method="POST", body=body, key=key)
    return status, found


def test_requests_are_answered_with_the_words_of_the_place_job(
    place: PlayedPlace, serving: Serving, tmp_path_factory: pytest.TempPathFactory
) -> None:
    window = serving(str(tmp_path_factory.mktemp("warehouse")), connect=lambda: place.kafka)
    request = {"task_id": "train-1", "per_worker": {"gpus": 2}}
    assert post(window, "", request) == (
        201,
        {"task_id": "train-1", "answer": "taken", "status": 201, "state": "waiting", "reason": None},
    )
    assert post(window, "", request)[0] == 200, "the same again is known"
    assert post(window, "", {"task_id": "wrong-1"}) == (
        409,
        {
            "task_id": "wrong-1",
            "answer": "refused",
            "status": 409,
            "state": None,
            "error": "allowed_regions has no region that is known",
        },
    )
    status, found = post(window, "", {"tasks": [{"task_id": f"many-{number}"} for number in range(300)]})
    assert (status, {row["status"] for row in found["tasks"]}) == (200, {201})
    assert post(window, "/train-1/cancel")[1]["answer"] == "taken"
    status, found, _ = window.ask("/v1/tasks?wait_s=0.2", method="POST", body={"task_id": "silent-1"}, key="all")
    assert (status, found["answer"]) == (202, None)
    assert post(window, "", {"task_id": "ads/of-ads"}, key="ads")[0] == 201
    sent = {one["task_id"]: one for one in place.seen if one["op"] == "submit"}
    assert sent["ads/of-ads"]["tenant"] == "ads"
    assert len({one["observed_at"] for one in place.seen if one["task_id"] == "train-1"}) == 3


def test_many_at_once_are_each_answered_and_one_too_many_is_told_to_come_back(
    place: PlayedPlace, serving: Serving, tmp_path_factory: pytest.TempPathFactory
) -> None:
    async def scene() -> list[Any]:
        hands = ActSender(lambda: place.kafka, system_clock)
        caller = Caller(name="all", may_act=True)
        try:
            asked = (hands.submit([{"task_id": f"t{number}"}], caller, 120.0) for number in range(50))
            return [one for acted in await asyncio.gather(*asked) for one in acted]
        finally:
            await hands.close()

    acted = asyncio.run(scene())
    assert {(one.task_id, one.answer.answer) for one in acted if one.answer} == {(f"t{n}", "taken") for n in range(50)}

    window = serving(str(tmp_path_factory.mktemp("warehouse")), connect=lambda: place.kafka, acts_at_once=1)
    waiting = threading.Thread(target=lambda: post(window, "", {"task_id": "silent-2"}), daemon=True)
    waiting.start()
    while not any(one["task_id"] == "silent-2" for one in place.seen):
        time.sleep(0.02)
    status, found, headers = window.ask("/v1/tasks", method="POST", body={"task_id": "late"}, key="all")
    assert (status, headers["Retry-After"]) == (429, "2")
    assert "nothing was sent" in found["error"]
    assert all(one["task_id"] != "late" for one in place.seen)
