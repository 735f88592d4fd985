"""`bench edge`: an hour of one simulated region's samples, as they are and prepared before they leave.

Nodes, links and prices are the published ones of the region, at the agent's own intervals; the utilisation of each node
wanders. Exact figures are held against the samples themselves, quantiles against the true ones.
"""

import math
import random
import time
from collections import defaultdict
from dataclasses import dataclass
from typing import Any, Final

from thalweg.agent.figures import load_figures
from thalweg.agent.fleet import NodeLoad, link_samples, node_samples, price_samples, simulated_fleet
from thalweg.agent.prepared_samples import PreparedSamples, checked_for_samples
from thalweg.conf.settings import AgentSettings
from thalweg.edge.declaration import read_declaration
from thalweg.scheduling.ids import RegionId
from thalweg.stack.machine import describe
from thalweg.streams.contract.messages import Sample

MS: Final = 1_000
_WANDER: Final = 0.02
"""Standard deviation of a second's change of utilisation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hour:
    """What is measured."""

    region: str = "aws:us-east-1"
    seconds: int = 3_600
    error: float = 0.01
    """Declared, of quantiles."""
    seed: int = 0


def measure(hour: Hour) -> dict[str, Any]:
    """Measure windows of ten seconds and of a minute, with exact figures and with quantiles."""
    moments = list(_moments(hour))
    found: dict[str, Any] = {}
    for window_s in (10, 60):
        for figure in ("mean", "p95"):
            found[f"window_{window_s}s_{figure}"] = _prepared(moments, hour, window_s, figure)
    return {"machine": describe(), "region": hour.region, "seconds": hour.seconds, **found}


def _moments(hour: Hour) -> Any:
    """Samples of each second, as an agent makes them."""
    luck, defaults = random.Random(hour.seed), AgentSettings()
    fleet = simulated_fleet(RegionId(hour.region), load_figures())
    busy = {name: luck.random() for name in fleet.nodes}
    for second in range(hour.seconds):
        busy = {name: min(max(share + luck.gauss(0, _WANDER), 0.0), 1.0) for name, share in busy.items()}
        samples: list[Sample] = []
        if second * MS % defaults.telemetry_ms == 0:
            samples += node_samples(fleet, {name: NodeLoad(gpu_utilisation=share) for name, share in busy.items()})
        if second * MS % defaults.links_ms == 0:
            samples += [*link_samples(fleet, luck), *price_samples(fleet)]
        yield second * MS, samples


def _prepared(moments: list[tuple[int, list[Sample]]], hour: Hour, window_s: int, figure: str) -> dict[str, Any]:
    prepared = PreparedSamples()
    fields = {"gpu_utilisation": figure, "rtt_ms": figure, "gbps": figure}
    declaration = read_declaration({"revision": 1, "window_s": window_s, "error": hour.error, "figures": fields})
    prepared.prepare(checked_for_samples(declaration))
    began = time.process_time()
    left = [sample for at_ms, samples in moments for sample in prepared.take(samples, at_ms)]
    left += prepared.rest()
    spent = time.process_time() - began
    saved = prepared.saved
    return {
        "samples_in": saved.samples_in,
        "samples_out": saved.samples_out,
        "bytes_in": saved.bytes_in,
        "bytes_out": saved.bytes_out,
        "times_fewer_bytes": round(saved.bytes_in / saved.bytes_out, 1),
        "largest_relative_error": _largest_error(moments, left, window_s, figure),
        "processor_us_a_sample": round(1e6 * spent / saved.samples_in, 1),
    }


def _largest_error(moments: list[tuple[int, list[Sample]]], left: list[Sample], window_s: int, figure: str) -> float:
    """How far what left of nodes is from what their samples say, at worst, as a share of it."""
    held: dict[tuple[str, int], list[float]] = defaultdict(list)
    for at_ms, samples in moments:
        for sample in samples:
            if sample.kind == "node" and sample.node_id is not None and sample.gpu_utilisation is not None:
                held[sample.node_id, at_ms // (window_s * MS)].append(sample.gpu_utilisation)
    first = {sample.node_id: sample for sample in reversed(left) if sample.kind == "node"}
    worst = 0.0
    for sample in left:
        if sample.kind != "node" or sample.node_id is None or sample is first[sample.node_id]:
            continue  # the very first of a node leaves at once, alone
        assert sample.observed_at is not None and sample.gpu_utilisation is not None
        number = sample.observed_at // (window_s * MS)
        numbers = held[sample.node_id, number][1 if number == 0 else 0 :]
        rank = max(1, math.ceil(0.95 * len(numbers))) - 1
        true = math.fsum(numbers) / len(numbers) if figure == "mean" else sorted(numbers)[rank]
        worst = max(worst, abs(sample.gpu_utilisation - true) / true if true else 0.0)
    return worst
