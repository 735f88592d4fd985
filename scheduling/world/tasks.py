"""Tasks as placement sees them: what they need, the copies they run as, and the changes their life is made of."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from itertools import takewhile
from typing import Final

import msgspec

from thalweg.scheduling.ids import NodeId, PoolId, RegionId, TaskId
from thalweg.scheduling.pack.need import Need, Pool
from thalweg.scheduling.world.orders import OrderRow
from thalweg.scheduling.world.refusals import Refusals

GAVE_UP = "gave up"
"""First words of the reason of a failure that is final."""
SILENT = "was silent for"
"""In the reason of a copy that is lost because nothing is heard of its region."""
MILLI = 1_000
MIB_PER_GB = 1_000_000_000 / 1_048_576


class TaskState(StrEnum):
    """Where a task stands."""

    WAITING = "waiting"
    ASSIGNED = "assigned"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


TERMINAL = frozenset({TaskState.SUCCEEDED, TaskState.FAILED, TaskState.CANCELLED})


class CopyState(StrEnum):
    """Where one copy of a task stands."""

    WAITING = "waiting"
    ASSIGNED = "assigned"
    ACCEPTED = "accepted"
    """Its region said that it holds it."""
    RUNNING = "running"
    SUCCEEDED = "succeeded"


class Change(StrEnum):
    """What one row of the ledger says happened."""

    SUBMITTED = "submitted"
    UPDATED = "updated"
    REFUSED = "refused"
    ASSIGNED = "assigned"
    REVOKED = "revoked"
    PREEMPTED = "preempted"
    """Revoked for a task of higher priority; it waits again."""
    ACCEPTED = "accepted"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    EVICTED = "evicted"
    LOST = "lost"
    CANCELLED = "cancelled"
    WAITING = "waiting"
    HELD = "held"
    """It does not start until it is released; what runs goes on."""
    RELEASED = "released"
    REPAIRED = "repaired"
    """A region was told again what the ledger says; no task changed."""
    ORDERED = "ordered"
    """What an operator wants changed; of no task."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Identical workers of a task."""

    workers: int
    need: Need


@dataclass(frozen=True, slots=True, kw_only=True)
class DataNeed:
    """One input of a task: a dataset by name, or bytes that lie in a region."""

    dataset: str | None
    region: RegionId | None
    size_gb: float


@dataclass(frozen=True, slots=True)
class ParentTask:
    """A task that another starts after."""

    task_id: TaskId
    on_success: bool = True
    """It has to succeed; else it is enough that it has ended, however."""


START: Final = "start"
"""Kind of failure of what was never started."""

START_AGAIN_MS: Final = 5_000
"""Between two tries of what could not be started twice; twice as long before each further one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryTerms:
    """How often a task that failed is tried again, and when."""

    at_most: int | None = None
    """Tries after the first; None takes what the installation allows."""
    back_off_ms: int = 0
    """Before the first of them; twice as long before each further one."""
    most_back_off_ms: int = 600_000
    not_on: tuple[int, ...] = ()
    """Exit codes after which it is not tried again."""
    by_cause: tuple[tuple[str, int], ...] = ()
    """By the kind of failure, tries after failures of that kind."""

    def most_after(self, cause: str | None) -> int | None:
        """Tell how often it is tried again after failures of a kind; None where nothing is said of that kind."""
        return dict(self.by_cause).get(cause or "")

    def wait_ms(self, causes: Sequence[str]) -> int:
        """Tell how long to wait after failures of these kinds, the last of them just now.

        What could not even be started is tried elsewhere at once, and then not at once again where nothing else is
        asked for: a command, a folder or a secret that is missing is missing a moment later, too.
        """
        if self.back_off_ms or not causes:
            return min(self.back_off_ms << min(max(len(causes) - 1, 0), 32), self.most_back_off_ms)
        in_a_row = len(list(takewhile(lambda cause: cause == START, reversed(causes))))
        return 0 if in_a_row < 2 else min(START_AGAIN_MS << min(in_a_row - 2, 32), self.most_back_off_ms)


@dataclass(frozen=True, slots=True)
class ArrayTerms:
    """The array that a task is, or is an element of."""

    array_id: TaskId
    count: int
    at_most: int | None = None
    """Elements that may run at once; None for all."""


def element_id(array_id: TaskId, index: int) -> TaskId:
    """Name an element of an array."""
    return TaskId(f"{array_id}[{index}]")


def element_index(array_id: TaskId, task_id: TaskId) -> int | None:
    """Read an element's index from its name; None for the array itself."""
    return None if task_id == array_id else int(task_id[len(array_id) + 1 : -1])


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskTerms:
    """When a task may start, and how often: nothing that the planner looks at, so tasks of one class may differ."""

    name: str | None = None
    """For people to look for."""
    after: tuple[ParentTask, ...] = ()
    not_before_ms: int = 0
    """Milliseconds since 1970."""
    retries: RetryTerms = RetryTerms()
    array: ArrayTerms | None = None
    overlaps: bool = False
    """Two of a copy may run at once for a while: it moves by starting anew before the old one is stopped."""


NO_TERMS = TaskTerms()


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSpec:
    """What a task needs; tasks with equal specs form a class. All parts run in one pool (gang), per copy."""

    parts: tuple[Part, ...]
    gpu_models: tuple[str, ...] | None = None
    expected_s: float = 3_600.0
    priority: int = 500
    data: tuple[DataNeed, ...] = ()
    origin_region: RegionId | None = None
    max_rtt_ms: float | None = None
    allowed_regions: tuple[RegionId, ...] | None = None
    replicas: int = 1
    spot_ok: bool = False
    preemptible: bool = True
    max_usd_per_hour: float | None = None
    value_usd_per_hour: float | None = None
    """What an hour's delay of it costs; None takes it from priority and GPUs."""
    tenant: str = "default"
    start_by_ms: int | None = None
    """Last moment to start and still meet the deadline, milliseconds since 1970."""
    min_workers: int | None = None
    """Fewest workers it runs with; None where it is not elastic: then it runs with exactly those of its parts."""
    max_workers: int | None = None
    """Most workers it grows to; None as `min_workers`."""
    spread_workers: bool = False
    """Every worker on a node of its own (anti-affinity)."""
    has_command: bool = True
    """Whether it says what to start; a region that starts commands cannot run what has none."""
    terms: TaskTerms = field(default=NO_TERMS, compare=False)
    """No part of what makes specs equal."""
    _hash: int = field(init=False, repr=False, compare=False)
    """Of all that does: asked for each time a task of the class waits."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "_hash", hash(tuple(getattr(self, name) for name in _MAKES_EQUAL)))

    def __hash__(self) -> int:
        return self._hash

    @property
    def workers(self) -> int:
        """Workers of one copy."""
        return sum(part.workers for part in self.parts)

    @property
    def gpus(self) -> float:
        """GPUs of one copy, shares counted as fractions."""
        return sum(part.workers * part.need.total_gpu_milli for part in self.parts) / MILLI

    @property
    def cpus(self) -> float:
        """CPUs of one copy."""
        return sum(part.workers * part.need.cpu_milli for part in self.parts) / MILLI

    @property
    def memory_gb(self) -> float:
        """Memory of one copy."""
        return sum(part.workers * part.need.memory_mib for part in self.parts) / MIB_PER_GB


_MAKES_EQUAL: Final = tuple(one.name for one in fields(TaskSpec) if one.compare)


def stands_for_array(task_id: TaskId, spec: TaskSpec) -> bool:
    """Whether a task is an array, and not one of its elements."""
    return spec.terms.array is not None and spec.terms.array.array_id == task_id


def sized(spec: TaskSpec, workers: int) -> TaskSpec:
    """Describe an elastic task as it runs with so many workers: the more of them, the sooner the same work is done."""
    (part,) = spec.parts
    return replace(
        spec,
        parts=(replace(part, workers=workers),),
        expected_s=spec.expected_s * part.workers / workers,
    )


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """What one part of a copy takes of one node. `devices` repeats a device that several workers share."""

    node_id: NodeId
    workers: int
    gpus: int
    gpu_milli: int
    devices: tuple[int, ...]


@dataclass(slots=True, kw_only=True)
class Copy:
    """A placed copy of a task."""

    index: int
    epoch: int
    region: RegionId
    pool_id: PoolId
    pool: Pool
    shares: tuple[Share, ...]
    state: CopyState
    assigned_ms: int
    by_hand: bool = False
    """An operator moved it there: looking again lets it stay for as long as it does."""
    misses: int = 0
    """Inventories in a row in which the region did not list it."""
    occupancy: tuple[int, ...] = ()
    """Its rows in `World.occupancy`."""

    @property
    def workers(self) -> int:
        """Workers it runs with; an elastic task's may differ from what it asked for."""
        return sum(share.workers for share in self.shares)


@dataclass(slots=True, kw_only=True)
class Task:
    """One task and its copies."""

    task_id: TaskId
    spec: TaskSpec
    request: str
    content_hash: str
    submitted_ms: int
    order: int
    """Position in the order of arrival."""
    state: TaskState = TaskState.WAITING
    epoch: int = 0
    """Highest epoch used for any copy; the next decision takes the next one."""
    attempt: int = 0
    """Placements that ended in failure."""
    preempted: int = 0
    """How often a copy gave way to another task: such a task never makes others give way."""
    copies: dict[int, Copy] = field(default_factory=dict)
    done_copies: set[int] = field(default_factory=set)
    done_regions: frozenset[RegionId] = frozenset()
    """Where they succeeded: other copies go elsewhere."""
    ended: TaskState | None = None
    """Set by cancelling and by giving up, whatever the copies do."""
    avoid: frozenset[RegionId] = frozenset()
    """Regions where it failed: elsewhere first."""
    refused: dict[RegionId, Refusals] = field(default_factory=dict)
    """By region: how often it was given back."""
    barred: frozenset[RegionId] = frozenset()
    """Regions that gave it back and are not tried before their back-off ends."""
    reason: str = ""
    reason_ms: int = 0
    """When that was written."""
    held: bool = False
    unmet: frozenset[TaskId] = frozenset()
    """Parents that it still waits for."""
    shut_until_ms: int = 0
    """It does not start before this moment; 0 where time is no matter any more."""
    shut_since_ms: int = 0
    """When it began to wait for that, where it waits for a while; 0 where the moment itself is meant."""
    causes: tuple[str, ...] = ()
    """Kinds of its failures so far."""

    def has_content(self, content_hash: str) -> bool:
        """Tell whether a request asks for the very same."""
        return self.content_hash == content_hash

    @property
    def is_array(self) -> bool:
        """Whether it stands for the elements of an array, and never runs itself."""
        return stands_for_array(self.task_id, self.spec)

    @property
    def missing(self) -> int:
        """Copies that still have to be placed; an update may ask for fewer than have succeeded."""
        return max(self.spec.replicas - len(self.copies) - len(self.done_copies), 0)

    @property
    def placed_together(self) -> int:
        """Copies that the next plan places together: all at its beginning, later each as soon as there is room."""
        return self.missing if self.epoch == 0 else min(self.missing, 1)

    @property
    def taken(self) -> frozenset[RegionId]:
        """Regions that hold a copy or in which one has succeeded."""
        return self.done_regions | {copy.region for copy in self.copies.values()}

    def state_of_copy(self, index: int) -> CopyState:
        """Tell how far a copy is."""
        copy = self.copies.get(index)
        if copy is not None:
            return copy.state
        return CopyState.SUCCEEDED if index in self.done_copies else CopyState.WAITING


class Money(msgspec.Struct, frozen=True, kw_only=True):
    """Cost of one copy by component, in US dollars over its expected hours (`scheduling.problem.cost`)."""

    compute_usd: float = 0.0
    egress_usd: float = 0.0
    stall_usd: float = 0.0
    latency_usd: float = 0.0
    risk_usd: float = 0.0
    move_usd: float = 0.0


class Transition(msgspec.Struct, frozen=True, kw_only=True):
    """One change of one task, as the ledger records it. Following the ledger's rows in order rebuilds the world."""

    change: Change
    task_id: TaskId
    decided_ms: int
    copy: int = 0
    epoch: int = 0
    attempt: int = 0
    region: RegionId | None = None
    pool_id: PoolId | None = None
    shares: tuple[Share, ...] = ()
    plan_id: str | None = None
    usd_per_hour: float | None = None
    money: Money | None = None
    reason: str | None = None
    tenant: str | None = None
    priority: int | None = None
    name: str | None = None
    spec: TaskSpec | None = None
    request: str | None = None
    content_hash: str | None = None
    topic: str | None = None
    topic_partition: int | None = None
    topic_offset: int | None = None
    topic_timestamp_ms: int | None = None
    cause: str | None = None
    """Kind of a failure, as its region reported it."""
    outcome: str | None = None
    """What else a run has left, as JSON (`sync.ledger.run_outcome`)."""
    ordered: OrderRow | None = None
    """What an order changed; its row names no task."""
    ends: bool = False
    """The task is over with this row; noted when the row is followed first, for who reads rows one by one."""


class RunReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a region said of a run that is over, beside the words."""

    cause: str | None = None
    exit_code: int | None = None
    outcome: str | None = None
    """As `Transition.outcome`."""


def lost_by_silence(row: Transition) -> bool:
    """Tell whether a row gives up a copy because nothing is heard of its whole region."""
    return row.change is Change.LOST and row.region is not None and row.reason is not None and SILENT in row.reason


def whole_shares(parts: Sequence[Part], shares: Sequence[Share]) -> list[tuple[Share, Need]]:
    """Pair each share with all that its workers take of the node together.

    Shares are listed in the order of the parts, so counting workers tells whose they are. A task of one part owns all
    shares, however many workers it has grown or shrunk to.
    """
    paired: list[tuple[Share, Need]] = []
    remaining = iter(parts)
    part = next(remaining)
    left = part.workers
    for share in shares:
        while left == 0 and len(parts) > 1:
            part = next(remaining)
            left = part.workers
        paired.append(
            (
                share,
                Need(
                    gpus=len(share.devices),
                    gpu_milli=part.need.gpu_milli,
                    cpu_milli=part.need.cpu_milli * share.workers,
                    memory_mib=part.need.memory_mib * share.workers,
                ),
            )
        )
        left -= share.workers
    return paired
