"""Replay onto the nodes of one region: the packer places every job, node by node and device by device."""

from __future__ import annotations

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
        self.waiting: dict[int, None] = {}
        self.slots: dict[int, Slot] = {}
        self.hopeless: set[Request] = set()

    def submit(self, job: int, now_s: float) -> None:
        """Let it wait for its turn at this moment."""
        self.waiting[job] = None

    def finish(self, job: int, region: int, now_s: float) -> None:
        """Give its slot back; what did not fit may fit now."""
        self.packer.nodes.release(self.slots.pop(job), self.requests[job][0])
        self.hopeless.clear()

    def withdraw(self, job: int, now_s: float) -> None:
        """Take it from the queue."""
        del self.waiting[job]

    def decide(self, now_s: float) -> PolicyDecision:
        """Try every kind of waiting job until it fails once."""
        starts = []
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
