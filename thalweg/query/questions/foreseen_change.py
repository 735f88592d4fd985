"""What cancelling, holding or releasing a task would do now: judged in a copy of the world, as `place` judges it."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from thalweg.scheduling.counted import counted
from thalweg.scheduling.decisions import decide
from thalweg.scheduling.ids import RegionId, TaskId
from thalweg.scheduling.world.occupancy import MICRO
from thalweg.scheduling.world.tasks import MILLI, Change, Task, Transition
from thalweg.scheduling.world.world import World

_JUDGES: Final[Mapping[str, Callable[..., list[Transition] | decide.Refused]]] = {
    "cancel": decide.cancel,
    "hold": decide.hold,
    "release": decide.release,
}
_SHOWN: Final = 20
_HOUR_MS: Final = 3_600_000


@dataclass(frozen=True, slots=True, kw_only=True)
class StoppedCopy:
    """A copy that would be stopped."""

    task_id: TaskId
    copy: int
    region: RegionId
    gpus: float
    gpu_hours: float
    """GPU time since it was assigned, which is lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeseenChange:
    """What an operation on a task would do now."""

    op: str
    task_id: TaskId
    refused: str | None = None
    """Why it would not be done."""
    is_news: bool = False
    """Whether it would change anything."""
    going_on: int = 0
    """Copies of the task that run on."""
    stopped: list[StoppedCopy] = field(default_factory=list)
    others: list[TaskId] = field(default_factory=list)
    """Other tasks that would be cancelled with it, since they wait for it or are its elements."""
    freed_gpus: float = 0.0
    freed_usd_per_hour: float = 0.0


def foreseen_change(world: World, op: str, task_id: TaskId, now_ms: int, tenant: str | None = None) -> ForeseenChange:
    """Do an operation in a copy, which is changed by it.

    Args:
        world: the copy.
        op: cancel, hold or release.
        task_id: of the task.
        now_ms: the moment.
        tenant: of whose tasks alone is told; None means all.
    """
    origin = decide.RequestOrigin(topic="", partition=0, offset=0, timestamp_ms=now_ms)
    rows = _JUDGES[op](world, task_id, origin, now_ms)
    if isinstance(rows, decide.Refused):
        return ForeseenChange(op=op, task_id=task_id, refused=rows.reason)
    before = _held(world, tenant)
    stopped, others = list[StoppedCopy](), dict[TaskId, None]()
    is_news = bool(rows)
    while rows:
        for row in rows:
            known = world.tasks.get(row.task_id)
            is_told = known is not None and tenant in (None, known.spec.tenant)
            if is_told and row.change is Change.REVOKED and (copy := _stopped(known, row, now_ms)):
                stopped.append(copy)
            if is_told and row.change is Change.CANCELLED and row.task_id != task_id:
                others[row.task_id] = None
            world.follow(row)
        rows = decide.follow_ups(world, now_ms)
    after = _held(world, tenant)
    task = world.tasks.get(task_id)
    return ForeseenChange(
        op=op,
        task_id=task_id,
        is_news=is_news,
        going_on=0 if task is None else len(task.copies),
        stopped=stopped,
        others=list(others),
        freed_gpus=(before[0] - after[0]) / MILLI,
        freed_usd_per_hour=(before[1] - after[1]) / MICRO,
    )


def _stopped(task: Task | None, row: Transition, now_ms: int) -> StoppedCopy | None:
    copy = None if task is None else task.copies.get(row.copy)
    if copy is None:
        return None
    gpus = sum(share.gpus + share.gpu_milli / MILLI for share in copy.shares)
    hours = max(0, now_ms - copy.assigned_ms) / _HOUR_MS
    return StoppedCopy(task_id=row.task_id, copy=row.copy, region=copy.region, gpus=gpus, gpu_hours=gpus * hours)


def _held(world: World, tenant: str | None) -> tuple[int, int]:
    """Thousandths of GPUs and millionths of US dollars an hour that a tenant holds, or all do."""
    holdings = [held for name, held in world.holdings.items() if tenant in (None, name)]
    return sum(one.gpu_milli for one in holdings), sum(one.micro_usd_per_hour for one in holdings)


def change_document(ahead: ForeseenChange) -> dict[str, Any]:
    """Give what is foreseen as values."""
    return {
        "refused": ahead.refused,
        "is_news": ahead.is_news,
        "stopped": [asdict(one) for one in ahead.stopped],
        "others": list(ahead.others),
        "freed_gpus": ahead.freed_gpus,
        "freed_usd_per_hour": ahead.freed_usd_per_hour,
    }


def change_in_words(ahead: ForeseenChange) -> list[str]:
    """Say what an operation would do, a line each."""
    if ahead.refused:
        return [f"{ahead.op} would be refused: {ahead.refused}"]
    if not ahead.is_news:
        return [f"nothing new: {_NOTHING_NEW[ahead.op]}"]
    lines = [_DOES[ahead.op]]
    if ahead.op == "hold" and ahead.going_on:
        lines.append(counted(ahead.going_on, "copy of it that runs goes on", "copies of it that run go on"))
    for one in ahead.stopped[:_SHOWN]:
        whose = "" if one.task_id == ahead.task_id else f" of {one.task_id}"
        lines.append(f"copy {one.copy}{whose} stops in {one.region}: {one.gpu_hours:,.2f} GPU-hours of it are lost")
    if len(ahead.stopped) > _SHOWN:
        lines.append(f"and {counted(len(ahead.stopped) - _SHOWN, 'copy', 'copies')} more")
    if ahead.others:
        first = ", ".join(ahead.others[:5]) + (", …" if ahead.others[5:] else "")
        lines.append(f"{counted(len(ahead.others), 'other task is', 'other tasks are')} cancelled with it: {first}")
    if ahead.stopped:
        spared = f"{ahead.freed_usd_per_hour:.2f} USD an hour are not spent any more"
        lines.append(f"{counted(ahead.freed_gpus, 'GPU becomes', 'GPUs become')} free, and {spared}")
    return lines


_DOES: Final = {
    "cancel": "it ends: it is not placed any more, and what it has left is kept",
    "hold": "it does not start until it is released",
    "release": "it waits again as others do, and starts when there is room",
}
_NOTHING_NEW: Final = {
    "cancel": "it has ended",
    "hold": "it is held, or has ended",
    "release": "it is not held, or has ended",
}
