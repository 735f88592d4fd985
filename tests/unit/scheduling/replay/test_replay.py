"""Replay on small traces worked out by hand, and the promises every policy keeps on random ones."""

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from thalweg.scheduling.live.live_plan import PlanSettings
from thalweg.scheduling.pack.nodes import Need, Nodes, Pool
from thalweg.scheduling.pack.packer import Packer
from thalweg.scheduling.replay.figures import summarise
from thalweg.scheduling.replay.live import LivePlanner
from thalweg.scheduling.replay.nodes import PackNodes
from thalweg.scheduling.replay.policies import Gravity, Spread, StayHome, Tariff
from thalweg.scheduling.replay.replay import (
    JobStart,
    PolicyDecision,
    RegionalSupply,
    Replay,
    ReplayJob,
    ReplayPolicy,
    replay,
)
from thalweg.scheduling.world.tasks import DataNeed, Part, TaskSpec
from thalweg.scheduling.world.world import NodeFacts, World

TWO = RegionalSupply(regions=("a", "b"), gpus=(4.0, 4.0))
ONE = RegionalSupply(regions=("a",), gpus=(4.0,))
TARIFF = Tariff(usd_per_gpu_hour=1.0, usd_per_gb=0.1)


def job(index: int, arrive_s: float, run_s: float, gpus: int, home: int = 0, data_gb: float = 1.0) -> ReplayJob:
    return ReplayJob(job_id=f"j{index}", arrive_s=arrive_s, run_s=run_s, gpus=gpus, home=home, data_gb=data_gb)


def random_jobs(seed: int, count: int = 200) -> list[ReplayJob]:
    rng = random.Random(seed)
    arrivals = sorted(rng.uniform(0, 5000) for _ in range(count))
    return [
        job(i, at, rng.uniform(1, 400), rng.choice([1, 1, 2, 4]), rng.choice([0, 0, 0, 1]), rng.expovariate(0.02))
        for i, at in enumerate(arrivals)
    ]


def open_world(*facts: NodeFacts) -> World:
    world = World()
    world.set_nodes(facts)
    world.set_prices({(fact.region, fact.gpu_model, False): 1.0 for fact in facts})
    regions = sorted({fact.region for fact in facts})
    world.set_links({(x, y): (1.0, 10.0, 0.1) for x in regions for y in regions if x != y})
    for region in regions:
        world.hear(region, 0)
    return world


def node(region: str, gpus: int = 4) -> NodeFacts:
    return NodeFacts(
        region=region, node_id="n", gpu_model="T4", spot=False, gpus=gpus, cpus=8.0, memory_gb=64.0, ready=True
    )


def spec(job: ReplayJob, **fields: Any) -> TaskSpec:
    return TaskSpec(
        parts=(Part(workers=int(job.gpus), need=Need(gpus=1)),),
        expected_s=job.run_s,
        data=(DataNeed(dataset=None, region="ab"[job.home], size_gb=job.data_gb),),
        replicas=job.copies,
        **fields,
    )


def planner(jobs: Sequence[ReplayJob], *, cycle_s: float = 50.0, world: World | None = None) -> LivePlanner:
    specs = [spec(job) for job in jobs]
    world = world or open_world(node("a"), node("b"))
    return LivePlanner(world, jobs, specs, TWO, PlanSettings(), name="flow", cycle_s=cycle_s)


def make(name: str, jobs: list[ReplayJob]) -> ReplayPolicy:
    if name == "flow":
        return planner(jobs)
    return {"home": StayHome, "spread": Spread, "gravity": Gravity}[name](jobs, TWO, TARIFF, patience_s=600.0)


def test_home_waits_where_gravity_takes_the_idle_region() -> None:
    jobs = [job(0, 0, 100, 4), job(1, 10, 100, 4), job(2, 20, 100, 4)]
    home = replay(jobs, TWO, StayHome(jobs, TWO, TARIFF))
    assert home.start_s.tolist() == [0, 100, 200]
    assert home.region.tolist() == [0, 0, 0]
    gravity = replay(jobs, TWO, Gravity(jobs, TWO, TARIFF))
    assert gravity.start_s.tolist() == [0, 10, 100]
    figures = summarise(jobs, TWO, gravity)
    assert figures["jobs_away_from_data"] == int((gravity.region != 0).sum())
    assert figures["moved_gb"] == pytest.approx(float((gravity.region != 0).sum()))
    assert figures["egress_usd"] == pytest.approx(0.1 * float((gravity.region != 0).sum()), abs=0.01)
    assert figures["compute_usd"] == pytest.approx(3 * 4 * 100 / 3600, abs=0.01)
    assert figures["wait_mean_s"] == pytest.approx(80 / 3, abs=0.01)


def test_gravity_moves_the_job_with_little_data() -> None:
    jobs = [job(0, 0, 100, 4), job(1, 0, 100, 4, home=1), job(2, 1, 100, 4, 0, 900.0), job(3, 2, 100, 4, 0, 5.0)]
    result = replay(jobs, TWO, Gravity(jobs, TWO, TARIFF))
    assert [index for index, where in zip(result.job, result.region, strict=True) if where != jobs[index].home] == [3]
    assert result.start_s.tolist() == [0, 0, 100, 100]  # both as soon as a region was free


def test_patience_keeps_gpus_for_a_gang_that_small_jobs_would_pass_for_ever() -> None:
    small = [job(i, 10.0 * i, 45, 1) for i in range(100)]
    jobs = sorted([*small, job(100, 5, 10, 4)], key=lambda j: (j.arrive_s, j.job_id))
    gang = next(i for i, j in enumerate(jobs) if j.gpus == 4)
    never = replay(jobs, ONE, StayHome(jobs, ONE, TARIFF))
    patient = replay(jobs, ONE, StayHome(jobs, ONE, TARIFF, patience_s=100.0))
    assert never.start_s[never.job == gang] > 900
    assert patient.start_s[patient.job == gang] < 200


@pytest.mark.parametrize("name", ["home", "spread", "gravity", "flow"])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_no_region_is_ever_over_its_gpus_and_two_runs_are_equal(name: str, seed: int) -> None:
    jobs = random_jobs(seed)
    runs: list[Replay] = [replay(jobs, TWO, make(name, jobs)) for _ in range(2)]
    assert runs[0].fingerprint() == runs[1].fingerprint()
    result = runs[0]
    assert sorted(result.job.tolist()) == list(range(len(jobs))), "every job runs once"
    assert all(start >= jobs[index].arrive_s for index, start in zip(result.job, result.start_s, strict=True))
    assert result.end_s == pytest.approx(result.start_s + [jobs[index].run_s for index in result.job])
    for region in range(2):
        changes = []
        for index, where, start, end in zip(result.job, result.region, result.start_s, result.end_s, strict=True):
            if where == region:
                changes += [(start, jobs[index].gpus), (end, -jobs[index].gpus)]
        busy = np.cumsum([change for _, change in sorted(changes)])
        assert busy.max(initial=0) <= TWO.gpus[region]
    if name == "home":
        assert [jobs[index].home for index in result.job] == result.region.tolist()


def test_a_job_larger_than_every_region_never_starts_and_ends_the_replay() -> None:
    jobs = [job(0, 0, 10, 5), job(1, 0, 10, 1)]
    for name in ("home", "spread", "gravity", "flow"):
        result = replay(jobs, TWO, make(name, jobs))
        assert result.job.tolist() == [1]
        assert summarise(jobs, TWO, result)["started"] == 1


def test_no_jobs_is_a_result() -> None:
    figures = summarise([], TWO, replay([], TWO, StayHome([], TWO, TARIFF)))
    assert figures["jobs"] == figures["started"] == figures["compute_usd"] == 0


def test_the_packer_replays_shares_on_nodes_and_gives_everything_back() -> None:
    nodes = Nodes()
    nodes.set_node("n", Pool("a", "T4"), gpus=1, cpu_milli=4000, memory_mib=100)
    requests = [(Need(gpus=1, gpu_milli=600, cpu_milli=1000), frozenset({0}))] * 3
    jobs = [ReplayJob(job_id=f"p{i}", arrive_s=float(i), run_s=10, gpus=0.6, home=0) for i in range(3)]
    one = RegionalSupply(regions=("a",), gpus=(1.0,))
    result = replay(jobs, one, PackNodes(Packer(nodes), jobs, requests, TARIFF, name="fill"))
    assert result.start_s.tolist() == [0, 10, 20]
    assert nodes.gpu_milli_free[0, 0] == 1000 and nodes.cpu_milli_free[0] == 4000


def test_the_packer_takes_who_came_first_of_those_that_fit_and_forgets_who_is_withdrawn() -> None:
    nodes = Nodes()
    nodes.set_node("n", Pool("a", "T4"), gpus=1, cpu_milli=4000, memory_mib=100)
    asked = (600, 600, 300, 600, 300)
    requests = [(Need(gpus=1, gpu_milli=milli, cpu_milli=1000), frozenset({0})) for milli in asked]
    ends = (np.inf, 5.0, np.inf, np.inf, np.inf)
    jobs = [
        ReplayJob(job_id=f"p{i}", arrive_s=0.0, run_s=10, gpus=milli / 1_000, home=0, cancel_s=ends[i])
        for i, milli in enumerate(asked)
    ]
    one = RegionalSupply(regions=("a",), gpus=(1.0,))
    result = replay(jobs, one, PackNodes(Packer(nodes), jobs, requests, TARIFF, name="fill"))
    assert list(zip(result.job.tolist(), result.start_s.tolist(), strict=True)) == [(0, 0), (2, 0), (3, 10), (4, 10)]


class Script:
    """A policy that does what it is told."""

    name, cycle_s = "script", 0.0

    def __init__(self, decisions: dict[float, PolicyDecision]) -> None:
        self.decisions = decisions

    def submit(self, job: int, now_s: float) -> None: ...

    def finish(self, job: int, region: int, now_s: float) -> None: ...

    def withdraw(self, job: int, now_s: float) -> None: ...

    def decide(self, now_s: float) -> PolicyDecision:
        return self.decisions.pop(now_s, PolicyDecision())


def start(job: int, region: int, run_s: float, gpus: float = 4.0) -> JobStart:
    return JobStart(job=job, region=region, gpus=gpus, run_s=run_s, usd_per_hour=gpus, egress_usd=0.0, moved_gb=0.0)


def test_a_stop_is_a_preemption_a_move_or_a_resize_by_what_follows_it() -> None:
    jobs = [job(0, 0, 100, 4), job(1, 0, 100, 4, home=1), job(2, 50, 10, 4), job(3, 60, 10, 4), job(4, 70, 10, 1)]
    script = Script(
        {
            0.0: PolicyDecision(starts=[start(0, 0, 100), start(1, 1, 100)]),
            50.0: PolicyDecision(stops=[(0, 0)], starts=[start(2, 0, 10)]),  # 0 gives way, and waits
            60.0: PolicyDecision(stops=[(1, 1)], starts=[start(1, 0, 100), start(3, 1, 10)]),  # 1 moves
            70.0: PolicyDecision(stops=[(1, 0)], starts=[start(1, 0, 200, gpus=2.0), start(0, 1, 100)]),  # 1 shrinks
            270.0: PolicyDecision(starts=[start(4, 0, 10, gpus=1.0)]),
        }
    )
    result = replay(jobs, TWO, script)
    figures = summarise(jobs, TWO, result)
    assert (figures["preemptions"], figures["moves"], figures["resizes"]) == (1, 1, 1)
    assert result.end_s[result.job == 0].tolist() == [50, 170], "work that was stopped is done again"
    assert result.end_s[result.job == 1].tolist() == [60, 70, 270]
    assert figures["compute_usd"] == pytest.approx((4 * (50 + 100 + 60 + 10 + 10 + 10) + 2 * 200 + 10) / 3600, abs=0.01)


def test_a_cancelled_job_leaves_its_gpus_or_the_queue() -> None:
    jobs = [
        ReplayJob(job_id="runs", arrive_s=0, run_s=100, gpus=4, home=0, cancel_s=30),
        ReplayJob(job_id="waits", arrive_s=1, run_s=100, gpus=4, home=0, cancel_s=20),
        job(2, 2, 10, 4),
    ]
    for policy in (StayHome(jobs, ONE, TARIFF), planner(jobs, cycle_s=0.0, world=open_world(node("a")))):
        result = replay(jobs, ONE, policy)
        assert result.job.tolist() == [0, 2]
        assert result.start_s.tolist() == [0, 30]
        assert result.end_s.tolist() == [30, 40]


def test_the_planner_waits_for_the_next_cycle_and_keeps_copies_in_distinct_regions() -> None:
    twice = ReplayJob(job_id="twice", arrive_s=10, run_s=100, gpus=2, home=0, data_gb=3.0, copies=2)
    result = replay([twice], TWO, planner([twice]))
    assert result.start_s.tolist() == [50, 50]
    assert result.region.tolist() == [0, 1]
    assert result.moved_gb.tolist() == [0.0, 3.0]
    assert result.egress_usd == pytest.approx([0.0, 0.3])
    assert summarise([twice], TWO, result)["wait_mean_s"] == 40


def test_what_runs_at_the_begin_goes_on_and_what_waited_is_counted_from_its_arrival() -> None:
    jobs = [job(0, -100, 60, 4), job(1, -20, 10, 4)]
    policy = StayHome(jobs, ONE, TARIFF)
    policy.free[0] = 0.0
    result = replay(jobs, ONE, policy, begin_s=0.0, running=[(start(0, 0, 60), -40.0)])
    assert result.start_s.tolist() == [-40, 20]
    assert result.end_s.tolist() == [20, 30]
    assert summarise(jobs, ONE, result)["wait_mean_s"] == 40, "only what started after the begin"


def test_a_short_queue_lets_long_work_wait_for_the_region_that_has_least() -> None:
    # At hour 31 region a is free and has got 30 hours of work per GPU; b is busy until hour 45 and has got 20.
    hour = 3600.0
    jobs = [job(0, 0, 30 * hour, 4), job(1, 25 * hour, 20 * hour, 4, home=1), job(2, 31 * hour, 20 * hour, 4)]
    assert replay(jobs, TWO, StayHome(jobs, TWO, TARIFF)).start_s.tolist() == [0, 25 * hour, 31 * hour]
    balanced = replay(jobs, TWO, Gravity(jobs, TWO, TARIFF))
    assert balanced.region.tolist() == [0, 1, 1]
    assert balanced.start_s.tolist() == [0, 25 * hour, 45 * hour]


def test_a_long_queue_keeps_every_gpu_busy_whoever_is_ahead() -> None:
    hour = 3600.0
    backlog = [job(3 + i, 31 * hour + 1, 40 * hour, 4) for i in range(20)]
    jobs = [job(0, 0, 30 * hour, 4), job(1, 25 * hour, 20 * hour, 4, home=1), job(2, 30.5 * hour, hour, 4), *backlog]
    result = replay(jobs, TWO, Gravity(jobs, TWO, TARIFF))
    assert result.start_s[result.job == 3] == 31.5 * hour, "as soon as a GPU of the region that is ahead is free"


def test_a_large_job_gets_gpus_kept_for_it_after_three_days_of_being_passed() -> None:
    hour = 3600.0
    small = [job(i, 600.0 * i, 2_300, 1) for i in range(1_500)]  # four GPUs always have one of them to run
    large = job(5_000, 700, 100 * hour, 4)
    jobs = sorted([*small, large], key=lambda one: (one.arrive_s, one.job_id))
    index = jobs.index(large)
    passed = replay(jobs, ONE, StayHome(jobs, ONE, TARIFF))
    assert passed.start_s[passed.job == index] > 240 * hour
    kept = replay(jobs, ONE, Gravity(jobs, ONE, TARIFF))
    assert 72 * hour < kept.start_s[kept.job == index] < 74 * hour


def test_demand_by_supply_tells_the_skew_and_what_balancing_does_to_it() -> None:
    jobs = [job(i, 10.0 * i, 40, 1, home=0 if i % 4 else 1) for i in range(400)]
    home = summarise(jobs, TWO, replay(jobs, TWO, StayHome(jobs, TWO, TARIFF)))
    spread = summarise(jobs, TWO, replay(jobs, TWO, Spread(jobs, TWO, TARIFF)))
    assert home["max_demand_by_supply_ratio_to_fleet"] == 1.5
    assert spread["max_demand_by_supply_ratio_to_fleet"] == pytest.approx(1.0, abs=0.01)


def test_a_job_waits_until_its_last_copy_has_started() -> None:
    twice = ReplayJob(job_id="twice", arrive_s=0, run_s=100, gpus=4, home=0, copies=2)
    other = ReplayJob(job_id="z", arrive_s=0, run_s=100, gpus=4, home=1)
    script = Script(
        {
            0.0: PolicyDecision(starts=[start(0, 0, 100), start(1, 1, 100)]),
            100.0: PolicyDecision(starts=[start(0, 1, 100)]),
        }
    )
    result = replay([twice, other], TWO, script)
    assert result.start_s.tolist() == [0, 0, 100]
    assert summarise([twice, other], TWO, result)["wait_mean_s"] == 50
