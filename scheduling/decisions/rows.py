"""Making the ledger's rows about a task and its copies: what every row repeats of its task is said here, once."""

from typing import Final

from msgspec import structs

from thalweg.scheduling.live.live_plan import CopyAssignment
from thalweg.scheduling.world.tasks import Change, Copy, RunReport, Task, Transition

NOTHING_TOLD: Final = RunReport()


def task_row(
    change: Change, task: Task, now_ms: int, *, epoch: int | None = None, reason: str | None, plan_id: str | None = None
) -> Transition:
    """Say something of a task as a whole; with its own epoch where no other is given."""
    return Transition(
        change=change,
        task_id=task.task_id,
        decided_ms=now_ms,
        epoch=task.epoch if epoch is None else epoch,
        attempt=task.attempt,
        plan_id=plan_id,
        reason=reason,
        tenant=task.spec.tenant,
        priority=task.spec.priority,
        name=task.spec.terms.name,
    )


def copy_row(
    change: Change,
    task: Task,
    copy: Copy,
    now_ms: int,
    *,
    reason: str | None = None,
    epoch: int | None = None,
    attempt: int | None = None,
    plan_id: str | None = None,
    run: RunReport = NOTHING_TOLD,
) -> Transition:
    """Say something of a placed copy, where it is placed; with its own epoch where no other is given."""
    return structs.replace(
        task_row(change, task, now_ms, epoch=copy.epoch if epoch is None else epoch, reason=reason, plan_id=plan_id),
        copy=copy.index,
        attempt=task.attempt if attempt is None else attempt,
        region=copy.region,
        pool_id=copy.pool_id,
        cause=run.cause,
        outcome=run.outcome,
    )


def assigned_row(
    task: Task,
    to: CopyAssignment,
    now_ms: int,
    *,
    epoch: int,
    copy: int | None = None,
    reason: str | None = None,
    plan_id: str | None = None,
) -> Transition:
    """Place a copy: the one that the assignment names, and for the reason that it gives, where no other is given."""
    return structs.replace(
        task_row(
            Change.ASSIGNED, task, now_ms, epoch=epoch, reason=to.reason if reason is None else reason, plan_id=plan_id
        ),
        copy=to.copy if copy is None else copy,
        region=to.region,
        pool_id=to.pool_id,
        shares=to.shares,
        usd_per_hour=to.usd_per_hour,
        money=to.money,
    )
