"""Derive conf/figures/*.yaml from the published data sets: `python -m thalweg.benchmarks.figures --data FIGURES`.

The tables in conf/figures are small extracts of facts; this program is how they were made and how they are checked
(tests/unit/thalweg/agent/test_figures.py runs it where the data is there and compares).
"""

import csv
import gzip
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import fmean
from typing import Any, Final

import click
import yaml

from thalweg.conf.environment import FIGURES

# Three providers on three continents; the first eight are the demo's. All appear in latency, throughput and egress.
REGIONS: Final = (
    "aws:us-east-1",
    "gcp:us-central1-a",
    "azure:westeurope",
    "aws:eu-central-1",
    "gcp:europe-west4-a",
    "aws:ap-northeast-1",
    "gcp:asia-southeast1-a",
    "azure:koreacentral",
    "aws:us-west-2",
    "azure:eastus",
)
# GPU models that both published price lists know, and the machine that carries each.
MACHINES: Final = {"A100": "p4d.24xlarge", "V100": "p3.16xlarge", "T4": "g4dn.12xlarge"}
SHAPES_COVER: Final = 0.95
DURATION_QUANTILES: Final = tuple(percent / 100 for percent in range(5, 100, 10))


def read_rows(path: Path) -> list[dict[str, str]]:
    """Read a gzipped CSV file with a header."""
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def network(data: Path) -> dict[str, Any]:
    """Round trip, bandwidth and egress price of every directed pair of our regions."""
    rtts: dict[tuple[str, str], list[float]] = defaultdict(list)
    for row in read_rows(data / "network" / "skyplane_latency_2022-04.csv.gz"):
        if row["src_tier"] == row["dst_tier"] == "PREMIUM":
            pair = (row["src_region"], row["dst_region"])
            rtts[pair].append(float(row["avg_rtt"]))
            rtts[pair[::-1]].append(float(row["avg_rtt"]))  # a round trip is the same from both ends
    throughput = read_rows(data / "network" / "skyplane_throughput_2022-11.csv.gz")
    gbps = {(row["src_region"], row["dst_region"]): float(row["throughput_received"]) / 1e9 for row in throughput}
    egress = read_rows(data / "network" / "skyplane_egress_cost_2023.csv.gz")
    usd = {(row["src"], row["dest"]): float(row["cost"]) for row in egress}
    links = {
        source: {
            target: [
                round(fmean(rtts[source, target]), 1),
                round(gbps[source, target], 2),
                round(usd[source, target], 4),
            ]
            for target in REGIONS
            if target != source
        }
        for source in REGIONS
    }
    return {"regions": list(REGIONS), "columns": ["rtt_ms", "gbps", "usd_per_gb"], "links": links}


def prices(data: Path) -> dict[str, Any]:
    """US dollars per GPU-hour by provider and model, on demand and spot."""
    gcp = read_rows(data / "prices" / "skypilot_gcp_2022-07.csv.gz")
    aws = read_rows(data / "prices" / "skypilot_aws_2021-11.csv.gz")
    on_gcp = {
        row["AcceleratorName"]: {"on_demand": float(row["Price"]), "spot": float(row["SpotPrice"])}
        for row in gcp
        if row["AcceleratorName"] in MACHINES and float(row["AcceleratorCount"]) == 1 and row["Region"] == "us-central1"
    }
    on_aws: dict[str, dict[str, float]] = {}
    for model, machine in MACHINES.items():
        (row,) = (row for row in aws if row["InstanceType"] == machine and row["Region"] == "us-east-1")
        usd = float(row["PricePerHour"]) / float(row["GpuCount"])
        discount = on_gcp[model]["spot"] / on_gcp[model]["on_demand"]
        on_aws[model] = {"on_demand": round(usd, 4), "spot": round(usd * discount, 4)}
    order = sorted(MACHINES)
    return {
        "usd_per_gpu_hour": {
            "aws": {model: on_aws[model] for model in order},
            "gcp": {model: on_gcp[model] for model in order},
            "azure": {model: on_aws[model] for model in order},
        }
    }


def machines(data: Path) -> dict[str, Any]:
    """GPUs, CPUs and memory of the machines that carry our GPU models."""
    aws = read_rows(data / "prices" / "skypilot_aws_2021-11.csv.gz")
    shapes: dict[str, Any] = {}
    for model, machine in sorted(MACHINES.items()):
        (row,) = (row for row in aws if row["InstanceType"] == machine and row["Region"] == "us-east-1")
        shapes[model] = {
            "machine": machine,
            "gpus": int(float(row["GpuCount"])),
            "cpus": int(float(row["vCPUs"])),
            "memory_gb": float(row["MemoryGiB"]),
        }
    return {
        "machines": shapes,
        # Ours: small enough for two cores to simulate, large enough to queue in front of.
        "nodes_per_region": [
            {"gpu_model": "A100", "spot": False, "nodes": 2},
            {"gpu_model": "V100", "spot": False, "nodes": 3},
            {"gpu_model": "V100", "spot": True, "nodes": 1},
            {"gpu_model": "T4", "spot": False, "nodes": 5},
            {"gpu_model": "T4", "spot": True, "nodes": 3},
        ],
    }


def tasks(data: Path) -> dict[str, Any]:
    """Shapes of tasks with their popularity, and how long tasks run."""
    pods = read_rows(data / "openb" / "openb_pod_list_default.csv.gz")
    counted = Counter(
        (int(row["num_gpu"]), int(row["gpu_milli"]), int(row["cpu_milli"]), int(row["memory_mib"])) for row in pods
    )
    shapes, covered = [], 0
    for (gpus, milli, cpu_milli, memory_mib), count in sorted(counted.items(), key=lambda item: (-item[1], item[0])):
        if covered >= SHAPES_COVER * len(pods):
            break
        covered += count
        whole = milli in (0, 1_000)
        shapes.append(
            [count, gpus if whole else 0, 0 if whole else milli, cpu_milli / 1_000, round(memory_mib / 1_024, 2)]
        )
    seconds = sorted(float(row["duration"]) for row in read_rows(data / "philly" / "philly_jobs_to_2017-11.csv.gz"))
    return {
        "columns": ["count", "gpus", "gpu_milli", "cpus", "memory_gb"],
        "shapes": shapes,
        "duration_s": [round(seconds[int(quantile * len(seconds))]) for quantile in DURATION_QUANTILES],
    }


HEADERS: Final[Mapping[str, Iterable[str]]] = {
    "network": (
        "Round trip, bandwidth and egress price between real cloud regions, from the row's region to the column's.",
        "Source: Skyplane's public measurements (github.com/skyplane-project/skyplane, Apache-2.0): ping averages of",
        "April 2022 on the premium tier, iperf3 over 64 connections of November 2022, price lists of 2023.",
    ),
    "prices": (
        "US dollars per GPU-hour. Old: good for comparing regions, not for budgets.",
        "Source: SkyPilot's public catalogue (github.com/skypilot-org/skypilot-catalog, Apache-2.0).",
        "aws: November 2021, us-east-1, the machine's price divided by its GPUs; the list has no spot prices, so spot",
        "takes the discount of the same model on gcp. gcp: July 2022, us-central1, the accelerator alone.",
        "azure: the lists have no Azure; its regions take the aws figures.",
    ),
    "fleets": (
        "Machines by GPU model, and the simulated fleet of one region.",
        "Source of the machines: SkyPilot's catalogue of AWS instance types, November 2021 (Apache-2.0).",
        "The number of nodes is ours.",
    ),
    "tasks": (
        "Shapes of tasks by popularity (of one worker), and the 5 %, 15 %, ... 95 % quantiles of how long tasks run.",
        "Shapes: Alibaba's GPU-sharing trace of 2023 (openb, default pod list, Apache-2.0), the most frequent ones,",
        "together 95 % of 8,152 pods. Durations: Microsoft's Philly trace of 2017, 74,167 jobs (CC-BY-4.0).",
    ),
}


class _Rows(yaml.SafeDumper):
    """Writes a list of plain values on one line, everything else as a block."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_sequence(self, tag: str, sequence: Any, flow_style: bool | None = None) -> yaml.SequenceNode:
        flat = all(isinstance(item, (int, float, str)) for item in sequence)
        return super().represent_sequence(tag, sequence, flow_style=flat)


def derive(data: Path) -> dict[str, str]:
    """Text of every table by its name."""
    tables = {"network": network(data), "prices": prices(data), "fleets": machines(data), "tasks": tasks(data)}
    return {
        name: "".join(f"# {line}\n" for line in (*HEADERS[name], "Derived by `python -m thalweg.benchmarks.figures`."))
        + yaml.dump(table, Dumper=_Rows, sort_keys=False, width=120)
        for name, table in tables.items()
    }


@click.command()
@click.option("--data", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default=FIGURES, show_default=True)
def main(data: Path, out: Path) -> None:
    """Write the tables."""
    out.mkdir(parents=True, exist_ok=True)
    for name, text in derive(data).items():
        (out / f"{name}.yaml").write_text(text, encoding="utf-8")
        print(out / f"{name}.yaml", file=sys.stderr)


if __name__ == "__main__":
    main()
