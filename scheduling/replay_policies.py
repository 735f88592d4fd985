"""Policies for replay: stay home, spread without regard to data, weigh data against idle GPUs, or ask the engine.

All of them start what fits in order of arrival and let later jobs pass one that does not fit (backfill), so that GPUs
are not idle while something could run. A job that was passed for longer than `patience_s` gets a reservation: GPUs that
become free in its region are kept for it until it fits, one job per region at a time. That costs GPU time: a backlog of
single-GPU jobs would have used what is kept. Without patience, gangs wait until the backlog is gone.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Sequence

import numpy as np

from scheduling.model import Network, Problem, make_classes, make_pools
from scheduling.nodes import Slot
from scheduling.pack import Packer, Request
from scheduling.replay import HOUR_S, Fleet, ReplayJob
from scheduling.solve import solve

AHEAD_S = 24 * HOUR_S  # what runs is expected to run on so long; makes idle regions catch up before they are behind
_WINDOW = 200  # jobs the engine looks at per cycle, in order of arrival


class _Queues:
    """Waiting jobs by home and size, each in order of arrival, and by how little data they bring per GPU-hour."""

    def __init__(self, jobs: Sequence[ReplayJob], homes: int) -> None:
        self.jobs = jobs
        self.by_arrival: list[dict[float, deque[int]]] = [{} for _ in range(homes)]
        self.by_data: list[dict[float, list[tuple[float, int]]]] = [{} for _ in range(homes)]
        self.waits = np.zeros(len(jobs), np.bool_)

    def add(self, index: int) -> None:
        job = self.jobs[index]
        self.waits[index] = True
        weight = job.data_gb / max(job.gpus * job.run_s / HOUR_S, 1e-9)
        self.by_arrival[job.home].setdefault(job.gpus, deque()).append(index)
        heapq.heappush(self.by_data[job.home].setdefault(job.gpus, []), (weight, index))

    def first(self, home: int, free: float) -> int | None:
        """Return the longest waiting job of this home that fits, None if there is none."""
        best: int | None = None
        for gpus, queue in self.by_arrival[home].items():
            while queue and not self.waits[queue[0]]:
                queue.popleft()
            if queue and gpus <= free and (best is None or queue[0] < best):
                best = queue[0]
        return best

    def lightest(self, home: int, free: float) -> tuple[float, int] | None:
        """Return the job of this home that fits and brings the least data per GPU-hour."""
        best: tuple[float, int] | None = None
        for gpus, heap in self.by_data[home].items():
            while heap and not self.waits[heap[0][1]]:
                heapq.heappop(heap)
            if heap and gpus <= free and (best is None or heap[0] < best):
                best = heap[0]
        return best

    def take(self, index: int) -> None:
        self.waits[index] = False


class RegionPolicy:
    """Common part of the policies that look at free GPUs per region."""

    cycle_s = 0.0
    name = ""

    def __init__(self, jobs: Sequence[ReplayJob], fleet: Fleet, *, patience_s: float = np.inf) -> None:
        """Start with an empty fleet."""
        self.jobs = jobs
        self.free = list(fleet.gpus)
        self.supply = fleet.gpus
        self.served_gpu_s = [0.0] * len(fleet.gpus)
        self.started_s: dict[int, float] = {}
        self.patience_s = patience_s
        self.queues = _Queues(jobs, len(fleet.gpus))
        self.reserved: list[int | None] = [None] * len(fleet.gpus)

    def submit(self, job: int, now_s: float) -> None:
        """Queue the job at its home."""
        self.queues.add(job)

    def finish(self, job: int, region: int) -> None:
        """Free its GPUs."""
        gpus = self.jobs[job].gpus
        self.free[region] += gpus
        self.served_gpu_s[region] += gpus * (self.started_s.pop(job) + self.jobs[job].run_s)

    def start(self, now_s: float) -> list[tuple[int, int]]:
        """Fill region after region, the one that has served the least so far first."""
        started: list[tuple[int, int]] = []
        # Served until now = what has ended, plus busy GPUs × now, minus the starts of what still runs.
        served = [
            self.served_gpu_s[r] + (self.supply[r] - self.free[r]) * (now_s + AHEAD_S) for r in range(len(self.free))
        ]
        for region in sorted(range(len(self.free)), key=lambda r: (served[r] / self.supply[r], r)):
            while self.free[region] > 0:
                job = self._next(region, now_s)
                if job is None:
                    break
                self.queues.take(job)
                self.free[region] -= self.jobs[job].gpus
                self.served_gpu_s[region] -= self.jobs[job].gpus * now_s
                self.started_s[job] = now_s
                started.append((job, region))
        return started

    def _next(self, region: int, now_s: float) -> int | None:
        held = self.reserved[region]
        if held is not None and self.queues.waits[held]:
            return held if self.jobs[held].gpus <= self.free[region] else None
        self.reserved[region] = None
        oldest = self.queues.first(region, self.supply[region])
        if (
            oldest is not None
            and now_s - self.jobs[oldest].arrive_s > self.patience_s
            and self.jobs[oldest].gpus > self.free[region]
        ):
            self.reserved[region] = oldest
            return None
        return self._choose(region)

    def _choose(self, region: int) -> int | None:
        raise NotImplementedError


class StayHome(RegionPolicy):
    """Every job runs where its data lies."""

    name = "home"

    def _choose(self, region: int) -> int | None:
        return self.queues.first(region, self.free[region])


class Spread(RegionPolicy):
    """A balancer without data gravity: the longest waiting job of all goes to the least loaded region."""

    name = "spread"

    def _choose(self, region: int) -> int | None:
        firsts = [self.queues.first(home, self.free[region]) for home in range(len(self.free))]
        return min((job for job in firsts if job is not None), default=None)


class Gravity(RegionPolicy):
    """A job runs at home; a region with nothing of its own left takes what brings the least data per GPU-hour."""

    name = "gravity"

    def _choose(self, region: int) -> int | None:
        own = self.queues.first(region, self.free[region])
        if own is not None:
            return own
        offers = [self.queues.lightest(home, self.free[region]) for home in range(len(self.free)) if home != region]
        best = min((offer for offer in offers if offer is not None), default=None)
        return None if best is None else best[1]


class Engine:
    """The global engine decides in cycles, with the cost of the design: compute, egress and waiting."""

    def __init__(
        self, jobs: Sequence[ReplayJob], fleet: Fleet, *, strategy: str, cycle_s: float, seed: int = 0
    ) -> None:
        """Start with an empty fleet.

        Args:
            jobs: all jobs, known by index.
            fleet: regions, prices.
            strategy: a name in `scheduling.solve.STRATEGIES`.
            cycle_s: seconds between plans.
            seed: for strategies that draw.
        """
        self.name = strategy
        self.cycle_s = cycle_s
        self.jobs = jobs
        self.fleet = fleet
        self.free = list(fleet.gpus)
        self.waiting: dict[int, None] = {}  # in order of arrival
        self.seed = seed
        regions = len(fleet.regions)
        usd_per_gb = np.full((regions, regions), fleet.usd_per_gb)
        np.fill_diagonal(usd_per_gb, 0.0)
        gbps = np.full((regions, regions), np.inf)
        self.network = Network(rtt_ms=np.zeros((regions, regions)), gbps=gbps, usd_per_gb=usd_per_gb)

    def submit(self, job: int, now_s: float) -> None:
        """Let it wait for the next cycle."""
        self.waiting[job] = None

    def finish(self, job: int, region: int) -> None:
        """Free its GPUs."""
        self.free[region] += self.jobs[job].gpus

    def start(self, now_s: float) -> list[tuple[int, int]]:
        """Plan the jobs that have waited longest onto what is free."""
        window = [job for job, _ in zip(self.waiting, range(_WINDOW), strict=False)]
        if not window or max(self.free) < min(self.jobs[job].gpus for job in window):
            return []
        regions = len(self.fleet.regions)
        count = len(window)
        problem = Problem(
            regions=self.fleet.regions,
            gpu_models=("gpu",),
            pools=make_pools(
                self.fleet.regions,
                region=np.arange(regions),
                gpu_model=np.zeros(regions, np.int64),
                capacity=np.array(self.free),
                usd_per_gpu_hour=np.array(self.fleet.usd_per_gpu_hour),
            ),
            network=self.network,
            classes=make_classes(
                [self.jobs[job].job_id for job in window],
                count=np.ones(count, np.int64),
                need=np.array([self.jobs[job].gpus for job in window]),
                expected_h=np.array([self.jobs[job].run_s / HOUR_S for job in window]),
                wait_usd=1e6,
                regions=regions,
                gpu_model_count=1,
                items=(
                    np.arange(count + 1),
                    np.array([self.jobs[job].data_gb for job in window]),
                    np.arange(count + 1),
                    np.array([self.jobs[job].home for job in window]),
                ),
            ),
        )
        solution = solve(problem, strategy=self.name, seed=self.seed)
        started = sorted(
            (window[int(c)], int(p)) for c, p in zip(solution.class_index, solution.pool_index, strict=True)
        )
        for job, region in started:
            self.free[region] -= self.jobs[job].gpus
            del self.waiting[job]
        return started


class PackNodes:
    """One region of real nodes: jobs in order of arrival, each placed by the packer, later ones may pass."""

    cycle_s = 0.0

    def __init__(self, packer: Packer, requests: Sequence[Request], *, name: str) -> None:
        """Start on the packer's nodes.

        Args:
            packer: with its nodes and expectations.
            requests: one per job, by index.
            name: of the policy in the report.
        """
        self.name = name
        self.packer = packer
        self.requests = requests
        self.waiting: dict[int, None] = {}
        self.slots: dict[int, Slot] = {}
        self.hopeless: set[Request] = set()

    def submit(self, job: int, now_s: float) -> None:
        """Let it wait for its turn at this moment."""
        self.waiting[job] = None

    def finish(self, job: int, region: int) -> None:
        """Give its slot back; what did not fit may fit now."""
        self.packer.nodes.release(self.slots.pop(job), self.requests[job][0])
        self.hopeless.clear()

    def start(self, now_s: float) -> list[tuple[int, int]]:
        """Try every kind of waiting job until it fails once."""
        started = []
        for job in list(self.waiting):
            request = self.requests[job]
            if request in self.hopeless:
                continue
            slots = self.packer.place(request[0], sorted(request[1]))
            if slots is None:
                self.hopeless.add(request)
                continue
            self.slots[job] = slots[0]
            del self.waiting[job]
            started.append((job, 0))
        return started
