"""Replay on small traces worked out by hand, and the promises every policy keeps on random ones."""

import math
import random

import numpy as np
import pytest

from scheduling.nodes import Need, Nodes, Pool
from scheduling.pack import Packer
from scheduling.replay import Fleet, Policy, Replay, ReplayJob, replay, summarise
from scheduling.replay_policies import Engine, Gravity, PackNodes, Spread, StayHome

TWO = Fleet(regions=("a", "b"), gpus=(4.0, 4.0), usd_per_gpu_hour=(1.0, 2.0), usd_per_gb=0.1)


def job(index: int, arrive_s: float, run_s: float, gpus: int, home: int = 0, data_gb: float = 1.0) -> ReplayJob:
    return ReplayJob(job_id=f"j{index}", arrive_s=arrive_s, run_s=run_s, gpus=gpus, home=home, data_gb=data_gb)


def random_jobs(seed: int, count: int = 200) -> list[ReplayJob]:
    rng = random.Random(seed)
    arrivals = sorted(rng.uniform(0, 5000) for _ in range(count))
    return [
        job(i, at, rng.uniform(1, 400), rng.choice([1, 1, 2, 4]), rng.choice([0, 0, 0, 1]), rng.expovariate(0.02))
        for i, at in enumerate(arrivals)
    ]


def make(name: str, jobs: list[ReplayJob]) -> Policy:
    if name == "flow":
        return Engine(jobs, TWO, strategy="flow", cycle_s=50.0)
    return {"home": StayHome, "spread": Spread, "gravity": Gravity}[name](jobs, TWO, patience_s=600.0)


def test_home_waits_where_gravity_takes_the_idle_region() -> None:
    jobs = [job(0, 0, 100, 4), job(1, 10, 100, 4), job(2, 20, 100, 4)]
    home = replay(jobs, TWO, StayHome(jobs, TWO))
    assert home.start_s.tolist() == [0, 100, 200]
    assert home.region.tolist() == [0, 0, 0]
    gravity = replay(jobs, TWO, Gravity(jobs, TWO))
    assert gravity.start_s.tolist() == [0, 10, 100]
    figures = summarise(jobs, TWO, gravity)
    assert figures["jobs_away_from_home"] == int((gravity.region != 0).sum())
    assert figures["wait_mean_s"] == pytest.approx(80 / 3, abs=0.01)


def test_gravity_moves_the_job_with_little_data() -> None:
    jobs = [job(0, 0, 100, 4), job(1, 0, 100, 4, home=1), job(2, 1, 100, 4, 0, 900.0), job(3, 2, 100, 4, 0, 5.0)]
    jobs.append(job(4, 500, 1, 1))
    result = replay(jobs, TWO, Gravity(jobs, TWO))
    assert [i for i, j in enumerate(jobs) if result.region[i] != j.home] in ([3], [3, 4])
    assert result.start_s[2] == result.start_s[3] == 100  # both as soon as a region was free


def test_patience_keeps_gpus_for_a_gang_that_small_jobs_would_pass_for_ever() -> None:
    small = [job(i, 10.0 * i, 45, 1) for i in range(100)]
    jobs = sorted([*small, job(100, 5, 10, 4)], key=lambda j: (j.arrive_s, j.job_id))
    one = Fleet(regions=("a",), gpus=(4.0,), usd_per_gpu_hour=(1.0,), usd_per_gb=0.0)
    gang = next(i for i, j in enumerate(jobs) if j.gpus == 4)
    never = replay(jobs, one, StayHome(jobs, one))
    patient = replay(jobs, one, StayHome(jobs, one, patience_s=100.0))
    assert never.start_s[gang] > 900
    assert patient.start_s[gang] < 200


@pytest.mark.parametrize("name", ["home", "spread", "gravity", "flow"])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_no_region_is_ever_over_its_gpus_and_two_runs_are_equal(name: str, seed: int) -> None:
    jobs = random_jobs(seed)
    runs: list[Replay] = [replay(jobs, TWO, make(name, jobs)) for _ in range(2)]
    assert runs[0].fingerprint() == runs[1].fingerprint()
    result = runs[0]
    assert (result.region >= 0).all()
    assert all(start >= j.arrive_s for start, j in zip(result.start_s, jobs, strict=True))
    for region in range(2):
        changes = []
        for start, where, j in zip(result.start_s, result.region, jobs, strict=True):
            if where == region:
                changes += [(start, j.gpus), (start + j.run_s, -j.gpus)]
        busy = np.cumsum([change for _, change in sorted(changes)])
        assert busy.max(initial=0) <= TWO.gpus[region]
    if name == "home":
        assert result.region.tolist() == [j.home for j in jobs]


def test_a_job_larger_than_every_region_never_starts_and_ends_the_replay() -> None:
    jobs = [job(0, 0, 10, 5), job(1, 0, 10, 1)]
    for name in ("home", "spread", "gravity", "flow"):
        result = replay(jobs, TWO, make(name, jobs))
        assert result.region[0] == -1 and math.isnan(result.start_s[0])
        assert result.region[1] >= 0
        assert summarise(jobs, TWO, result)["started"] == 1


def test_no_jobs_is_a_result() -> None:
    assert summarise([], TWO, replay([], TWO, StayHome([], TWO)))["jobs"] == 0


def test_the_packer_replays_shares_on_nodes_and_gives_everything_back() -> None:
    nodes = Nodes()
    nodes.put("n", Pool("a", "T4"), gpus=1, cpu_milli=4000, memory_mib=100)
    requests = [(Need(gpus=1, gpu_milli=600, cpu_milli=1000), frozenset({0}))] * 3
    jobs = [ReplayJob(job_id=f"p{i}", arrive_s=float(i), run_s=10, gpus=0.6, home=0) for i in range(3)]
    one = Fleet(regions=("a",), gpus=(1.0,), usd_per_gpu_hour=(1.0,), usd_per_gb=0.0)
    result = replay(jobs, one, PackNodes(Packer(nodes), requests, name="fill"))
    assert result.start_s.tolist() == [0, 10, 20]
    assert nodes.gpu_milli_free[0, 0] == 1000 and nodes.cpu_milli_free[0] == 4000
