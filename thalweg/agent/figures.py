"""Published figures that simulated regions and demo tasks are made of: the small tables in conf/figures."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from thalweg.conf.environment import FIGURES
from thalweg.scheduling.ids import RegionId


class UnknownRegionError(ValueError):
    """A region that the tables do not have."""

    def __init__(self, region: RegionId, known: tuple[str, ...]) -> None:
        super().__init__(
            f"region {region!r} has no published figures; those with figures are {', '.join(known)}. Give any other "
            "region a fleet of its own with --fleet FILE"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkFigures:
    """What a link between two regions gives and costs."""

    rtt_ms: float
    gbps: float
    usd_per_gb: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineFigures:
    """One machine of a GPU model."""

    gpu_model: str
    gpus: int
    cpus: float
    memory_gb: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskShape:
    """Needs of one worker, and how often they were asked for."""

    count: int
    gpus: int
    gpu_milli: int
    cpus: float
    memory_gb: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """All tables."""

    regions: tuple[RegionId, ...]
    links: Mapping[tuple[RegionId, RegionId], LinkFigures]
    usd_per_gpu_hour: Mapping[tuple[str, str, bool], float]
    """By (provider, GPU model, spot)."""
    machines: Mapping[str, MachineFigures]
    nodes_per_region: tuple[tuple[str, bool, int], ...]
    """(GPU model, spot, number of nodes) of a simulated region."""
    shapes: tuple[TaskShape, ...]
    duration_s: tuple[float, ...]
    """Quantiles at equal distances."""

    def price(self, region: RegionId, gpu_model: str, spot: bool) -> float | None:
        """US dollars per GPU-hour in a region; None where nothing is published."""
        return self.usd_per_gpu_hour.get((region.partition(":")[0], gpu_model, spot))

    def links_from(self, region: RegionId) -> dict[RegionId, LinkFigures]:
        """Links by the region they lead to."""
        return {target: link for (source, target), link in self.links.items() if source == region}


@cache
def load_figures(folder: Path = FIGURES) -> Figures:
    """Read the tables."""
    network, prices, fleets, tasks = (
        _read(folder / f"{name}.yaml") for name in ("network", "prices", "fleets", "tasks")
    )
    return Figures(
        regions=tuple(network["regions"]),
        links={
            (source, target): LinkFigures(**dict(zip(network["columns"], row, strict=True)))
            for source, targets in network["links"].items()
            for target, row in targets.items()
        },
        usd_per_gpu_hour={
            (provider, model, spot): by_market["spot" if spot else "on_demand"]
            for provider, models in prices["usd_per_gpu_hour"].items()
            for model, by_market in models.items()
            for spot in (False, True)
        },
        machines={
            model: MachineFigures(
                gpu_model=model, gpus=machine["gpus"], cpus=machine["cpus"], memory_gb=machine["memory_gb"]
            )
            for model, machine in fleets["machines"].items()
        },
        nodes_per_region=tuple((row["gpu_model"], row["spot"], row["nodes"]) for row in fleets["nodes_per_region"]),
        shapes=tuple(TaskShape(**dict(zip(tasks["columns"], row, strict=True))) for row in tasks["shapes"]),
        duration_s=tuple(map(float, tasks["duration_s"])),
    )


def _read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))
