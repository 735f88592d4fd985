"""Replay of a history through a policy, with a virtual clock: pure, and the same run every time.

Jobs arrive, wait, start in a region when the policy says so and leave after their time. Nothing here reads a clock or
draws a number; two runs of the same input give the same stays, which `Replay.fingerprint` makes easy to compare.
"""

from __future__ import annotations

import hashlib
import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

import numpy as np

from thalweg.scheduling.arrays import FloatArray, IntArray
from thalweg.scheduling.ids import RegionId

HOUR_S = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayJob:
    """One job: what it needs, for how long, and where its data lies.

    Attributes:
        arrive_s: on the virtual clock; may lie before its begin for what waited or ran already.
        run_s: how long a copy runs.
        gpus: of one copy, all in one region; a share of one GPU is a fraction.
        home: region index of its data; -1 where it has none.
        copies: in as many distinct regions.
        cancel_s: when it was withdrawn, wherever it was then.
    """

    job_id: str
    arrive_s: float
    run_s: float
    gpus: float
    home: int
    data_gb: float = 0.0
    copies: int = 1
    cancel_s: float = math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionalSupply:
    """Regions with their supply, in GPUs."""

    regions: tuple[RegionId, ...]
    gpus: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStart:
    """One copy of a job starts in a region, at this price and with so much data fetched from elsewhere.

    GPUs and run time are the job's own, except for an elastic task that runs with more or fewer workers.
    """

    job: int
    region: int
    gpus: float
    run_s: float
    usd_per_hour: float
    egress_usd: float
    moved_gb: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyDecision:
    """What a policy does at one moment: first these (job, region) are stopped, then the others start; they fit."""

    starts: Sequence[JobStart] = ()
    stops: Sequence[tuple[int, int]] = ()


class ReplayPolicy(Protocol):
    """Decides which waiting job starts where."""

    name: str
    cycle_s: float  # 0: asked after every event; otherwise at the next multiple of this

    def submit(self, job: int, now_s: float) -> None:
        """Take note of a job that waits from now on."""

    def finish(self, job: int, region: int, now_s: float) -> None:
        """Take note that a copy has left its region."""

    def withdraw(self, job: int, now_s: float) -> None:
        """Forget a job that waits (with what copies it still lacks)."""

    def decide(self, now_s: float) -> PolicyDecision:
        """Say what starts and stops now."""


class Ending(IntEnum):
    """How a stay ended."""

    FINISHED = 0
    STOPPED = 1  # by the policy, to be placed again; what was done is lost
    LOST = 2  # failed, evicted or lost with its region: in recorded histories only
    CANCELLED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """Every stay of every copy, one row each, by (start, job, region).

    Attributes:
        begin_s, last_arrival_s: the span over which supply is counted.
        job, region: indices. ending: an `Ending`.
        start_s, end_s: on the virtual clock. gpus, usd_per_hour: while it lasted. egress_usd, moved_gb: at its start.
        allocated_share_while_waiting: GPU time in use / GPU time there was, over the moments of the span in which a
            job waited; NaN if none ever did, or where it cannot be known.
    """

    policy: str
    begin_s: float
    last_arrival_s: float
    job: IntArray
    region: IntArray
    start_s: FloatArray
    end_s: FloatArray
    ending: IntArray
    gpus: FloatArray
    usd_per_hour: FloatArray
    egress_usd: FloatArray
    moved_gb: FloatArray
    allocated_share_while_waiting: float

    def fingerprint(self) -> str:
        """Return a hash of every stay."""
        columns = (self.job, self.region, self.start_s, self.end_s, self.ending)
        return hashlib.sha256(b"".join(column.tobytes() for column in columns)).hexdigest()


@dataclass(slots=True)
class Stays:
    """Stays while they are written down."""

    starts: list[JobStart]
    start_s: list[float]
    end_s: list[float]
    ending: list[int]

    @classmethod
    def none(cls) -> Stays:
        """Begin without any."""
        return cls([], [], [], [])

    def add(self, start: JobStart, start_s: float, end_s: float, ending: Ending = Ending.FINISHED) -> int:
        """Write one down and return its number."""
        self.starts.append(start)
        self.start_s.append(start_s)
        self.end_s.append(end_s)
        self.ending.append(ending)
        return len(self.starts) - 1

    def end(self, stay: int, now_s: float, ending: Ending) -> None:
        """End a stay before its time."""
        self.end_s[stay], self.ending[stay] = now_s, ending

    def result(self, policy: str, begin_s: float, last_arrival_s: float, share: float) -> Replay:
        """Lay the stays out as columns."""
        job = np.array([start.job for start in self.starts], np.int64)
        region = np.array([start.region for start in self.starts], np.int64)
        start_s = np.array(self.start_s, np.float64)
        order = np.lexsort((region, job, start_s))
        return Replay(
            policy=policy,
            begin_s=begin_s,
            last_arrival_s=last_arrival_s,
            job=job[order],
            region=region[order],
            start_s=start_s[order],
            end_s=np.array(self.end_s, np.float64)[order],
            ending=np.array(self.ending, np.int64)[order],
            gpus=np.array([start.gpus for start in self.starts], np.float64)[order],
            usd_per_hour=np.array([start.usd_per_hour for start in self.starts], np.float64)[order],
            egress_usd=np.array([start.egress_usd for start in self.starts], np.float64)[order],
            moved_gb=np.array([start.moved_gb for start in self.starts], np.float64)[order],
            allocated_share_while_waiting=share,
        )


def replay(
    jobs: Sequence[ReplayJob],
    fleet: RegionalSupply,
    policy: ReplayPolicy,
    *,
    begin_s: float | None = None,
    running: Sequence[tuple[JobStart, float]] = (),
) -> Replay:
    """Run all jobs through the policy until nothing is left that could start.

    Args:
        jobs: sorted by (arrive_s, job_id); the policy knows them by their index.
        fleet: supply, for the share that is allocated while jobs wait.
        policy: fresh, or with the running jobs in place; asked once about everything that happened at one moment, and
            again as long as it starts something.
        begin_s: when the clock begins; None for the first arrival.
        running: copies that run when it begins, with the time they started; their run time counts from then.
    """
    last_arrival_s = jobs[-1].arrive_s if jobs else 0.0
    now_s = begin_s if begin_s is not None else jobs[0].arrive_s if jobs else 0.0
    begin_s = now_s
    supply = sum(fleet.gpus)
    stays, missing, where = Stays.none(), [job.copies for job in jobs], dict[tuple[int, int], int]()
    leaving: list[tuple[float, int]] = []
    cancels = sorted((job.cancel_s, index) for index, job in enumerate(jobs) if math.isfinite(job.cancel_s))
    arrived = cancelled = waiting = 0
    busy = used_gpu_s = offered_gpu_s = 0.0
    ask_s = math.inf

    def begin(start: JobStart, start_s: float) -> float:
        stay = stays.add(start, start_s, start_s + start.run_s)
        where[start.job, start.region] = stay
        missing[start.job] -= 1
        heapq.heappush(leaving, (start_s + start.run_s, stay))
        return start.gpus

    def end(job: int, region: int, ending: Ending) -> float:
        stay = where.pop((job, region))
        stays.end(stay, now_s, ending)
        return stays.starts[stay].gpus

    for start, start_s in running:
        busy += begin(start, start_s)
    while True:
        next_s = min(
            jobs[arrived].arrive_s if arrived < len(jobs) else math.inf,
            leaving[0][0] if leaving else math.inf,
            cancels[cancelled][0] if cancelled < len(cancels) else math.inf,
            ask_s,
        )
        if next_s == math.inf:
            break
        next_s = max(next_s, now_s)
        if waiting and next_s > now_s:
            elapsed_s = max(0.0, min(next_s, last_arrival_s) - now_s)
            used_gpu_s += busy * elapsed_s
            offered_gpu_s += supply * elapsed_s
        now_s, happened = next_s, False
        while leaving and leaving[0][0] <= now_s:
            _, stay = heapq.heappop(leaving)
            if stays.ending[stay] != Ending.FINISHED:
                continue  # it ended before its time
            left = stays.starts[stay]
            busy -= end(left.job, left.region, Ending.FINISHED)
            policy.finish(left.job, left.region, now_s)
            happened = True
        while arrived < len(jobs) and jobs[arrived].arrive_s <= now_s:
            if missing[arrived] > 0:
                policy.submit(arrived, now_s)
                waiting += 1
            arrived += 1
            happened = True
        while cancelled < len(cancels) and cancels[cancelled][0] <= now_s:
            job = cancels[cancelled][1]
            cancelled += 1
            for region in [region for region in range(len(fleet.regions)) if (job, region) in where]:
                busy -= end(job, region, Ending.CANCELLED)
                policy.finish(job, region, now_s)
                happened = True
            if missing[job] > 0:
                policy.withdraw(job, now_s)
                waiting -= 1
        if happened and waiting:
            ask_s = min(ask_s, _tick(now_s, policy.cycle_s))
        if ask_s > now_s:
            continue
        ask_s = math.inf
        if not waiting:
            continue
        decision = policy.decide(now_s)
        for job, region in decision.stops:
            busy -= end(job, region, Ending.STOPPED)
            waiting += missing[job] == 0
            missing[job] += 1
        for start in decision.starts:
            busy += begin(start, now_s)
            waiting -= missing[start.job] == 0
        if decision.starts and waiting:
            ask_s = now_s if not policy.cycle_s else _tick(math.nextafter(now_s, math.inf), policy.cycle_s)
    share = used_gpu_s / offered_gpu_s if offered_gpu_s else math.nan
    return stays.result(policy.name, begin_s, last_arrival_s, share)


def _tick(now_s: float, cycle_s: float) -> float:
    """First moment from now on at which the policy is asked."""
    return math.ceil(now_s / cycle_s) * cycle_s if cycle_s else now_s
