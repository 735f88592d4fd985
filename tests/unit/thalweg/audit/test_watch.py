"""The bystander, fed by hand."""

import msgspec
import pytest

from thalweg.audit import watch
from thalweg.audit.watch import Watcher
from thalweg.conf.settings import KafkaSettings
from thalweg.streams.broker.consume import IncomingRecord
from thalweg.streams.contract.messages import AssignmentEvent, NodeShare, StatusEvent
from thalweg.streams.contract.topics import ASSIGNMENTS, DEADLETTER, REQUESTS, STATUS, topic_name

REGION = "aws:us-east-1"
_encode = msgspec.json.Encoder().encode


class NoReader:
    def __init__(self, *_: object, **__: object) -> None: ...


@pytest.fixture
def watcher(monkeypatch: pytest.MonkeyPatch) -> Watcher:
    monkeypatch.setattr(watch, "KafkaReader", NoReader)
    return Watcher(KafkaSettings(), lambda: 0)


def note(watcher: Watcher, topic: str, value: bytes, now_ms: int = 0, **more: object) -> None:
    fields = {"topic": topic, "partition": 0, "offset": 0, "timestamp_ms": 0, "key": None, "value": value} | more
    watcher._note(IncomingRecord(**fields), now_ms)  # type: ignore[arg-type]


def assigned(
    watcher: Watcher, task_id: str, epoch: int = 1, *, now_ms: int = 0, requested_at: int | None = None
) -> None:
    event = AssignmentEvent(
        event_id=f"{task_id}-{epoch}",
        type="assign",
        task_id=task_id,
        epoch=epoch,
        region=REGION,
        nodes=[NodeShare(node_id="n", gpus=2), NodeShare(node_id="m", gpu_milli=500)],
        requested_at=requested_at,
    )
    note(watcher, topic_name(ASSIGNMENTS, "thalweg", REGION), _encode(event), now_ms)


def reported(watcher: Watcher, kind: str, task_id: str | None, epoch: int = 1, region: str = REGION) -> None:
    event = StatusEvent(type=kind, region=region, task_id=task_id, epoch=epoch)  # type: ignore[arg-type]
    note(watcher, topic_name(STATUS, "thalweg", region), _encode(event))


def test_gpus_are_taken_from_assignment_to_end_and_a_repetition_counts_once(watcher: Watcher) -> None:
    assigned(watcher, "t")
    assigned(watcher, "t")
    reported(watcher, "running", "t")
    view = watcher.regions[REGION]
    assert (view.gpus, len(view.running), view.records) == (2.5, 1, 2)
    assert watcher.event_ids == {"t-1": 2}
    reported(watcher, "succeeded", "t")
    assert (view.gpus, len(view.running)) == (0, 0)


def test_latency_is_of_a_tasks_first_assignment_only(watcher: Watcher) -> None:
    assigned(watcher, "t", now_ms=1_150, requested_at=1_000)
    assigned(watcher, "t", 2, now_ms=9_000, requested_at=1_000)
    assigned(watcher, "u", now_ms=5_000)
    assert [(first.task_id, first.latency_ms) for first in watcher.latencies] == [("t", 150.0)]


def test_only_refused_requests_count_as_refused_requests(watcher: Watcher) -> None:
    topic = topic_name(DEADLETTER, "thalweg")
    for source in (REQUESTS, STATUS):
        name = topic_name(source, "thalweg", REGION if source.per_region else None)
        note(watcher, topic, b"x", key=b"k", headers=[("topic", name.encode()), ("reason", b"because")])
    assert watcher.refused_requests == [("k", "because")]


def test_what_is_no_message_of_ours_does_not_end_the_bystander(watcher: Watcher) -> None:
    for topic in (topic_name(ASSIGNMENTS, "thalweg", REGION), topic_name(STATUS, "thalweg", REGION)):
        for value in (b"not json", b'{"type": "dancing"}', b"", b"\xff"):
            note(watcher, topic, value)
    assert watcher.regions[REGION].records == 4
    assigned(watcher, "t")
    assert watcher.event_ids == {"t-1": 1}


def test_the_place_jobs_own_heartbeat_is_no_region(watcher: Watcher) -> None:
    reported(watcher, "heartbeat", None, region="control")
    assert watcher.regions == {}
