"""A textbook reference for replay: least attained service, which knows no run times and stops what it has started.

Who has used the least GPU time so far runs. As in Tiresias (Gu et al., NSDI 2019: discretised two-dimensional LAS) that
goes in steps, so that equals do not stop each other for ever: a job falls from queue to queue as the GPU time that it
has used passes `STEPS_GPU_S`, and within a queue the first to arrive goes first. It is looked at whenever a job arrives
or ends.

There are two of it. With `las`, what is stopped keeps what it has done and goes on at once wherever there is room, for
nothing but its data if they are elsewhere: no real job does that, and nothing else in a replay may. With `las-lost` it
begins anew, as whatever is stopped does in a replay; what it has used stays used.
"""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from thalweg.scheduling.replay.policies import LENGTHS_S, Tariff
from thalweg.scheduling.replay.replay import JobStart, PolicyDecision, RegionalSupply, ReplayJob

STEPS_GPU_S: Final = LENGTHS_S
"""GPU time used at which a job falls into the next queue: 1, 6, 24, 96 and 384 GPU-hours."""


@dataclass(frozen=True, slots=True)
class _Stay:
    """A job that runs, and the queue that it has fallen to; those that give way first come first."""

    queue: int
    job: int
    region: int


class LeastAttained:
    """Jobs of one size in one queue wait in a heap: only its first can be the next."""

    cycle_s = 0.0

    def __init__(
        self, jobs: Sequence[ReplayJob], fleet: RegionalSupply, tariff: Tariff, *, work_is_lost: bool = False
    ) -> None:
        """Start with an empty fleet; every job has one copy and a home.

        Args:
            jobs: all of them, by index.
            fleet: its GPUs.
            tariff: what they and data cost.
            work_is_lost: what is stopped begins anew.
        """
        self.name = "las-lost" if work_is_lost else "las"
        self._jobs, self._tariff, self._work_is_lost = jobs, tariff, work_is_lost
        self._free = list(fleet.gpus)
        self._used_s: dict[int, float] = {}  # before it was stopped
        self._running: dict[int, tuple[int, float]] = {}  # region, and since when
        self._waiting: list[dict[float, list[int]]] = [{} for _ in range(len(STEPS_GPU_S) + 1)]
        self._left: set[int] = set()

    def submit(self, job: int, now_s: float) -> None:
        """Queue the job."""
        self._queue_up(job)

    def finish(self, job: int, region: int, now_s: float) -> None:
        """Free its GPUs."""
        del self._running[job]
        self._free[region] += self._jobs[job].gpus

    def withdraw(self, job: int, now_s: float) -> None:
        """Take it from the queue."""
        self._left.add(job)

    def decide(self, now_s: float) -> PolicyDecision:
        """Start who has used least; for it those stop who have fallen into a later queue."""
        starts, stops = list[JobStart](), list[tuple[int, int]]()
        stays = [
            _Stay(self._fallen_to(job, self._used_s.get(job, 0.0) + now_s - since_s), job, region)
            for job, (region, since_s) in self._running.items()
        ]
        for queue, waiting in enumerate(self._waiting):
            may_give = [stay for stay in stays if stay.queue > queue]
            givable = [0.0] * len(self._free)
            for stay in may_give:
                givable[stay.region] += self._jobs[stay.job].gpus
            hopeless = set[float]()
            while (job := self._first(waiting, hopeless)) is not None:
                asked = self._jobs[job]
                region = self._place_for(asked, givable)
                if region is None:
                    hopeless.add(asked.gpus)  # room only shrinks while one queue has its turn
                    continue
                heapq.heappop(waiting[asked.gpus])
                while self._free[region] < asked.gpus:
                    leaves = max((s for s in may_give if s.region == region), key=lambda s: (s.queue, s.job))
                    may_give.remove(leaves)
                    stays.remove(leaves)
                    givable[region] -= self._jobs[leaves.job].gpus
                    stops.append((leaves.job, region))
                    self._stop(leaves.job, now_s)
                self._free[region] -= asked.gpus
                self._running[job] = (region, now_s)
                start = self._tariff.start(job, asked, region)
                done_s = 0.0 if self._work_is_lost else self._used_s.get(job, 0.0)
                starts.append(replace(start, run_s=asked.run_s - done_s))
        return PolicyDecision(starts=starts, stops=stops)

    def _first(self, waiting: dict[float, list[int]], hopeless: set[float]) -> int | None:
        firsts = list[int]()
        for gpus, heap in waiting.items():
            while heap and heap[0] in self._left:
                heapq.heappop(heap)
            if heap and gpus not in hopeless:
                firsts.append(heap[0])
        return min(firsts, default=None)

    def _place_for(self, asked: ReplayJob, givable: Sequence[float]) -> int | None:
        """Home if there is room, else any region; else where others give way, home before the others."""
        for more in ([0.0] * len(self._free), givable):
            room = [free + given for free, given in zip(self._free, more, strict=True)]
            if room[asked.home] >= asked.gpus:
                return asked.home
            if max(room) >= asked.gpus:
                return max(range(len(room)), key=lambda one: (room[one], -one))
        return None

    def _stop(self, job: int, now_s: float) -> None:
        region, since_s = self._running.pop(job)
        self._free[region] += self._jobs[job].gpus
        self._used_s[job] = self._used_s.get(job, 0.0) + now_s - since_s
        self._queue_up(job)

    def _queue_up(self, job: int) -> None:
        queue = self._waiting[self._fallen_to(job, self._used_s.get(job, 0.0))]
        heapq.heappush(queue.setdefault(self._jobs[job].gpus, []), job)

    def _fallen_to(self, job: int, used_s: float) -> int:
        return bisect_right(STEPS_GPU_S, self._jobs[job].gpus * used_s)
