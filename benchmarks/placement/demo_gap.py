"""Gap and time of the live plans that the demo's demand leads to, in virtual time: no broker, no tables.

python -m thalweg.benchmarks.placement.demo_gap [seconds] [tasks a second] [seed]     prints JSON

Eight regions as the demo's agents tell of them, its requests at their moments, a plan each quarter of a second; tasks
run for what they expect, more or less a fifth, 600 times faster, as the demo's do.
"""

from __future__ import annotations

import heapq
import json
import random
import sys
import time
from typing import Any, Final

import msgspec
import numpy as np

from thalweg.agent.figures import Figures, load_figures
from thalweg.agent.fleet import link_samples, price_samples, simulated_fleet
from thalweg.conf.settings import PlaceSettings
from thalweg.demo.load import Message, MessageKind, messages
from thalweg.jobs.placement.settings import plan_settings
from thalweg.scheduling.decisions import decide
from thalweg.scheduling.ids import NodeId, RegionId, TaskId
from thalweg.scheduling.live.micro_batch import plan
from thalweg.scheduling.pack.packer import Packer
from thalweg.scheduling.world.tasks import Change, Transition
from thalweg.scheduling.world.world import NodeFacts, World
from thalweg.stack.machine import describe
from thalweg.streams.placement.task_specs import read_spec

REGIONS: Final = 8
STEP_S: Final = 0.25
FASTER: Final = 600.0
WARM_UP: Final = 10
"""First plans that are in no time: they hold a compiler."""


def demo_world(figures: Figures) -> World:
    """The demo's regions, as their agents tell of them, with nothing running."""
    world, rng = World(), random.Random(1)
    fleets = [simulated_fleet(RegionId(region), figures) for region in figures.regions[:REGIONS]]
    world.set_nodes(
        NodeFacts(
            region=fleet.region,
            node_id=NodeId(node.node_id),
            gpu_model=node.gpu_model or "",
            spot=node.spot,
            gpus=node.gpus,
            cpus=node.cpus,
            memory_gb=node.memory_gb,
            ready=True,
        )
        for fleet in fleets
        for node in fleet.nodes.values()
    )
    links, prices = {}, {}
    for fleet in fleets:
        for link in link_samples(fleet, rng):
            assert link.dst_region is not None
            links[fleet.region, link.dst_region] = (link.rtt_ms or 0.0, link.gbps or 0.0, link.usd_per_gb or 0.0)
        for price in price_samples(fleet):
            prices[fleet.region, price.gpu_model or "", price.spot] = price.usd_per_gpu_hour or 0.0
    world.set_links(links)
    world.set_prices(prices)
    for fleet in fleets:
        world.hear(fleet.region, 0)
    return world


class _Play:
    """One world and its demand, step by step."""

    def __init__(self, rate_per_s: float, seed: int) -> None:
        figures = load_figures()
        self.world, self.rng = demo_world(figures), random.Random(seed)
        self.packer, self.settings = Packer(self.world.nodes), plan_settings(PlaceSettings())
        self.gaps, self.cpu_ms = list[float](), list[float]()
        self._stream = messages(figures, figures.regions[:REGIONS], rate_per_s=rate_per_s, seed=seed, run="demo")
        self._next, self._offset = next(self._stream), 0
        self._ends: list[tuple[float, TaskId, RegionId, int]] = []

    def step(self, now_s: float) -> None:
        """Take what is due, and plan."""
        now_ms = round(now_s * 1_000)
        while self._next.due_s <= now_s:
            self._take(self._next, now_ms)
            self._next = next(self._stream)
        while self._ends and self._ends[0][0] <= now_s:
            _, task_id, region, epoch = heapq.heappop(self._ends)
            self._follow(decide.report(self.world, region, "succeeded", task_id, epoch, "", 3, now_ms))
        began = time.process_time()
        made = plan(self.world, self.settings, now_ms, 0, self.packer)
        if made is None:
            return
        self.cpu_ms.append((time.process_time() - began) * 1e3)
        self.gaps.append(made.gap)
        for row in self._follow(decide.place(self.world, made, "plan", now_ms)):
            if row.change is Change.ASSIGNED and row.region is not None:
                seconds = max(self.world.tasks[row.task_id].spec.expected_s, 1.0) / FASTER * self.rng.uniform(0.8, 1.2)
                heapq.heappush(self._ends, (now_s + seconds, row.task_id, row.region, row.epoch))

    def _take(self, message: Message, now_ms: int) -> None:
        if not isinstance(message.content, dict):
            return
        self._offset += 1
        origin = decide.RequestOrigin(topic="requests", partition=0, offset=self._offset, timestamp_ms=now_ms)
        task_id = TaskId(message.task_id)
        if message.kind is MessageKind.CANCEL:
            self._follow(decide.cancel(self.world, task_id, origin, now_ms))
        else:
            raw = msgspec.json.encode(message.content)
            self._follow(decide.submit(self.world, task_id, read_spec(raw), raw.decode(), task_id, origin, now_ms))

    def _follow(self, rows: list[Transition] | decide.Refused) -> list[Transition]:
        kept = [] if isinstance(rows, decide.Refused) else rows
        for row in kept:
            self.world.follow(row)
        return kept


def run(seconds: float, rate_per_s: float, seed: int) -> dict[str, Any]:
    """Play so many seconds of the demo."""
    play = _Play(rate_per_s, seed)
    for step in range(1, round(seconds / STEP_S) + 1):
        play.step(step * STEP_S)
    gaps, cpu_ms = np.array(play.gaps), np.array(play.cpu_ms[WARM_UP:])
    return {
        "benchmark": "demo_gap",
        "machine": describe(),
        "seconds": seconds,
        "rate_per_s": rate_per_s,
        "plans": len(gaps),
        "gap_mean": round(float(gaps.mean()), 5),
        "gap_p90": round(float(np.percentile(gaps, 90)), 5),
        "gap_worst": round(float(gaps.max()), 5),
        "gap_above_2_percent": int((gaps > 0.02).sum()),
        "cpu_ms_p50": round(float(np.percentile(cpu_ms, 50)), 1),
        "cpu_ms_p90": round(float(np.percentile(cpu_ms, 90)), 1),
        "cpu_ms_worst": round(float(cpu_ms.max()), 1),
    }


def main() -> None:
    """Run and print."""
    given = [float(value) for value in sys.argv[1:4]]
    seconds, rate_per_s, seed = [*given, *(60.0, 50.0, 0.0)[len(given) :]]
    print(json.dumps(run(seconds, rate_per_s, int(seed)), indent=2))


if __name__ == "__main__":
    main()
