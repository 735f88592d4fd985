"""Replay of a job trace through a policy, with a virtual clock: pure, and the same run every time.

Jobs arrive, wait, start in a region when the policy says so and leave after their duration. Nothing here reads a
clock or draws a number; two runs of the same input give the same starts, which `fingerprint` makes easy to compare.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

HOUR_S = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayJob:
    """One job: what it needs, for how long, and where its data lies."""

    job_id: str
    arrive_s: float
    run_s: float
    gpus: float  # whole GPUs of one region, all at once; a share of one GPU in node-level replays
    home: int  # region index of its data
    data_gb: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """Regions with their supply."""

    regions: tuple[str, ...]
    gpus: tuple[float, ...]
    usd_per_gpu_hour: tuple[float, ...]
    usd_per_gb: float  # out of any region into any other


class Policy(Protocol):
    """Decides which waiting job starts where."""

    name: str
    cycle_s: float  # 0: asked after every event; otherwise at multiples of this

    def submit(self, job: int, now_s: float) -> None:
        """Take note of a job that waits from now on."""

    def finish(self, job: int, region: int) -> None:
        """Take note that a job has left its region."""

    def start(self, now_s: float) -> list[tuple[int, int]]:
        """Return (job, region) of the jobs that start now; they fit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """Start (seconds, NaN if it never started) and region (-1) of every job, and what happened in between.

    allocated_share_while_waiting: GPU time in use / GPU time there was, over the moments in which a job waited, from
        the first to the last arrival; NaN if none ever waited.
    """

    policy: str
    start_s: NDArray[np.float64]
    region: NDArray[np.int64]
    allocated_share_while_waiting: float

    def fingerprint(self) -> str:
        """Return a hash of every start and region."""
        return hashlib.sha256(self.start_s.tobytes() + self.region.tobytes()).hexdigest()


def replay(jobs: Sequence[ReplayJob], fleet: Fleet, policy: Policy) -> Replay:
    """Run all jobs through the policy until nothing is left that can start.

    Args:
        jobs: sorted by (arrive_s, job_id); the policy knows them by their index.
        fleet: supply, for the share that is allocated while jobs wait.
        policy: fresh; it is asked after everything that happened at one moment.
    """
    count = len(jobs)
    start_s = np.full(count, np.nan)
    region = np.full(count, -1, np.int64)
    leaving: list[tuple[float, int]] = []
    arrived = waiting = 0
    busy = 0.0
    now_s = jobs[0].arrive_s if count else 0.0
    last_arrival_s = jobs[-1].arrive_s if count else 0.0
    supply = sum(fleet.gpus)
    asked_tick = -1.0
    used_gpu_s = offered_gpu_s = 0.0
    while arrived < count or leaving or (waiting and policy.cycle_s):
        next_s = min(
            jobs[arrived].arrive_s if arrived < count else np.inf,
            leaving[0][0] if leaving else np.inf,
        )
        if policy.cycle_s and waiting:
            tick_s = (np.floor(now_s / policy.cycle_s) + 1) * policy.cycle_s
            if not leaving and arrived == count and asked_tick == now_s:
                break  # asked with everything free, and still nothing starts
            next_s = min(next_s, tick_s)
        if waiting and next_s > now_s:
            elapsed_s = max(0.0, min(next_s, last_arrival_s) - now_s)
            used_gpu_s += busy * elapsed_s
            offered_gpu_s += supply * elapsed_s
        now_s = float(next_s)
        while leaving and leaving[0][0] <= now_s:
            _, job = heapq.heappop(leaving)
            busy -= jobs[job].gpus
            policy.finish(job, int(region[job]))
        while arrived < count and jobs[arrived].arrive_s <= now_s:
            policy.submit(arrived, now_s)
            arrived += 1
            waiting += 1
        if not waiting or (policy.cycle_s and now_s % policy.cycle_s):
            continue
        asked_tick = now_s
        for job, where in policy.start(now_s):
            start_s[job], region[job] = now_s, where
            busy += jobs[job].gpus
            waiting -= 1
            heapq.heappush(leaving, (now_s + jobs[job].run_s, job))
    return Replay(
        policy=policy.name,
        start_s=start_s,
        region=region,
        allocated_share_while_waiting=used_gpu_s / offered_gpu_s if offered_gpu_s else float("nan"),
    )


def summarise(jobs: Sequence[ReplayJob], fleet: Fleet, result: Replay) -> dict[str, object]:
    """Return the figures by which policies are compared.

    Supply is counted from the first to the last arrival, and so is the demand that a region served; what runs on
    after the last arrival counts for money and waiting only.
    """
    arrive_s = np.array([job.arrive_s for job in jobs])
    run_s = np.array([job.run_s for job in jobs])
    gpus = np.array([job.gpus for job in jobs])
    home = np.array([job.home for job in jobs], np.int64)
    data_gb = np.array([job.data_gb for job in jobs])
    started = result.region >= 0
    moved = started & (result.region != home)
    waited_s = (result.start_s - arrive_s)[started]
    span_s = float(arrive_s[-1] - arrive_s[0]) if len(jobs) else 0.0
    supply = np.array(fleet.gpus)
    in_span_s = (
        np.clip(np.minimum(result.start_s + run_s, arrive_s[-1]) - result.start_s, 0, None) if len(jobs) else run_s
    )
    work_gpu_s = np.bincount(result.region[started], (in_span_s * gpus)[started], len(supply))
    used_gpu_s = float(work_gpu_s.sum())
    ratio = work_gpu_s / (supply * max(span_s, 1.0))
    fleet_ratio = float(work_gpu_s.sum() / (supply.sum() * max(span_s, 1.0)))
    price = np.array(fleet.usd_per_gpu_hour)
    return {
        "policy": result.policy,
        "jobs": len(jobs),
        "started": int(started.sum()),
        "wait_mean_s": _round(float(waited_s.mean()) if len(waited_s) else 0.0),
        "wait_p50_s": _round(_percentile(waited_s, 50)),
        "wait_p99_s": _round(_percentile(waited_s, 99)),
        "utilisation_percent": round(100 * used_gpu_s / max(1.0, float(supply.sum()) * span_s), 3),
        "allocation_while_waiting_percent": (
            None
            if np.isnan(result.allocated_share_while_waiting)
            else round(100 * result.allocated_share_while_waiting, 3)
        ),
        "demand_by_supply": {name: round(float(r), 4) for name, r in zip(fleet.regions, ratio, strict=True)},
        "max_demand_by_supply_ratio_to_fleet": round(float(ratio.max()) / max(fleet_ratio, 1e-12), 4),
        "compute_usd": _round(float((run_s * gpus * price[result.region])[started].sum() / HOUR_S)),
        "egress_usd": _round(float(data_gb[moved].sum()) * fleet.usd_per_gb),
        "moved_gb": _round(float(data_gb[moved].sum())),
        "jobs_away_from_home": int(moved.sum()),
        "preemptions": 0,  # none of the policies stops what runs
        "fingerprint": result.fingerprint(),
    }


def _percentile(values: NDArray[np.float64], percent: float) -> float:
    return float(np.percentile(values, percent)) if len(values) else 0.0


def _round(value: float) -> float:
    return round(value, 2)
