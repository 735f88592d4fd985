"""Orders: what an operator wants of the plane until told otherwise, each about one subject.

A place that is drained takes nothing new and empties. A tenant may be held, or given another weight, quota or budget. A
price may be ours instead of the region's. Every order is a row of the ledger, so what the plane obeys is what its rows
say, wherever it was killed; the last row about a subject counts.
"""

from datetime import UTC, datetime
from typing import Final

import msgspec

from thalweg.scheduling.ids import NodeId, RegionId, TaskId

NOBODY: Final = TaskId("")
"""The task that an order's row names: none has an empty id."""
SAID_BY_CLOUD: Final = "notice of"
"""First words of who ordered a drain, where it was a region that was told it loses nodes."""
KEPT_AFTER_MS: Final = 3_600_000
"""A drain by notice of a node that is gone is forgotten so long after its moment: its name may come back by then."""


class Drain(msgspec.Struct, frozen=True, kw_only=True, tag="drain", omit_defaults=True):
    """A region, or one of its nodes, takes nothing new and empties."""

    region: RegionId
    node_id: NodeId | None = None
    by_ms: int | None = None
    """When it has to be empty, milliseconds since 1970; what is there then is stopped."""


class HeldTenant(msgspec.Struct, frozen=True, kw_only=True, tag="hold"):
    """Nothing of a tenant starts; what runs goes on."""

    tenant: str


class TenantTerms(msgspec.Struct, frozen=True, kw_only=True, tag="tenant", omit_defaults=True):
    """A tenant's weight and limits; what is None is as the settings say."""

    tenant: str
    weight: float | None = None
    quota_gpus: float | None = None
    budget_usd_per_hour: float | None = None
    most_tasks: int | None = None


class OwnPrice(msgspec.Struct, frozen=True, kw_only=True, tag="price", omit_defaults=True):
    """What a GPU-hour of a pool costs, whatever its region says."""

    region: RegionId
    gpu_model: str
    usd_per_gpu_hour: float
    spot: bool = False


class Moved(msgspec.Struct, frozen=True, kw_only=True, tag="move"):
    """Where a copy of a task is; it stands for nothing, and is kept for the history alone."""

    task_id: str
    copy: int
    region: RegionId


class AskedOfTask(msgspec.Struct, frozen=True, kw_only=True, tag="asked"):
    """What somebody who gave a name asked of a task; it stands for nothing, and is kept for the history alone."""

    op: str
    task_id: str


TENANT_LIMITS: Final = ("weight", "quota_gpus", "budget_usd_per_hour", "most_tasks")
"""Fields of a tenant's terms that may be given one by one."""
Order = Drain | HeldTenant | TenantTerms | OwnPrice
Ordered = Order | Moved | AskedOfTask


class OrderRow(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one order changed, as its row of the ledger keeps it."""

    subject: str
    """What it is about, as `subject_of` names it."""
    who: str = ""
    before: Ordered | None = None
    """What stood before; None where nothing did."""
    after: Ordered | None = None
    """What stands from now on; None where nothing does."""


def subject_of(order: Ordered) -> str:
    """Name what an order is about: of two about the same, the later counts."""
    match order:
        case Drain(region=region, node_id=None):
            return f"drain/{region}"
        case Drain(region=region, node_id=node_id):
            return f"drain/{region}/{node_id}"
        case HeldTenant(tenant=tenant):
            return f"hold/{tenant}"
        case TenantTerms(tenant=tenant):
            return f"tenant/{tenant}"
        case OwnPrice(region=region, gpu_model=model, spot=spot):
            return f"price/{region}/{model}/{'spot' if spot else 'on-demand'}"
        case Moved(task_id=task_id):
            return f"move/{task_id}"
        case AskedOfTask(op=op, task_id=task_id):
            return f"{op}-task/{task_id}"


def write_order_row(row: OrderRow) -> str:
    """Write a row's order as the ledger and a snapshot keep it: JSON."""
    return _ENCODER.encode(row).decode()


def read_order_row(text: str) -> OrderRow:
    """Read it back."""
    return _DECODER.decode(text)


_ENCODER: Final = msgspec.json.Encoder()
_DECODER: Final = msgspec.json.Decoder(OrderRow)


def in_words(order: Ordered) -> str:
    """Say what an order does."""
    match order:
        case Drain(region=region, node_id=node_id, by_ms=by_ms):
            where = region if node_id is None else f"{region}/{node_id}"
            if by_ms is None:
                return f"{where} is drained"
            return f"{where} is drained, to be empty by {datetime.fromtimestamp(by_ms / 1_000, UTC):%Y-%m-%dT%H:%M:%SZ}"
        case HeldTenant(tenant=tenant):
            return f"tenant {tenant} is held"
        case TenantTerms(tenant=tenant):
            said = [
                f"{name.replace('_', ' ')} {value:,.15g}"
                for name in TENANT_LIMITS
                if (value := getattr(order, name)) is not None
            ]
            return f"tenant {tenant}: {', '.join(said) or 'as the settings say'}"
        case OwnPrice(usd_per_gpu_hour=usd):
            return f"{subject_of(order).removeprefix('price/')} costs {usd:g} USD a GPU-hour"
        case Moved(task_id=task_id, copy=copy, region=region):
            return f"copy {copy} of {task_id} is in {region}"
        case AskedOfTask(op=op, task_id=task_id):
            return f"{op} of {task_id}"


def end_in_words(order: Ordered) -> str:
    """Say what is when an order stands no more."""
    match order:
        case Drain(region=region, node_id=node_id):
            return f"{region if node_id is None else f'{region}/{node_id}'} is drained no more"
        case HeldTenant(tenant=tenant):
            return f"tenant {tenant} is held no more"
        case TenantTerms(tenant=tenant):
            return f"tenant {tenant}: as the settings say"
        case OwnPrice():
            return f"{subject_of(order).removeprefix('price/')} costs what its region says"
        case _:
            return f"no more: {in_words(order)}"
