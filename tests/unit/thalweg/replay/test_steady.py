"""The steady state of `bench steady`: who is there at first, who comes, and what a run could have held."""

from collections import Counter

import numpy as np
import pytest

from thalweg.benchmarks.packing.steady import figures, steady_pods
from thalweg.replay.scenario import pods_scenario
from thalweg.replay.traces import OpenbNode, OpenbPod
from thalweg.scheduling.pack.nodes import Need
from thalweg.scheduling.replay.replay import replay

HOUR_S = 3_600


def pod(name: str, gpu_milli: int, run_s: int, gpus: int = 1) -> OpenbPod:
    need = Need(gpus=gpus, gpu_milli=gpu_milli, cpu_milli=1_000, memory_mib=10)
    return OpenbPod(name=name, need=need, gpu_models=frozenset(), created_s=0, deleted_s=run_s)


PODS = [pod("long", 1_000, 90 * HOUR_S), pod("short", 500, HOUR_S), pod("gang", 1_000, 2 * HOUR_S, gpus=4)]


@pytest.mark.parametrize("load", [0.5, 1.1])
def test_as_much_is_there_and_comes_as_makes_the_load(load: float) -> None:
    until_s = 40.0 * 24 * HOUR_S
    drawn = steady_pods(PODS, 400, load=load, until_s=until_s, seed=1)
    gpus = np.array([one.need.total_gpu_milli / 1_000 for one in drawn])
    created_s = np.array([one.created_s for one in drawn])
    run_s = np.array([one.deleted_s for one in drawn]) - created_s
    first = created_s == 0
    assert load * 400 <= gpus[first].sum() <= load * 400 + 8
    assert (gpus * run_s)[~first].sum() / until_s == pytest.approx(load * 400, rel=0.1)
    assert list(created_s) == sorted(created_s) and len({one.name for one in drawn}) == len(drawn)
    assert run_s.min() >= 1 and created_s.max() <= until_s


def test_who_is_there_at_first_is_likelier_who_stays_longer_and_has_stayed_a_while() -> None:
    drawn = steady_pods(PODS, 4_000, load=1.0, until_s=1.0, seed=2)
    there = Counter(one.need for one in drawn)
    assert there[PODS[0].need] / len(drawn) == pytest.approx(90 / 93, abs=0.02)
    left_s = [(one.deleted_s or 0) for one in drawn if one.need == PODS[0].need]
    assert np.mean(left_s) == pytest.approx(45 * HOUR_S, rel=0.05)


def test_the_same_seed_draws_the_same() -> None:
    one, same, other = (steady_pods(PODS, 50, load=1.0, until_s=1e5, seed=seed) for seed in (3, 3, 4))
    assert one == same != other


@pytest.mark.parametrize("rule", ["fill", "fgd"])
def test_no_run_holds_more_than_its_ceilings(rule: str) -> None:
    machines = [OpenbNode(name=f"n{at}", gpu_model="T4", gpus=2, cpu_milli=64_000, memory_mib=1_000) for at in range(4)]
    shares = [pod("large", 600, 4 * HOUR_S), pod("small", 300, 2 * HOUR_S), pod("two", 1_000, HOUR_S, gpus=2)]
    span_s = 10.0 * HOUR_S, 40.0 * HOUR_S
    drawn = steady_pods(shares, 8, load=1.5, until_s=span_s[1], seed=5)
    scenario = pods_scenario(machines, drawn, until_s=span_s[1])
    done = replay(scenario.jobs, scenario.fleet, scenario.own[rule](), begin_s=0.0)
    found = figures(scenario, [one.need for one in drawn], done, span_s)
    assert done.end_s.max() <= span_s[1]
    assert 60 < found["allocation_percent"] <= 100
    assert found["ceiling_of_running_percent"] <= found["ceiling_of_all_percent"] + 1e-6 <= 100 + 1e-3
    assert found["waiting_at_the_end"] > 0 and found["wait_mean_h"] > 0
