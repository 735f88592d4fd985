"""Replay through the place job's own planner: the same world, decisions and micro-batch plan, on a virtual clock."""

from __future__ import annotations

from collections.abc import Sequence

from thalweg.scheduling.decisions import decide
from thalweg.scheduling.decisions.decide import RequestOrigin
from thalweg.scheduling.ids import RegionId, TaskId
from thalweg.scheduling.live.live_plan import PlanSettings
from thalweg.scheduling.live.micro_batch import plan
from thalweg.scheduling.pack.packer import Packer
from thalweg.scheduling.replay.replay import JobStart, PolicyDecision, RegionalSupply, ReplayJob
from thalweg.scheduling.world.tasks import TaskSpec, Transition
from thalweg.scheduling.world.world import World


class LivePlanner:
    """Decides as the place job does: one micro-batch per cycle, global strategy first, then nodes.

    Regions accept what they are given at once and report nothing but success; nothing fails.
    """

    def __init__(
        self,
        world: World,
        jobs: Sequence[ReplayJob],
        specs: Sequence[TaskSpec],
        fleet: RegionalSupply,
        settings: PlanSettings,
        *,
        name: str,
        cycle_s: float,
        begin_ms: int = 0,
        seed: int = 0,
    ) -> None:
        """Start from the world as it is; tasks that it holds already are known by their job's id.

        Args:
            world: with nodes, prices and links, its regions heard.
            jobs: all jobs, by index.
            specs: what each of them asks for.
            fleet: names the regions by index; all of the world's are among them.
            settings: of the plans; a deadline in them would make two runs differ.
            name: of the policy in the report.
            cycle_s: seconds between micro-batches.
            begin_ms: the world's time at second 0 of the virtual clock.
            seed: for strategies that draw.
        """
        self.name = name
        self.cycle_s = cycle_s
        self.world = world
        self.jobs = jobs
        self.specs = specs
        self.settings = settings
        self.seed = seed
        self._begin_ms = begin_ms
        self._packer = Packer(world.nodes)
        self._job_of = {job.job_id: index for index, job in enumerate(jobs)}
        self._region_of = {name: index for index, name in enumerate(fleet.regions)}
        self._regions = [RegionId(name) for name in fleet.regions]

    def submit(self, job: int, now_s: float) -> None:
        """Hand the task in, unless the world held it when the replay began."""
        task_id = TaskId(self.jobs[job].job_id)
        if self.world.find(task_id) is None:
            rows = decide.submit(self.world, task_id, self.specs[job], "", "", self._origin(now_s), self._ms(now_s))
            assert not isinstance(rows, decide.Refused)
            self._follow(rows)

    def finish(self, job: int, region: int, now_s: float) -> None:
        """Report success from the region."""
        task_id, name = TaskId(self.jobs[job].job_id), self._regions[region]
        copy = next(copy for copy in self.world.tasks[task_id].copies.values() if copy.region == name)
        self._follow(decide.report(self.world, name, "succeeded", task_id, copy.epoch, "", 1, self._ms(now_s)))

    def withdraw(self, job: int, now_s: float) -> None:
        """Cancel the task."""
        rows = decide.cancel(self.world, TaskId(self.jobs[job].job_id), self._origin(now_s), self._ms(now_s))
        assert not isinstance(rows, decide.Refused)
        self._follow(rows)

    def decide(self, now_s: float) -> PolicyDecision:
        """Plan one micro-batch and do what it says."""
        now_ms = self._ms(now_s)
        made = plan(self.world, self.settings, now_ms, self.seed, self._packer)
        if made is None:
            return PolicyDecision()
        rows = decide.place(self.world, made, "", now_ms)
        starts, stops = list[JobStart](), dict[tuple[int, int], None]()
        for row in rows:
            task = self.world.tasks[row.task_id]
            before, step = task.copies.get(row.copy), self.world.book.step_of(task, row)
            if before is not None and step.frees:
                stops[self._job_of[row.task_id], self._region_of[before.region]] = None
            if step.places:
                starts.append(self._start(row, None if before is None else before.region))
        self._follow(rows)
        return PolicyDecision(starts=starts, stops=tuple(stops))

    def _start(self, row: Transition, before: str | None) -> JobStart:
        index, spec = self._job_of[row.task_id], self.specs[self._job_of[row.task_id]]
        assert row.money is not None and row.usd_per_hour is not None and row.region is not None
        job, size = self.jobs[index], 1.0
        if len(spec.parts) == 1:
            # Twice the workers of an elastic task do the same work in half the time.
            size = sum(share.workers for share in row.shares) / spec.parts[0].workers
        fetches = row.region != before
        return JobStart(
            job=index,
            region=self._region_of[row.region],
            gpus=job.gpus * size,
            run_s=job.run_s / size,
            usd_per_hour=row.usd_per_hour,
            egress_usd=row.money.egress_usd if fetches else 0.0,
            moved_gb=moved_gb(self.world, spec, row.region) if fetches else 0.0,
        )

    def _follow(self, rows: Sequence[Transition]) -> None:
        for row in rows:
            self.world.follow(row)

    def _origin(self, now_s: float) -> RequestOrigin:
        return RequestOrigin(topic="replay", partition=0, offset=0, timestamp_ms=self._ms(now_s))

    def _ms(self, now_s: float) -> int:
        return self._begin_ms + round(now_s * 1_000)


def fleet_of(world: World) -> RegionalSupply:
    """Regions with nodes, and the GPUs of those that are ready, in order of the alphabet."""
    gpus: dict[RegionId, float] = {}
    for row in range(len(world.nodes)):
        region = world.nodes.pools[int(world.nodes.pool[row])].region
        gpus[region] = gpus.get(region, 0.0) + float(world.nodes.gpus[row] if world.nodes.ready[row] else 0)
    regions = tuple(sorted(gpus))
    return RegionalSupply(regions=regions, gpus=tuple(gpus[region] for region in regions))


def moved_gb(world: World, spec: TaskSpec, region: RegionId) -> float:
    """How much data a task fetches from other regions when it runs in this one."""
    total_gb = 0.0
    for item in spec.data:
        facts = None if item.dataset is None else world.geography.datasets.get(item.dataset)
        places = facts.regions if facts is not None else (item.region,)
        size_gb = item.size_gb or (facts.size_gb if facts is not None else 0.0)
        if region not in places and places != (None,):
            total_gb += size_gb
    return total_gb
