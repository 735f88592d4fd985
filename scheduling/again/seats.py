"""Room for who waits and finds none: which copies go elsewhere so that all workers of one task fit into one pool.

Nobody is stopped for it, only moved; who would have no other place stays, and then nobody moves. The copies of tenants
that hold more than their fair share go first, where the one that waits is within its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from thalweg.scheduling.again.proposals import Proposal
from thalweg.scheduling.again.running import ClassBook, MovableCopies
from thalweg.scheduling.arrays import BoolArray, IntArray
from thalweg.scheduling.ids import TaskId
from thalweg.scheduling.live.demand import Demand
from thalweg.scheduling.live.live_plan import PlanSettings
from thalweg.scheduling.live.node_limits import workers_by_pool
from thalweg.scheduling.live.preemption import Offer, offers
from thalweg.scheduling.live.who_asks import over_share
from thalweg.scheduling.pack.nodes import Need
from thalweg.scheduling.world.tasks import TaskSpec
from thalweg.scheduling.world.world import World

MOST_SEATED: Final = 4
"""Tasks that one look makes room for: each proof takes as long as its moves, in front of a plan."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cleared:
    """Copies whose going makes room in one pool, by their place in `MovableCopies`."""

    leaving: tuple[int, ...]
    usd: float


def seats(
    world: World,
    running: MovableCopies,
    book: ClassBook,
    stuck: Sequence[Demand],
    settings: PlanSettings,
    now_ms: int,
    *,
    most: int,
) -> list[Proposal]:
    """Choose who makes room for the most urgent tasks that wait.

    Args:
        world: as it is.
        running: who may move.
        book: their tenants.
        stuck: who waits, the most urgent first; those beyond their tenant's share make nobody move.
        settings: weights and prices.
        now_ms: the moment.
        most: moves at most.
    """
    if not len(running) or not stuck:
        return []
    over = over_share(world, stuck, world.pools()) if settings.fair_share else frozenset[str]()
    is_over = np.array([name in over for name in book.tenants], bool)[running.tenant]
    nobody = np.zeros(len(running), bool)
    gone = nobody.copy()
    moves: list[Proposal] = []
    seated = 0
    for demand in stuck:
        if seated == MOST_SEATED:
            break
        if not _is_one_piece(demand):
            continue
        name, first = demand.tasks[0], nobody if demand.key.spec.tenant in over else is_over
        cleared, why = None, ""
        for among, words in ((first, _for_share(name)), (~nobody, _for(name))):
            left = most - len(moves)
            cleared = _cleared(world, running, demand, among & ~gone, settings, now_ms, left) if among.any() else None
            if cleared is not None:
                why = words
                break
        if cleared is None:
            continue
        seated += 1
        gone[list(cleared.leaving)] = True
        moves += [_proposal(world, running, at, why, name) for at in cleared.leaving]
    return moves


def _for(task_id: TaskId) -> str:
    return f"makes room for {task_id}"


def _for_share(task_id: TaskId) -> str:
    return f"{_for(task_id)}, its tenant being over its share"


def _is_one_piece(demand: Demand) -> bool:
    """Whether room is made for such a task: one copy, all alike, that cannot begin smaller."""
    spec = demand.key.spec
    return not demand.beyond_share and demand.key.missing == 1 and len(spec.parts) == 1 and spec.min_workers is None


def _cleared(
    world: World,
    running: MovableCopies,
    demand: Demand,
    among: BoolArray,
    settings: PlanSettings,
    now_ms: int,
    most: int,
) -> _Cleared | None:
    """Choose the pool where least is lost; None where the copies that may go are not enough, or too many."""
    spec = demand.key.spec
    need = spec.parts[0].need
    usable = world.usable_pools(demand.key) & np.isfinite(
        [world.geography.price_of(pool) for pool in world.nodes.pools]
    )
    at = _on_one_node(world, running, among & usable[running.pool])
    if not at.size or most <= 0:
        return None
    of_row = dict(zip(running.row[at].tolist(), at.tolist(), strict=True))
    offered: dict[int, list[Offer]] = {}
    for offer in offers(
        world.occupancy,
        world.nodes,
        running.row[at],
        need,
        now_ms=now_ms,
        wait_base_usd=0.0,
        rule=settings.rule,
        move_usd=settings.weights.move,
    ):
        offered.setdefault(offer.pool, []).append(offer)
    now = workers_by_pool(world.nodes, need)
    best: _Cleared | None = None
    for pool, here in sorted(offered.items()):
        found = _enough(here, max(spec.workers - int(now[pool]), 1), spec, need, world)
        if found is None or len(found) > most:
            continue
        usd = sum(one.usd for one in found.values())
        leaving = tuple(sorted(of_row[row] for one in found.values() for row in one.rows))
        if len(leaving) <= most and (best is None or usd < best.usd):
            best = _Cleared(leaving=leaving, usd=usd)
    return best


def _on_one_node(world: World, running: MovableCopies, among: BoolArray) -> IntArray:
    """Keep those that sit on one node each: the fragments."""
    whole = world.occupancy.column("gpu_milli")[running.row] == world.occupancy.column("copy_gpu_milli")[running.row]
    return np.flatnonzero(among & whole)


def _enough(here: Sequence[Offer], needed: int, spec: TaskSpec, need: Need, world: World) -> dict[int, Offer] | None:
    """Take the cheapest offers, one a node, until they make room for so many workers more."""
    taken: dict[int, Offer] = {}
    gained = 0
    for offer in here:
        known = taken.get(offer.node)
        if known is not None and known.workers >= offer.workers:
            continue
        if spec.spread_workers and _holds_one(world, offer.node, need):
            continue
        more = 1 if spec.spread_workers else offer.workers
        gained += more - (0 if known is None else 1 if spec.spread_workers else known.workers)
        taken[offer.node] = offer
        if gained >= needed:
            return taken
    return None


def _holds_one(world: World, node: int, need: Need) -> bool:
    """Whether a node takes a worker as it is: where each has a node of its own, it needs nobody's going."""
    nodes = world.nodes
    devices = int((nodes.gpu_milli_free[node] >= need.gpu_milli).sum())
    return bool(
        devices >= need.gpus
        and nodes.cpu_milli_free[node] >= need.cpu_milli
        and nodes.memory_mib_free[node] >= need.memory_mib
    )


def _proposal(world: World, running: MovableCopies, at: int, why: str, for_task: TaskId) -> Proposal:
    row = int(running.row[at])
    return Proposal(
        held=world.occupancy.owner(row),
        assigned_ms=int(world.occupancy.column("assigned_ms")[row]),
        to=None,
        why=why,
        run=running.run(at),
        for_task=for_task,
    )
