"""`thalweg pack`: pack the pods of a public openb trace onto its nodes and print what was allocated."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import numpy as np

from thalweg.conf.environment import SetupIncompleteError
from thalweg.conf.settings import SettingsError, load_settings
from thalweg.replay.traces import OpenbNode, OpenbPod, TraceError, read_openb_nodes, read_openb_pods
from thalweg.scheduling.pack.arrivals import count_violations, draw_arrivals, outcome
from thalweg.scheduling.pack.nodes import Nodes, Pool, Slot
from thalweg.scheduling.pack.packer import Request, Rule
from thalweg.scheduling.pack.regions import RegionSlots, RegionWork, pack_region, region_work, requests_by_region

REGION = "openb"

PackAll = Callable[[Sequence[RegionWork]], list[RegionSlots]]
"""Packs every region; where it does so makes no difference to the result."""


def as_nodes(machines: Sequence[OpenbNode], regions: int = 1) -> Nodes:
    """Return the machines as empty nodes, dealt one by one to so many regions; one pool per region and GPU model."""
    models = sorted({machine.gpu_model for machine in machines})
    index = {model: i for i, model in enumerate(models)}
    names = [REGION] if regions == 1 else [f"{REGION}-{region:03d}" for region in range(regions)]
    return Nodes.from_columns(
        ids=[machine.name for machine in machines],
        pools=[Pool(name, model) for name in names for model in models],
        pool=np.array(
            [at % regions * len(models) + index[machine.gpu_model] for at, machine in enumerate(machines)], np.int64
        ),
        gpus=np.array([machine.gpus for machine in machines], np.int64),
        cpu_milli=np.array([machine.cpu_milli for machine in machines], np.int64),
        memory_mib=np.array([machine.memory_mib for machine in machines], np.int64),
    )


def as_requests(nodes: Nodes, pods: Sequence[OpenbPod]) -> list[Request]:
    """Return each pod as a request; one that names no model may use every pool, and so may one without GPU."""
    everywhere = frozenset(range(len(nodes.pools)))
    by_models = {
        models: frozenset(i for i, pool in enumerate(nodes.pools) if pool.gpu_model in models)
        for models in {pod.gpu_models for pod in pods}
        if models
    }
    return [(pod.need, by_models[pod.gpu_models] if pod.gpu_models and pod.need.gpus else everywhere) for pod in pods]


def popularity_of(requests: Sequence[Request]) -> dict[Request, float]:
    """Count how often each shape occurs."""
    counted: dict[Request, float] = {}
    for request in requests:
        counted[request] = counted.get(request, 0.0) + 1.0
    return counted


def dealt(nodes: Nodes, requests: Sequence[Request]) -> list[Request]:
    """Deal requests to the regions in turn: each keeps its pools in the next region that has any for it."""
    names = sorted({pool.region for pool in nodes.pools})
    members = [
        frozenset(at for at, pool in enumerate(nodes.pools) if pool.region == name and len(nodes.members(at)))
        for name in names
    ]
    result: list[Request] = []
    for at, (need, pools) in enumerate(requests):
        turns = (pools & members[(at + turn) % len(names)] for turn in range(len(names)))
        result.append((need, next((here for here in turns if here), frozenset())))
    return result


def pack_here(works: Sequence[RegionWork]) -> list[RegionSlots]:
    """Pack one region after the other in this process."""
    return [pack_region(work) for work in works]


def pack_trace(
    machines: Sequence[OpenbNode],
    pods: Sequence[OpenbPod],
    *,
    seed: int,
    arrive: float = 1.3,
    batch: int = 1,
    moves: float = 0.0,
    rule: Rule = Rule.FILL,
    regions: int = 1,
    pack_all: PackAll = pack_here,
) -> dict[str, Any]:
    """Run one experiment and return the fields of formats.md, `thalweg pack`."""
    nodes = as_nodes(machines, regions)
    listed = as_requests(nodes, sorted(pods, key=lambda pod: pod.name))
    capacity = int(nodes.gpus.sum()) * 1000
    order = draw_arrivals([need.total_gpu_milli for need, _ in listed], seed=seed, limit=arrive * capacity)
    requests = dealt(nodes, [listed[index] for index in order])
    popularity = popularity_of(listed)
    positions = requests_by_region(nodes, requests)
    works = [
        region_work(nodes, region, [requests[at] for at in places], popularity, rule=rule, batch=batch, moves=moves)
        for region, places in sorted(positions.items())
    ]
    started = time.perf_counter()
    packed = pack_all(works)
    seconds = time.perf_counter() - started
    slots: list[Slot | None] = [None] * len(requests)
    for one in packed:
        for at, slot in zip(positions[one.region], one.slots, strict=True):
            slots[at] = slot
    result = outcome(nodes, requests, slots, sum(one.moved for one in packed))
    at_full = result.allocated_at_full_gpu_milli
    return {
        "nodes": len(nodes),
        "gpus": capacity // 1000,
        "pods": len(requests),
        "failed_pods": result.failed,
        "moved_pods": result.moved,
        "allocation_at_100": None if at_full is None else round(100 * at_full / capacity, 4),
        "allocation": round(100 * result.allocated_gpu_milli / max(1, capacity), 4),
        "unallocated_gpus": round((capacity - result.allocated_gpu_milli) / 1000, 3),
        "seconds": round(seconds, 4),
        "placements_per_second": round(len(requests) / max(seconds, 1e-9), 1),
        "violations": count_violations(nodes, requests, result.slots),
        "rule": rule.value,
        "seed": seed,
        "regions": regions,
    }


@click.command()
@click.option("--nodes", "nodes_path", required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--pods", "pods_path", required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--seed", default=42, show_default=True, type=int, help="Of the arrival order.")
@click.option(
    "--arrive",
    default=1.3,
    show_default=True,
    type=click.FloatRange(min=0.0, min_open=True),
    help="GPU demand that arrives, as a multiple of the GPUs there are.",
)
@click.option("--batch", default=1, show_default=True, type=click.IntRange(min=1), help="Arrivals decided jointly.")
@click.option(
    "--moves",
    default=0.0,
    show_default=True,
    type=click.FloatRange(0.0, 1.0),
    help="Share of the running pods that may be moved in all.",
)
@click.option(
    "--rule",
    default=Rule.FILL.value,
    show_default=True,
    type=click.Choice([rule.value for rule in Rule]),
    help="How a node is valued: expected fill, or the published reference FGD.",
)
@click.option(
    "--regions",
    default=1,
    show_default=True,
    type=click.IntRange(min=1),
    help="Deal nodes and arrivals to so many regions, each packed on its own.",
)
@click.option(
    "--on",
    "where",
    default="here",
    show_default=True,
    type=click.Choice(["here", "spark"]),
    help="Pack the regions one after the other in this process, or each in a Spark task (spark.master).",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def pack(
    nodes_path: Path,
    pods_path: Path,
    seed: int,
    arrive: float,
    batch: int,
    moves: float,
    rule: str,
    regions: int,
    where: str,
    as_json: bool,
) -> None:
    """Pack the pods of an openb trace onto its nodes in arrival order and print the allocation."""
    try:
        machines, pods = read_openb_nodes(nodes_path), read_openb_pods(pods_path)
        with _packing_on(where) as pack_all:
            result = pack_trace(
                machines,
                pods,
                seed=seed,
                arrive=arrive,
                batch=batch,
                moves=moves,
                rule=Rule(rule),
                regions=regions,
                pack_all=pack_all,
            )
    except (TraceError, ValueError, SettingsError) as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(2)
    except SetupIncompleteError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(1)
    if as_json:
        click.echo(json.dumps(result))
        return
    for name, value in result.items():
        click.echo(f"{name:<22} {value}")


@contextmanager
def _packing_on(where: str) -> Iterator[PackAll]:
    if where == "here":
        yield pack_here
        return
    # Imported late: Spark costs half a second and a JVM, and packing here needs neither.
    from thalweg.jobs.placement.pack_regions import pack_on_spark
    from thalweg.jobs.runtime.job import spark_session

    with spark_session("pack", load_settings()) as spark:
        yield lambda works: pack_on_spark(spark, works)
