"""Numbers of a request that each lie within their type's bounds and together, or in themselves, can mean nothing.

A type's bounds are also those of what is stored, so what older versions took is read for good; what is judged here is
judged when a request comes.
"""

from collections.abc import Iterator
from typing import Final

from thalweg.streams.contract.messages import PerWorker, Retries, TaskRequest

LEAST: Final = 0.001
"""Of a CPU, and of a GB: what is less is nothing by the planner's count, which is in thousandths and MiB."""
LEAST_USD: Final = 0.000001
"""Of a price: what is less is nothing in every sum that is told, and is shown as a number nobody can read."""
LEAST_WEIGHT: Final = 0.000001
"""Of a tenant, against weights of up to a million: what is less would let it wait for ever."""
EXIT_CODES: Final = range(1, 256)
SIGNALS: Final = range(-64, 0)
"""How a run that a signal has ended is told (`-9`)."""


def objections(request: TaskRequest) -> Iterator[str]:
    """Say what cannot be meant: what was seen, and what is allowed."""
    if request.time_limit_s is not None and request.time_limit_s < LEAST:
        yield (
            f"time_limit_s {request.time_limit_s:g}: nothing ends within it, so it would always fail; allowed are "
            f"{LEAST:g} seconds and more, or null for no limit"
        )
    for where, worker in (
        ("", request.per_worker),
        *((f" of {s.subtask_id!r}", s.per_worker) for s in request.subtasks),
    ):
        yield from _of_a_worker(worker, where)
    if request.subtasks and (request.workers != 1 or request.per_worker != PerWorker()):
        yield (
            f"subtasks beside workers {request.workers} and per_worker: these would be ignored; allowed is one of the "
            "two, and each subtask has workers and per_worker of its own"
        )
    if request.deadline is not None and request.not_before is not None and request.deadline <= request.not_before:
        yield (
            f"deadline {request.deadline} with not_before {request.not_before}: it would be late before it may start; "
            "allowed is a deadline after it"
        )
    for name in ("max_usd_per_hour", "value_usd_per_hour"):
        if (wrong := objection(name, getattr(request, name), LEAST_USD)) is not None:
            yield wrong
    if request.retries is not None:
        yield from _of_retries(request.retries)


def objection(
    field: str, amount: float | None, least: float = LEAST, where: str = "", *, zero: bool = True
) -> str | None:
    """Say that an amount counts as nothing and is not 0; None where that is not so, or there is none."""
    if amount is None or not 0 < amount < least:
        return None
    return f"{field} {amount:g}{where}: it counts as nothing; allowed are {'0, and ' * zero}{least:g} and more"


def _of_a_worker(worker: PerWorker, where: str) -> Iterator[str]:
    for name, amount in (("cpus", worker.cpus), ("memory_gb", worker.memory_gb)):
        if (wrong := objection(name, amount, where=where)) is not None:
            yield wrong
    if worker.gpu_models is not None and not worker.gpu_models:
        yield f"gpu_models []{where}: no GPU is of no model; allowed are names of models, or null for any"


def _of_retries(retries: Retries) -> Iterator[str]:
    if retries.back_off_s > retries.most_back_off_s:
        yield (
            f"retries.back_off_s {retries.back_off_s:g} with most_back_off_s {retries.most_back_off_s:g}: the first "
            "wait would be longer than the longest; allowed is up to most_back_off_s (600 where it is not said)"
        )
    for code in retries.not_on:
        if code not in EXIT_CODES and code not in SIGNALS:
            yield (
                f"retries.not_on {code}: no run that failed ends so; allowed are exit codes {EXIT_CODES[0]} to "
                f"{EXIT_CODES[-1]}, and {SIGNALS[0]} to {SIGNALS[-1]} for signals"
            )
