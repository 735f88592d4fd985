"""Task requests as placement needs them: decoded, checked beyond their schema, and told apart by content."""

import hashlib
from functools import lru_cache
from typing import Any, Final

import msgspec

from thalweg.scheduling.pack.nodes import Need
from thalweg.scheduling.world.tasks import MIB_PER_GB, MILLI, DataNeed, Part, TaskSpec
from thalweg.streams.contract import moments
from thalweg.streams.contract.decode import UndecodableError, check_depth, decoded
from thalweg.streams.contract.messages import PerWorker, TaskRequest

_DECODER: Final = msgspec.json.Decoder(TaskRequest)
_CONTENT: Final = msgspec.json.Decoder(dict[str, Any])
_SORTED: Final = msgspec.json.Encoder(order="sorted")

_DEADLINE_STEP_MS: Final = 900_000

# What says when and how often a request was sent, not what it asks for.
_NOT_CONTENT: Final = ("stamp", "observed_at", "op")


class RequestError(ValueError):
    """A request that cannot be obeyed; the message names the field, what was seen and what is allowed."""


def read_request(raw: bytes | str | None) -> TaskRequest:
    """Decode and check one request.

    Raises:
        RequestError: not JSON, a wrong type, a value out of range, or needs that contradict each other.
    """
    try:
        request = decoded(_DECODER, raw)
        check_depth(raw or b"")  # it is stored, and read again by others
    except UndecodableError as error:
        raise RequestError(str(error)) from error
    for worker in (request.per_worker, *(subtask.per_worker for subtask in request.subtasks)):
        if worker.gpus and worker.gpu_milli:
            raise RequestError(
                f"gpus {worker.gpus} and gpu_milli {worker.gpu_milli} on one worker: allowed is one of the two"
            )
    for item in request.data:
        if item.dataset is None and item.region is None:
            raise RequestError("an item of data names neither dataset nor region: allowed is one of the two")
    for name in ("deadline", "observed_at"):
        if (wrong := moments.objection(name, getattr(request, name))) is not None:
            raise RequestError(wrong)
    if request.subtasks and (request.splittable or request.min_workers is not None or request.max_workers is not None):
        raise RequestError("subtasks with splittable, min_workers or max_workers: allowed are workers all alike")
    least, most = request.min_workers or request.workers, request.max_workers or request.workers
    if not least <= request.workers <= most:
        raise RequestError(
            f"min_workers {request.min_workers}, workers {request.workers}, max_workers {request.max_workers}: "
            "allowed is an order from least to most"
        )
    if request.max_rtt_ms is not None and request.origin_region is None:
        raise RequestError("max_rtt_ms without origin_region: name the region the latency is measured from")
    if request.allowed_regions is not None and len(request.allowed_regions) < request.replicas:
        raise RequestError(
            f"replicas {request.replicas} in distinct regions, but allowed_regions has {len(request.allowed_regions)}"
        )
    return request


def read_spec(raw: bytes | str) -> TaskSpec:
    """Read the needs of a request that was checked before."""
    return spec_of(_DECODER.decode(raw))


def spec_of(request: TaskRequest) -> TaskSpec:
    """Say what a request asks placement for."""
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
        tenant=request.tenant,
        start_by_ms=_start_by_ms(request),
        min_workers=_least_workers(request),
        max_workers=None if _least_workers(request) is None else request.max_workers or request.workers,
        spread_workers=request.spread_workers,
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


def content_hash(raw: bytes | str) -> str:
    """Tell requests apart by what they ask for, unknown fields included: 128 bits, in hex.

    Raises:
        RequestError: an unknown field holds what cannot be read: a number or a text that is none.
    """
    try:
        content = decoded(_CONTENT, raw)
        for name in _NOT_CONTENT:
            content.pop(name, None)
        text = _SORTED.encode(content)
    except (UndecodableError, OverflowError, msgspec.EncodeError) as error:
        raise RequestError(f"a field that is not ours cannot be read: {error}") from error
    return hashlib.blake2b(text, digest_size=16).hexdigest()


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
