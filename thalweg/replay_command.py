"""`thalweg replay`: run a public trace through policies side by side, with a virtual clock."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from scheduling.pack import Packer, Rule
from scheduling.replay import Fleet, Policy, ReplayJob, replay, summarise
from scheduling.replay_policies import Engine, Gravity, PackNodes, Spread, StayHome
from scheduling.solve import STRATEGIES
from thalweg.pack_command import REGION, as_nodes, as_requests, popularity_of
from thalweg.traces import PhillyJob, TraceError, read_openb_nodes, read_openb_pods, read_philly_jobs

DATA_MEDIAN_GB = 50.0
DATA_SIGMA = 1.5
USD_PER_GPU_HOUR = 2.0
USD_PER_GB = 0.02
REGION_POLICIES = {policy.name: policy for policy in (StayHome, Spread, Gravity)}


def philly_problem(
    trace: Sequence[PhillyJob], *, regions: int, load: float, seed: int, pool_clusters: bool
) -> tuple[list[ReplayJob], Fleet]:
    """Give each of the largest clusters a region of its own, all regions equal, and each job data at home.

    Args:
        trace: the jobs.
        regions: how many clusters, the largest by GPU time, become home regions.
        load: mean GPU demand / GPUs of the fleet; the GPUs follow from it.
        seed: of the data sizes: log-normal, median 50 GB, sigma 1.5, drawn in order of submission, whatever the job.
        pool_clusters: True keeps the jobs of all other clusters too, dealt to the homes in turn; False leaves them out.
    """
    work: dict[str, float] = {}
    for job in trace:
        work[job.cluster] = work.get(job.cluster, 0.0) + job.gpus * job.duration_s
    homes = sorted(work, key=lambda cluster: (-work[cluster], cluster))[:regions]
    home_of = {cluster: i for i, cluster in enumerate(homes)}
    if pool_clusters:
        home_of |= {cluster: i % regions for i, cluster in enumerate(sorted(work.keys() - home_of.keys()))}
    kept = sorted((j for j in trace if j.cluster in home_of), key=lambda j: (j.submitted_at, j.job_id))
    if not kept:
        raise TraceError("the trace holds no job")
    first = kept[0].submitted_at
    sizes = np.random.default_rng(seed).lognormal(np.log(DATA_MEDIAN_GB), DATA_SIGMA, len(kept))
    jobs = [
        ReplayJob(
            job_id=job.job_id,
            arrive_s=(job.submitted_at - first).total_seconds(),
            run_s=job.duration_s,
            gpus=job.gpus,
            home=home_of[job.cluster],
            data_gb=float(size),
        )
        for job, size in zip(kept, sizes, strict=True)
    ]
    span_s = max(1.0, jobs[-1].arrive_s)
    needed = sum(job.gpus * job.run_s for job in jobs) / span_s / load
    each = max(*(job.gpus for job in jobs), round(needed / regions))
    fleet = Fleet(
        regions=tuple(homes),
        gpus=(float(each),) * len(homes),
        usd_per_gpu_hour=(USD_PER_GPU_HOUR,) * len(homes),
        usd_per_gb=USD_PER_GB,
    )
    return jobs, fleet


def run_philly(
    jobs: Sequence[ReplayJob], fleet: Fleet, policy: str, *, cycle_s: float, patience_s: float, seed: int
) -> dict[str, Any]:
    """Replay through one policy and return its figures with the seconds it took."""
    chosen: Policy
    if policy in REGION_POLICIES:
        chosen = REGION_POLICIES[policy](jobs, fleet, patience_s=patience_s)
    else:
        chosen = Engine(jobs, fleet, strategy=policy, cycle_s=cycle_s, seed=seed)
    started = time.perf_counter()
    result = replay(jobs, fleet, chosen)
    return {**summarise(jobs, fleet, result), "replay_seconds": round(time.perf_counter() - started, 3)}


def run_openb(nodes_path: Path, pods_path: Path, rule: Rule) -> dict[str, Any]:
    """Replay the openb pods with their own creation and deletion times on the openb nodes."""
    nodes = as_nodes(read_openb_nodes(nodes_path))
    pods = sorted(
        (p for p in read_openb_pods(pods_path) if p.created_s is not None and p.deleted_s is not None),
        key=lambda p: (p.created_s, p.name),
    )
    if not pods:
        raise TraceError(f"{pods_path.name} holds no pod with creation_time and deletion_time")
    requests = as_requests(nodes, pods)
    jobs = [
        ReplayJob(
            job_id=pod.name,
            arrive_s=float(pod.created_s or 0),
            run_s=float((pod.deleted_s or 0) - (pod.created_s or 0)),
            gpus=pod.need.total_gpu_milli / 1000,
            home=0,
        )
        for pod in pods
    ]
    fleet = Fleet(
        regions=(REGION,), gpus=(float(nodes.gpus.sum()),), usd_per_gpu_hour=(USD_PER_GPU_HOUR,), usd_per_gb=0.0
    )
    packer = Packer(nodes, rule=rule)
    packer.expect(REGION, popularity_of(requests))
    started = time.perf_counter()
    result = replay(jobs, fleet, PackNodes(packer, requests, name=rule.value))
    return {**summarise(jobs, fleet, result), "replay_seconds": round(time.perf_counter() - started, 3)}


@click.command("replay")
@click.option("--trace", "kind", required=True, type=click.Choice(["philly", "openb"]))
@click.option("--jobs", "jobs_path", required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--nodes", "nodes_path", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="openb only.")
@click.option(
    "--policy",
    "policies",
    multiple=True,
    help="Repeat to compare. philly: home, spread, gravity, or a strategy of the engine; openb: fill, fgd.",
)
@click.option("--regions", default=8, show_default=True, type=click.IntRange(min=1), help="philly: home regions.")
@click.option(
    "--load", default=1.0, show_default=True, type=click.FloatRange(0.01, 10.0), help="philly: demand / GPUs there are."
)
@click.option("--all-clusters", is_flag=True, help="philly: deal the jobs of the other clusters to the homes as well.")
@click.option(
    "--cycle",
    "cycle_s",
    default=1800.0,
    show_default=True,
    type=click.FloatRange(min=1.0),
    help="Seconds between plans of the engine.",
)
@click.option(
    "--patience",
    "patience_s",
    default=float("inf"),
    type=click.FloatRange(min=0.0),
    help="philly: seconds after which a gang that is passed by smaller jobs gets GPUs kept for it. Default: never.",
)
@click.option("--seed", default=42, show_default=True, type=int, help="Of the data sizes.")
@click.option(
    "--plot", "plot_path", type=click.Path(dir_okay=False, path_type=Path), help="Write a picture (png, svg)."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def replay_trace(
    kind: str,
    jobs_path: Path,
    nodes_path: Path | None,
    policies: tuple[str, ...],
    regions: int,
    load: float,
    all_clusters: bool,
    cycle_s: float,
    patience_s: float,
    seed: int,
    plot_path: Path | None,
    as_json: bool,
) -> None:
    """Replay a trace through policies and compare them: waiting, utilisation, balance, money, moves."""
    known = sorted(REGION_POLICIES.keys() | set(STRATEGIES)) if kind == "philly" else [r.value for r in Rule]
    chosen = policies or (("home", "spread", "gravity") if kind == "philly" else tuple(known))
    unknown = sorted(set(chosen) - set(known))
    if unknown:
        click.echo(f"Error: {kind} has no policy {', '.join(unknown)}; there are {', '.join(known)}", err=True)
        sys.exit(2)
    if kind == "openb" and nodes_path is None:
        click.echo("Error: an openb trace needs its machines: add --nodes NODES.csv", err=True)
        sys.exit(2)
    try:
        if kind == "philly":
            jobs, fleet = philly_problem(
                read_philly_jobs(jobs_path), regions=regions, load=load, seed=seed, pool_clusters=all_clusters
            )
            reports = [
                run_philly(jobs, fleet, policy, cycle_s=cycle_s, patience_s=patience_s, seed=seed) for policy in chosen
            ]
            document = {"trace": kind, "regions": regions, "gpus_per_region": fleet.gpus[0], "load": load, "seed": seed}
        else:
            assert nodes_path is not None
            reports = [run_openb(nodes_path, jobs_path, Rule(policy)) for policy in chosen]
            document = {"trace": kind}
    except TraceError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(2)
    if plot_path is not None:
        plot(reports, plot_path)
    if as_json:
        click.echo(json.dumps({**document, "policies": reports}))
    else:
        show(reports)


def show(reports: Sequence[dict[str, Any]]) -> None:
    """Print the policies side by side."""
    table = Table("figure", *[report["policy"] for report in reports])
    for name in reports[0]:
        if name not in ("policy", "demand_by_supply", "fingerprint"):
            table.add_row(name, *["-" if report[name] is None else f"{report[name]:,}" for report in reports])
    for region in reports[0]["demand_by_supply"]:
        table.add_row(f"demand/supply {region}", *[str(report["demand_by_supply"][region]) for report in reports])
    Console().print(table)


def plot(reports: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw demand by supply per region and waiting time per policy."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    balance, waiting = figure.subplots(1, 2, width_ratios=[3, 2])
    width = 0.8 / len(reports)
    for i, report in enumerate(reports):
        shares = report["demand_by_supply"]
        places = np.arange(len(shares)) + i * width
        balance.bar(places, list(shares.values()), width, label=report["policy"])
    balance.axhline(1.0, color="grey", linewidth=0.8)
    balance.set_xticks(np.arange(len(shares)) + 0.4 - width / 2, list(shares), rotation=30, fontsize=7)
    balance.set_ylabel("demand / supply")
    balance.legend(fontsize=7)
    names = [report["policy"] for report in reports]
    for key, label in (("wait_mean_s", "mean"), ("wait_p99_s", "p99")):
        waiting.plot(names, [max(1.0, report[key]) / 3600 for report in reports], "o-", label=label)
    waiting.set_yscale("log")
    waiting.set_ylabel("waiting, hours")
    waiting.legend(fontsize=7)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
