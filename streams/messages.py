"""The messages: one msgspec type each, from which decoding, checking and the published JSON Schema all follow.

Unknown fields are kept: nothing here forbids them, and the place job stores a request's raw text in the ledger. Unknown
enum values, wrong types and values out of range are refused with the path of the offending field.
"""

from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

# Limits keep one message from moving the arithmetic out of what a float or a plan can hold; they are far above the
# largest machine rooms in the public traces (openb: 6,212 GPUs, 94 cores and 8 GPUs a node).
Identifier = Annotated[str, Meta(min_length=1, max_length=256)]
Region = Annotated[str, Meta(min_length=1, max_length=180)]
Gpus = Annotated[int, Meta(ge=0, le=1_024)]
GpuMilli = Annotated[int, Meta(ge=0, le=1_000)]
Workers = Annotated[int, Meta(ge=1, le=10_000)]
Cpus = Annotated[float, Meta(ge=0, le=100_000)]
MemoryGb = Annotated[float, Meta(ge=0, le=1_000_000)]
SizeGb = Annotated[float, Meta(ge=0, le=1e9)]
Seconds = Annotated[float, Meta(ge=0, le=1e9)]
Usd = Annotated[float, Meta(ge=0, le=1e9)]
Ms = Annotated[float, Meta(ge=0, le=1e9)]
EpochMs = Annotated[int, Meta(ge=0, le=253_402_300_799_999)]
Count = Annotated[int, Meta(ge=0, le=9_007_199_254_740_991)]
Share = Annotated[float, Meta(ge=0, le=1)]
Replicas = Annotated[int, Meta(ge=1, le=16)]
Priority = Annotated[int, Meta(ge=0, le=1_000)]


class Stamp(Struct, frozen=True, omit_defaults=True):
    """Hybrid logical clock reading of the writer, with its place in the writer's own sequence."""

    ms: EpochMs
    counter: Count = 0
    region: Region | None = None
    epoch: Count = 0
    seq: Count = 0
    version: Count = 0


class PerWorker(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What one worker of a task needs on its node: whole GPUs (`gpus`) or a share of one (`gpu_milli`), not both."""

    gpus: Gpus = 0
    gpu_milli: GpuMilli = 0
    gpu_models: list[Identifier] | None = None
    """Acceptable models; null means any."""
    cpus: Cpus = 0
    memory_gb: MemoryGb = 0


class Dataset(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """An input of a task: a known dataset, or a region that holds the bytes."""

    dataset: Identifier | None = None
    region: Region | None = None
    size_gb: SizeGb = 0


class Subtask(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A part of a large task; all parts are placed together."""

    subtask_id: Identifier
    workers: Workers = 1
    per_worker: PerWorker = PerWorker()


class TaskRequest(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Submit, update or cancel a task. Only `task_id` is required; a task without needs takes one worker of nothing."""

    task_id: Identifier
    op: Literal["submit", "update", "cancel"] = "submit"
    tenant: Identifier = "default"
    kind: Literal["train", "infer", "batch", "federated"] = "batch"
    priority: Priority = 500
    """Higher goes first."""
    workers: Workers = 1
    per_worker: PerWorker = PerWorker()
    expected_s: Seconds = 3_600
    data: list[Dataset] = []
    origin_region: Region | None = None
    max_rtt_ms: Ms | None = None
    """Round trip allowed between `origin_region` and the task's region; null means any."""
    allowed_regions: list[Region] | None = None
    replicas: Replicas = 1
    """Full copies, each in a region of its own."""
    preemptible: bool = True
    spot_ok: bool = False
    deadline: EpochMs | None = None
    max_usd_per_hour: Usd | None = None
    command: list[str] | None = None
    image: str | None = None
    subtasks: list[Subtask] = []
    splittable: bool = False
    min_workers: Workers | None = None
    """Smallest useful share of a splittable task."""
    observed_at: EpochMs | None = None
    stamp: Stamp | None = None


class NodeShare(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What an assignment takes of one node."""

    node_id: Identifier
    workers: Workers = 1
    gpus: Gpus = 0
    gpu_milli: GpuMilli = 0
    devices: list[Annotated[int, Meta(ge=0, le=1_023)]] = []


class AssignmentEvent(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Run (assign) or stop (revoke) a task in the topic's region. `event_id` is derived from content."""

    event_id: Identifier
    type: Literal["assign", "revoke"]
    task_id: Identifier
    epoch: Count
    region: Region
    nodes: list[NodeShare] = []
    plan_id: str = ""
    cost_usd_per_hour: float = 0.0
    reason: str = ""
    decided_at: EpochMs = 0
    stamp: Stamp | None = None
    kind: str = "batch"
    expected_s: Seconds = 0
    command: list[str] | None = None
    image: str | None = None
    requested_at: EpochMs | None = None
    """The producer's own time of the request, where it gave one: end-to-end latency is read from it."""


class HeldTask(Struct, frozen=True, array_like=True):
    """A task that a region holds, and in which epoch."""

    task_id: Identifier
    epoch: Count


class StatusEvent(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What a region reports: itself (heartbeat, inventory) or one of its tasks."""

    type: Literal[
        "heartbeat", "inventory", "accepted", "running", "progress", "succeeded", "failed", "evicted", "revoked"
    ]
    region: Region
    task_id: Identifier | None = None
    """Required for the events of a task."""
    epoch: Count = 0
    progress: Share | None = None
    exit_code: int | None = None
    detail: str = ""
    agent_id: str = ""
    """Names one start of one agent; a new value means that the agent restarted."""
    tasks: list[HeldTask] = []
    """For `inventory`: every task the region holds."""
    observed_at: EpochMs | None = None
    stamp: Stamp | None = None


class Sample(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One observation of a node, a link or a price; the fields that belong to `kind` are set."""

    kind: Literal["node", "link", "price"]
    observed_at: EpochMs | None = None
    version: Count = 0
    # node
    node_id: Identifier | None = None
    gpu_model: Identifier | None = None
    """Also the key of a price, together with `spot`."""
    spot: bool = False
    gpus: Gpus | None = None
    cpus: Cpus | None = None
    memory_gb: MemoryGb | None = None
    gpu_utilisation: Share | None = None
    cpu_utilisation: Share | None = None
    memory_used_gb: MemoryGb | None = None
    state: Literal["ready", "draining", "gone"] | None = None
    # link, from this region to dst_region
    dst_region: Region | None = None
    rtt_ms: Ms | None = None
    gbps: Annotated[float, Meta(ge=0, le=1e6)] | None = None
    usd_per_gb: Usd | None = None
    # price
    usd_per_gpu_hour: Usd | None = None


class TelemetryRecord(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A region's samples with the stamp they share. A plain producer may send `observed_at` (and `version`) instead."""

    region: Region
    samples: Annotated[list[Sample], Meta(max_length=10_000)]
    observed_at: EpochMs | None = None
    stamp: Stamp | None = None


MESSAGES: Final = {
    "requests": TaskRequest,
    "telemetry": TelemetryRecord,
    "status": StatusEvent,
    "assignments": AssignmentEvent,
}
"""Message type by topic (`streams.topics`), for topics whose record values are ours."""
