"""A copy of the driver's world, for questions of the kind "what if": made as the driver makes its own at a start.

The ledger is followed from its snapshot on, and the tables say what there is of places. Heartbeats are in no table, so
a region whose newest sample is older than others' by more than a region may be silent is taken for lost.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from thalweg.jobs.placement.orders import judge_order
from thalweg.jobs.placement.settings import assumed_price, plan_settings, tenants_of
from thalweg.query.reports.opportunities import heard_regions
from thalweg.query.sql.engine_thread import beside
from thalweg.query.sql.query import TableReader, WarehouseUnreadableError
from thalweg.scheduling.counted import counted
from thalweg.scheduling.decisions import decide, ordering
from thalweg.scheduling.explain.reasons import Explainer
from thalweg.scheduling.ids import RegionId
from thalweg.scheduling.live.drains import CopyStop, Relief, relief
from thalweg.scheduling.live.live_plan import PlanSettings
from thalweg.scheduling.live.relocation import MovedCopy, others_in
from thalweg.scheduling.pack.nodes import Pool
from thalweg.scheduling.pack.packer import Packer
from thalweg.scheduling.world.fleet import CopyKey
from thalweg.scheduling.world.occupancy import MICRO
from thalweg.scheduling.world.tasks import MILLI, TaskState, Transition
from thalweg.scheduling.world.world import World
from thalweg.streams.contract.messages import ControlOrder
from thalweg.streams.placement import inbox
from thalweg.streams.placement.task_specs import read_spec
from thalweg.sync.delta.contracts import DECISIONS
from thalweg.sync.delta.store import table_uri
from thalweg.sync.ledger.follower import Follower
from thalweg.sync.ledger.reading import LedgerVersion
from thalweg.sync.tables.world_tables import WorldTables

if TYPE_CHECKING:
    from thalweg.conf.settings import PlaceSettings

MOST_EXPLAINED: Final = 200
"""Copies that stay for which the reason is looked for; each takes milliseconds."""
_MANY: Final = 1 << 30
_NAMED: Final = 4
"""Regions of which it is said why they do not take a copy."""
_LIMITS: Final = "its tenant's limits do not bear the price there"


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantHolding:
    """What a tenant has now."""

    gpus: float
    usd_per_hour: float
    waiting: int
    """Tasks."""
    live: int
    """Tasks that have not ended: what `most_tasks` counts."""
    most_tasks: int
    """So many may be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceAhead:
    """What a GPU-hour of a pool costs, in US dollars, and whom that concerns."""

    usd_now: float | None
    """None where nobody names a price, and none is assumed."""
    usd_then: float | None
    told_by_region: float | None
    """What the region itself tells; None where it tells none."""
    copies: int
    """That run in the pool now."""
    gpus: float
    """That they hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Foreseen:
    """What an order would do now."""

    refused: str | None = None
    """Why it would not be obeyed."""
    rows: list[Transition] = field(default_factory=list)
    """What would follow at once."""
    moves: list[MovedCopy] = field(default_factory=list)
    stopped: list[tuple[CopyKey, str]] = field(default_factory=list)
    """Copies that would be stopped without another place, each with the reason."""
    stay: list[tuple[CopyKey, str]] = field(default_factory=list)
    """Copies that would stay for want of another place, each with the reason."""
    end_in_time: list[CopyKey] = field(default_factory=list)
    """Copies that are left alone, because they are expected to end in time."""
    holding: TenantHolding | None = None
    """Of the tenant that the order is about; None where it is about none."""
    price: "PriceAhead | None" = None
    """Of the pool that the order is about; None where it is about none."""


class WorldSource:
    """One version of the ledger and of the tables, from which any number of copies can be made."""

    def __init__(self, warehouse: str, place: "PlaceSettings", now_ms: int) -> None:
        """Read the tables.

        Args:
            warehouse: of the installation.
            place: settings of its place job.
            now_ms: the moment.

        Raises:
            WarehouseUnreadableError: there is no ledger, or it cannot be read.
        """
        self._warehouse, self._now_ms = warehouse, now_ms
        uri = table_uri(warehouse, DECISIONS.name)
        try:
            if not beside(lambda: DeltaTable.is_deltatable(uri)):
                raise WarehouseUnreadableError(f"no ledger in {warehouse}: is it the installation's warehouse?")
            self._ledger = LedgerVersion(beside(lambda: DeltaTable(uri)))
            self.facts = WorldTables(warehouse, place.node_timeout_ms).read()
        except (OSError, DeltaError) as error:
            raise WarehouseUnreadableError(f"the ledger in {warehouse} cannot be read: {error}") from error
        with TableReader(warehouse) as reader:
            self._heard = heard_regions(reader, place.heartbeat_timeout_ms)

    def world(self, place: "PlaceSettings", progress: Callable[[int], None] = lambda _: None) -> World:
        """Make a copy, for a place job of these settings; `progress` is told the ledger's rows that were read.

        Raises as the constructor.
        """
        tenants = tenants_of(place)
        try:
            world = Follower.of(
                self._warehouse, self._ledger, read_spec, self._now_ms, tenants=tenants, progress=progress
            ).world
        except (OSError, DeltaError) as error:
            raise WarehouseUnreadableError(f"the ledger in {self._warehouse} cannot be read: {error}") from error
        world.learn(self.facts)
        world.assume_price(assumed_price(place))
        for region in self._heard:
            world.hear(region, self._now_ms)
        return world


def world_copy(warehouse: str, place: "PlaceSettings", now_ms: int) -> World:
    """Make one copy; see `WorldSource`."""
    return WorldSource(warehouse, place, now_ms).world(place)


def judged(world: World, order: ControlOrder, settings: PlanSettings, now_ms: int) -> list[Transition] | decide.Refused:
    """Say what follows from an order in a copy; the caller applies it."""
    origin = decide.RequestOrigin(topic="", partition=0, offset=0, timestamp_ms=now_ms)
    return judge_order(inbox.ReceivedOrder(order=order, key=None, value=b"", origin=origin), world, settings, now_ms)


def emptied(
    world: World, settings: PlanSettings, now_ms: int, packer: Packer
) -> tuple[list[MovedCopy], list[CopyStop], Relief]:
    """Empty what is drained in a copy, which is changed by it.

    Returns:
        All that moves, all that is stopped, and the last look, which says what stays.
    """
    moves, leaving = list[MovedCopy](), list[CopyStop]()
    while True:
        look = relief(world, settings, now_ms, packer, most=_MANY)
        moves += look.moves
        leaving += look.leaving
        for row in ordering.relieved(look, now_ms):
            world.follow(row)
        if not (look.moves or look.leaving):
            return moves, leaving, look


def foreseen(world: World, order: ControlOrder, place: "PlaceSettings", now_ms: int) -> Foreseen:
    """Obey an order in a copy, which is changed by it, and empty what it drains.

    Args:
        world: the copy.
        order: what is wanted.
        place: settings of the place job.
        now_ms: the moment.
    """
    settings = plan_settings(place)
    before = world.geography.price_of(_pool_of(order)) if order.order == "price" else math.nan
    rows = judged(world, order, settings, now_ms)
    if isinstance(rows, decide.Refused):
        return Foreseen(refused=rows.reason)
    for row in rows:
        world.follow(row)
    if order.order == "price":
        return Foreseen(rows=rows, price=_price_ahead(world, order, before))
    if order.order != "drain":
        return Foreseen(
            rows=rows, holding=None if order.tenant is None else _holding(world, order.tenant, place.most_tasks)
        )
    moves, leaving, look = emptied(world, settings, now_ms, Packer(world.nodes))
    why = _why(world, place, now_ms)
    return Foreseen(
        rows=rows,
        moves=moves,
        stopped=[((one.task.task_id, one.copy.index), one.reason) for one in leaving],
        stay=[(held, why(held) if at < MOST_EXPLAINED else "") for at, held in enumerate(look.stuck)],
        end_in_time=list(look.left_alone),
    )


def _pool_of(order: ControlOrder) -> Pool:
    return Pool(region=RegionId(order.region or ""), gpu_model=order.gpu_model or "", spot=order.spot)


def _price_ahead(world: World, order: ControlOrder, before: float) -> PriceAhead:
    pool = _pool_of(order)
    told = world.geography.prices.get((pool.region, pool.gpu_model, pool.spot))
    here = [
        sum(share.gpus + share.gpu_milli / MILLI for share in copy.shares)
        for task in world.tasks.values()
        for copy in task.copies.values()
        if copy.pool == pool
    ]
    return PriceAhead(
        usd_now=None if math.isnan(before) else before,
        usd_then=None if math.isnan(then := world.geography.price_of(pool)) else then,
        told_by_region=told,
        copies=len(here),
        gpus=sum(here),
    )


def _holding(world: World, tenant: str, most_tasks: int) -> TenantHolding:
    held, said = world.holdings.get(tenant), world.tenants.get(tenant)
    own = [task for task in world.tasks.values() if task.spec.tenant == tenant]
    return TenantHolding(
        gpus=0.0 if held is None else held.gpu_milli / MILLI,
        usd_per_hour=0.0 if held is None else held.micro_usd_per_hour / MICRO,
        waiting=sum(task.state is TaskState.WAITING for task in own),
        live=len(own),
        most_tasks=most_tasks if said is None or said.most_tasks is None else said.most_tasks,
    )


def _why(world: World, place: "PlaceSettings", now_ms: int) -> Callable[[CopyKey], str]:
    """Say why a copy has no other place; asked of the planner once for copies that need the same."""
    explainer = Explainer(world, plan_settings(place))
    known: dict[Any, str] = {}
    drained = world.orders.drained_regions

    def why(held: CopyKey) -> str:
        task = world.tasks[held[0]]
        taken = frozenset(others_in(task, task.copies[held[1]]))
        if (task.spec, taken) not in known:
            options = explainer.options(task.spec, now_ms, taken=taken, instead_of=held)
            why_not = [f"{one.region}: {one.reason or _LIMITS}" for one in options if one.region not in drained]
            more = [f"and {counted(len(why_not) - _NAMED, 'region')} more"] if len(why_not) > _NAMED else []
            known[task.spec, taken] = "; ".join([*why_not[:_NAMED], *more]) or "every other region is drained"
        return known[task.spec, taken]

    return why
