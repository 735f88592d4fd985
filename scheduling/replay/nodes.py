"""Replay onto the nodes of one region: the packer places every job, node by node and device by device."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Sequence

from thalweg.scheduling.pack.nodes import Slot
from thalweg.scheduling.pack.packer import Packer, Request
from thalweg.scheduling.replay.policies import Tariff
from thalweg.scheduling.replay.replay import JobStart, PolicyDecision, ReplayJob


class PackNodes:
    """One region of real nodes: jobs in order of arrival, each placed by the packer, later ones may pass."""

    cycle_s = 0.0

    def __init__(
        self, packer: Packer, jobs: Sequence[ReplayJob], requests: Sequence[Request], tariff: Tariff, *, name: str
    ) -> None:
        """Start on the packer's nodes.

        Args:
            packer: with its nodes and expectations.
            jobs: all jobs, by index.
            requests: what each asks of its node.
            tariff: price of a GPU.
            name: of the policy in the report.
        """
        self.name = name
        self.packer = packer
        self.jobs = jobs
        self.requests = requests
        self.tariff = tariff
        self.slots: dict[int, Slot] = {}
        kinds: dict[Request, int] = {}
        self._kind = [kinds.setdefault(request, len(kinds)) for request in requests]
        self._waiting: list[deque[int]] = [deque() for _ in kinds]
        """By kind of request, in order of arrival: only the first of a kind can be the next."""
        self._hopeless = [False] * len(kinds)

    def submit(self, job: int, now_s: float) -> None:
        """Let it wait for its turn at this moment."""
        self._waiting[self._kind[job]].append(job)

    def finish(self, job: int, region: int, now_s: float) -> None:
        """Give its slot back; what did not fit may fit now."""
        self.packer.nodes.release(self.slots.pop(job), self.requests[job][0])
        self._hopeless = [False] * len(self._hopeless)

    def withdraw(self, job: int, now_s: float) -> None:
        """Take it from the queue."""
        self._waiting[self._kind[job]].remove(job)

    def decide(self, now_s: float) -> PolicyDecision:
        """Try every kind of waiting job until it fails once."""
        starts = list[JobStart]()
        firsts = [
            waiting[0]
            for waiting, hopeless in zip(self._waiting, self._hopeless, strict=True)
            if waiting and not hopeless
        ]
        heapq.heapify(firsts)
        while firsts:
            job = heapq.heappop(firsts)
            kind, request = self._kind[job], self.requests[job]
            slots = self.packer.place(request[0], sorted(request[1]))
            if slots is None:
                self._hopeless[kind] = True
                continue
            waiting = self._waiting[kind]
            waiting.popleft()
            if waiting:
                heapq.heappush(firsts, waiting[0])
            self.slots[job] = slots[0]
            asked = self.jobs[job]
            starts.append(
                JobStart(
                    job=job,
                    region=0,
                    gpus=asked.gpus,
                    run_s=asked.run_s,
                    usd_per_hour=asked.gpus * self.tariff.usd_per_gpu_hour,
                    egress_usd=0.0,
                    moved_gb=0.0,
                )
            )
        return PolicyDecision(starts=starts)
