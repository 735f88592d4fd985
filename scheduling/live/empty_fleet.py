"""What not even an empty fleet could hold: it takes no turn, no share and no quota from anybody, and is told why.

Judged by sums and by single workers, which never call impossible what could be packed. Regions count whether they are
heard now or not, prices that are not known yet as acceptable: only what a change of the fleet could help is impossible.
What only places could hold that take nothing now (`scheduling.live.withheld`) takes nothing from anybody either; it is
told which places these are.
"""

from dataclasses import dataclass, field, replace
from typing import Final

import msgspec
import numpy as np

from thalweg.scheduling.arrays import BoolArray
from thalweg.scheduling.counted import counted
from thalweg.scheduling.ids import RegionId
from thalweg.scheduling.live.empty_nodes import EmptyNodes
from thalweg.scheduling.live.withheld import KnownFleet, known_fleet
from thalweg.scheduling.pack.nodes import Nodes
from thalweg.scheduling.world.tasks import MIB_PER_GB, MILLI, TaskSpec, sized
from thalweg.scheduling.world.waiting import ClassKey
from thalweg.scheduling.world.world import TenantLimits, World

_NO_LIMITS = TenantLimits()
_MOST_NAMED: Final = 3


@dataclass(slots=True)
class EmptyFleet:
    """The world's nodes as if nothing ran on them; made anew for each plan."""

    world: World
    _empty: EmptyNodes = field(init=False)
    _known: KnownFleet | None = None
    _has_looked: bool = False

    def __post_init__(self) -> None:
        self._empty = EmptyNodes(self.world.nodes)

    def objection(self, key: ClassKey) -> str | None:
        """Say why a task could not be placed if nothing else were; None where it could.

        What no pool suits by model, region, latency or how it is bought is left to the planner, which says which of
        these it was; it takes nothing there.
        """
        spec = _least(key.spec)
        suitable = self.world.suitable_pools(key)
        if not suitable.any():
            return self._lacks_command(key)
        limits = self.world.tenants.get(spec.tenant, _NO_LIMITS)
        if spec.gpus * key.missing > limits.quota_gpus + 1e-9:
            return (
                f"quota: it asks for {counted(spec.gpus * key.missing, 'GPU')}, and tenant {spec.tenant} may hold "
                f"{limits.quota_gpus:g} in all"
            )
        takes = np.array(
            [pool.region not in self.world.orders.drained_regions for pool in self.world.nodes.pools], bool
        )
        regions = _regions(self._empty.nodes, suitable & takes & self._empty.could_hold(spec))
        if len(regions) >= key.missing:
            return None
        empty, known = self._empty, self._known_fleet()
        if known is not None:
            empty, suitable = known.nodes, known.suitable_pools(key)
            holding = suitable & empty.could_hold(spec)
            regions = _regions(empty.nodes, holding)
            if len(regions) >= key.missing:
                return known.words(spec, holding)
        if not regions:
            most = _most_words(empty, spec, suitable)
            return f"impossible: no pool could hold {_shape(spec)} even if nothing else ran there{most}"
        wanted = counted(key.missing, "region")
        return (
            f"impossible: {wanted} would have to hold a copy of {_shape(spec)}, and only {len(regions)} "
            f"could, even if nothing else ran there{self._silent_words(sorted(regions))}"
        )

    def _known_fleet(self) -> KnownFleet | None:
        """Look once at what takes nothing now: few plans have to."""
        if not self._has_looked:
            self._has_looked, self._known = True, known_fleet(self.world)
        return self._known

    def _lacks_command(self, key: ClassKey) -> str | None:
        """Say that a command is all that a task lacks; None where no pool would suit it with one either."""
        with_one = msgspec.structs.replace(key, spec=replace(key.spec, has_command=True))
        if key.spec.has_command or not (suitable := self.world.suitable_pools(with_one)).any():
            return None
        names = sorted(_regions(self.world.nodes, suitable))
        named = ", ".join(names[:_MOST_NAMED]) + (", …" if names[_MOST_NAMED:] else "")
        return f"command: it has none, and where it could run the agents start commands and nothing else ({named})"

    def _silent_words(self, regions: list[RegionId]) -> str:
        silent = [region for region in regions if not self.world.geography.is_heard(region)]
        return f"; silent of these now: {', '.join(silent)}" if silent else ""


def _regions(nodes: Nodes, pools: BoolArray) -> set[RegionId]:
    return {nodes.pools[pool].region for pool in np.flatnonzero(pools).tolist()}


def _most_words(nodes: EmptyNodes, spec: TaskSpec, suitable: BoolArray) -> str:
    if len(spec.parts) > 1:
        return ""
    most = int(nodes.workers(spec.parts[0].need, spec.spread_workers)[suitable].max(initial=0))
    return f": the largest holds {most} of its {counted(spec.workers, 'worker')}"


def _least(spec: TaskSpec) -> TaskSpec:
    """The smallest size it may run with."""
    return spec if spec.min_workers is None else sized(spec, spec.min_workers)


def _shape(spec: TaskSpec) -> str:
    if len(spec.parts) > 1:
        in_all = f"{counted(spec.gpus, 'GPU')}, {counted(spec.cpus, 'CPU')} and {spec.memory_gb:.3g} GB in all"
        return f"{counted(spec.workers, 'worker')} with {in_all}"
    (part,) = spec.parts
    gpus, cpus, memory_gb = part.need.total_gpu_milli / MILLI, part.need.cpu_milli / MILLI, part.need.memory_mib
    each = f"{counted(gpus, 'GPU')}, {counted(cpus, 'CPU')}, {memory_gb / MIB_PER_GB:.3g} GB"
    return f"{counted(part.workers, 'worker')} of {each}"
