"""What an hour's delay of a task costs, in words that say where the figure comes from."""

from dataclasses import dataclass
from typing import Any

from thalweg.scheduling.counted import counted
from thalweg.sync.ledger.request_size import size_of


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskWorth:
    """The value of a task.

    Attributes:
        usd_per_hour: what an hour's delay of it costs, its deadline aside.
        is_given: whether its request says so; else it follows from GPUs and priority.
        times_for_deadline: how many times dearer its deadline makes it now.
        words: all of it.
    """

    usd_per_hour: float
    is_given: bool
    times_for_deadline: float
    words: str


def task_worth(task: dict[str, Any], now_ms: int) -> TaskWorth | None:
    """Tell the value of a task that lives; None of an array, whose elements have theirs.

    Args:
        task: its row of `tasks`; one of an older version has no value, and gets the one that it has.
        now_ms: deadlines are counted from it.
    """
    size = size_of(task["request"])
    if size.array is not None:
        return None
    gpus, priority, given = size.gpus(), task["priority"], size.value_usd_per_hour
    usd = task["value_usd_per_hour"]
    if usd is None:
        from thalweg.scheduling.world.value import value_usd_per_hour  # late: what loads numpy takes a while

        usd = float(value_usd_per_hour(priority, gpus, float("nan") if given is None else given))
    times = _times_for_deadline(task["request"], now_ms)
    if given is not None:
        why = "its request says so"
    else:
        why = f"{usd / max(gpus, 1.0):,.2f} USD {_for_gpus(gpus)}, at priority {priority}"
    words = f"An hour's delay of it costs {usd:,.2f} USD: {why}"
    if times > 1.0:
        words += f"; now {usd * times:,.2f} USD, {times:.1f} times as much, because of its deadline"
    return TaskWorth(usd_per_hour=usd, is_given=given is not None, times_for_deadline=times, words=words)


def _for_gpus(gpus: float) -> str:
    if gpus > 1.0:
        return f"for each of its {counted(gpus, 'GPU')}"
    return "for its GPU" if gpus == 1.0 else "as for one GPU"


def _times_for_deadline(request: str | None, now_ms: int) -> float:
    if not request or '"deadline"' not in request:
        return 1.0
    from thalweg.scheduling.world.value import deadline_times
    from thalweg.streams.placement.task_specs import read_spec

    start_by_ms = read_spec(request).start_by_ms
    return 1.0 if start_by_ms is None else float(deadline_times(start_by_ms - now_ms))
