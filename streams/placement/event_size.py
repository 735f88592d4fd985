"""How large the event can be that follows from a request: what is accepted must fit its topic, wherever it is placed.

An assignment names every node it takes and every GPU on it, so a small request for many workers makes a large event.
Which nodes these are is known only when the ledger has decided; whether the event fits is known before.
"""

from typing import Final

import msgspec

from thalweg.scheduling.ids import RegionId
from thalweg.streams.contract.messages import AssignmentEvent, NodeShare, PerWorker, TaskRequest
from thalweg.streams.contract.topics import ASSIGNMENTS

_ENCODER: Final = msgspec.json.Encoder()

# Ids of 256 characters that JSON writes with six bytes each, and the largest numbers.
_LONGEST_SHARE: Final = NodeShare(
    node_id="\1" * 256,
    workers=10_000,
    gpus=1_024,
    gpu_milli=1_024_000,
    devices=[0],
    cpus=1_234_567_890.125,
    memory_gb=12_345_678_901.125,
)
SHARE_BYTES: Final = len(_ENCODER.encode(_LONGEST_SHARE)) + 1
DEVICE_BYTES: Final = len("1023,")
JSON_GROWS: Final = 8
"""A character of a request takes at most six bytes in the event, and its id stands there twice."""
WORDS_BYTES: Final = 16_384
"""The region, the plan's reason, ids, times, the record's headers: none of them comes from the request."""


def largest_event_bytes(request: TaskRequest) -> int:
    """Most bytes of any record that tells a region to run the task."""
    told = AssignmentEvent(
        event_id="-",
        type="assign",
        task_id=request.task_id,
        epoch=0,
        region=RegionId("-"),
        kind=request.kind,
        expected_s=request.expected_s,
        command=request.command,
        image=request.image,
        env=request.env,
        secrets=request.secrets,
        time_limit_s=request.time_limit_s,
        array_index=None if request.array is None else request.array.count,
        array_count=None if request.array is None else request.array.count,
        requested_at=request.observed_at,
    )
    key_bytes = len(request.task_id.encode())
    return len(_ENCODER.encode(told)) + key_bytes + _nodes_bytes(request) + WORDS_BYTES


def _nodes_bytes(request: TaskRequest) -> int:
    """Most bytes of the nodes that such an event names."""
    parts = [(part.workers, part.per_worker) for part in request.subtasks] or [
        (max(request.workers, request.max_workers or 0), request.per_worker)
    ]
    shares = sum(workers for workers, _ in parts)
    devices = sum(workers * _devices(each) for workers, each in parts)
    return shares * SHARE_BYTES + devices * DEVICE_BYTES


def event_bytes_by_length(request: TaskRequest, raw: bytes | str) -> int:
    """Most bytes of such a record, by the request's own length: more than the truth, and told without writing it."""
    return JSON_GROWS * len(raw) + WORDS_BYTES + _nodes_bytes(request)


def objection(request: TaskRequest, raw: bytes | str) -> str | None:
    """Say why a request's event might not fit its topic; None where it always does.

    Args:
        request: as decoded.
        raw: as it came: what the event takes from it is no longer, however it is written anew.
    """
    most = ASSIGNMENTS.max_message_bytes
    if event_bytes_by_length(request, raw) <= most or (seen := largest_event_bytes(request)) <= most:
        return None
    return (
        f"the assignment that follows may take {seen:,} bytes, with a node's name for each worker: allowed are "
        f"{most:,}. Ask for fewer workers, or put what the command carries into storage and pass its address"
    )


def _devices(worker: PerWorker) -> int:
    return worker.gpus or (1 if worker.gpu_milli else 0)
