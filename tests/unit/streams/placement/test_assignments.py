"""What an assignment's event says of each node beyond the ledger's row: what its workers take, from the request."""

import json

import msgspec

from thalweg.scheduling.world.tasks import Change, Share, Transition
from thalweg.streams.contract.messages import AssignmentEvent
from thalweg.streams.placement.assignments import event_record
from thalweg.streams.placement.event_ids import event_id_of


def event(request: dict[str, object], *shares: Share) -> AssignmentEvent:
    row = Transition(change=Change.ASSIGNED, task_id="t", decided_ms=1, epoch=1, region="a", shares=shares)
    record = event_record(row, event_id_of(row) or "", json.dumps(request), "t")
    return msgspec.json.decode(record.value or b"", type=AssignmentEvent)


def share(node_id: str, workers: int) -> Share:
    return Share(node_id=node_id, workers=workers, gpus=0, gpu_milli=0, devices=())


def test_a_share_says_the_cpus_and_the_memory_of_all_its_workers() -> None:
    request = {"task_id": "t", "workers": 5, "per_worker": {"cpus": 1.5, "memory_gb": 2}}
    told = event(request, share("n1", 3), share("n2", 2))
    assert [(s.node_id, s.cpus, s.memory_gb) for s in told.nodes] == [("n1", 4.5, 6), ("n2", 3, 4)]


def test_shares_of_unlike_parts_follow_their_order() -> None:
    parts = [
        {"subtask_id": "a", "workers": 3, "per_worker": {"cpus": 1}},
        {"subtask_id": "b", "workers": 2, "per_worker": {"cpus": 10, "memory_gb": 5}},
    ]
    told = event({"task_id": "t", "subtasks": parts}, share("n1", 2), share("n2", 1), share("n2", 2))
    assert [(s.cpus, s.memory_gb) for s in told.nodes] == [(2, 0), (1, 0), (20, 10)]


def test_the_events_id_does_not_depend_on_what_was_added() -> None:
    request: dict[str, object] = {"task_id": "t", "per_worker": {"cpus": 1}}
    assert event(request, share("n1", 1)).event_id == event({"task_id": "t"}, share("n1", 1)).event_id
