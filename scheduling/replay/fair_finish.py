"""A reference for replay: finish-time fairness, as Themis has it and Gavel as one of its policies.

A job's figure is the time from its arrival to its end by the time which it would take with an equal share of the fleet
for itself (Mahajan et al., NSDI 2020; Narayanan et al., OSDI 2020). Who would have the worst one, if it started now,
goes first; who fits may pass who does not. Run times are known exactly. All GPUs are alike here, so what Gavel is
about, kinds of GPUs, falls away; and unlike there nothing is stopped at the end of a round.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from thalweg.scheduling.replay.policies import Tariff
from thalweg.scheduling.replay.replay import JobStart, PolicyDecision, RegionalSupply, ReplayJob


class FairFinish:
    """One queue, in the order of how unfair each one's end has become; home if there is room, else any region."""

    name, cycle_s = "ftf", 0.0

    def __init__(self, jobs: Sequence[ReplayJob], fleet: RegionalSupply, tariff: Tariff) -> None:
        """Start with an empty fleet; every job has one copy and a home."""
        self._jobs, self._tariff = jobs, tariff
        self._free, self._supply = list(fleet.gpus), sum(fleet.gpus)
        self._arrive_s = np.array([job.arrive_s for job in jobs])
        self._run_s = np.array([max(job.run_s, 1.0) for job in jobs])
        self._gpus = np.array([job.gpus for job in jobs])
        self._waiting = np.zeros(len(jobs), np.int64)  # the first `_waits` of it, in any order
        self._waits = self._runs = 0

    def submit(self, job: int, now_s: float) -> None:
        """Queue the job."""
        self._waiting[self._waits] = job
        self._waits += 1

    def finish(self, job: int, region: int, now_s: float) -> None:
        """Free its GPUs."""
        self._free[region] += self._jobs[job].gpus
        self._runs -= 1

    def withdraw(self, job: int, now_s: float) -> None:
        """Take it from the queue."""
        (at,) = np.flatnonzero(self._waiting[: self._waits] == job)
        self._leave(int(at))

    def decide(self, now_s: float) -> PolicyDecision:
        """Start who fits and has the worst figure, as long as one fits."""
        starts = list[JobStart]()
        shares = max(self._waits + self._runs, 1)
        while self._waits:
            waiting = self._waiting[: self._waits]
            fits = np.flatnonzero(self._gpus[waiting] <= max(self._free))
            if not fits.size:
                break
            who = waiting[fits]
            slower = np.maximum(self._gpus[who] * shares / self._supply, 1.0)  # with its share and no more
            figure = (now_s - self._arrive_s[who] + self._run_s[who]) / (self._run_s[who] * slower)
            first = int(np.lexsort((who, -figure))[0])
            job = int(who[first])
            self._leave(int(fits[first]))
            starts.append(self._start(job))
        return PolicyDecision(starts=starts)

    def _start(self, job: int) -> JobStart:
        asked = self._jobs[job]
        fits = [region for region in range(len(self._free)) if self._free[region] >= asked.gpus]
        region = asked.home if asked.home in fits else max(fits, key=lambda one: (self._free[one], -one))
        self._free[region] -= asked.gpus
        self._runs += 1
        return self._tariff.start(job, asked, region)

    def _leave(self, at: int) -> None:
        self._waits -= 1
        self._waiting[at] = self._waiting[self._waits]
