"""A copy of the driver's world, for questions of the kind "what if": made as the driver makes its own at a start.

The ledger is followed from its snapshot on, and the tables say what there is of places. Heartbeats are in no table, so
a region whose newest sample is older than others' by more than a region may be silent is taken for lost.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from thalweg.jobs.placement.orders import judge_order
from thalweg.jobs.placement.settings import assumed_price, plan_settings, tenants_of
from thalweg.query.opportunities import heard_regions
from thalweg.query.query import TableReader, WarehouseUnreadableError
from thalweg.scheduling.explain.reasons import Explainer
from thalweg.scheduling.live import decide, ordering
from thalweg.scheduling.live.drains import relief
from thalweg.scheduling.live.relocation import MovedCopy, others_in
from thalweg.scheduling.pack.packer import Packer
from thalweg.scheduling.world.fleet import CopyKey
from thalweg.scheduling.world.tasks import Transition
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


def world_copy(warehouse: str, place: "PlaceSettings", now_ms: int) -> World:
    """Make the copy.

    Args:
        warehouse: of the installation.
        place: settings of its place job.
        now_ms: the moment.

    Raises:
        WarehouseUnreadableError: there is no ledger, or it cannot be read.
    """
    uri = table_uri(warehouse, DECISIONS.name)
    try:
        if not DeltaTable.is_deltatable(uri):
            raise WarehouseUnreadableError(f"no ledger in {warehouse}: is it the installation's warehouse?")
        ledger = LedgerVersion(DeltaTable(uri))
        world = Follower.of(warehouse, ledger, read_spec, now_ms, tenants=tenants_of(place)).world
        world.learn(WorldTables(warehouse, place.node_timeout_ms).read())
    except (OSError, DeltaError) as error:
        raise WarehouseUnreadableError(f"the ledger in {warehouse} cannot be read: {error}") from error
    world.assume_price(assumed_price(place))
    with TableReader(warehouse) as reader:
        for region in heard_regions(reader, place.heartbeat_timeout_ms):
            world.hear(region, now_ms)
    return world


def foreseen(world: World, order: ControlOrder, place: "PlaceSettings", now_ms: int) -> Foreseen:
    """Obey an order in a copy, which is changed by it, and empty what it drains.

    Args:
        world: the copy.
        order: what is wanted.
        place: settings of the place job.
        now_ms: the moment.
    """
    origin = decide.RequestOrigin(topic="", partition=0, offset=0, timestamp_ms=now_ms)
    said = inbox.ReceivedOrder(order=order, key=None, value=b"", origin=origin)
    settings = plan_settings(place)
    rows = judge_order(said, world, settings, now_ms)
    if isinstance(rows, decide.Refused):
        return Foreseen(refused=rows.reason)
    for row in rows:
        world.follow(row)
    if order.order != "drain":
        return Foreseen(rows=rows)
    packer, moves, stopped = Packer(world.nodes), list[MovedCopy](), list[tuple[CopyKey, str]]()
    while True:
        look = relief(world, settings, now_ms, packer, most=_MANY)
        moves += look.moves
        stopped += [((one.task.task_id, one.copy.index), one.reason) for one in look.leaving]
        for row in ordering.relieved(look, now_ms):
            world.follow(row)
        if not (look.moves or look.leaving):
            break
    why = _why(world, place, now_ms)
    return Foreseen(
        rows=rows,
        moves=moves,
        stopped=stopped,
        stay=[(held, why(held) if at < MOST_EXPLAINED else "") for at, held in enumerate(look.stuck)],
        end_in_time=list(look.left_alone),
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
            more = [f"and {len(why_not) - _NAMED} regions more"] if len(why_not) > _NAMED else []
            known[task.spec, taken] = "; ".join([*why_not[:_NAMED], *more]) or "every other region is drained"
        return known[task.spec, taken]

    return why
