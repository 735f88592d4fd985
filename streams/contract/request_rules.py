"""What a request may not ask for, beyond what its types say: judged by the client before sending and by `place`."""

from collections import Counter
from collections.abc import Iterator
from typing import Final

from thalweg.scheduling.counted import counted
from thalweg.streams.contract import moments, names, request_amounts
from thalweg.streams.contract.messages import TaskRequest

MOST_ARRAY_BYTES: Final = 67_108_864
"""Of a request, times its elements: each of them stands in the tables with the request's text."""


def objection(request: TaskRequest, size_bytes: int) -> str | None:
    """Say why a request cannot be obeyed; None where nothing speaks against it.

    Args:
        request: as decoded, so that its types are right.
        size_bytes: of the request as it was sent.
    """
    return next(_objections(request, size_bytes), None)


def _objections(request: TaskRequest, size_bytes: int) -> Iterator[str]:
    if (wrong := _objection_to_ids(request) or _objection_to_array(request, size_bytes)) is not None:
        yield wrong
    yield from _objections_to_names(request)
    yield from _objections_to_start(request)
    for worker in (request.per_worker, *(subtask.per_worker for subtask in request.subtasks)):
        if worker.gpus and worker.gpu_milli:
            yield f"gpus {worker.gpus} and gpu_milli {worker.gpu_milli} on one worker: allowed is one of the two"
    yield from request_amounts.objections(request)
    for item in request.data:
        if item.dataset is None and item.region is None:
            yield "an item of data names neither dataset nor region: allowed is one of the two"
    for name in ("deadline", "observed_at", "not_before"):
        if (wrong := moments.objection(name, getattr(request, name))) is not None:
            yield wrong
    if request.stamp is not None and (wrong := moments.objection("stamp.ms", request.stamp.ms)) is not None:
        yield wrong
    if request.who and request.op in ("submit", "update"):
        yield f"who with op {request.op!r}: allowed is it with cancel, hold, release and rerun"
    if request.subtasks and (request.splittable or request.min_workers is not None or request.max_workers is not None):
        yield "subtasks with splittable, min_workers or max_workers: allowed are workers all alike"
    least, most = request.min_workers or request.workers, request.max_workers or request.workers
    if not least <= request.workers <= most:
        yield (
            f"min_workers {request.min_workers}, workers {request.workers}, max_workers {request.max_workers}: "
            "allowed is an order from least to most"
        )
    yield from _objections_to_places(request)


def _objections_to_names(request: TaskRequest) -> Iterator[str]:
    """Say which names cannot be seen. A task that is named after another may name one that older versions took."""
    told: list[tuple[str, str | None]] = [
        ("tenant", request.tenant),
        ("name", request.name),
        ("origin_region", request.origin_region),
    ]
    told += ((f"allowed_regions[{at}]", region) for at, region in enumerate(request.allowed_regions or ()))
    for at, item in enumerate(request.data):
        told += ((f"data[{at}].dataset", item.dataset), (f"data[{at}].region", item.region))
    told += ((f"per_worker.gpu_models[{at}]", model) for at, model in enumerate(request.per_worker.gpu_models or ()))
    for at, part in enumerate(request.subtasks):
        told.append((f"subtasks[{at}].subtask_id", part.subtask_id))
        told += ((f"subtasks[{at}].per_worker.gpu_models", model) for model in part.per_worker.gpu_models or ())
    told += (("the name of a variable in env,", name) for name in request.env)
    told += ((f"secrets[{at}]", name) for at, name in enumerate(request.secrets))
    for field, name in told:
        if (wrong := names.objection(field, name)) is not None:
            yield wrong


def _objections_to_start(request: TaskRequest) -> Iterator[str]:
    if request.command is not None and (
        not request.command or not request.command[0] or any("\0" in word for word in request.command)
    ):
        yield (
            f"command {request.command!r}: allowed is the name of a program and its arguments, without NUL characters; "
            "null where there is none"
        )
    for name, value in request.env.items():
        if "\0" in value:
            yield f"env.{name} {value!r:.60}: allowed is text without NUL characters; a process cannot be given them"


def _objections_to_places(request: TaskRequest) -> Iterator[str]:
    if request.max_rtt_ms is not None and request.origin_region is None:
        yield "max_rtt_ms without origin_region: name the region the latency is measured from"
    if request.allowed_regions is not None and (distinct := len(set(request.allowed_regions))) < request.replicas:
        yield f"replicas {request.replicas} in distinct regions, but allowed_regions names {distinct}"
    named = Counter(subtask.subtask_id for subtask in request.subtasks) if request.subtasks else {}
    for name, times in named.items():
        if times > 1:
            yield f"subtask_id {name!r} is there {times} times: allowed is once"


def _objection_to_ids(request: TaskRequest) -> str | None:
    """Say what is wrong with which tasks a request is about; None where nothing is."""
    if bool(request.task_id) == bool(request.task_ids):
        return "task_id and task_ids: exactly one of the two is allowed"
    if request.task_ids and request.op in ("submit", "update"):
        return f"task_ids with op {request.op!r}: allowed are cancel, hold, release and rerun"
    # Of a new task alone: what older versions took, with blanks at its ends or worse, can still be cancelled and rerun.
    if request.op == "submit" and (wrong := names.objection("task_id", request.task_id)) is not None:
        return wrong
    if request.op == "submit" and request.task_id in (".", ".."):
        return f"task_id {request.task_id!r}: no address can name it; allowed are others"
    return None


def _objection_to_array(request: TaskRequest, size_bytes: int) -> str | None:
    """Say why an array cannot be taken; None where it can, or there is none."""
    if request.array is None:
        return None
    if request.replicas > 1:
        return f"array with replicas {request.replicas}: allowed is one of the two"
    seen = request.array.count * size_bytes
    if seen > MOST_ARRAY_BYTES:
        return (
            f"array of {counted(request.array.count, 'element')} with a request of {size_bytes:,} bytes each "
            f"makes {seen:,} bytes: allowed are {MOST_ARRAY_BYTES:,}. Put what the request carries into storage and "
            "pass its address"
        )
    return None
