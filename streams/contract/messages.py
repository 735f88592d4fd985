"""The messages: one msgspec type each, from which decoding, checking and the published JSON Schema all follow.

Unknown fields are kept: nothing here forbids them, and the place job stores a request's raw text in the ledger. Unknown
enum values, wrong types and values out of range are refused with the path of the offending field.
"""

from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from thalweg.scheduling.ids import RegionId, TaskId
from thalweg.scheduling.pack.need import GPU_MILLI, MAX_DEVICES

# Limits keep one message from moving the arithmetic out of what a float or a plan can hold; they are far above the
# largest machine rooms in the public traces (openb: 6,212 GPUs, 94 cores and 8 GPUs a node).
Identifier = Annotated[str, Meta(min_length=1, max_length=256)]
Task = Annotated[TaskId, Meta(min_length=1, max_length=256)]
Region = Annotated[RegionId, Meta(min_length=1, max_length=180)]
Gpus = Annotated[int, Meta(ge=0, le=MAX_DEVICES)]
GpuMilli = Annotated[int, Meta(ge=0, le=1_000)]
NodeGpuMilli = Annotated[int, Meta(ge=0, le=MAX_DEVICES * GPU_MILLI)]
Workers = Annotated[int, Meta(ge=1, le=10_000)]
NodeCpus = Annotated[float, Meta(ge=0)]
NodeMemoryGb = Annotated[float, Meta(ge=0)]
Cpus = Annotated[float, Meta(ge=0, le=100_000)]
MemoryGb = Annotated[float, Meta(ge=0, le=1_000_000)]
SizeGb = Annotated[float, Meta(ge=0, le=1e9)]
Seconds = Annotated[float, Meta(ge=0, le=1e9)]
Usd = Annotated[float, Meta(ge=0, le=1e9)]
Ms = Annotated[float, Meta(ge=0, le=1e9)]
Gbps = Annotated[float, Meta(ge=0, le=1e6)]
EpochMs = Annotated[int, Meta(ge=0, le=253_402_300_799_999)]
Count = Annotated[int, Meta(ge=0, le=9_007_199_254_740_991)]
Share = Annotated[float, Meta(ge=0, le=1)]
Replicas = Annotated[int, Meta(ge=1, le=16)]
Priority = Annotated[int, Meta(ge=0, le=1_000)]


class MessageStamp(Struct, frozen=True, omit_defaults=True):
    """Hybrid logical clock reading of the writer, with its place in the writer's own sequence."""

    ms: EpochMs
    """Wall clock of the reading, milliseconds since 1970."""
    counter: Count = 0
    """Tells readings within one millisecond apart."""
    region: Region | None = None
    """Region of the writer, the last tie-break; null means the record's own."""
    epoch: Count = 0
    """Life of the writer's store; a store lost and made anew begins the next."""
    seq: Count = 0
    """Dense number within (region, epoch), from 1; 0 means the writer does not number its messages."""
    version: Count = 0
    """The entity's own version, where its owner keeps one."""


class PerWorker(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What one worker of a task needs on its node: whole GPUs (`gpus`) or a share of one (`gpu_milli`), not both."""

    gpus: Gpus = 0
    """Whole GPUs."""
    gpu_milli: GpuMilli = 0
    """Share of one GPU, in thousandths."""
    gpu_models: list[Identifier] | None = None
    """Acceptable models; null means any."""
    cpus: Cpus = 0
    """CPU cores; fractions are allowed."""
    memory_gb: MemoryGb = 0
    """Memory in GB (10⁹ bytes)."""


class Dataset(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """An input of a task: a known dataset, or a region that holds the bytes."""

    dataset: Identifier | None = None
    """Name of a replicated record that says where the dataset lies."""
    region: Region | None = None
    """Region that holds the bytes."""
    size_gb: SizeGb = 0
    """Size in GB (10⁹ bytes); 0 takes the size that the dataset's record names."""


class Subtask(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A part of a large task; all parts are placed together."""

    subtask_id: Identifier
    """Name of the part within its task."""
    workers: Workers = 1
    """Number of identical workers."""
    per_worker: PerWorker = PerWorker()
    """What each of them needs."""


class TaskRequest(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Submit, update or cancel a task. Only `task_id` is required; a task without needs takes one worker of nothing."""

    task_id: Task
    """Id of the task, chosen by the application; the record's key as well."""
    op: Literal["submit", "update", "cancel"] = "submit"
    """What to do. A repeated submit with the same content is harmless; with other content it is refused."""
    tenant: Identifier = "default"
    """Who the task belongs to."""
    kind: Literal["train", "infer", "batch", "federated"] = "batch"
    """What the task is; agents receive it with the assignment."""
    priority: Priority = 500
    """Higher goes first."""
    workers: Workers = 1
    """Number of identical workers, placed together in one pool."""
    per_worker: PerWorker = PerWorker()
    """What each worker needs."""
    expected_s: Seconds = 3_600
    """Expected running time in seconds: costs are weighed over it."""
    data: list[Dataset] = []
    """Inputs: their egress, and the GPUs that wait for them, are part of the cost."""
    origin_region: Region | None = None
    """Where the callers are: latency is measured from there."""
    max_rtt_ms: Ms | None = None
    """Round trip allowed between `origin_region` and the task's region; null means any."""
    allowed_regions: list[Region] | None = None
    """Residency: the task runs in one of these; null means any."""
    replicas: Replicas = 1
    """Full copies, each in a region of its own."""
    preemptible: bool = True
    """Whether a copy may be stopped for a task of higher priority; it then waits again."""
    spot_ok: bool = False
    """Whether it may run on spot capacity."""
    deadline: EpochMs | None = None
    """When it should have finished, milliseconds since 1970: it goes before its equals as the time to start nears."""
    max_usd_per_hour: Usd | None = None
    """Most it may cost, in US dollars an hour and copy; null means any price."""
    command: list[str] | None = None
    """Program and arguments for the process runner."""
    image: str | None = None
    """Container image, handed to the agent as it is."""
    subtasks: list[Subtask] = []
    """Parts of a large task, instead of `workers` and `per_worker`; all are placed together (gang)."""
    splittable: bool = False
    """Whether it may run on fewer workers than asked for; the same as `min_workers: 1` where that is not set."""
    min_workers: Workers | None = None
    """Elastic: fewest workers it runs with. It starts smaller where room is short and shrinks before others leave."""
    max_workers: Workers | None = None
    """Elastic: most workers it grows to while GPUs are idle; null means not above `workers`."""
    spread_workers: bool = False
    """Every worker on a node of its own (anti-affinity)."""
    observed_at: EpochMs | None = None
    """When the application made the request, milliseconds since 1970."""
    stamp: MessageStamp | None = None
    """The application's clock reading, where it keeps one."""


class NodeShare(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What an assignment takes of one node."""

    node_id: Identifier
    """The node."""
    workers: Workers = 1
    """Workers of the task on it."""
    gpus: Gpus = 0
    """Whole GPUs of the node, all workers together."""
    gpu_milli: NodeGpuMilli = 0
    """Shares of the node's GPUs in thousandths, all workers together."""
    devices: list[Annotated[int, Meta(ge=0, le=MAX_DEVICES - 1)]] = []
    """Indices of the GPUs; one that several workers share is repeated."""
    cpus: NodeCpus = 0
    """CPU cores, all workers together."""
    memory_gb: NodeMemoryGb = 0
    """Memory in GB (10⁹ bytes), all workers together."""


class AssignmentEvent(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Run (assign) or stop (revoke) a task in the topic's region. `event_id` is derived from content."""

    event_id: Identifier
    """Derived from content: a repeated event has the same id."""
    type: Literal["assign", "revoke"]
    """Run the task (assign) or stop it (revoke)."""
    task_id: Task
    """The task; the record's key as well."""
    epoch: Count
    """Rises with every decision about the task; a region ignores what is not above the highest it has seen."""
    region: Region
    """The topic's region."""
    nodes: list[NodeShare] = []
    """Nodes to run on; empty in a revoke."""
    plan_id: str = ""
    """Plan that decided this (table `plans`)."""
    cost_usd_per_hour: float = 0.0
    """Price of the copy in US dollars an hour."""
    reason: str = ""
    """Why, in words."""
    decided_at: EpochMs = 0
    """When it was decided, milliseconds since 1970."""
    stamp: MessageStamp | None = None
    """Clock reading of the decision."""
    kind: str = "batch"
    """Kind of the task."""
    expected_s: Seconds = 0
    """Expected running time in seconds."""
    command: list[str] | None = None
    """Program and arguments for the process runner."""
    image: str | None = None
    """Container image as the request named it."""
    requested_at: EpochMs | None = None
    """The producer's own time of the request, where it gave one: end-to-end latency is read from it."""


class HeldTask(Struct, frozen=True, array_like=True):
    """A task that a region holds, and in which epoch."""

    task_id: Task
    """The task."""
    epoch: Count
    """Epoch in which the region holds it."""


class StatusEvent(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What a region reports: itself (heartbeat, inventory, goodbye) or one of its tasks."""

    type: Literal[
        "heartbeat",
        "inventory",
        "goodbye",
        "accepted",
        "running",
        "progress",
        "succeeded",
        "failed",
        "evicted",
        "revoked",
    ]
    """What is reported; `goodbye` says that the region's agent stops in order and takes nothing new."""
    region: Region
    """Who reports."""
    task_id: Task | None = None
    """Required for the events of a task."""
    epoch: Count = 0
    """Epoch of the assignment that the report speaks of."""
    progress: Share | None = None
    """Share of the work done, 0 to 1."""
    exit_code: int | None = None
    """Exit code of the process, where one ran."""
    detail: str = ""
    """Why, in words: an error's first lines, a reason to evict."""
    agent_id: str = ""
    """Names one start of one agent; a new value means that the agent restarted."""
    tasks: list[HeldTask] = []
    """For `inventory`: every task the region holds."""
    read_to: list[Count] | None = None
    """For `inventory`: how far the region had read its assignments when it made the list, the next offset of each
    partition, by number. An assignment that lies behind cannot be missing from the list."""
    claim: bool = False
    """For `heartbeat`: the first of its agent, which hosts the region from now on; agents before it end."""
    observed_at: EpochMs | None = None
    """When it happened, milliseconds since 1970."""
    stamp: MessageStamp | None = None
    """The region's clock reading."""


class Answer(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What became of one request."""

    task_id: Task
    """The task."""
    op: Literal["submit", "update", "cancel"]
    """What was asked."""
    answer: Literal["taken", "known", "refused"]
    """Taken; nothing new, because it was taken before or the task has ended; or refused."""
    state: str = ""
    """State of the task afterwards, as in the table `tasks`; empty where there is no such task."""
    reason: str = ""
    """Why it was refused, or the last reason that is known of the task."""
    copies: int = 0
    """Copies that the region or regions have to stop because of it."""
    observed_at: EpochMs | None = None
    """The request's own, by which its sender knows it again."""
    partition: Count = 0
    """Where the request lies."""
    offset: Count = 0
    """Where the request lies."""


class Answers(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What became of the requests of a micro-batch. Told once and not repeated; the ledger and the dead letters are."""

    answers: list[Answer]
    """In the order in which they were judged."""


class Sample(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One observation of a node, a link or a price; the fields that belong to `kind` are set."""

    kind: Literal["node", "link", "price"]
    """What is observed; the other fields that belong to it follow."""
    observed_at: EpochMs | None = None
    """When it was observed, milliseconds since 1970; null takes the record's."""
    version: Count = 0
    """The owner's own version of the node, link or price, where it keeps one."""
    node_id: Identifier | None = None
    """node: its id within the region."""
    gpu_model: Identifier | None = None
    """Also the key of a price, together with `spot`."""
    spot: bool = False
    """node, price: spot capacity rather than on-demand."""
    gpus: Gpus | None = None
    """node: GPUs in all."""
    cpus: Cpus | None = None
    """node: CPU cores in all."""
    memory_gb: MemoryGb | None = None
    """node: memory that tasks may have, in GB (10⁹ bytes)."""
    gpu_utilisation: Share | None = None
    """node: share of its GPUs that is busy, 0 to 1."""
    cpu_utilisation: Share | None = None
    """node: share of its CPUs that is busy, 0 to 1."""
    memory_used_gb: MemoryGb | None = None
    """node: memory in use, in GB (10⁹ bytes)."""
    state: Literal["ready", "draining", "gone"] | None = None
    """node: ready takes tasks, draining takes no new ones and keeps those it has, gone has none."""
    dst_region: Region | None = None
    """link: region at the other end; the link starts in the record's region."""
    rtt_ms: Ms | None = None
    """link: round trip in milliseconds."""
    gbps: Gbps | None = None
    """link: bandwidth in Gbit/s."""
    usd_per_gb: Usd | None = None
    """link: price of moving one GB (10⁹ bytes) along it, in US dollars."""
    usd_per_gpu_hour: Usd | None = None
    """price: US dollars for one GPU of `gpu_model` for an hour."""


class TelemetryRecord(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A region's samples with the stamp they share. A plain producer may send `observed_at` (and `version`) instead."""

    region: Region
    """Region that observed the samples."""
    samples: Annotated[list[Sample], Meta(max_length=10_000)]
    """The observations."""
    observed_at: EpochMs | None = None
    """When they were observed, milliseconds since 1970; null takes the stamp's time, then the record's own."""
    stamp: MessageStamp | None = None
    """The region's clock reading, shared by all samples."""


MESSAGES: Final = {
    "requests": TaskRequest,
    "telemetry": TelemetryRecord,
    "status": StatusEvent,
    "assignments": AssignmentEvent,
    "answers": Answers,
}
"""Message type by topic (`streams.contract.topics`), for topics whose record values are ours."""
