"""The messages: one msgspec type each, from which decoding, checking and the published JSON Schema all follow.

Unknown fields are kept: nothing here forbids them, and the place job stores a request's raw text in the ledger. Unknown
enum values, wrong types and values out of range are refused with the path of the offending field.
"""

from typing import Annotated, Any, Final, Literal

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
Weight = Annotated[float, Meta(gt=0, le=1e6)]
QuotaGpus = Annotated[float, Meta(ge=0, le=1e9)]
Price = Annotated[float, Meta(ge=0, le=1e6)]
Gbps = Annotated[float, Meta(ge=0, le=1e6)]
RequestOp = Literal["submit", "update", "cancel", "hold", "release", "rerun"]
OrderOp = Literal["drain", "undrain", "hold", "release", "tenant", "price", "move"]
EpochMs = Annotated[int, Meta(ge=0, le=253_402_300_799_999)]
Count = Annotated[int, Meta(ge=0, le=9_007_199_254_740_991)]
Share = Annotated[float, Meta(ge=0, le=1)]
Replicas = Annotated[int, Meta(ge=1, le=16)]
Elements = Annotated[int, Meta(ge=1, le=10_000)]
Tries = Annotated[int, Meta(ge=0, le=1_000)]
Priority = Annotated[int, Meta(ge=0, le=1_000)]
VariableName = Annotated[str, Meta(pattern="^[A-Za-z_][A-Za-z0-9_]{0,255}$")]
VariableValue = Annotated[str, Meta(max_length=32_768)]
EndState = Literal["succeeded", "failed", "cancelled", "refused"]
Uri = Annotated[str, Meta(min_length=1, max_length=2_048)]
Digest = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
Base64 = Annotated[str, Meta(pattern="^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$")]


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
    """CPU cores; fractions of 0.001 and more are allowed."""
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


class After(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A task that another starts after."""

    task_id: Task
    """The task; an array's id stands for all of its elements."""
    on: Literal["success", "end"] = "success"
    """Whether it has to succeed, or only to end."""


class TaskArray(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Many tasks of one request: elements `<task_id>[0]`, `<task_id>[1]` and so on, and the task itself for all."""

    count: Elements
    """How many elements there are."""
    at_most: Elements | None = None
    """How many of them may run at once; null means all."""


class TriesByCause(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Tries after failures of one kind; null is as for any, and none after the time limit."""

    start: Tries | None = None
    """It could not be started."""
    exit: Tries | None = None
    """It ended with an exit code."""
    signal: Tries | None = None
    """It was ended by a signal."""
    time_limit: Tries | None = None
    """It ran out of time."""
    memory: Tries | None = None
    """It ran out of memory."""


class Retries(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """How often a run that failed is tried again. Loss of a region, eviction and preemption do not count."""

    at_most: Tries | None = None
    """Tries after the first; null takes what the installation allows (`place.max_attempts`)."""
    back_off_s: Seconds = 0
    """Seconds before the first of them, `most_back_off_s` at most; twice as long before each further one."""
    most_back_off_s: Seconds = 600
    """Longest time between two tries, in seconds."""
    not_on: Annotated[list[int], Meta(max_length=256)] = []
    """Exit codes (1 to 255; a signal's is negative) after which it is not tried again."""
    by_cause: TriesByCause = TriesByCause()
    """Tries after failures of one kind (`cause` in the region's report), within `at_most`. A run that took longer than
    its `time_limit_s` is tried again only if this says so, a command that was not found (exit code 127) elsewhere."""


class TaskRequest(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Submit a task, or do something with one. A task without needs takes one worker of nothing."""

    task_id: Task = TaskId("")
    """Id of the task, chosen by the application, of characters that can be seen and blanks between them; the record's
    key as well. Required, or `task_ids`."""
    task_ids: Annotated[list[Task], Meta(max_length=10_000)] = []
    """Many tasks at once, for cancel, hold, release and rerun; each is answered by itself."""
    op: RequestOp = "submit"
    """What to do. A repeated submit with the same content is harmless; with other content it is refused. What is held
    does not start until it is released; what runs goes on. To rerun is to run what has ended once more."""
    name: Identifier | None = None
    """Name to look for, in the tables and in what is told of its end; tasks may share one."""
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
    value_usd_per_hour: Usd | None = None
    """What an hour's delay of the whole task costs, in US dollars; null takes it from priority and GPUs."""
    command: list[str] | None = None
    """Program and arguments for the process runner."""
    image: str | None = None
    """Container image, handed to the agent as it is."""
    after: Annotated[list[Task | After], Meta(max_length=1_000)] = []
    """Tasks that have to succeed, or to end, before it starts; one that ends the other way cancels it, and so does one
    that is not submitted within `place.parent_wait_ms`."""
    not_before: EpochMs | None = None
    """Moment before which it does not start, milliseconds since 1970."""
    array: TaskArray | None = None
    """Makes it many tasks that differ in their index alone."""
    retries: Retries | None = None
    """How often it is tried again when it fails; null takes what the installation allows, at once."""
    env: dict[VariableName, VariableValue] = {}
    """Environment variables of every worker. Anybody who may read the topic can read them: see `secrets`."""
    secrets: list[VariableName] = []
    """Names of secrets that every worker gets as environment variables, from the store of the region it runs in."""
    time_limit_s: Seconds | None = None
    """Longest time it may run, in seconds from its start (0.001 and more); then it is stopped and has failed. Null
    means any."""
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
    who: Annotated[str, Meta(max_length=256)] = ""
    """For cancel, hold, release and rerun: who wants it. What such a request changes is a row of `audit`."""


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
    env: dict[VariableName, VariableValue] = {}
    """Environment variables of every worker."""
    secrets: list[VariableName] = []
    """Names of secrets of the region's own store that every worker gets as environment variables."""
    time_limit_s: Seconds | None = None
    """Longest time it may run, in seconds; null means any."""
    array_index: Count | None = None
    """Which element of its array it is, from 0; null where it is of none."""
    array_count: Count | None = None
    """How many elements its array has."""
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
        "notice",
        "accepted",
        "running",
        "progress",
        "succeeded",
        "failed",
        "evicted",
        "revoked",
    ]
    """What is reported; `goodbye` says that the region's agent stops in order and takes nothing new, `notice` that
    nodes will be taken away."""
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
    """Why, in words: an error's first lines, a reason to evict; for `heartbeat`, what keeps the agent from its work."""
    cause: Literal["start", "exit", "signal", "time_limit", "memory", "agent"] | None = None
    """For `failed` and `evicted`: it could not be started, ended with an exit code or by a signal, ran out of time or
    memory, or its agent stopped."""
    started_at: EpochMs | None = None
    """When the process began, milliseconds since 1970."""
    checkpointed_at: EpochMs | None = None
    """When the task last made a checkpoint, milliseconds since 1970: what is younger is lost when it is stopped."""
    metrics: dict[Identifier, float] = {}
    """Figures that the task reported, by name."""
    result: dict[str, Any] | None = None
    """Small JSON object that the task left as its result (at most 16,384 bytes)."""
    log: Uri | None = None
    """Where its output lies."""
    artefacts: dict[Identifier, Uri] = {}
    """Where larger results lie, by name."""
    agent_id: str = ""
    """Names one start of one agent; a new value means that the agent restarted."""
    tasks: list[HeldTask] = []
    """For `inventory`: every task the region holds."""
    read_to: list[Count] | None = None
    """For `inventory`: how far the region had read its assignments when it made the list, the next offset of each
    partition, by number. An assignment that lies behind cannot be missing from the list."""
    nodes: Annotated[list[Identifier], Meta(max_length=10_000)] = []
    """For `notice`: the nodes that will be taken away; none is the whole region."""
    by: EpochMs | None = None
    """For `notice`: when they will be, milliseconds since 1970. They take nothing new, and empty until then."""
    claim: bool = False
    """For `heartbeat`: the first of its agent, which hosts the region from now on; agents before it end."""
    needs_command: bool = False
    """For `heartbeat`: the region starts the commands of tasks, and can run none that has no command."""
    observed_at: EpochMs | None = None
    """When it happened, milliseconds since 1970."""
    stamp: MessageStamp | None = None
    """The region's clock reading."""


class Answer(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What became of one request."""

    task_id: Task
    """The task."""
    op: RequestOp
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


class ControlOrder(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What an operator wants of the plane. Orders about one subject follow each other; the last one stands."""

    order: OrderOp
    """What is wanted. `drain`, `undrain`: a region, or one of its nodes, takes nothing new and empties, or takes new
    tasks again. `hold`, `release`: nothing of a tenant starts, or does again. `tenant`: weight and limits of a tenant.
    `price`: ours for a pool. `move`: a copy of a task goes to a region, once."""
    region: Region | None = None
    """For drain, undrain, price and move: the region."""
    node_id: Identifier | None = None
    """For drain and undrain: one node of it; null is all of it."""
    by: EpochMs | None = None
    """For drain: when it has to be empty, milliseconds since 1970; null leaves every copy until another place has room
    for it."""
    tenant: Identifier | None = None
    """For hold, release and tenant: whose."""
    weight: Weight | None = None
    """For tenant: its fair share against the others; null leaves it as it is."""
    quota_gpus: QuotaGpus | None = None
    """For tenant: most GPUs it holds at any moment; null leaves it as it is."""
    budget_usd_per_hour: Usd | None = None
    """For tenant: most that its copies cost an hour, in US dollars; null leaves it as it is."""
    most_tasks: Count | None = None
    """For tenant: so many of its tasks may not have ended at once, what comes beyond is refused; null leaves it as it
    is."""
    gpu_model: Identifier | None = None
    """For price: the pool's GPU model."""
    spot: bool = False
    """For price: spot capacity rather than on-demand."""
    usd_per_gpu_hour: Price | None = None
    """For price: US dollars for one GPU for an hour."""
    reset: bool = False
    """For tenant and price: what was ordered stands no more, and the settings or the region are believed again."""
    task_id: Task | None = None
    """For move: the task."""
    copy: Count | None = None
    """For move: which of its copies; null where it has one."""
    who: Annotated[str, Meta(max_length=256)] = ""
    """Who wants it, for the history."""
    order_id: Annotated[str, Meta(max_length=256)] = ""
    """By which the answer is known again."""
    observed_at: EpochMs | None = None
    """When it was asked, milliseconds since 1970."""


class OrderAnswer(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What became of one order."""

    order: str
    """What was asked."""
    answer: Literal["taken", "known", "refused"]
    """Taken; nothing new; or refused."""
    subject: str = ""
    """What it is about, as in the column `ordered` of `decisions`."""
    reason: str = ""
    """What it changed, or why it was refused."""
    order_id: str = ""
    """The order's own."""
    partition: Count = 0
    """Where the order lies."""
    offset: Count = 0
    """Where the order lies."""


class Answers(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What became of the requests of a micro-batch. Told once and not repeated; the ledger and the dead letters are."""

    answers: list[Answer]
    """In the order in which they were judged."""
    orders: list[OrderAnswer] = []
    """To orders of the `control` topic, in their order."""


class TaskEnd(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The end of a task, or of a request for one that never began. `event_id` is derived from content."""

    event_id: Identifier
    """Derived from content: a repeated event has the same id."""
    task_id: Task
    """The task; the record's key as well."""
    state: EndState
    """How it ended. A task that was lost with its region is placed again and has not ended."""
    tenant: Identifier
    """Who it belongs to."""
    name: Identifier | None = None
    """Its name, where it has one."""
    reason: str = ""
    """Why, in words."""
    attempts: Count = 0
    """Runs that failed."""
    epoch: Count = 0
    """Epoch of its last run; 0 where it never ran."""
    region: Region | None = None
    """Where its last run was."""
    cause: str | None = None
    """Kind of the last failure."""
    exit_code: int | None = None
    """Exit code of its last process."""
    started_at: EpochMs | None = None
    """When that began, milliseconds since 1970."""
    ended_at: EpochMs = 0
    """When the end was decided, milliseconds since 1970."""
    metrics: dict[Identifier, float] = {}
    """Figures that its last run reported, by name."""
    result: dict[str, Any] | None = None
    """Small JSON object that it left as its result."""
    log: Uri | None = None
    """Where the output of its last run lies."""
    artefacts: dict[Identifier, Uri] = {}
    """Where larger results lie, by name."""
    topic: str = ""
    """For `refused`: where the request lies."""
    partition: Count = 0
    """For `refused`: where the request lies."""
    offset: Count = 0
    """For `refused`: where the request lies."""


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


class Payload(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Numbers of a model or of an update: here, or in the store of payloads under their digest."""

    sha256: Digest
    """SHA-256 of the bytes, in hex: their name in the store."""
    size_bytes: Count
    """How many bytes."""
    inline: Base64 | None = None
    """The bytes, in base64; null where they lie in the store (setting `federate.payloads`)."""


class LearningPrivacy(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Differential privacy of participants, in every version that a run makes."""

    clip_norm: Annotated[float, Meta(gt=0, le=1e9)]
    """Euclidean length to which each participant's change is shortened."""
    noise_multiplier: Annotated[float, Meta(gt=0, le=1e6)]
    """Standard deviation of the noise on the sum of changes, in lengths of `clip_norm`."""
    sample_rate: Annotated[float, Meta(gt=0, le=1)]
    """Probability with which a participant is called into a round."""
    delta: Annotated[float, Meta(gt=0, lt=1)]
    """The δ at which ε is told; below one over the number of participants."""
    budget_epsilon: Annotated[float, Meta(gt=0, le=1e6)]
    """A round that would bring ε above this is not opened, and the run ends."""


class LearningSecrecy(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Updates of which the centre sees sums only."""

    largest: Annotated[float, Meta(gt=0, le=1e30)]
    """Of a number of a change, in size. Who has a larger one cannot take part; nothing is clipped."""
    threshold: Annotated[float, Meta(gt=0.5, le=1)] = 0.6
    """Share of a neighbourhood, a participant and its neighbours, that must be there to a round's end."""
    neighbours: Annotated[int, Meta(ge=0, le=20_000)] = 0
    """With how many others each shares masks, an even number; 0 for all."""


class LearningRun(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """How a model is to be learned in rounds."""

    parameters: Annotated[int, Meta(ge=1, le=100_000_000)]
    """Numbers of the model."""
    rounds: Annotated[int, Meta(ge=1, le=1_000_000)]
    """Versions to be made."""
    quorum: Annotated[int, Meta(ge=1, le=1_000_000)] = 1
    """Participants without which no round opens, and updates without which none makes a version."""
    begin_with: Annotated[int, Meta(ge=0, le=20_000)] = 0
    """Participants that the first round waits for; 0 begins with a quorum."""
    per_round: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    """Participants called into a round; 0 calls all."""
    deadline_ms: Annotated[int, Meta(ge=1, le=2_592_000_000)] = 60_000
    """How long a round waits for them, in milliseconds."""
    strategy: Literal["fedavg", "fedbuff", "scaffold"] = "fedavg"
    """How a version follows from the last one."""
    aggregate: Literal["mean", "clipped", "median", "trimmed", "krum"] = "mean"
    """What is made of the updates; all but `mean` bear some that are lies."""
    liars: Annotated[float, Meta(ge=0, le=0.49)] = 0.0
    """Share of a round's updates that may be lies, for `trimmed` and `krum`."""
    codec: Annotated[str, Meta(min_length=1, max_length=64)] = "whole"
    """How updates are written: `whole` or `delta`, then any of `+top=SHARE`, `+bits=8`, `+bits=4`, `+zstd`."""
    downlink: Annotated[str, Meta(min_length=1, max_length=64)] = "whole"
    """How versions are told: `whole`, or `delta`, then any of `+bits=8`, `+bits=4`, `+zstd`: as a change."""
    buffer: Annotated[int, Meta(ge=1, le=100_000)] = 10
    """fedbuff: updates that make a version."""
    most_stale: Annotated[int, Meta(ge=0, le=1_000_000)] = 20
    """fedbuff: versions that an update may be behind."""
    most_samples: Annotated[int, Meta(ge=1, le=536_870_911)] = 1_000_000
    """Samples that one participant may claim."""
    signed: bool = False
    """Whether only participants with a key may join."""
    seed: int = 0
    """Chooses who is called."""
    privacy: LearningPrivacy | None = None
    """Null for none."""
    secrecy: LearningSecrecy | None = None
    """Null where the centre sees each update."""


class ModelUpdate(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What a participant says of a model: that it joins or leaves, or what it has learned. Operators start and stop."""

    kind: Literal["start", "stop", "join", "leave", "update"]
    """`start` and `stop` count only on the topic of the region `@centre`, the others only on those of regions."""
    model: Identifier
    """Name of the run."""
    participant: Annotated[str, Meta(max_length=256)] = ""
    """Who says it."""
    round: Count = 0
    """update: the round that it answers; 0 where updates come at any time (fedbuff)."""
    version: Count = 0
    """update: the version that was trained from."""
    turn: Count = 0
    """update in fedbuff: the participant's own number of it, each higher than the last. update that is secret: which
    exchange of the round it answers, 1 to 4. join and leave: the number of its life, higher than that of the last
    one."""
    samples: Count = 0
    """update: how many it was trained on; 0 where it is secret."""
    payload: Payload | None = None
    """update: written by the run's codec; where it is secret, the answer to the exchange. start: the parameters to
    begin with, float32, little-endian."""
    metrics: dict[Identifier, float] = {}
    """update: what was measured in training, by name; the centre tells the mean by samples."""
    public_key: Annotated[str, Meta(max_length=64)] = ""
    """join: Ed25519, in hex. From then on everything that it says must be signed."""
    signature: Base64 = ""
    """Ed25519, in base64, of what docs/explanation/learning.md says."""
    run: LearningRun | None = None
    """start: how it is to be learned."""
    asked: Annotated[list[Task], Meta(max_length=20_000)] = []
    """start: whom the plane is asked to place, tasks `federated/MODEL/NAME`. When the run ends, those of them who do
    not take part are cancelled; the others end by themselves."""


class ModelState(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A run as it is: the newest version, and the round that is open. Each message says all of it."""

    model: Identifier
    """Name of the run."""
    version: Count
    """Number of the newest version; 0 is what the run began with."""
    payload: Payload
    """Its parameters, float32, little-endian."""
    change: Payload | None = None
    """What they differ by from the version before, written by the run's `downlink`; then `payload` lies in the store.
    Null where the version is told whole: the first one, one that the centre tells after it was started anew, and one
    whose change is too large for a message."""
    run: LearningRun
    """How it is learned."""
    round: Count = 0
    """The open round; 0 for none."""
    called: list[Identifier] = []
    """Who is to answer it; in fedbuff everybody is, at any time, and nobody is named."""
    deadline: EpochMs = 0
    """The broker's time until which an answer counts, milliseconds since 1970; 0 for none."""
    carried: list[Payload] = []
    """Where updates are secret: what each exchange that is over has brought to those who go on. Asked for is the one
    after them."""
    ended: str = ""
    """Why the run has ended; empty while it goes on."""
    epsilon: float | None = None
    """Privacy spent so far; null where the run is not private."""


class ServerStatus(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A model server as it is. Each message says all of it."""

    model: Identifier
    """Name of the model."""
    server: Identifier
    """Name of the server: its task's id, where it is a task."""
    region: Region
    """Where it runs."""
    url: Uri
    """Where it answers: the beginning of its addresses, without /v2."""
    version: Count = 0
    """Number of the version that answers; 0 for none yet."""
    sha256: Digest | None = None
    """SHA-256 of that version, in hex."""
    wanted_version: Count = 0
    """Number of the version that it is to serve; 0 where none is known."""
    trouble: str = ""
    """Why what is wanted is not served."""
    figures: dict[Identifier, float] = {}
    """What it has done since its start: requests, quantiles of their times in milliseconds, swaps."""
    observed_at: EpochMs | None = None
    """When, by its clock, milliseconds since 1970."""


class FlowerCall(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A message of a Flower server app to one participant, or the end of its run."""

    kind: Literal["call", "end"]
    """`end`: nobody is called any more, and participants may go."""
    run: Identifier
    """Name of the run."""
    participant: Annotated[str, Meta(max_length=256)] = ""
    """call: who is called."""
    message_id: Annotated[str, Meta(pattern="^(?:[0-9a-f]{64})?$")] = ""
    """call: follows from what is asked of whom, so the same call made again has the same id."""
    metadata: Base64 = ""
    """call: Flower's message without its content: `flwr.proto.Message`, in base64."""
    content: Payload | None = None
    """call: its content, `flwr.proto.RecordDict`."""
    until: EpochMs = 0
    """call: the broker's time until which a reply counts, milliseconds since 1970."""


class FlowerReply(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What a participant says to a Flower server app: that it joins or leaves, or its reply to a call."""

    kind: Literal["join", "leave", "reply"]
    """`join` and `leave`: whether the participant may be called."""
    run: Identifier
    """Name of the run."""
    participant: Identifier
    """Who says it."""
    life: Count = 0
    """join and leave: number of the participant's life; what an earlier one still says does not count."""
    message_id: Annotated[str, Meta(pattern="^(?:[0-9a-f]{64})?$")] = ""
    """reply: of the call. The first one counts."""
    metadata: Base64 = ""
    """reply: Flower's message without its content: `flwr.proto.Message`, in base64; an error is in it."""
    content: Payload | None = None
    """reply: its content, `flwr.proto.RecordDict`; null for an error."""


MESSAGES: Final = {
    "requests": TaskRequest,
    "control": ControlOrder,
    "telemetry": TelemetryRecord,
    "status": StatusEvent,
    "assignments": AssignmentEvent,
    "answers": Answers,
    "results": TaskEnd,
    "updates": ModelUpdate,
    "models": ModelState,
    "servers": ServerStatus,
    "calls": FlowerCall,
    "replies": FlowerReply,
}
"""Message type by topic (`streams.contract.topics`), for topics whose record values are ours."""
