"""Preemption: where running copies could make room for a more important task, and what each of these places costs.

Rules, each of which a test holds it to: only copies of strictly lower priority that agreed to it give way; only where
it helps, that is, the task then fits and its waiting costs more than its place and all that the victims lose; the
cheapest victims, none of them needless; and never in a chain: a task that gave way once waits for what is free. A
malleable copy, whatever its priority, is asked for its workers above the least before anybody has to leave.

This file finds and prices offers from columns; `scheduling.live.late_placing` takes them one by one on the real nodes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from thalweg.scheduling.arrays import BoolArray, FloatArray, IntArray
from thalweg.scheduling.pack.nodes import GPU_MILLI, Need, Nodes
from thalweg.scheduling.world.seats import MICRO, Seats
from thalweg.scheduling.world.tasks import MILLI
from thalweg.scheduling.world.urgency import HOUR_MS, urgency, wait_usd

MOST_NODES: Final = 256
"""Nodes looked at in detail for one task: those whose copies are cheapest for what they free. Enough for a gang of 256
nodes, and few enough that a fleet of 10,000 full nodes is searched in milliseconds."""


MOST_OFFERS: Final = 512
"""Two for every node looked at: the cheapest a worker come first, and a task takes few."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """Copies of one node whose leaving makes room there for some workers.

    Attributes:
        usd: what all of them lose; copies that would only shrink count with what a move costs.
        workers: that fit on the node then and do not now.
        rows: of `Seats`.
    """

    pool: int
    node: int
    usd: float
    workers: int
    rows: tuple[int, ...]


def restart_usd(seats: Seats, rows: IntArray, now_ms: int) -> FloatArray:
    """What each copy loses when it is stopped: GPU time spent since it was assigned, and its data brought again."""
    hours = np.maximum(now_ms - seats.column("assigned_ms")[rows], 0) / HOUR_MS
    return np.asarray(
        (seats.column("micro_usd_per_hour")[rows] * hours + seats.column("micro_usd_again")[rows]) / MICRO, np.float64
    )


def new_wait_usd(seats: Seats, rows: IntArray, now_ms: int, base_usd: float) -> FloatArray:
    """Price of each copy's new wait; its age counts from its submission, so nobody gives way for ever.

    In whole hours: a second of age is worth more than the transfer of hundreds of GB, and equals that came seconds
    apart are to be told apart by what their going costs.
    """
    doublings = urgency(
        seats.column("priority")[rows],
        (now_ms - seats.column("submitted_ms")[rows]) // int(HOUR_MS) * int(HOUR_MS),
        seats.column("start_by_ms")[rows] - now_ms,
    )
    return wait_usd(doublings, seats.column("copy_gpu_milli")[rows] / MILLI, base_usd)


def may_give_way(seats: Seats, priority: int, usable: BoolArray) -> IntArray:
    """Rows whose copies could make room for a task of this priority in one of these pools."""
    pool = seats.column("pool")
    lower = (seats.column("priority") < priority) & (seats.column("preemptible") == 1)
    return np.flatnonzero((pool >= 0) & usable[pool] & (lower | (seats.column("surplus") > 0)))


def offers(
    seats: Seats, nodes: Nodes, rows: IntArray, need: Need, *, now_ms: int, wait_base_usd: float, move_usd: float
) -> list[Offer]:
    """Say on which nodes workers of this need would fit, and at which cost; the cheapest a worker first.

    Sums only: whether devices really suffice shows when an offer is taken.

    Args:
        seats: of the world.
        nodes: of the world.
        rows: see `may_give_way`.
        need: of one worker.
        now_ms: the moment.
        wait_base_usd: see `PlanSettings.wait_usd`.
        move_usd: what a copy that shrinks instead of leaving costs.
    """
    rows = rows[nodes.ready[seats.column("node")[rows]]]
    if not rows.size:
        return []
    lost = restart_usd(seats, rows, now_ms) + new_wait_usd(seats, rows, now_ms, wait_base_usd)
    lost = np.where(seats.column("surplus")[rows] > 0, move_usd, lost)
    frees = _amounts(seats, rows, need)
    rows, lost, frees = _on_cheapest_nodes(seats.column("node")[rows], rows, lost, frees)
    node = seats.column("node")[rows]
    density = lost / np.maximum(frees[:, 0], 1)
    order = np.lexsort((seats.column("order")[rows], density, node))
    rows, lost, frees, node = rows[order], lost[order], frees[order], node[order]
    start = np.flatnonzero(np.diff(node, prepend=-1))
    of_start = np.repeat(start, np.diff(np.append(start, len(node))))
    cost, freed = _running_sum(lost[:, None], of_start)[:, 0], _running_sum(frees, of_start)
    free = _free(nodes, node, need)
    wants = _wants(need)
    fits_now = (free // wants).min(axis=1)
    fits = ((free + freed) // wants).min(axis=1)
    gains = fits - fits_now
    before = np.concatenate([[0], gains[:-1]])
    before[start] = 0
    steps = np.flatnonzero(gains > before)
    steps = steps[np.lexsort((node[steps], cost[steps] / gains[steps]))]
    return [
        Offer(
            pool=int(nodes.pool[node[at]]),
            node=int(node[at]),
            usd=float(cost[at]),
            workers=int(gains[at]),
            rows=tuple(rows[of_start[at] : at + 1].tolist()),
        )
        for at in steps[:MOST_OFFERS].tolist()
    ]


def _wants(need: Need) -> FloatArray:
    """What a worker takes in each dimension it needs, in the order of `_amounts`."""
    whole = (need.total_gpu_milli, need.cpu_milli, need.memory_mib)
    return np.array([value for value in whole if value] or [1], np.float64)


def _amounts(seats: Seats, rows: IntArray, need: Need) -> FloatArray:
    columns = [("gpu_milli", need.total_gpu_milli), ("cpu_milli", need.cpu_milli), ("memory_mib", need.memory_mib)]
    wanted = [seats.column(name)[rows] for name, value in columns if value]
    return np.stack(wanted or [np.ones(len(rows), np.int64)], axis=1).astype(np.float64)


def _free(nodes: Nodes, node: IntArray, need: Need) -> FloatArray:
    free: list[IntArray] = []
    if need.gpus:
        milli = nodes.gpu_milli_free[node].clip(min=0)
        # Whole GPUs do not fit into what shares left over; shares do, up to how they lie.
        free.append((milli // GPU_MILLI * GPU_MILLI if need.gpu_milli == GPU_MILLI else milli).sum(axis=1))
    if need.cpu_milli:
        free.append(nodes.cpu_milli_free[node].clip(min=0))
    if need.memory_mib:
        free.append(nodes.memory_mib_free[node].clip(min=0))
    return np.stack(free or [np.zeros(len(node), np.int64)], axis=1).astype(np.float64)


def _on_cheapest_nodes(
    node: IntArray, rows: IntArray, lost: FloatArray, frees: FloatArray
) -> tuple[IntArray, FloatArray, FloatArray]:
    """Keep the seats of the nodes whose copies are cheapest for what they free."""
    known, of_row = np.unique(node, return_inverse=True)
    if len(known) <= MOST_NODES:
        return rows, lost, frees
    price = np.bincount(of_row, lost) / np.maximum(np.bincount(of_row, frees[:, 0]), 1.0)
    keep = np.zeros(len(known), bool)
    keep[np.lexsort((known, price))[:MOST_NODES]] = True
    kept = keep[of_row]
    return rows[kept], lost[kept], frees[kept]


def _running_sum(amounts: FloatArray, of_start: IntArray) -> FloatArray:
    """Sums along the rows of each node, which begins at `of_start`."""
    total = np.cumsum(amounts, axis=0)
    return np.asarray(total - total[of_start] + amounts[of_start])
