"""Fast policies for replay that see GPUs per region only: stay home, spread without regard to data, or weigh data.

All of them start what fits in order of arrival and let later jobs pass one that does not fit (backfill), so that GPUs
are not idle while something could run. A job that was passed for longer than `patience_s` gets a reservation: GPUs that
become free in its region are kept for it until it fits, one job per region at a time. That costs GPU time: a backlog of
single-GPU jobs would have used what is kept. Without patience, gangs wait until the backlog is gone.
"""

from __future__ import annotations

import heapq
from bisect import bisect
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from thalweg.scheduling.replay.replay import HOUR_S, JobStart, PolicyDecision, RegionalSupply, ReplayJob

LENGTHS_S = tuple(hours * HOUR_S for hours in (1, 6, 24, 96, 384))
"""Bounds between the classes of GPU time in which waiting jobs are looked for: each four times the last or so."""

Key = tuple[float, int]  # GPUs and class of GPU time


@dataclass(frozen=True, slots=True, kw_only=True)
class Tariff:
    """What the same GPU costs in every region, and a GB into any other."""

    usd_per_gpu_hour: float
    usd_per_gb: float

    def start(self, index: int, job: ReplayJob, region: int) -> JobStart:
        """Say what it costs to start a job in a region; away from its home its data are fetched."""
        moved_gb = 0.0 if region == job.home else job.data_gb
        return JobStart(
            job=index,
            region=region,
            gpus=job.gpus,
            run_s=job.run_s,
            usd_per_hour=job.gpus * self.usd_per_gpu_hour,
            egress_usd=moved_gb * self.usd_per_gb,
            moved_gb=moved_gb,
        )


class _Queues:
    """Waiting jobs by home and kind, each in order of arrival, and by how little data they bring per GPU-hour."""

    def __init__(self, jobs: Sequence[ReplayJob], homes: int) -> None:
        self.jobs = jobs
        self.by_arrival: list[dict[Key, deque[int]]] = [{} for _ in range(homes)]
        self.by_data: list[dict[Key, list[tuple[float, int]]]] = [{} for _ in range(homes)]
        self.waits = np.zeros(len(jobs), np.bool_)
        self.gpu_s = 0.0  # of all that waits

    def add(self, index: int) -> None:
        job = self.jobs[index]
        self.waits[index] = True
        work_s = job.gpus * job.run_s
        self.gpu_s += work_s
        key = (job.gpus, bisect(LENGTHS_S, work_s))
        self.by_arrival[job.home].setdefault(key, deque()).append(index)
        weight = job.data_gb / max(work_s / HOUR_S, 1e-9)
        heapq.heappush(self.by_data[job.home].setdefault(key, []), (weight, index))

    def first(self, home: int, may: Callable[[Key], bool]) -> int | None:
        """Return the longest waiting job of this home among the kinds that may start, None if there is none."""
        best: int | None = None
        for key, queue in self.by_arrival[home].items():
            while queue and not self.waits[queue[0]]:
                queue.popleft()
            if queue and (best is None or queue[0] < best) and may(key):
                best = queue[0]
        return best

    def lightest(self, home: int, may: Callable[[Key], bool]) -> tuple[float, int] | None:
        """Return the job of this home that brings the least data per GPU-hour, among the kinds that may start."""
        best: tuple[float, int] | None = None
        for key, heap in self.by_data[home].items():
            while heap and not self.waits[heap[0][1]]:
                heapq.heappop(heap)
            if heap and (best is None or heap[0] < best) and may(key):
                best = heap[0]
        return best

    def remove(self, index: int) -> None:
        self.waits[index] = False
        self.gpu_s -= self.jobs[index].gpus * self.jobs[index].run_s


class RegionPolicy:
    """Common part of the policies that look at free GPUs per region."""

    cycle_s = 0.0
    name = ""

    def __init__(
        self, jobs: Sequence[ReplayJob], fleet: RegionalSupply, tariff: Tariff, *, patience_s: float = np.inf
    ) -> None:
        """Start with an empty fleet. Every job has one copy and a home."""
        self.jobs = jobs
        self.tariff = tariff
        self.free = list(fleet.gpus)
        self.supply = fleet.gpus
        self.placed_gpu_s = [0.0] * len(fleet.gpus)  # of all that ever started here, to its end
        self.patience_s = patience_s
        self.queues = _Queues(jobs, len(fleet.gpus))
        self.reserved: list[int | None] = [None] * len(fleet.gpus)

    def submit(self, job: int, now_s: float) -> None:
        """Queue the job at its home."""
        self.queues.add(job)

    def finish(self, job: int, region: int, now_s: float) -> None:
        """Free its GPUs."""
        self.free[region] += self.jobs[job].gpus

    def withdraw(self, job: int, now_s: float) -> None:
        """Take it from the queue."""
        self.queues.remove(job)

    def decide(self, now_s: float) -> PolicyDecision:
        """Fill region after region, the one with the least work placed in it so far first."""
        starts: list[JobStart] = []
        for region in sorted(range(len(self.free)), key=self._placed_share):
            while self.free[region] > 0:
                job = self._next(region, now_s)
                if job is None:
                    break
                self.queues.remove(job)
                self.free[region] -= self.jobs[job].gpus
                self.placed_gpu_s[region] += self.jobs[job].gpus * self.jobs[job].run_s
                starts.append(self._start(job, region))
        return PolicyDecision(starts=starts)

    def _placed_share(self, region: int) -> tuple[float, int]:
        return self.placed_gpu_s[region] / self.supply[region], region

    def _start(self, index: int, region: int) -> JobStart:
        return self.tariff.start(index, self.jobs[index], region)

    def _next(self, region: int, now_s: float) -> int | None:
        held = self.reserved[region]
        if held is not None and self.queues.waits[held]:
            return held if self.jobs[held].gpus <= self.free[region] else None
        self.reserved[region] = None
        if self.patience_s < np.inf:
            oldest = self.queues.first(region, lambda key: key[0] <= self.supply[region])
            if (
                oldest is not None
                and now_s - self.jobs[oldest].arrive_s > self.patience_s
                and self.jobs[oldest].gpus > self.free[region]
            ):
                self.reserved[region] = oldest
                return None
        return self._choose(region, now_s)

    def _choose(self, region: int, now_s: float) -> int | None:
        raise NotImplementedError

    def _fits(self, region: int) -> Callable[[Key], bool]:
        return lambda key: key[0] <= self.free[region]


class StayHome(RegionPolicy):
    """Every job runs where its data lies."""

    name = "home"

    def _choose(self, region: int, now_s: float) -> int | None:
        return self.queues.first(region, self._fits(region))


class Spread(RegionPolicy):
    """A balancer without data gravity: the longest waiting job of all goes to the least loaded region."""

    name = "spread"

    def _choose(self, region: int, now_s: float) -> int | None:
        firsts = [self.queues.first(home, self._fits(region)) for home in range(len(self.free))]
        return min((job for job in firsts if job is not None), default=None)


class Gravity(RegionPolicy):
    """A job runs at home; a region with nothing of its own left takes what brings the least data per GPU-hour.

    While the queue is long every region takes what fits, so that no GPU is idle. Once less than `SHORT_QUEUE_S` of
    work per GPU waits, what starts decides how demand ends up: a region then takes only jobs that keep it within
    `AHEAD_S` of work per GPU of the fleet, and leaves longer ones to the region that has got the least so far.

    A job that is as much as `LUMP_S` of work per GPU of a region would upset that balance if it were among the last:
    when it has waited for `LUMP_PATIENCE_S`, the region that has got the least keeps GPUs free until it fits.
    """

    name = "gravity"
    AHEAD_S = 8 * HOUR_S
    SHORT_QUEUE_S = 72 * HOUR_S
    LUMP_S = 72 * HOUR_S
    LUMP_PATIENCE_S = 72 * HOUR_S

    def __init__(
        self, jobs: Sequence[ReplayJob], fleet: RegionalSupply, tariff: Tariff, *, patience_s: float = np.inf
    ) -> None:
        """Start with an empty fleet."""
        super().__init__(jobs, fleet, tariff, patience_s=patience_s)
        self._lumps: deque[int] = deque()

    def submit(self, job: int, now_s: float) -> None:
        """Queue the job at its home, and note it if it is large."""
        super().submit(job, now_s)
        if self.jobs[job].gpus * self.jobs[job].run_s > self.LUMP_S * max(self.supply):
            self._lumps.append(job)

    def _choose(self, region: int, now_s: float) -> int | None:
        fits = self._fits(region)
        least = region == min(range(len(self.free)), key=self._placed_share)
        if least and (lump := self._overdue(now_s)) is not None and self.jobs[lump].gpus <= self.supply[region]:
            if self.jobs[lump].gpus <= self.free[region]:
                return lump
            self.reserved[region] = lump
            return None
        supply = sum(self.supply)
        if self.queues.gpu_s > supply * self.SHORT_QUEUE_S:
            return self._own_or_lightest(region, fits)
        fleet_s = sum(self.placed_gpu_s) / supply
        room_gpu_s = self.supply[region] * (fleet_s + self.AHEAD_S) - self.placed_gpu_s[region]
        longest = bisect(LENGTHS_S, room_gpu_s)  # classes below it stay within the room
        chosen = self._own_or_lightest(region, lambda key: fits(key) and key[1] < longest)
        if chosen is None and least:
            return self._own_or_lightest(region, fits)
        return chosen

    def _overdue(self, now_s: float) -> int | None:
        """Return the large job that has waited longest beyond patience and is promised to no region."""
        while self._lumps and not self.queues.waits[self._lumps[0]]:
            self._lumps.popleft()
        for job in self._lumps:
            if now_s - self.jobs[job].arrive_s <= self.LUMP_PATIENCE_S:
                return None
            if self.queues.waits[job] and job not in self.reserved:
                return job
        return None

    def _own_or_lightest(self, region: int, may: Callable[[Key], bool]) -> int | None:
        own = self.queues.first(region, may)
        if own is not None:
            return own
        offers = [self.queues.lightest(home, may) for home in range(len(self.free)) if home != region]
        best = min((offer for offer in offers if offer is not None), default=None)
        return None if best is None else best[1]
