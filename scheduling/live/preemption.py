"""Preemption: which running copies could make room for a more important task, and what stopping them would cost.

The rules, each with a test:

- A copy gives way only to a task of higher priority, and only if it agreed to (`preemptible`).
- It gives way only if that helps: the task must then fit, and its waiting must cost more than its place and all that
  the stopped copies lose.
- The cheapest copies give way, and none that need not.
- There are no chains: a task that gave way once waits for free capacity.
- An elastic copy gives up workers beyond its least before anybody has to leave, whatever its priority.

Here offers are found and priced from columns. `scheduling.live.making_room` tries them, one by one, on the real nodes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from thalweg.scheduling.arrays import BoolArray, FloatArray, IntArray, distinct
from thalweg.scheduling.pack.nodes import GPU_MILLI, Need, Nodes
from thalweg.scheduling.world.occupancy import MICRO, Occupancy
from thalweg.scheduling.world.tasks import MILLI
from thalweg.scheduling.world.value import HOUR_MS, LEAST_HOLD_H, MOST_HOLD_H, RankRule, deadline_times, rank, wait_usd

MOST_NODES: Final = 256
"""Nodes that are looked at in detail for one task: those that free the most for the least. Enough for a gang on 256
nodes, and so few that 10,000 full nodes are searched in milliseconds."""

MOST_OFFERS: Final = 512
"""Two for each of these nodes. The cheapest for each worker come first, and a task needs few."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """Copies on one node that make room for some workers there when they leave.

    Attributes:
        pool: index of the node's pool.
        node: its row in `Nodes`.
        usd: what all these copies lose together; one that would only shrink loses what a move costs.
        workers: how many more workers fit on the node without them.
        rows: the copies' rows in `Occupancy`.
    """

    pool: int
    node: int
    usd: float
    workers: int
    rows: tuple[int, ...]


def restart_usd(occupancy: Occupancy, rows: IntArray, now_ms: int) -> FloatArray:
    """What each copy loses when it is stopped: the GPU time since it was assigned, and bringing its data again."""
    hours = np.maximum(now_ms - occupancy.column("assigned_ms")[rows], 0) / HOUR_MS
    return np.asarray(
        (occupancy.column("micro_usd_per_hour")[rows] * hours + occupancy.column("micro_usd_again")[rows]) / MICRO,
        np.float64,
    )


def new_wait_usd(occupancy: Occupancy, rows: IntArray, now_ms: int, base_usd: float, rule: RankRule) -> FloatArray:
    """Price of the wait that each copy would begin. It grows with the task's age, so nobody gives way for ever.

    The age is counted from the submission, in whole hours. Counted in seconds, it would outweigh the transfer of
    hundreds of GB, and of two equal copies the one that came a second later would leave, however much more that costs.
    """
    gpus = occupancy.column("copy_gpu_milli")[rows] / MILLI
    hours = np.clip(occupancy.column("expected_ms")[rows] / HOUR_MS, LEAST_HOLD_H, MOST_HOLD_H)
    value = occupancy.column("micro_usd_of_delay")[rows] / MICRO
    ranks = rank(
        value * deadline_times(occupancy.column("start_by_ms")[rows] - now_ms),
        np.maximum(gpus, 1.0) * hours,
        (now_ms - occupancy.column("submitted_ms")[rows]) // int(HOUR_MS) * int(HOUR_MS),
        rule,
    )
    return wait_usd(ranks, gpus, base_usd)


def may_give_way(occupancy: Occupancy, priority: int, usable: BoolArray) -> IntArray:
    """Rows of the copies that could make room for a task of this priority in one of these pools."""
    pool = occupancy.column("pool")
    lower = (occupancy.column("priority") < priority) & (occupancy.column("preemptible") == 1)
    return np.flatnonzero((pool >= 0) & usable[pool] & (lower | (occupancy.column("surplus") > 0)))


def offers(
    occupancy: Occupancy,
    nodes: Nodes,
    rows: IntArray,
    need: Need,
    *,
    now_ms: int,
    wait_base_usd: float,
    rule: RankRule,
    move_usd: float,
) -> list[Offer]:
    """Find the nodes on which more workers would fit if copies left; the offer that costs least for each worker first.

    Only sums are compared here. Whether the free devices of a node really suffice shows when an offer is tried.

    Args:
        occupancy: the world's.
        nodes: the world's.
        rows: copies that may be asked (`may_give_way`).
        need: of one worker.
        now_ms: the moment.
        wait_base_usd: see `PlanSettings.wait_usd`.
        rule: of the ranks.
        move_usd: price of a copy that shrinks instead of leaving.
    """
    rows = rows[nodes.ready[occupancy.column("node")[rows]]]
    if not rows.size:
        return []
    lost = restart_usd(occupancy, rows, now_ms) + new_wait_usd(occupancy, rows, now_ms, wait_base_usd, rule)
    lost = np.where(occupancy.column("surplus")[rows] > 0, move_usd, lost)
    frees = _amounts(occupancy, rows, need)
    rows, lost, frees = _on_cheapest_nodes(occupancy.column("node")[rows], rows, lost, frees)
    node = occupancy.column("node")[rows]
    density = lost / np.maximum(frees[:, 0], 1)
    order = np.lexsort((occupancy.column("order")[rows], density, node))
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
    """What one worker needs, in the dimensions of `_amounts`."""
    whole = (need.total_gpu_milli, need.cpu_milli, need.memory_mib)
    return np.array([value for value in whole if value] or [1], np.float64)


def _amounts(occupancy: Occupancy, rows: IntArray, need: Need) -> FloatArray:
    columns = [("gpu_milli", need.total_gpu_milli), ("cpu_milli", need.cpu_milli), ("memory_mib", need.memory_mib)]
    wanted = [occupancy.column(name)[rows] for name, value in columns if value]
    return np.stack(wanted or [np.ones(len(rows), np.int64)], axis=1).astype(np.float64)


def _free(nodes: Nodes, node: IntArray, need: Need) -> FloatArray:
    free: list[IntArray] = []
    if need.gpus:
        milli = nodes.gpu_milli_free[node].clip(min=0)
        # A whole GPU needs a device that is wholly free; shares can use what is left of any.
        free.append((milli // GPU_MILLI * GPU_MILLI if need.gpu_milli == GPU_MILLI else milli).sum(axis=1))
    if need.cpu_milli:
        free.append(nodes.cpu_milli_free[node].clip(min=0))
    if need.memory_mib:
        free.append(nodes.memory_mib_free[node].clip(min=0))
    return np.stack(free or [np.zeros(len(node), np.int64)], axis=1).astype(np.float64)


def _on_cheapest_nodes(
    node: IntArray, rows: IntArray, lost: FloatArray, frees: FloatArray
) -> tuple[IntArray, FloatArray, FloatArray]:
    """Keep the rows on the MOST_NODES nodes that free the most for the least."""
    known = distinct(node)
    of_row = np.searchsorted(known, node)
    if len(known) <= MOST_NODES:
        return rows, lost, frees
    price = np.bincount(of_row, lost) / np.maximum(np.bincount(of_row, frees[:, 0]), 1.0)
    keep = np.zeros(len(known), bool)
    keep[np.lexsort((known, price))[:MOST_NODES]] = True
    kept = keep[of_row]
    return rows[kept], lost[kept], frees[kept]


def _running_sum(amounts: FloatArray, of_start: IntArray) -> FloatArray:
    """Running sums over the rows of each node; `of_start` tells for each row where its node begins."""
    total = np.cumsum(amounts, axis=0)
    return np.asarray(total - total[of_start] + amounts[of_start])
