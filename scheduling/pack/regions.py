"""Pack many regions, each as one value that can be worked on anywhere: in a loop here, or one per Spark task.

A region's nodes touch no other region's, so packing splits along regions without losing anything. What a region needs
is its nodes' columns, its requests and what is expected there; what comes back is where each request sits. Packing
keeps nothing that changes an answer, so a fresh `Packer` in another process chooses what one that ran for days would.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from thalweg.scheduling.ids import RegionId
from thalweg.scheduling.pack.arrivals import run
from thalweg.scheduling.pack.nodes import IntArray, Nodes, Pool, Slot
from thalweg.scheduling.pack.packer import Packer, Request, ScoringRule
from thalweg.scheduling.pack.popularity import Popularity


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionWork:
    """One region's nodes as they are, and what is to be placed on them.

    rows: of the nodes in the world they were taken from; the other columns are those of `Nodes` for these rows.
    pools: of the region; `pool`, the requests and the popularity name them by their position here.
    popularity: what is expected (see `Packer.expect`).
    batch, moves: as in `pack_run.run`.
    """

    region: RegionId
    rows: IntArray
    pools: tuple[Pool, ...]
    pool: IntArray
    gpus: IntArray
    cpu_milli: IntArray
    memory_mib: IntArray
    gpu_milli_free: IntArray
    cpu_milli_free: IntArray
    memory_mib_free: IntArray
    ready: NDArray[np.bool_]
    requests: tuple[Request, ...]
    popularity: tuple[tuple[Request, float], ...]
    rule: ScoringRule = ScoringRule.FILL
    batch: int = 1
    moves: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionSlots:
    """Where each request of a region sits at the end, by row of the whole world; None where it was refused."""

    region: RegionId
    slots: tuple[Slot | None, ...]
    moved: int


def region_work(
    nodes: Nodes,
    region: RegionId,
    requests: Sequence[Request],
    popularity: Popularity,
    *,
    rule: ScoringRule = ScoringRule.FILL,
    batch: int = 1,
    moves: float = 0.0,
) -> RegionWork:
    """Take one region out of the world; the world is not changed.

    Args:
        nodes: of the world.
        region: whose nodes.
        requests: single workers in order of arrival; pools by index in `nodes.pools`, all of this region.
        popularity: what is expected; pools of other regions in it are left out.
        rule: how a node is valued.
        batch: how many consecutive requests are decided jointly.
        moves: share of the running that may be moved.

    Raises:
        ValueError: a request names a pool of another region.
    """
    mine = [index for index, pool in enumerate(nodes.pools) if pool.region == region]
    here = {index: position for position, index in enumerate(mine)}
    translated: dict[Request, Request] = {}
    for need, pools in set(requests):
        if not pools <= here.keys():
            others = sorted({nodes.pools[p].region for p in pools if p not in here})
            raise ValueError(f"a worker of region {region} may use its pools only, but names pools of {others}")
        translated[need, pools] = (need, frozenset(here[p] for p in pools))
    rows = np.sort(np.concatenate([nodes.members(p) for p in mine])) if mine else np.zeros(0, np.int64)
    positions = np.full(len(nodes.pools), -1, np.int64)
    positions[mine] = np.arange(len(mine))
    return RegionWork(
        region=region,
        rows=rows,
        pools=tuple(nodes.pools[p] for p in mine),
        pool=positions[nodes.pool[rows]],
        gpus=nodes.gpus[rows],
        cpu_milli=nodes.cpu_milli[rows],
        memory_mib=nodes.memory_mib[rows],
        gpu_milli_free=nodes.gpu_milli_free[rows],
        cpu_milli_free=nodes.cpu_milli_free[rows],
        memory_mib_free=nodes.memory_mib_free[rows],
        ready=nodes.ready[rows],
        requests=tuple(translated[request] for request in requests),
        popularity=tuple(
            ((need, frozenset(here[p] for p in pools if p in here)), weight)
            for (need, pools), weight in popularity.items()
            if any(p in here for p in pools)
        ),
        rule=rule,
        batch=batch,
        moves=moves,
    )


def pack_region(work: RegionWork) -> RegionSlots:
    """Place a region's requests. Equal work gives equal slots, in whatever process."""
    nodes = Nodes.from_columns(
        ids=[str(row) for row in work.rows.tolist()],
        pools=work.pools,
        pool=work.pool,
        gpus=work.gpus,
        cpu_milli=work.cpu_milli,
        memory_mib=work.memory_mib,
    )
    nodes.continue_from(
        gpu_milli_free=work.gpu_milli_free,
        cpu_milli_free=work.cpu_milli_free,
        memory_mib_free=work.memory_mib_free,
        ready=work.ready,
    )
    packer = Packer(nodes, rule=work.rule)
    packer.expect(work.region, dict(work.popularity))
    result = run(packer, work.requests, batch=work.batch, moves=work.moves)
    return RegionSlots(
        region=work.region,
        slots=tuple(None if slot is None else Slot(int(work.rows[slot.node]), slot.devices) for slot in result.slots),
        moved=result.moved,
    )


def requests_by_region(nodes: Nodes, requests: Sequence[Request]) -> Mapping[RegionId, list[int]]:
    """Positions of the requests by the region of their pools, in order of arrival; one without pools is nowhere."""
    positions: dict[RegionId, list[int]] = {}
    for position, (_, pools) in enumerate(requests):
        if pools:
            positions.setdefault(nodes.pools[min(pools)].region, []).append(position)
    return positions
