"""What the plane would do under other settings, prices, limits or capacity: planned in copies of the world, compared.

Two copies are made of the same version of the ledger and the same tables. One is planned as things are, the other with
what is supposed: micro-batch after micro-batch, until one places nothing more. Nothing is written and nothing is sent.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from thalweg.jobs.placement.settings import plan_settings
from thalweg.query.questions.world_copy import WorldSource, emptied, judged
from thalweg.scheduling.counted import counted
from thalweg.scheduling.decisions import decide
from thalweg.scheduling.ids import NodeId, PoolId, RegionId
from thalweg.scheduling.live.micro_batch import plan
from thalweg.scheduling.pack.packer import Packer
from thalweg.scheduling.world.facts import NodeFacts, WorldFacts
from thalweg.scheduling.world.fleet import CopyKey
from thalweg.scheduling.world.occupancy import MICRO
from thalweg.scheduling.world.tasks import MILLI, TaskState, Transition
from thalweg.scheduling.world.world import World
from thalweg.streams.contract.messages import ControlOrder

if TYPE_CHECKING:
    from thalweg.conf.settings import PlaceSettings

MOST_SHOWN: Final = 50
"""Tasks that are named one by one, of each kind of difference."""
_REASONS: Final = 8
_NEW_NODE: Final = (96.0, 768.0)
"""CPUs and GB of memory of a node in a pool that has none to take after."""


class CannotSupposeError(Exception):
    """What is supposed cannot be; the message says what was seen and what is allowed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CapacityChange:
    """Nodes that a pool is supposed to have more, or fewer."""

    region: RegionId
    gpu_model: str
    spot: bool = False
    nodes: int = 1
    """How many more; negative takes away, first those that hold least."""
    gpus: int | None = None
    """GPUs of a new node; None takes after the pool's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Supposed:
    """What is to be otherwise."""

    place: "PlaceSettings"
    """Settings of the place job."""
    orders: Sequence[ControlOrder] = ()
    capacity: Sequence[CapacityChange] = ()
    afresh: bool = False
    """Whether what runs is placed anew, too, in both copies: then prices bear on everything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedWorld:
    """Where planning led to."""

    world: World
    where: dict[CopyKey, PoolId]
    """Copies that run or are about to."""
    stopped: int
    """Copies that ran and have no place any more."""
    plans: int
    gap: float
    """Of the first plan."""
    complete: bool
    """Whether the last plan placed nothing more; False where the time was over before."""
    copying_s: float
    """How long its copy took to make."""


def what_if(
    source: WorldSource,
    as_it_is: "PlaceSettings",
    supposed: Supposed,
    now_ms: int,
    remaining_s: Callable[[], float],
    progress: Callable[[int], None] = lambda _: None,
) -> dict[str, Any]:
    """Plan both, and say how they differ.

    Args:
        source: what the copies are made from.
        as_it_is: settings of the place job.
        supposed: what is to be otherwise.
        now_ms: the moment.
        remaining_s: seconds left for planning; each copy has half, and the making of a copy is not counted.
        progress: told the ledger's rows that were read for a copy.

    Raises:
        CannotSupposeError: an order would be refused, or nodes are taken away that are not there.
    """
    whole_s = remaining_s()
    nothing = Supposed(place=as_it_is, afresh=supposed.afresh)
    before = _planned(source, nothing, now_ms, lambda: remaining_s() - whole_s / 2, progress)
    after = _planned(source, supposed, now_ms, lambda: remaining_s() + before.copying_s, progress)
    starts = sorted(after.where.keys() - before.where.keys())
    waits = sorted(before.where.keys() - after.where.keys())
    elsewhere = sorted(key for key in before.where.keys() & after.where.keys() if before.where[key] != after.where[key])
    return {
        "as_it_is": _figures(before),
        "supposed": _figures(after),
        "starts": _listed(starts, before, after),
        "waits": _listed(waits, before, after),
        "elsewhere": _listed(elsewhere, before, after),
        "complete": before.complete and after.complete,
    }


def _planned(
    source: WorldSource,
    supposed: Supposed,
    now_ms: int,
    remaining_s: Callable[[], float],
    progress: Callable[[int], None],
) -> PlannedWorld:
    began_s = remaining_s()
    world = source.world(supposed.place, progress)
    copying_s = began_s - remaining_s()

    def left_s() -> float:
        return remaining_s() + copying_s

    settings = replace(plan_settings(supposed.place), remaining_s=left_s)
    ran = _placed(world)
    if supposed.capacity:
        nodes = list(source.facts.nodes or ())
        for change in supposed.capacity:
            nodes = _with_nodes(nodes, change, _load(world))
        lost = world.learn(WorldFacts(nodes=nodes))
        _follow(world, decide.lose_copies(world, lost, "its node is gone", now_ms), now_ms)
        for change in supposed.capacity:
            world.hear(change.region, now_ms)
    for order in supposed.orders:
        rows = judged(world, order, settings, now_ms)
        if isinstance(rows, decide.Refused):
            raise CannotSupposeError(f"{order.order} would be refused: {rows.reason}")
        _follow(world, rows, now_ms)
    if supposed.afresh:
        _follow(world, decide.stop_all(world, "placed anew", now_ms), now_ms)
    packer = Packer(world.nodes)
    emptied(world, settings, now_ms, packer)
    plans, gap, complete = 0, 0.0, True
    while made := plan(world, settings, now_ms, supposed.place.seed, packer):
        gap = made.gap if not plans else gap
        plans += 1
        _follow(world, decide.place(world, made, "", now_ms), now_ms)
        if not (made.assignments or made.preempted or made.resized):
            break
        if left_s() <= 0.0:
            complete = False
            break
    where = _placed(world)
    return PlannedWorld(
        world=world,
        where=where,
        stopped=len(ran.keys() - where.keys()),
        plans=plans,
        gap=gap,
        complete=complete,
        copying_s=copying_s,
    )


def _follow(world: World, rows: Iterable[Transition], now_ms: int) -> None:
    for row in rows:
        world.follow(row)
    while more := decide.follow_ups(world, now_ms):
        for row in more:
            world.follow(row)


def _placed(world: World) -> dict[CopyKey, PoolId]:
    return {
        (task_id, copy.index): copy.pool_id for task_id, task in world.tasks.items() for copy in task.copies.values()
    }


def _load(world: World) -> Counter[tuple[RegionId, NodeId]]:
    """Count the copies on each node."""
    return Counter(
        (copy.region, share.node_id)
        for task in world.tasks.values()
        for copy in task.copies.values()
        for share in copy.shares
    )


def _with_nodes(
    nodes: Sequence[NodeFacts], change: CapacityChange, load: Mapping[tuple[RegionId, NodeId], int]
) -> list[NodeFacts]:
    """Give the nodes with a pool's more, or fewer."""
    pool = (change.region, change.gpu_model, change.spot)
    mine = [node for node in nodes if node.ready and (node.region, node.gpu_model, node.spot) == pool]
    if change.nodes < 0:
        if len(mine) < -change.nodes:
            raise CannotSupposeError(
                f"{counted(-change.nodes, 'node')} less of {change.gpu_model or 'no GPU'}{' spot' * change.spot} in "
                f"{change.region}: it has {len(mine)} that are ready"
            )
        leaving = sorted(mine, key=lambda node: (load.get((node.region, node.node_id), 0), node.node_id))
        gone = {(node.region, node.node_id) for node in leaving[: -change.nodes]}
        return [node for node in nodes if (node.region, node.node_id) not in gone]
    like = Counter((node.gpus, node.cpus, node.memory_gb) for node in mine).most_common(1)
    if not like and change.gpus is None:
        raise CannotSupposeError(
            f"{change.region} has no node of {change.gpu_model!r}{' spot' * change.spot} to take after: say how many "
            "GPUs a new one has (gpus)"
        )
    gpus, cpus, memory_gb = like[0][0] if like else (change.gpus or 0, *_NEW_NODE)
    known = {node.node_id for node in nodes if node.region == change.region}
    names = (NodeId(f"supposed-{number}") for number in range(len(known) + change.nodes))
    new = [name for name in names if name not in known][: change.nodes]
    return [
        *nodes,
        *(
            NodeFacts(
                region=change.region,
                node_id=name,
                gpu_model=change.gpu_model,
                spot=change.spot,
                gpus=gpus if change.gpus is None else change.gpus,
                cpus=cpus,
                memory_gb=memory_gb,
                ready=True,
            )
            for name in new
        ),
    ]


def _figures(found: PlannedWorld) -> dict[str, Any]:
    world = found.world
    rate = world.occupancy.column("micro_usd_per_hour")
    regions: dict[RegionId, dict[str, float]] = defaultdict(lambda: {"copies": 0, "gpus": 0.0, "usd_per_hour": 0.0})
    for task in world.tasks.values():
        for copy in task.copies.values():
            row = regions[copy.region]
            row["copies"] += 1
            row["gpus"] += sum(share.gpus + share.gpu_milli / MILLI for share in copy.shares)
            row["usd_per_hour"] += float(rate[copy.occupancy[0]]) / MICRO
    capacity: Counter[RegionId] = Counter()
    for fact in world.fleet.facts.values():
        capacity[fact.region] += fact.gpus if fact.ready else 0
    waiting = [task for task in world.tasks.values() if task.state is TaskState.WAITING and not task.is_array]
    return {
        "copies": sum(row["copies"] for row in regions.values()),
        "gpus": sum(row["gpus"] for row in regions.values()),
        "capacity_gpus": sum(capacity.values()),
        "usd_per_hour": sum(row["usd_per_hour"] for row in regions.values()),
        "waiting": len(waiting),
        "waiting_gpus": sum(task.spec.gpus * task.missing for task in waiting),
        "reasons": [
            {"reason": reason, "tasks": tasks}
            for reason, tasks in Counter(task.reason for task in waiting).most_common(_REASONS)
        ],
        "stopped": found.stopped,
        "plans": found.plans,
        "gap": found.gap,
        "regions": [
            {"region": region, "capacity_gpus": capacity[region], **regions[region]}
            for region in sorted(capacity.keys() | regions.keys())
        ],
    }


def _listed(keys: Sequence[CopyKey], before: PlannedWorld, after: PlannedWorld) -> dict[str, Any]:
    return {
        "copies": len(keys),
        "tasks": [
            {
                "task_id": task_id,
                "copy": copy,
                "from": before.where.get((task_id, copy)),
                "to": after.where.get((task_id, copy)),
                "reason": after.world.tasks[task_id].reason if task_id in after.world.tasks else "",
            }
            for task_id, copy in keys[:MOST_SHOWN]
        ],
    }
