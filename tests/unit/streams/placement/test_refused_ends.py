"""A refused request is told to whoever waits for its task: by name where it could be read, by id in any case."""

import msgspec
import pytest

from thalweg.scheduling.decisions.decide import RequestOrigin
from thalweg.scheduling.ids import TaskId
from thalweg.streams.contract.messages import TaskEnd, TaskRequest
from thalweg.streams.placement.ends import LONGEST_REASON, refused_end
from thalweg.streams.placement.inbox import Malformed, ReceivedRequest

ORIGIN = RequestOrigin(topic="t.requests", partition=1, offset=7, timestamp_ms=5_000)
READ = ReceivedRequest(
    request=TaskRequest(op="submit", task_id="t", name="nightly", tenant="lab"),
    raw="{}",
    content_hash="",
    origin=ORIGIN,
)
UNREAD = Malformed(reason="no JSON", key=b"t", value=b"{", origin=ORIGIN)


def end_of(item: Malformed | ReceivedRequest, reason: str = "why") -> TaskEnd:
    record = refused_end(item, TaskId("t"), reason, "t")
    assert (record.topic, record.key) == ("t.results", b"t")
    end = msgspec.json.decode(record.value or b"", type=TaskEnd)
    assert (end.state, end.topic, end.partition, end.offset, end.ended_at) == ("refused", "t.requests", 1, 7, 5_000)
    return end


def test_a_request_that_could_be_read_is_told_by_its_name_and_tenant() -> None:
    end = end_of(READ)
    assert (end.task_id, end.name, end.tenant, end.reason) == ("t", "nightly", "lab", "why")


def test_one_that_could_not_has_its_tasks_id_and_nobodys_name() -> None:
    end = end_of(UNREAD)
    assert (end.task_id, end.name, end.tenant) == ("t", None, "default")
    assert end.event_id == end_of(READ).event_id, "it is the same record's refusal"


@pytest.mark.parametrize("length", [LONGEST_REASON - 1, LONGEST_REASON, LONGEST_REASON + 1])
def test_a_long_reason_is_cut(length: int) -> None:
    assert end_of(UNREAD, "x" * length).reason == "x" * min(length, LONGEST_REASON)
