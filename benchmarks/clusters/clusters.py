"""`bench clusters`: the load of `bench latency` on the clusters that the pages promise, each beside one machine's disk.

Every case is `place` by the documented spark-submit, and differs from `local` in what its name says alone: a standalone
master and two workers as processes, whose Python knows nothing of the tree; warehouse and checkpoints on an S3 server
of this machine. By default the driver reads batches ahead, so executors have nothing to do; `through_executors` lets
Spark read each batch, and has a local run of its own beside it.
"""

import json
import sys
import tempfile
from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import click
import numpy as np

from thalweg.benchmarks.clusters import requests
from thalweg.benchmarks.clusters.round_trips import RoundTrips, beside, idle, medians
from thalweg.benchmarks.latency import latency
from thalweg.conf.settings import KafkaSettings
from thalweg.processes.variables import variables_set
from thalweg.stack import machine
from thalweg.stack.broker import Broker
from thalweg.stack.s3_server import S3Server, check_installed, s3_server
from thalweg.stack.spark_cluster import python_without_the_tree, spark_cluster
from thalweg.stack.submission import printed_jars, submitted
from thalweg.streams.broker.admin import ensure_topics
from thalweg.sync.delta.contracts import PLANS
from thalweg.sync.delta.store import open_or_create

LOCAL_MASTER: Final = "local[2]"
SHARE: Final = ("--total-executor-cores", "2", "--executor-memory", "1g")
"""As the page says: a standalone master would give an application all there is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Where the job runs, and where it keeps what stays."""

    beside: str
    """The case it is held against."""
    standalone: bool = False
    on_s3: bool = False
    through_spark: bool = False
    """Batches are read by Spark's tasks, not ahead of it by the driver."""


CASES: Final[Mapping[str, Case]] = {
    "local": Case(beside="local"),
    "standalone": Case(beside="local", standalone=True),
    "s3": Case(beside="local", on_s3=True),
    "both": Case(beside="local", standalone=True, on_s3=True),
    "local_through_spark": Case(beside="local_through_spark", through_spark=True),
    "through_executors": Case(beside="local_through_spark", standalone=True, through_spark=True),
    # The machine's speed drifts over minutes: what two equal runs differ by is no figure of a cluster's.
    "local_again": Case(beside="local"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """What is measured."""

    rate_per_s: int = 100
    """A tenth of `bench latency`: with a store's round trips a batch takes ten times as long."""
    seconds: float = 30.0
    warm_up_s: float = 20.0
    nodes: int = 800
    cases: str = ",".join(CASES)


def chosen(asked: str) -> list[str]:
    """Read which cases are asked for, in their order.

    Raises:
        click.UsageError: one is none, or lacks the one that it is held against.
    """
    names = {name.strip() for name in asked.split(",") if name.strip()}
    wanted = names | {CASES[name].beside for name in names & CASES.keys()}
    if missing := sorted((names - CASES.keys()) | (wanted - names)):
        raise click.UsageError(
            f"cases={asked}: {', '.join(missing)} is missing or none of ours; there are {', '.join(CASES)}, "
            "separated by commas, and each wants the local one of its kind"
        )
    return [name for name in CASES if name in names]


def measure(parameters: Parameters) -> dict[str, Any]:
    """Run the cases one after the other and return the figures."""
    names = chosen(parameters.cases)
    if any(CASES[name].on_s3 for name in names):
        check_installed()
    found: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(prefix="bench-clusters-") as folder:
        base = Path(folder)
        python = python_without_the_tree(base / "bare")
        with Broker(base / "broker") as broker:
            for name in names:
                found[name] = run(name, CASES[name], broker.bootstrap, base, python, parameters)
    return {
        "bench": "clusters",
        "machine": machine.describe(),
        "parameters": {name: getattr(parameters, name) for name in Parameters.__slots__},
        "cases": {
            name: figures | {"ratio": latency.ratio(figures, found[CASES[name].beside])}
            for name, figures in found.items()
        },
    }


def run(name: str, case: Case, bootstrap: str, base: Path, python: Path, parameters: Parameters) -> dict[str, Any]:
    """Measure one case."""
    folder = base / name
    (folder / requests.WAREHOUSE).mkdir(parents=True)
    with ExitStack() as held:
        store = held.enter_context(s3_server(folder)) if case.on_s3 else None
        kept_at = str(folder)
        if store is not None:
            kept_at = store.uri
            held.enter_context(variables_set(store.environment))
        master = held.enter_context(spark_cluster(folder / "spark")).master if case.standalone else LOCAL_MASTER
        warehouse = f"{kept_at}/{requests.WAREHOUSE}"
        kafka = KafkaSettings(bootstrap_servers=bootstrap, topic_prefix=f"bench-{name.replace('_', '-')}")
        regions = [*latency.REGIONS, "control"]
        ensure_topics(kafka, regions)
        latency.write_world(warehouse, parameters.nodes)
        trips = idle(store) if store is not None else {}
        submission = submitted(
            "place",
            folder,
            python if case.standalone else Path(sys.executable),
            *options(kafka, warehouse, f"{kept_at}/{requests.CHECKPOINTS}", case),
            master=master,
            jars=printed_jars(*(["s3"] if case.on_s3 else [])),
            spark_options=SHARE if case.standalone else (),
        )
        load = latency.Parameters(
            rate_per_s=parameters.rate_per_s, seconds=parameters.seconds, warm_up_s=parameters.warm_up_s
        )
        watched: AbstractContextManager[RoundTrips | None] = nullcontext() if store is None else beside(store)
        with submission as place, watched as under_load:
            printed = latency.while_it_lives(
                place.process,
                latency.load_command(kafka, regions, load),
                timeout_s=parameters.seconds + parameters.warm_up_s + 180,
            )
            if printed is None:
                raise RuntimeError(f"case {name} failed; its log ends with:\n{place.said()[-3000:]}")
        figures: dict[str, Any] = json.loads(printed)
        figures |= micro_batches(warehouse, figures["from_ms"], figures["to_ms"])
        if store is not None and under_load is not None:
            loaded = under_load.figures(figures["from_ms"] / 1_000, figures["to_ms"] / 1_000)
            figures["store"] = asked(store, trips, loaded, figures)
    return figures


def options(kafka: KafkaSettings, warehouse: str, checkpoints: str, case: Case) -> list[str]:
    """Return what the job is told."""
    told = {
        "kafka.bootstrap_servers": kafka.bootstrap_servers,
        "kafka.topic_prefix": kafka.topic_prefix,
        "warehouse.path": warehouse,
        "spark.checkpoints": checkpoints,
        "place.read_ahead": str(not case.through_spark).lower(),
        # Nobody sends samples here: what the tables say of nodes stays.
        "place.node_timeout_ms": str(86_400_000),
    }
    return [part for name, value in told.items() for part in ("--set", f"{name}={value}")]


def micro_batches(warehouse: str, from_ms: int, to_ms: int) -> dict[str, Any]:
    """Return how far apart the plans of a time are, and the median of each step."""
    plans = open_or_create(PLANS, warehouse).to_pyarrow_table(
        columns=["planned_at", *(f"{step}_ms" for step in latency.STEPS)]
    )
    at_ms = plans["planned_at"].cast("int64").to_numpy() / 1_000
    within = (at_ms >= from_ms) & (at_ms <= to_ms)
    if not within.any():
        return {"plans": 0}
    apart = np.diff(np.sort(at_ms[within]))
    return {
        "plans": int(within.sum()),
        "from_one_to_the_next_ms": round(float(np.median(apart)), 1) if len(apart) else None,
        "steps_ms": {
            step: round(float(np.median(plans[f"{step}_ms"].to_numpy()[within])), 2) for step in latency.STEPS
        },
    }


def asked(
    store: S3Server,
    trips: Mapping[str, Mapping[str, float]],
    under_load: Mapping[str, Mapping[str, float]],
    span: Mapping[str, Any],
) -> dict[str, Any]:
    """Return what a micro-batch asked the store for, and how long that takes at least."""
    with store.log.open(encoding="utf-8", errors="replace") as lines:
        within = [one for one in requests.read(lines) if span["from_ms"] <= one.at_s * 1_000 <= span["to_ms"] - 1_000]
    noted, counted = requests.batches(within), requests.by_place(within)
    each = {
        place: {kind: round(number / noted, 2) for kind, number in sorted(kinds.items())}
        for place, kinds in sorted(counted.items())
        if noted
    }
    total = {place: round(sum(kinds.values()), 2) for place, kinds in each.items()}
    floor = partial(requests.one_after_another_ms, each)
    return {
        "round_trip_ms": {"idle": trips, "under_load": under_load},
        "micro_batches": noted,
        "requests": sum(kinds.total() for kinds in counted.values()),
        "requests_a_batch": total,
        "of_kinds_a_batch": each,
        "on_the_way_a_batch": round(sum(number for place, number in total.items() if requests.is_on_the_way(place)), 2),
        "one_after_another_ms": {
            "idle": round(floor(medians(trips)), 1),
            "under_load": round(floor(medians(under_load)), 1),
        },
    }
