"""`thalweg bench steady`: the openb cluster after weeks, as pods come and go, by the product's planner and beside FGD.

python -m thalweg.benchmarks.packing.steady [NAME=VALUE ...]     measures with these parameters of `measure`, puts it
                                         into benchmarks/results/steady.json and prints that

Pods are drawn from the published list, each with its own shape and running time, as many an hour as make the load: mean
GPUs asked for by GPUs there are. The cluster does not begin empty, for the longest run for months: those that are there
at first are drawn as a moment of such a stream finds them, the longer the likelier, somewhere within their time.
Nobody is refused: what does not fit waits. So at a load of 1.1 the queue grows, and packers have more to choose from.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any, Final

import numpy as np

from thalweg.benchmarks.packing.pack import NODE_LIST
from thalweg.benchmarks.placement.real_graph import published_folder
from thalweg.cli.bench_command import parameters
from thalweg.cli.replay_command import place_settings
from thalweg.conf.environment import results_folder
from thalweg.replay.scenario import Scenario, pods_scenario, timed_pods
from thalweg.replay.traces import OpenbNode, OpenbPod, read_openb_nodes, read_openb_pods
from thalweg.scheduling.arrays import FloatArray
from thalweg.scheduling.pack.ceiling import allocation_ceiling
from thalweg.scheduling.pack.nodes import GPU_MILLI, Need
from thalweg.scheduling.pack.packer import ScoringRule
from thalweg.scheduling.replay.replay import Replay, replay
from thalweg.stack.machine import describe

RESULT: Final = results_folder() / "steady.json"
POD_LIST: Final = "openb_pod_list_default.csv.gz"
PLANNER: Final = "flow"
DAY_S: Final = 86_400.0
LOOKS: Final = 8
"""Moments of the measured time at which the ceilings are computed."""


def measure(
    loads: str = "1.0,1.1",
    seeds: str = "42,43",
    policies: str = f"{PLANNER},{ScoringRule.FILL},{ScoringRule.FGD}",
    days: float = 2.0,
    warm_up_days: float = 1.0,
    cycle_s: float = 60.0,
) -> dict[str, Any]:
    """Run every load with every seed through every policy.

    Args:
        loads: GPUs asked for by GPUs there are, commas between.
        seeds: of the draws.
        policies: `flow`, which is the place job's planner, and its packer alone, by `fill` or `fgd`.
        days: that are measured, on the virtual clock.
        warm_up_days: before them.
        cycle_s: seconds between two decisions.
    """
    openb = published_folder() / "openb"
    machines, pods = read_openb_nodes(openb / NODE_LIST), timed_pods(read_openb_pods(openb / POD_LIST))
    end_s = (warm_up_days + days) * DAY_S
    return {
        "benchmark": "steady",
        "machine": describe(),
        "load_average": round(os.getloadavg()[0], 2),
        "parameters": {"days": days, "warm_up_days": warm_up_days, "cycle_s": cycle_s},
        "runs": [
            _one(machines, pods, load, seed, policies.split(","), (warm_up_days * DAY_S, end_s), cycle_s)
            for load in map(float, loads.split(","))
            for seed in map(int, seeds.split(","))
        ],
    }


def steady_pods(pods: Sequence[OpenbPod], gpus: int, *, load: float, until_s: float, seed: int) -> list[OpenbPod]:
    """Draw who is there at first and who comes until then; names are new, times are whole seconds.

    Args:
        pods: to draw from, with both times.
        gpus: of the cluster.
        load: GPUs asked for on average, by GPUs there are.
        until_s: nobody comes later.
        seed: of the draws.
    """
    rng = np.random.default_rng(seed)
    run_s = np.array([(pod.deleted_s or 0) - (pod.created_s or 0) for pod in pods], np.float64)
    asked = np.array([pod.need.total_gpu_milli for pod in pods], np.float64) / GPU_MILLI
    first = list[tuple[int, float]]()
    held = 0.0
    while held < load * gpus:
        at = int(rng.choice(len(pods), p=run_s / run_s.sum()))
        first.append((at, float(rng.uniform(0.0, run_s[at]))))
        held += float(asked[at])
    per_s = load * gpus / float((asked * run_s).mean())
    comes_s = np.sort(rng.uniform(0.0, until_s, rng.poisson(per_s * until_s)))
    come = rng.integers(len(pods), size=len(comes_s))
    drawn = [(at, 0.0, left_s) for at, left_s in first]
    drawn += [(int(at), float(when_s), float(run_s[at])) for at, when_s in zip(come, comes_s, strict=True)]
    return [
        replace(pods[at], name=f"{number:07d}", created_s=int(when_s), deleted_s=int(when_s) + max(1, int(left_s)))
        for number, (at, when_s, left_s) in enumerate(drawn)
    ]


def _one(
    machines: Sequence[OpenbNode],
    pods: Sequence[OpenbPod],
    load: float,
    seed: int,
    policies: Sequence[str],
    span_s: tuple[float, float],
    cycle_s: float,
) -> dict[str, Any]:
    """One load and seed, through each policy."""
    gpus = sum(machine.gpus for machine in machines)
    drawn = steady_pods(pods, gpus, load=load, until_s=span_s[1], seed=seed)
    scenario = pods_scenario(machines, drawn, until_s=span_s[1])
    found: dict[str, Any] = {"load": load, "seed": seed, "pods": len(drawn)}
    for name in policies:
        began_s = time.process_time()
        own = scenario.own.get(name)
        policy = scenario.planner(name, place_settings(name, []), cycle_s) if own is None else own()
        policy.cycle_s = cycle_s  # all are asked as often: what becomes free lies idle as long
        done = replay(scenario.jobs, scenario.fleet, policy, begin_s=0.0)
        cpu_s = round(time.process_time() - began_s, 1)
        found[name] = {**figures(scenario, [pod.need for pod in drawn], done, span_s), "cpu_s": cpu_s}
    return found


def figures(scenario: Scenario, needs: Sequence[Need], done: Replay, span_s: tuple[float, float]) -> dict[str, float]:
    """What a run held, and what it could have held, in percent of the GPUs.

    `ceiling_of_running_percent`: the most at moments of the span, if what ran there is held, arranged at will, and of
    what waited any. `ceiling_of_all_percent`: if any of both may be left out.

    Args:
        scenario: what was run.
        needs: of each job.
        done: the run.
        span_s: from when to when it counts.
    """
    begin_s, end_s = span_s
    gpus = sum(scenario.fleet.gpus)
    inside_s = np.clip(np.minimum(done.end_s, end_s) - np.maximum(done.start_s, begin_s), 0.0, None)
    arrive_s = np.array([job.arrive_s for job in scenario.jobs])
    start_s = np.full(len(arrive_s), np.inf)
    np.minimum.at(start_s, done.job, done.start_s)
    looks = [
        _look(needs, done, arrive_s, start_s, at, int(gpus)) for at in np.linspace(begin_s, end_s, LOOKS + 1)[1:-1]
    ]
    waited_s = np.minimum(start_s, end_s) - arrive_s
    return {
        "allocation_percent": round(100 * float((inside_s * done.gpus).sum()) / (gpus * (end_s - begin_s)), 3),
        "ceiling_of_running_percent": round(fmean(running for running, _ in looks), 3),
        "ceiling_of_all_percent": round(fmean(everything for _, everything in looks), 3),
        "wait_mean_h": round(float(waited_s[arrive_s >= begin_s].mean()) / 3_600, 3),
        "waiting_at_the_end": float((start_s >= end_s).sum()),
    }


def _look(
    needs: Sequence[Need], done: Replay, arrive_s: FloatArray, start_s: FloatArray, at_s: float, gpus: int
) -> tuple[float, float]:
    """Both ceilings at one moment."""
    running = np.unique(done.job[(done.start_s <= at_s) & (done.end_s > at_s)])
    waiting = np.flatnonzero((arrive_s <= at_s) & (start_s > at_s))
    held, more = [needs[job] for job in running.tolist()], [needs[job] for job in waiting.tolist()]
    to_percent = 100 / (gpus * GPU_MILLI)
    return (
        to_percent * allocation_ceiling(held, more, gpus=gpus),
        to_percent * allocation_ceiling([], [*held, *more], gpus=gpus),
    )


def main(items: Sequence[str]) -> None:
    """Measure and keep it beside the code."""
    text = json.dumps(measure(**parameters(measure, items)), indent=1) + "\n"
    RESULT.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main(sys.argv[1:])
