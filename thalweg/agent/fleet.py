"""The nodes of a region: this machine as it is, a simulated fleet, or a fleet from a file."""

import math
import random
import socket
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Final

import msgspec
import psutil

from thalweg.agent.figures import Figures, LinkFigures, UnknownRegionError
from thalweg.conf.yaml_tree import YamlTreeError, read_tree
from thalweg.scheduling.ids import RegionId
from thalweg.streams.contract import names, request_amounts
from thalweg.streams.contract.messages import Cpus, Gbps, Gpus, Identifier, MemoryGb, Ms, Region, Sample, Usd

GB: Final = 1_000_000_000


_QUOTES: Final = ". A name that YAML takes for something else (no, 0101, 4090) needs quotes"
_WANTED: Final = (
    "wanted is a list `nodes` of node_id, gpu_model, spot, gpus, cpus, memory_gb, and optionally `links` (by region: "
    "rtt_ms, gbps, usd_per_gb) and `prices` (gpu_model, spot, usd_per_gpu_hour)"
)


class _Node(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A node by the types of the message that will speak of it: what is wrong is said at once, and by who reads it."""

    node_id: Identifier
    gpu_model: Identifier | None = None
    spot: bool = False
    gpus: Gpus = 0
    cpus: Cpus = 0.0
    memory_gb: MemoryGb = 0.0


class _Link(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    rtt_ms: Ms
    gbps: Gbps
    usd_per_gb: Usd


class _Price(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    gpu_model: Identifier
    spot: bool = False
    usd_per_gpu_hour: Usd


class _FleetFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    nodes: Annotated[list[_Node], msgspec.Meta(min_length=1)]
    links: dict[Region, _Link] = {}
    prices: list[_Price] = []


class FleetError(ValueError):
    """A fleet cannot be read or made; the message says what is allowed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSpec:
    """One node."""

    node_id: str
    gpu_model: str | None = None
    spot: bool = False
    gpus: int = 0
    cpus: float = 0.0
    memory_gb: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionFleet:
    """What one region consists of and what it knows about its surroundings."""

    region: RegionId
    nodes: Mapping[str, NodeSpec]
    links: Mapping[RegionId, LinkFigures]
    prices: Mapping[tuple[str, bool], float]
    """US dollars per GPU-hour by (GPU model, spot)."""
    is_host: bool = False
    """Whether the one node is this machine, whose load can be measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeLoad:
    """How much of a node is used now; None where nobody knows."""

    gpu_utilisation: float | None = None
    cpu_utilisation: float | None = None
    memory_used_gb: float | None = None


def simulated_fleet(region: RegionId, figures: Figures, *, nodes: int | None = None) -> RegionFleet:
    """Make a region of published machines, links and prices.

    Args:
        region: must be in the tables.
        figures: the tables.
        nodes: number of nodes, dealt out in the tables' proportions; None takes the tables' number.

    Raises:
        UnknownRegionError: the tables do not have the region.
        FleetError: fewer than one node.
    """
    if region not in figures.regions:
        raise UnknownRegionError(region, figures.regions)
    if nodes is not None and nodes < 1:
        raise FleetError(f"--nodes {nodes}: allowed is 1 or more")
    kinds = [(model, spot) for model, spot, count in figures.nodes_per_region for _ in range(count)]
    wanted = len(kinds) if nodes is None else nodes
    # Every k-th of the list repeated: any number of nodes has the same mixture.
    chosen = [
        kinds[index * len(kinds) // wanted % len(kinds)] if wanted < len(kinds) else kinds[index % len(kinds)]
        for index in range(wanted)
    ]
    specs: dict[str, NodeSpec] = {}
    for index, (model, spot) in enumerate(chosen):
        machine = figures.machines[model]
        node_id = f"{model.lower()}{'-spot' if spot else ''}-{index:03d}"
        specs[node_id] = NodeSpec(
            node_id=node_id,
            gpu_model=model,
            spot=spot,
            gpus=machine.gpus,
            cpus=machine.cpus,
            memory_gb=machine.memory_gb,
        )
    prices = {
        (model, spot): usd
        for model, spot in sorted(set(chosen))
        if (usd := figures.price(region, model, spot)) is not None
    }
    return RegionFleet(region=region, nodes=specs, links=figures.links_from(region), prices=prices)


def host_fleet(region: RegionId, figures: Figures) -> RegionFleet:
    """Take this machine as the region's only node. Its GPUs are not looked for: list them in a fleet file."""
    node = NodeSpec(
        node_id=socket.gethostname() or "host",
        cpus=float(psutil.cpu_count() or 1),
        memory_gb=psutil.virtual_memory().total / GB,
    )
    return RegionFleet(
        region=region, nodes={node.node_id: node}, links=figures.links_from(region), prices={}, is_host=True
    )


def read_fleet(path: Path, region: RegionId) -> RegionFleet:
    """Read a region's fleet from a YAML file with `nodes`, and optionally `links` and `prices` (docs/how-to/agents.md).

    Raises:
        FleetError: the file cannot be read, or something in it is not allowed.
    """
    try:
        file = msgspec.convert(read_tree(path.read_text(encoding="utf-8-sig")).value, _FleetFile)
    except msgspec.ValidationError as error:
        quotes = _QUOTES if "Expected `str" in str(error) else ""
        raise FleetError(f"fleet {path}: {error}{quotes}; {_WANTED}") from error
    except YamlTreeError as error:
        raise FleetError(f"fleet {path}: {error.in_full}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise FleetError(f"fleet {path}: {error}") from error
    ids = Counter(node.node_id for node in file.nodes)
    if repeated := [node_id for node_id, count in ids.items() if count > 1]:
        raise FleetError(f"fleet {path}: node_id {repeated[0]!r} stands twice; wanted is one of its own for each node")
    if (wrong := next(_objections(file), None)) is not None:
        raise FleetError(f"fleet {path}: {wrong}")
    return RegionFleet(
        region=region,
        nodes={node.node_id: NodeSpec(**msgspec.structs.asdict(node)) for node in file.nodes},
        links={target: LinkFigures(**msgspec.structs.asdict(link)) for target, link in file.links.items()},
        prices={(price.gpu_model, price.spot): price.usd_per_gpu_hour for price in file.prices},
    )


def _objections(file: _FleetFile) -> Iterator[str]:
    """Say what would be refused of every sample that the agent sends."""
    told: list[tuple[str, str | None]] = []
    for node in file.nodes:
        told += (("node_id", node.node_id), ("gpu_model", node.gpu_model))
    told += (("gpu_model", price.gpu_model) for price in file.prices)
    told += (("the region of a link,", target) for target in file.links)
    amounts: list[tuple[str, float, float]] = []
    for node in file.nodes:
        amounts += ((name, getattr(node, name), request_amounts.LEAST) for name in ("cpus", "memory_gb"))
    for link in file.links.values():
        amounts += ((name, getattr(link, name), request_amounts.LEAST_USD) for name in ("gbps", "usd_per_gb"))
    amounts += (("usd_per_gpu_hour", price.usd_per_gpu_hour, request_amounts.LEAST_USD) for price in file.prices)
    yield from filter(None, (names.objection(*one) for one in told))
    yield from filter(None, (request_amounts.objection(*one) for one in amounts))


def host_load() -> NodeLoad:
    """How busy this machine is: CPU since the last call, memory now."""
    memory = psutil.virtual_memory()
    return NodeLoad(
        cpu_utilisation=min(1.0, psutil.cpu_percent(interval=None) / 100),
        memory_used_gb=round((memory.total - memory.available) / GB, 3),
    )


FOREIGN_STEP_GB: Final = 1.0
"""What others use moves all the time; each change of a node makes waiting tasks be tried again."""


class ForeignMemory:
    """What of this machine's memory others use than the tasks it was given, so that it is not given away twice.

    CPU time is not counted so: the kernel shares it, and what is busy now says little of the next minute.
    """

    def __init__(self) -> None:
        self._counted_gb = 0.0

    def left(self, node: NodeSpec, load: NodeLoad, held_gb: float) -> NodeSpec:
        """Return the node with the memory that tasks may have, at least what they hold already.

        Args:
            node: as large as it is.
            load: now.
            held_gb: what the tasks on it were given.
        """
        foreign_gb = max(0.0, (load.memory_used_gb or 0.0) - held_gb)
        if abs(foreign_gb - self._counted_gb) >= FOREIGN_STEP_GB:
            self._counted_gb = float(math.ceil(foreign_gb))
        left_gb = max(held_gb, node.memory_gb - self._counted_gb)
        return replace(node, memory_gb=round(left_gb, 3))


def node_samples(fleet: RegionFleet, loads: Mapping[str, NodeLoad], *, takes_new: bool = True) -> list[Sample]:
    """One sample per node; of an agent that takes nothing new the nodes are told as draining."""
    idle = NodeLoad(gpu_utilisation=0.0)
    return [
        Sample(
            kind="node",
            node_id=node.node_id,
            gpu_model=node.gpu_model,
            spot=node.spot,
            gpus=node.gpus,
            cpus=node.cpus,
            memory_gb=node.memory_gb,
            gpu_utilisation=load.gpu_utilisation,
            cpu_utilisation=load.cpu_utilisation,
            memory_used_gb=load.memory_used_gb,
            state="ready" if takes_new else "draining",
        )
        for node in fleet.nodes.values()
        for load in (loads.get(node.node_id, idle),)
    ]


def link_samples(fleet: RegionFleet, rng: random.Random) -> list[Sample]:
    """One sample per link: the published figures with the spread of real probes (3 % of rtt, 5 % of bandwidth)."""
    return [
        Sample(
            kind="link",
            dst_region=target,
            rtt_ms=round(link.rtt_ms * (1 + abs(rng.gauss(0, 0.03))), 2),
            gbps=round(link.gbps * max(0.5, rng.gauss(1, 0.05)), 3),
            usd_per_gb=link.usd_per_gb,
        )
        for target, link in fleet.links.items()
    ]


def price_samples(fleet: RegionFleet) -> list[Sample]:
    """One sample per pool."""
    return [
        Sample(kind="price", gpu_model=model, spot=spot, usd_per_gpu_hour=usd)
        for (model, spot), usd in fleet.prices.items()
    ]
