"""What regions report, as placement takes it in: facts that mean something, and for the others why they are left out.

A fact that cannot be digested concerns its own node, link, price or dataset. It is left out with its reason; raising
would stop the placement of everybody else.
"""

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from thalweg.scheduling.counted import counted
from thalweg.scheduling.ids import NodeId, RegionId
from thalweg.scheduling.pack.nodes import MAX_DEVICES, NodeKey
from thalweg.scheduling.problem.check import MOST

NODE_SEPARATOR: Final = "\x1f"
"""Between region and node id in the key of a node: node ids are unique within a region only."""

MOST_CPUS: Final = 1e9
MOST_MEMORY_GB: Final = 1e9

Key = TypeVar("Key", bound=Hashable)
Fact = TypeVar("Fact")
Link = tuple[float, float, float]
"""Round trip in ms, Gbit/s, US dollars a GB; NaN where unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFacts:
    """A node as its latest sample describes it.

    A node that is neither ready nor draining is gone, and what sat on it is lost.
    """

    region: RegionId
    node_id: NodeId
    gpu_model: str
    spot: bool
    gpus: int
    cpus: float
    memory_gb: float
    ready: bool
    """Takes new tasks."""
    draining: bool = False
    """Takes no new tasks, but those on it go on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetFacts:
    """Where a dataset's copies lie."""

    regions: tuple[RegionId, ...]
    size_gb: float


@dataclass(frozen=True, slots=True, kw_only=True)
class WorldFacts:
    """What the tables say of nodes, links, prices and datasets; None where nothing changed since the last reading."""

    nodes: Sequence[NodeFacts] | None = None
    links: Mapping[tuple[RegionId, RegionId], Link] | None = None
    prices: Mapping[tuple[RegionId, str, bool], float] | None = None
    datasets: Mapping[str, DatasetFacts] | None = None

    def updated(self, newer: "WorldFacts") -> "WorldFacts":
        """Put a newer reading over this one."""
        return WorldFacts(
            nodes=self.nodes if newer.nodes is None else newer.nodes,
            links=self.links if newer.links is None else newer.links,
            prices=self.prices if newer.prices is None else newer.prices,
            datasets=self.datasets if newer.datasets is None else newer.datasets,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantLimits:
    """What a tenant may hold."""

    weight: float = 1.0
    """Its fair share, against the weights of the others that want something."""
    quota_gpus: float = math.inf
    """Never more than this, even of what is idle."""
    budget_usd_per_hour: float = math.inf
    """Never more than this for GPUs, all its copies together."""
    most_tasks: int | None = None
    """So many of its tasks may not have ended at once, what comes beyond is refused; None is what holds for all."""


def node_key(region: RegionId, node_id: NodeId) -> NodeKey:
    """Key of a node among those of all regions."""
    return NodeKey(f"{region}{NODE_SEPARATOR}{node_id}")


def objection_to_node(fact: NodeFacts) -> str | None:
    """Say what of a node cannot be; None where it can."""
    if NODE_SEPARATOR in fact.region or NODE_SEPARATOR in fact.node_id:
        return f"its region or id holds the control character {NODE_SEPARATOR!r}; allowed are printable names"
    if not 0 <= fact.gpus <= MAX_DEVICES:
        return f"it has {counted(fact.gpus, 'GPU')}; allowed are 0 to {MAX_DEVICES}"
    if not 0.0 <= fact.cpus <= MOST_CPUS:
        return f"it has {counted(fact.cpus, 'CPU')}; allowed are 0 to {MOST_CPUS:g}"
    if not 0.0 <= fact.memory_gb <= MOST_MEMORY_GB:
        return f"it has {fact.memory_gb} GB of memory; allowed are 0 to {MOST_MEMORY_GB:g}"
    return None


def objection_to_link(link: Link) -> str | None:
    """Say what of a link cannot be; None where it can."""
    wrong = [value for value in link if value < 0.0]
    return f"{wrong[0]} is no round trip, bandwidth or price; allowed are numbers >= 0" if wrong else None


def objection_to_price(usd: float) -> str | None:
    """Say why a price cannot be; None where it can."""
    return None if 0.0 <= usd <= MOST else f"{usd} is no price; allowed are numbers from 0 to {MOST:g}"


def objection_to_dataset(facts: DatasetFacts) -> str | None:
    """Say why a dataset cannot be; None where it can."""
    if 0.0 <= facts.size_gb <= MOST:
        return None
    return f"{facts.size_gb} GB is no size; allowed are numbers from 0 to {MOST:g}"


def sorted_out(
    facts: Mapping[Key, Fact], objection_to: Callable[[Fact], str | None]
) -> tuple[dict[Key, Fact], dict[Hashable, str]]:
    """Tell facts that can be digested from the reasons why others cannot."""
    good: dict[Key, Fact] = {}
    bad: dict[Hashable, str] = {}
    for key, fact in facts.items():
        objection = objection_to(fact)
        if objection is None:
            good[key] = fact
        else:
            bad[key] = objection
    return good, bad
