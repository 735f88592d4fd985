"""Copies of one task that share a region, which no plan makes: what was taken back or updated may leave them so."""

import numpy as np

from thalweg.scheduling.again.proposals import APART, Proposal
from thalweg.scheduling.again.running import MovableCopies
from thalweg.scheduling.world.world import World


def apart(world: World, running: MovableCopies, *, most: int) -> list[Proposal]:
    """Propose that of two copies of a task in one region the one that was placed last goes elsewhere.

    Args:
        world: as it is.
        running: who may move.
        most: moves at most.
    """
    occupancy = world.occupancy
    rows = np.flatnonzero(occupancy.used() & (occupancy.column("first") == 1))
    region = np.array([world.region_at(pool.region) for pool in world.nodes.pools], np.int64)
    keys = np.stack([occupancy.column("order")[rows], region[occupancy.column("pool")[rows]]], axis=1)
    in_turn = np.lexsort((rows, occupancy.column("assigned_ms")[rows], keys[:, 1], keys[:, 0]))
    again = np.flatnonzero((np.diff(keys[in_turn], axis=0) == 0).all(axis=1)) + 1
    twice = rows[in_turn[again]]
    at = np.flatnonzero(np.isin(running.row, twice))
    return [
        Proposal(
            held=occupancy.owner(int(running.row[one])),
            assigned_ms=int(occupancy.column("assigned_ms")[running.row[one]]),
            to=None,
            why=APART,
            run=running.run(one),
        )
        for one in at[:most].tolist()
    ]
