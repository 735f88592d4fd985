"""What a request asks placement for, in placement's own terms."""

from functools import lru_cache
from typing import Any, Final

import msgspec

from thalweg.scheduling.ids import TaskId
from thalweg.scheduling.pack.nodes import Need
from thalweg.scheduling.world.tasks import (
    MIB_PER_GB,
    MILLI,
    NO_TERMS,
    ArrayTerms,
    DataNeed,
    ParentTask,
    Part,
    RetryTerms,
    TaskSpec,
    TaskTerms,
)
from thalweg.streams.contract.messages import After, PerWorker, Retries, TaskRequest

_DECODER: Final = msgspec.json.Decoder(TaskRequest)
_ENCODER: Final = msgspec.json.Encoder()
_WHOSE: Final[dict[str, Any]] = {"task_id": TaskId(""), "observed_at": None, "stamp": None, "op": "submit", "who": ""}
"""Fields that a spec does not follow from, with what they are where nothing is said."""
_NO_RETRIES: Final = RetryTerms()
_DEADLINE_STEP_MS: Final = 900_000


def read_spec(raw: bytes | str) -> TaskSpec:
    """Read the needs of a request that was checked before."""
    return spec_of(_DECODER.decode(raw))


def spec_of(request: TaskRequest) -> TaskSpec:
    """Say what a request asks placement for; those that ask for the same share one object."""
    if request.array is not None:
        return _spec_of(request)  # its terms name the task
    return _shared_spec(_ENCODER.encode(msgspec.structs.replace(request, **_WHOSE)))


@lru_cache(maxsize=4_096)
def _shared_spec(needs: bytes) -> TaskSpec:
    return _spec_of(_DECODER.decode(needs))


def _spec_of(request: TaskRequest) -> TaskSpec:
    workers = (
        [(subtask.workers, subtask.per_worker) for subtask in request.subtasks]
        if request.subtasks
        else [(request.workers, request.per_worker)]
    )
    return TaskSpec(
        parts=tuple(Part(workers=count, need=_need(worker)) for count, worker in workers),
        gpu_models=_models(tuple(worker for _, worker in workers)),
        expected_s=request.expected_s,
        priority=request.priority,
        data=tuple(DataNeed(dataset=item.dataset, region=item.region, size_gb=item.size_gb) for item in request.data),
        origin_region=request.origin_region,
        max_rtt_ms=request.max_rtt_ms,
        allowed_regions=None if request.allowed_regions is None else tuple(sorted(set(request.allowed_regions))),
        replicas=request.replicas,
        spot_ok=request.spot_ok,
        preemptible=request.preemptible,
        max_usd_per_hour=request.max_usd_per_hour,
        value_usd_per_hour=request.value_usd_per_hour,
        tenant=request.tenant,
        start_by_ms=_start_by_ms(request),
        min_workers=_least_workers(request),
        max_workers=None if _least_workers(request) is None else request.max_workers or request.workers,
        spread_workers=request.spread_workers,
        has_command=bool(request.command),
        terms=_terms(request),
    )


def _terms(request: TaskRequest) -> TaskTerms:
    """Say when a task may start, and how often."""
    array = request.array
    terms = TaskTerms(
        name=request.name,
        after=tuple(map(_parent, request.after)),
        not_before_ms=request.not_before or 0,
        retries=_NO_RETRIES if request.retries is None else _retries(request.retries),
        array=None if array is None else ArrayTerms(request.task_id, array.count, array.at_most),
        overlaps=request.kind == "infer",
    )
    return next((plain for plain in _PLAIN if terms == plain), terms)  # of a hundred thousand plain tasks one is kept


_PLAIN: Final = (NO_TERMS, TaskTerms(overlaps=True))


def parents_of(request: TaskRequest) -> list[TaskId]:
    """Name the tasks that a request is to start after."""
    return [named.task_id if isinstance(named, After) else named for named in request.after]


def _parent(named: TaskId | After) -> ParentTask:
    if isinstance(named, After):
        return ParentTask(named.task_id, named.on == "success")
    return ParentTask(named)


def _retries(asked: Retries) -> RetryTerms:
    return RetryTerms(
        at_most=asked.at_most,
        back_off_ms=round(asked.back_off_s * MILLI),
        most_back_off_ms=round(asked.most_back_off_s * MILLI),
        not_on=tuple(asked.not_on),
        by_cause=tuple(
            sorted((cause, most) for cause, most in msgspec.structs.asdict(asked.by_cause).items() if most is not None)
        ),
    )


def _least_workers(request: TaskRequest) -> int | None:
    """Fewest workers of an elastic task; None where their number is fixed."""
    if request.min_workers is not None:
        return request.min_workers
    if request.splittable:
        return 1
    return request.workers if request.max_workers is not None else None


def _start_by_ms(request: TaskRequest) -> int | None:
    """Last moment to start, rounded down, so that deadlines do not make every task a class of its own."""
    if request.deadline is None:
        return None
    return int(request.deadline - request.expected_s * 1_000) // _DEADLINE_STEP_MS * _DEADLINE_STEP_MS


@lru_cache(maxsize=4_096)
def _need_of(gpus: int, gpu_milli: int, cpus: float, memory_gb: float) -> Need:
    return Need(
        gpus=gpus or (1 if gpu_milli else 0),
        gpu_milli=gpu_milli or MILLI,
        cpu_milli=round(cpus * MILLI),
        memory_mib=round(memory_gb * MIB_PER_GB),
    )


def _need(worker: PerWorker) -> Need:
    return _need_of(worker.gpus, worker.gpu_milli, worker.cpus, worker.memory_gb)


def _models(workers: tuple[PerWorker, ...]) -> tuple[str, ...] | None:
    """GPU models that suit every worker: all of them run in one pool."""
    wanted = [set(worker.gpu_models) for worker in workers if worker.gpu_models is not None]
    return tuple(sorted(set.intersection(*wanted))) if wanted else None
