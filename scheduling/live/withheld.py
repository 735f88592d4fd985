"""Places that take nothing now and will again: drained, draining by their own word, or not heard.

What only they could hold is not impossible. It is told which places these are, and what lets them take tasks again.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Final, NamedTuple

import msgspec
import numpy as np

from thalweg.scheduling.arrays import BoolArray
from thalweg.scheduling.ids import NodeId, RegionId
from thalweg.scheduling.live.empty_nodes import EmptyNodes
from thalweg.scheduling.pack.nodes import NodeKey, Nodes
from thalweg.scheduling.world.fleet import describe_all
from thalweg.scheduling.world.orders import subject_of
from thalweg.scheduling.world.supply import may_use
from thalweg.scheduling.world.tasks import TaskSpec
from thalweg.scheduling.world.waiting import ClassKey
from thalweg.scheduling.world.world import World

_MOST_NAMED: Final = 3
"""Places that a reason names of each kind."""


class _Why(IntEnum):
    """What keeps a place from taking tasks, in the order in which it is said."""

    ORDERED = 0
    NOTICE = 1
    OWN_WORD = 2
    SILENT = 3


class _Place(NamedTuple):
    """A region, or one of its nodes."""

    region: RegionId
    node_id: NodeId | None

    def __str__(self) -> str:
        return self.region if self.node_id is None else f"{self.region}/{self.node_id}"

    @property
    def undrain(self) -> str:
        """The command that ends its drain."""
        if self.node_id is not None and "/" in f"{self.region}{self.node_id}":
            return f"thalweg undrain {self.region} --node {self.node_id}"
        return f"thalweg undrain {self}"


@dataclass(slots=True, kw_only=True)
class KnownFleet:
    """All nodes that the fleet has, empty, as if every one of them took tasks; made anew for each plan."""

    world: World
    nodes: EmptyNodes

    def suitable_pools(self, key: ClassKey) -> BoolArray:
        """[P] pools, by the columns of `nodes`, that a class could use once everything is open (`World`)."""
        pools = self.nodes.nodes.pools
        suitable = may_use(msgspec.structs.replace(key, barred=frozenset()), pools, self.world.geography)
        if key.spec.gpus:
            suitable &= np.array([pool.gpu_model != "" for pool in pools], bool)
        return suitable

    def words(self, spec: TaskSpec, holding: BoolArray) -> str:
        """Name the places that take nothing now, of those that could hold a task.

        Args:
            spec: the task's needs.
            holding: [P] the pools that could, not all of which take tasks now.
        """
        nodes = self.nodes.nodes
        found: dict[_Why, dict[_Place, None]] = {}
        for row in np.flatnonzero(holding[nodes.pool] & self.nodes.with_room_for_a_worker(spec)).tolist():
            for why, place in self._obstacles(nodes.ids[row]):
                found.setdefault(why, {})[place] = None
        return "; ".join(_said(why, list(found[why])) for why in sorted(found))

    def _obstacles(self, key: NodeKey) -> Iterator[tuple[_Why, _Place]]:
        """Everything that keeps a node from taking tasks; nothing for one that does."""
        fact, orders = self.world.fleet.facts[key], self.world.orders
        for drain in (orders.drained_regions.get(fact.region), orders.drained_nodes.get(key)):
            if drain is not None:
                is_notice = orders.by_subject[subject_of(drain)].by_notice
                yield (_Why.NOTICE if is_notice else _Why.ORDERED), _Place(drain.region, drain.node_id)
        if fact.draining and key not in orders.drained_nodes:
            yield _Why.OWN_WORD, _Place(fact.region, fact.node_id)
        if not (fact.ready or fact.draining):
            yield _Why.SILENT, _Place(fact.region, fact.node_id)


def known_fleet(world: World) -> KnownFleet | None:
    """Make it of what the regions' samples say; None where every node takes tasks, so that there is nothing to add."""
    facts = world.fleet.facts
    if not world.orders.drained_regions and all(fact.ready for fact in facts.values()):
        return None
    nodes = Nodes()
    describe_all(nodes, {key: fact if fact.ready else replace(fact, ready=True) for key, fact in facts.items()})
    return KnownFleet(world=world, nodes=EmptyNodes(nodes))


def _said(why: _Why, places: list[_Place]) -> str:
    named = ", ".join(map(str, places[:_MOST_NAMED])) + (", …" if places[_MOST_NAMED:] else "")
    match why:
        case _Why.ORDERED:
            commands = ", ".join(f"`{place.undrain}`" for place in places[:_MOST_NAMED])
            return (
                f"drained: {named} could hold it; to let {'it' if len(places) == 1 else 'them'} take tasks: {commands}"
            )
        case _Why.NOTICE:
            return f"drained: {named} could hold it, and its cloud has said that it takes it away"
        case _Why.OWN_WORD:
            return f"drained: {named} could hold it, and its region says that it takes nothing new now"
        case _Why.SILENT:
            return f"silent: {named} could hold it, and is not heard of now"
