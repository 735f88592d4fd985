"""What is replayed: jobs, what they ask for, the fleet they ask it of, and the policies that can be asked."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from thalweg.conf.settings import PlaceSettings
from thalweg.jobs.placement.settings import plan_settings, tenants_of
from thalweg.replay.estimates import Estimates, expected_s
from thalweg.replay.openb import REGION, as_nodes, as_requests, popularity_of
from thalweg.replay.traces import OpenbNode, OpenbPod, PhillyJob, TraceError, read_openb_nodes, read_openb_pods
from thalweg.scheduling.ids import NodeId, RegionId
from thalweg.scheduling.pack.nodes import Need
from thalweg.scheduling.pack.packer import Packer, ScoringRule
from thalweg.scheduling.replay.fair_finish import FairFinish
from thalweg.scheduling.replay.in_order import ORDERS, InOrder
from thalweg.scheduling.replay.least_attained import LeastAttained
from thalweg.scheduling.replay.live import LivePlanner, fleet_of
from thalweg.scheduling.replay.nodes import PackNodes
from thalweg.scheduling.replay.policies import Gravity, RegionPolicy, Spread, StayHome, Tariff
from thalweg.scheduling.replay.replay import JobStart, RegionalSupply, Replay, ReplayJob, ReplayPolicy
from thalweg.scheduling.world.tasks import MIB_PER_GB, MILLI, DataNeed, Part, TaskSpec
from thalweg.scheduling.world.world import NodeFacts, World

DATA_MEDIAN_GB: Final = 50.0
DATA_SIGMA: Final = 1.5
TARIFF: Final = Tariff(usd_per_gpu_hour=2.0, usd_per_gb=0.02)
GPUS_PER_NODE: Final = 8
MODEL: Final = "GPU"
REGION_POLICIES: Final[tuple[type[RegionPolicy], ...]] = (StayHome, Spread, Gravity)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One thing to replay, as often as there are policies.

    Attributes:
        what: in words and figures, for the report.
        jobs, specs: in the same order.
        fleet: its regions; `world()` builds a fresh world for each planner.
        own: policies of this scenario besides the planner's strategies, by name.
        default: policies that are compared when none is named.
        begin_s, begin_ms: where the virtual clock begins, None for the first arrival; and what time it was then.
        running: copies that run at the begin.
        recorded: what really happened, where that is known.
    """

    what: Mapping[str, object]
    jobs: Sequence[ReplayJob]
    specs: Sequence[TaskSpec]
    fleet: RegionalSupply
    world: Callable[[], World]
    own: Mapping[str, Callable[[], ReplayPolicy]] = field(default_factory=dict)
    default: Sequence[str] = ()
    begin_s: float | None = None
    begin_ms: int = 0
    running: Sequence[tuple[JobStart, float]] = ()
    recorded: Replay | None = None

    def planner(self, name: str, place: PlaceSettings, cycle_s: float) -> LivePlanner:
        """The place job's planner with these settings, on a fresh world."""
        world = self.world()
        world.set_tenants(tenants_of(place))
        return LivePlanner(
            world,
            self.jobs,
            self.specs,
            self.fleet,
            plan_settings(place),
            name=name,
            cycle_s=cycle_s,
            begin_ms=self.begin_ms,
            seed=place.seed,
        )


def philly_scenario(
    trace: Sequence[PhillyJob],
    *,
    regions: int = 8,
    load: float = 1.0,
    seed: int = 42,
    all_clusters: bool = False,
    patience_s: float = float("inf"),
    estimates: Estimates = Estimates.EXACT,
) -> Scenario:
    """Give each of the largest clusters a region of its own, all regions equal, and each job data at home.

    Args:
        trace: the jobs.
        regions: how many clusters, the largest by GPU time, become home regions.
        load: mean GPU demand / GPUs of the fleet; the GPUs follow from it.
        seed: of the data sizes: log-normal, median 50 GB, sigma 1.5, drawn in order of submission, whatever the job.
        all_clusters: keep the jobs of all other clusters too, dealt to the homes in turn; False leaves them out.
        patience_s: of the region policies.
        estimates: what the planner is told of run times; references know them exactly or not at all.
    """
    work: dict[str, float] = {}
    for job in trace:
        work[job.cluster] = work.get(job.cluster, 0.0) + job.gpus * job.duration_s
    homes = sorted(sorted(work, key=lambda cluster: (-work[cluster], cluster))[:regions])
    home_of = {cluster: i for i, cluster in enumerate(homes)}
    if all_clusters:
        home_of |= {cluster: i % regions for i, cluster in enumerate(sorted(work.keys() - home_of.keys()))}
    kept = sorted((j for j in trace if j.cluster in home_of), key=lambda j: (j.submitted_at, j.job_id))
    if not kept:
        raise TraceError("the trace holds no job")
    sizes_gb = np.random.default_rng(seed).lognormal(np.log(DATA_MEDIAN_GB), DATA_SIGMA, len(kept))
    jobs = [
        ReplayJob(
            job_id=job.job_id,
            arrive_s=(job.submitted_at - kept[0].submitted_at).total_seconds(),
            run_s=job.duration_s,
            gpus=job.gpus,
            home=home_of[job.cluster],
            data_gb=float(size_gb),
        )
        for job, size_gb in zip(kept, sizes_gb, strict=True)
    ]
    demand_gpu_s = sum(job.gpus * job.run_s for job in jobs)
    needed = demand_gpu_s / max(1.0, jobs[-1].arrive_s) / load
    each = max(*(int(job.gpus) for job in jobs), round(needed / len(homes)))
    fleet = RegionalSupply(regions=tuple(map(RegionId, homes)), gpus=(float(each),) * len(homes))
    told_s = expected_s([job.run_s for job in jobs], estimates, seed)
    largest = max(sum(job.gpus * job.run_s for job in jobs if job.home == home) for home in range(len(homes)))
    return Scenario(
        what={
            "trace": "philly",
            "regions": len(homes),
            "gpus_per_region": each,
            "load": load,
            "skew": round(largest * len(homes) / demand_gpu_s, 4),
            "seed": seed,
            "estimates": str(estimates),
            "data": f"log-normal, median {DATA_MEDIAN_GB:g} GB, sigma {DATA_SIGMA:g}",
            "usd_per_gpu_hour": TARIFF.usd_per_gpu_hour,
            "usd_per_gb": TARIFF.usd_per_gb,
        },
        jobs=jobs,
        specs=[_philly_spec(job, homes, told) for job, told in zip(jobs, told_s, strict=True)],
        fleet=fleet,
        world=lambda: _equal_regions(fleet),
        own={
            **{kind.name: _region_policy(kind, jobs, fleet, patience_s) for kind in REGION_POLICIES},
            **{name: partial(InOrder, name, jobs, fleet, TARIFF) for name in ORDERS},
            "las": partial(LeastAttained, jobs, fleet, TARIFF),
            "las-lost": partial(LeastAttained, jobs, fleet, TARIFF, work_is_lost=True),
            "ftf": partial(FairFinish, jobs, fleet, TARIFF),
        },
        default=tuple(kind.name for kind in REGION_POLICIES),
    )


def openb_scenario(nodes_path: Path, pods_path: Path) -> Scenario:
    """Take the openb pods with their own creation and deletion times on the openb nodes: one region."""
    machines, pods = read_openb_nodes(nodes_path), timed_pods(read_openb_pods(pods_path))
    if not pods:
        raise TraceError(f"{pods_path.name} holds no pod with creation_time and deletion_time")
    return pods_scenario(machines, pods)


def timed_pods(pods: Sequence[OpenbPod]) -> list[OpenbPod]:
    """Those of which both times are known, in order of creation."""
    timed = (pod for pod in pods if pod.created_s is not None and pod.deleted_s is not None)
    return sorted(timed, key=lambda pod: (pod.created_s, pod.name))


def pods_scenario(machines: Sequence[OpenbNode], pods: Sequence[OpenbPod], until_s: float = math.inf) -> Scenario:
    """Give pods machines, all in one region.

    Args:
        machines: the nodes.
        pods: at least one, all with both times, in order of creation and name.
        until_s: then all that are left are withdrawn.
    """
    jobs = [
        ReplayJob(
            job_id=pod.name,
            arrive_s=float(pod.created_s or 0),
            run_s=float((pod.deleted_s or 0) - (pod.created_s or 0)),
            gpus=pod.need.total_gpu_milli / MILLI,
            home=0,
            cancel_s=until_s,
        )
        for pod in pods
    ]
    facts = [
        NodeFacts(
            region=REGION,
            node_id=NodeId(machine.name),
            gpu_model=machine.gpu_model,
            spot=False,
            gpus=machine.gpus,
            cpus=machine.cpu_milli / MILLI,
            memory_gb=machine.memory_mib / MIB_PER_GB,
            ready=True,
        )
        for machine in machines
    ]

    def packed(rule: ScoringRule) -> ReplayPolicy:
        nodes = as_nodes(machines)
        requests = as_requests(nodes, pods)
        packer = Packer(nodes, rule=rule)
        packer.expect(REGION, popularity_of(requests))
        return PackNodes(packer, jobs, requests, TARIFF, name=rule.value)

    return Scenario(
        what={"trace": "openb", "nodes": len(machines), "usd_per_gpu_hour": TARIFF.usd_per_gpu_hour},
        jobs=jobs,
        specs=[
            TaskSpec(
                parts=(Part(workers=1, need=pod.need),),
                gpu_models=tuple(sorted(pod.gpu_models)) if pod.gpu_models and pod.need.gpus else None,
                expected_s=max(job.run_s, 1.0),
            )
            for job, pod in zip(jobs, pods, strict=True)
        ],
        fleet=fleet_of(_world(facts)),
        world=lambda: _world(facts),
        own={rule.value: lambda rule=rule: packed(rule) for rule in ScoringRule},  # type: ignore[misc]
        default=tuple(rule.value for rule in ScoringRule),
    )


def _region_policy(
    kind: type[RegionPolicy], jobs: Sequence[ReplayJob], fleet: RegionalSupply, patience_s: float
) -> Callable[[], ReplayPolicy]:
    return lambda: kind(jobs, fleet, TARIFF, patience_s=patience_s)


def _philly_spec(job: ReplayJob, homes: Sequence[str], told_s: float) -> TaskSpec:
    """One worker a GPU: the trace does not say how many GPUs of a job shared a machine."""
    return TaskSpec(
        parts=(Part(workers=int(job.gpus), need=Need(gpus=1)),),
        expected_s=told_s,
        data=(DataNeed(dataset=None, region=RegionId(homes[job.home]), size_gb=job.data_gb),),
    )


def _equal_regions(fleet: RegionalSupply) -> World:
    """Regions of machines of eight GPUs and one with the rest; links cost money, but no time."""
    facts = [
        NodeFacts(
            region=region,
            node_id=NodeId(f"{region}-{number:03d}"),
            gpu_model=MODEL,
            spot=False,
            gpus=min(GPUS_PER_NODE, int(gpus) - number * GPUS_PER_NODE),
            cpus=0.0,
            memory_gb=0.0,
            ready=True,
        )
        for region, gpus in zip(fleet.regions, fleet.gpus, strict=True)
        for number in range(-(-int(gpus) // GPUS_PER_NODE))
    ]
    world = _world(facts)
    world.set_links(
        {(a, b): (0.0, float("inf"), TARIFF.usd_per_gb) for a in fleet.regions for b in fleet.regions if a != b}
    )
    return world


def _world(facts: Sequence[NodeFacts]) -> World:
    """These nodes at one price, all their regions open."""
    world = World()
    world.set_nodes(facts)
    world.set_prices({(fact.region, fact.gpu_model, False): TARIFF.usd_per_gpu_hour for fact in facts})
    for region in sorted({fact.region for fact in facts}):
        world.hear(region, 0)
    return world
