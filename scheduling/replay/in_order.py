"""Textbook references for replay: one order of the whole queue, home if there is room, else any region.

Who fits may pass who does not. `fifo` orders by arrival, `sjf` by run time, which it knows exactly. They see GPUs by
region only, and move what they like.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from typing import Final

from thalweg.scheduling.replay.policies import Tariff
from thalweg.scheduling.replay.replay import JobStart, PolicyDecision, RegionalSupply, ReplayJob

ORDERS: Final[dict[str, Callable[[ReplayJob], float]]] = {
    "fifo": lambda job: job.arrive_s,
    "sjf": lambda job: job.run_s,
}
"""What comes first has the least of it."""


class InOrder:
    """One queue in one order. Jobs of one size wait in a heap of their own: only its first can be the next."""

    cycle_s = 0.0

    def __init__(self, name: str, jobs: Sequence[ReplayJob], fleet: RegionalSupply, tariff: Tariff) -> None:
        """Start with an empty fleet; every job has one copy and a home."""
        self.name = name
        self._order = ORDERS[name]
        self._jobs, self._tariff = jobs, tariff
        self._free = list(fleet.gpus)
        self._waiting: dict[float, list[tuple[float, int]]] = {}
        self._left: set[int] = set()

    def submit(self, job: int, now_s: float) -> None:
        """Queue the job."""
        asked = self._jobs[job]
        heapq.heappush(self._waiting.setdefault(asked.gpus, []), (self._order(asked), job))

    def finish(self, job: int, region: int, now_s: float) -> None:
        """Free its GPUs."""
        self._free[region] += self._jobs[job].gpus

    def withdraw(self, job: int, now_s: float) -> None:
        """Take it from the queue."""
        self._left.add(job)

    def decide(self, now_s: float) -> PolicyDecision:
        """Start the first that fits, as long as one does."""
        starts = list[JobStart]()
        while (job := self._next()) is not None:
            asked = self._jobs[job]
            heapq.heappop(self._waiting[asked.gpus])
            fits = [region for region in range(len(self._free)) if self._free[region] >= asked.gpus]
            region = asked.home if asked.home in fits else max(fits, key=lambda one: (self._free[one], -one))
            self._free[region] -= asked.gpus
            starts.append(self._tariff.start(job, asked, region))
        return PolicyDecision(starts=starts)

    def _next(self) -> int | None:
        most = max(self._free)
        firsts = list[tuple[float, int]]()
        for gpus, heap in self._waiting.items():
            while heap and heap[0][1] in self._left:
                heapq.heappop(heap)
            if heap and gpus <= most:
                firsts.append(heap[0])
        return min(firsts)[1] if firsts else None
