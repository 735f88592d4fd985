"""When those who run in a pool are expected to leave, and what they have given back by then; once a plan for each."""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from thalweg.scheduling.arrays import FloatArray, IntArray
from thalweg.scheduling.pack.nodes import GPU_MILLI
from thalweg.scheduling.world.hold import left_h
from thalweg.scheduling.world.value import HOUR_MS
from thalweg.scheduling.world.world import World


class Ends(NamedTuple):
    """The ends of one pool, the first to leave first."""

    hours: FloatArray
    gpu_milli: IntArray


@dataclass(slots=True)
class PoolEnds:
    """The ends as they are expected at a moment."""

    world: World
    now_ms: int
    _ends: dict[int, Ends] = field(default_factory=dict)
    _back: dict[int, tuple[list[float], list[float]]] = field(default_factory=dict)

    def ends(self, pool: int) -> Ends:
        """Hours until each end, and what it gives back."""
        found = self._ends.get(pool)
        if found is None:
            occupancy = self.world.occupancy
            rows = np.flatnonzero(occupancy.column("pool") == pool)
            attained = (self.now_ms - occupancy.column("assigned_ms")[rows]) / HOUR_MS
            hours = left_h(occupancy.column("expected_ms")[rows] / HOUR_MS, attained)
            order = np.argsort(hours, kind="stable")
            found = self._ends[pool] = Ends(hours[order], occupancy.column("gpu_milli")[rows][order])
        return found

    def of(self, pool: int) -> tuple[list[float], list[float]]:
        """Hours until each end, and the GPUs that have come back by then."""
        found = self._back.get(pool)
        if found is None:
            ends = self.ends(pool)
            found = self._back[pool] = ends.hours.tolist(), (np.cumsum(ends.gpu_milli) / GPU_MILLI).tolist()
        return found
