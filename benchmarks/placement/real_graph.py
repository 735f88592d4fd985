"""The real graph of 62 regions with real prices, as a placement problem.

Measured: round trips (Skyplane 2022-04), throughput over 64 connections (2022-11), egress prices (2023), GPU prices
of AWS (2021-11) and GCP (2022-07). Assumed, by these rules: an Azure region charges what the AWS region nearest by
measured round trip charges (no Azure price list is published with the data); capacity and tasks are drawn from the
seed, with data lying in a region drawn evenly, sizes log-normal (median 150 GB, sigma 1.3), hours log-normal (median
4 h, sigma 1.2) and GPUs 1, 2, 4, 8 with the shares 50, 20, 15, 15 %.
"""

from __future__ import annotations

import csv
import gzip
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from thalweg.conf.environment import PROJECT_ROOT
from thalweg.scheduling.problem.model import Network, Problem, Weights, make_classes, make_pools

MODELS = ("A100", "K80", "P100", "P4", "T4", "V100")
UNPLACED_USD = 1_000_000.0


def published_folder() -> Path:
    """Where the published inputs lie: THALWEG_DATA, or ../shared/data beside the project."""
    return Path(os.environ.get("THALWEG_DATA", PROJECT_ROOT.parent / "shared" / "data"))


def _rows(path: str) -> Iterator[dict[str, str]]:
    with gzip.open(published_folder() / path, "rt", encoding="utf-8", newline="") as lines:
        yield from csv.DictReader(lines)


def real_network() -> tuple[tuple[str, ...], Network]:
    """Regions that latency, throughput and egress all know, sorted, and the links between them."""
    rtt = {
        (r["src_region"], r["dst_region"]): float(r["avg_rtt"])
        for r in _rows("network/skyplane_latency_2022-04.csv.gz")
    }
    bits = {
        (r["src_region"], r["dst_region"]): float(r["throughput_received"] or 0.0)
        for r in _rows("network/skyplane_throughput_2022-11.csv.gz")
        if r["success"] == "True"
    }
    usd = {(r["src"], r["dest"]): float(r["cost"]) for r in _rows("network/skyplane_egress_cost_2023.csv.gz")}
    ends = [{end for pair in table for end in pair} for table in (rtt, bits, usd)]
    regions = tuple(sorted(ends[0] & ends[1] & ends[2]))
    size = len(regions)
    network = Network(
        rtt_ms=np.full((size, size), np.inf), gbps=np.zeros((size, size)), usd_per_gb=np.full((size, size), np.inf)
    )
    for i, source in enumerate(regions):
        for j, target in enumerate(regions):
            pair = (source, target)
            if i == j:
                network.rtt_ms[i, j], network.gbps[i, j], network.usd_per_gb[i, j] = 0.0, np.inf, 0.0
                continue
            network.rtt_ms[i, j] = rtt.get(pair, np.inf)
            network.gbps[i, j] = bits.get(pair, 0.0) / 1e9
            network.usd_per_gb[i, j] = usd.get(pair, np.inf)
    return regions, network


def real_prices(regions: tuple[str, ...], network: Network) -> dict[tuple[str, str, bool], float]:
    """USD per GPU and hour by (region, model, spot): the cheapest machine published for it."""
    prices: dict[tuple[str, str, bool], float] = {}

    def offer(region: str, model: str, spot: bool, usd: float) -> None:
        key = (region, model, spot)
        prices[key] = min(usd, prices.get(key, usd))

    for row in _rows("prices/skypilot_aws_2021-11.csv.gz"):
        if row["GpuName"] in MODELS and float(row["GpuCount"] or 0) > 0:
            offer(f"aws:{row['Region']}", row["GpuName"], False, float(row["PricePerHour"]) / float(row["GpuCount"]))
    for row in _rows("prices/skypilot_gcp_2022-07.csv.gz"):
        if row["AcceleratorName"] in MODELS and not row["InstanceType"]:
            for region in regions:
                if region.startswith(f"gcp:{row['Region']}"):
                    count = float(row["AcceleratorCount"])
                    offer(region, row["AcceleratorName"], False, float(row["Price"]) / count)
                    if row["SpotPrice"]:
                        offer(region, row["AcceleratorName"], True, float(row["SpotPrice"]) / count)
    aws = [
        i for i, region in enumerate(regions) if any(key[0] == region for key in prices) and region.startswith("aws")
    ]
    for i, region in enumerate(regions):
        if region.startswith("azure"):
            nearest = regions[min(aws, key=lambda j: (network.rtt_ms[i, j], regions[j]))]
            for (held, model, spot), usd in list(prices.items()):
                if held == nearest:
                    prices[region, model, spot] = usd
    return {key: usd for key, usd in sorted(prices.items()) if key[0] in set(regions)}


def real_problem(seed: int, *, tasks: int = 4_000, load: float = 0.6, median_gb: float = 150.0) -> Problem:
    """Tasks over the real graph; `load` is GPUs asked for over GPUs there are, `median_gb` how much a task reads."""
    rng = np.random.default_rng(seed)
    regions, network = real_network()
    prices = real_prices(regions, network)
    gpus = rng.choice([1.0, 2.0, 4.0, 8.0], tasks, p=[0.5, 0.2, 0.15, 0.15])
    share = rng.dirichlet(np.full(len(prices), 4.0))
    capacity = np.maximum(8.0, np.round(share * gpus.sum() / load))
    region_of = {region: i for i, region in enumerate(regions)}
    models = np.ones((tasks, len(MODELS)), bool)
    picky = rng.random(tasks) < 0.5
    modern = np.isin(MODELS, ("A100", "T4", "V100"))
    models[picky] = modern
    home = rng.integers(0, len(regions), tasks)
    return Problem(
        regions=regions,
        gpu_models=MODELS,
        pools=make_pools(
            [f"{region}/{model}/{'spot' if spot else 'on-demand'}" for region, model, spot in prices],
            region=np.array([region_of[region] for region, _, _ in prices], np.int64),
            gpu_model=np.array([MODELS.index(model) for _, model, _ in prices], np.int64),
            spot=np.array([spot for _, _, spot in prices], bool),
            capacity=capacity,
            usd_per_gpu_hour=np.array(list(prices.values())),
        ),
        network=network,
        classes=make_classes(
            [f"t{i:06d}" for i in range(tasks)],
            count=np.ones(tasks, np.int64),
            need=gpus,
            expected_h=rng.lognormal(np.log(4.0), 1.2, tasks),
            wait_usd=UNPLACED_USD,
            regions=len(regions),
            gpu_model_count=len(MODELS),
            gpu_models=models,
            spot_ok=rng.random(tasks) < 0.4,
            checkpoint_h=np.full(tasks, 1.0),
            items=(
                np.arange(tasks + 1),
                rng.lognormal(np.log(median_gb), 1.3, tasks),
                np.arange(tasks + 1),
                home,
            ),
        ),
        weights=Weights(risk=1.0),
    )
