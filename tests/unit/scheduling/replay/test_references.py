"""Reference policies on cases worked out by hand, and what each of them keeps to on random ones."""

import random
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from thalweg.scheduling.replay.fair_finish import FairFinish
from thalweg.scheduling.replay.figures import summarise
from thalweg.scheduling.replay.in_order import ORDERS, InOrder
from thalweg.scheduling.replay.least_attained import LeastAttained
from thalweg.scheduling.replay.policies import Tariff, _Queues
from thalweg.scheduling.replay.replay import Ending, RegionalSupply, Replay, ReplayJob, ReplayPolicy, replay

HOUR = 3_600.0
ONE = RegionalSupply(regions=("a",), gpus=(4.0,))
TWO = RegionalSupply(regions=("a", "b"), gpus=(4.0, 4.0))
TARIFF = Tariff(usd_per_gpu_hour=1.0, usd_per_gb=0.1)


def job(index: int, arrive_h: float, run_h: float, gpus: int, home: int = 0) -> ReplayJob:
    return ReplayJob(
        job_id=f"j{index}", arrive_s=arrive_h * HOUR, run_s=run_h * HOUR, gpus=gpus, home=home, data_gb=1.0
    )


def stays(result: Replay) -> list[tuple[int, float, float, Ending]]:
    """Job, begin and end in hours, how it ended."""
    columns = (result.job, result.start_s / HOUR, result.end_s / HOUR, result.ending)
    return [(int(j), float(b), float(e), Ending(int(how))) for j, b, e, how in zip(*columns, strict=True)]


def test_who_has_used_more_gives_way_to_who_comes_and_goes_on_later() -> None:
    # By hour 2 the first has used 8 GPU-hours and has fallen two queues (1 and 6); the second begins in the first one.
    jobs = [job(0, 0, 10, 4), job(1, 2, 1, 4)]
    result = replay(jobs, ONE, LeastAttained(jobs, ONE, TARIFF))
    assert stays(result) == [
        (0, 0, 2, Ending.STOPPED),
        (1, 2, 3, Ending.FINISHED),
        (0, 3, 11, Ending.FINISHED),
    ]
    figures = summarise(jobs, ONE, result)
    assert (figures["wait_mean_s"], figures["delay_mean_s"]) == (0.0, 0.5 * HOUR), "one hour later than alone, of two"
    assert figures["preemptions"] == 1


def test_where_work_is_lost_what_was_stopped_begins_anew() -> None:
    jobs = [job(0, 0, 10, 4), job(1, 2, 1, 4)]
    result = replay(jobs, ONE, LeastAttained(jobs, ONE, TARIFF, work_is_lost=True))
    assert stays(result)[-1] == (0, 3, 13, Ending.FINISHED)


def test_equals_do_not_stop_each_other_and_the_first_to_arrive_goes_on_first() -> None:
    # At hour 0.2 the first has used 0.8 GPU-hours: the same queue. The third asks when both wait or have fallen.
    jobs = [job(0, 0, 1, 4), job(1, 0.2, 1, 4), job(2, 0.2, 1, 4)]
    result = replay(jobs, ONE, LeastAttained(jobs, ONE, TARIFF))
    assert stays(result) == [(0, 0, 1, Ending.FINISHED), (1, 1, 2, Ending.FINISHED), (2, 2, 3, Ending.FINISHED)]


def test_only_so_many_give_way_as_are_needed_those_who_have_used_most_first() -> None:
    # At hour 5 the first has used 10 GPU-hours (two queues down), the second 2 (one down): 2 GPUs are wanted.
    jobs = [job(0, 0, 20, 2), job(1, 4, 20, 2), job(2, 5, 1, 2)]
    result = replay(jobs, ONE, LeastAttained(jobs, ONE, TARIFF))
    assert [stay for stay in stays(result) if stay[3] is Ending.STOPPED] == [(0, 0, 5, Ending.STOPPED)]
    assert (2, 5, 6, Ending.FINISHED) in stays(result)


def test_nobody_is_stopped_while_another_region_has_room() -> None:
    jobs = [job(0, 0, 10, 4), job(1, 5, 1, 4)]
    result = replay(jobs, TWO, LeastAttained(jobs, TWO, TARIFF))
    assert result.region.tolist() == [0, 1]
    assert result.moved_gb.tolist() == [0.0, 1.0]


def test_who_is_withdrawn_is_started_by_no_reference() -> None:
    gone = ReplayJob(job_id="gone", arrive_s=0.05 * HOUR, run_s=HOUR, gpus=4, home=0, cancel_s=0.1 * HOUR)
    jobs = [job(0, 0, 0.2, 4), gone, job(2, 0.06, 1, 4)]
    references = [make(jobs, ONE, TARIFF) for make in (LeastAttained, FairFinish)]
    for policy in (*references, *(InOrder(name, jobs, ONE, TARIFF) for name in ORDERS)):
        assert replay(jobs, ONE, policy).job.tolist() == [0, 2], policy


@pytest.mark.parametrize(("name", "order"), [("fifo", [0, 1, 2]), ("sjf", [0, 2, 1])])
def test_one_order_holds_for_the_whole_queue(name: str, order: list[int]) -> None:
    jobs = [job(0, 0, 1, 4), job(1, 0.1, 2, 4), job(2, 0.2, 1, 4)]
    assert replay(jobs, ONE, InOrder(name, jobs, ONE, TARIFF)).job.tolist() == order


def test_in_order_who_finds_no_room_at_home_goes_where_most_is_free_the_first_of_equals() -> None:
    fleet = RegionalSupply(regions=("home", "small", "large", "alike"), gpus=(1.0, 2.0, 4.0, 4.0))
    jobs = [job(index, 0, 1, 1) for index in range(4)]
    result = replay(jobs, fleet, InOrder("fifo", jobs, fleet, TARIFF))
    assert dict(zip(result.job.tolist(), result.region.tolist(), strict=True)) == {0: 0, 1: 2, 2: 3, 3: 2}


def test_who_is_delayed_most_by_its_own_measure_goes_first() -> None:
    # At hour 10 the second has waited 9 hours for a run of 9: (9 + 9) / 9 = 2. The third 3 for 1: (3 + 1) / 1 = 4.
    jobs = [job(0, 0, 10, 4), job(1, 1, 9, 4), job(2, 7, 1, 4)]
    result = replay(jobs, ONE, FairFinish(jobs, ONE, TARIFF))
    assert stays(result) == [(0, 0, 10, Ending.FINISHED), (2, 10, 11, Ending.FINISHED), (1, 11, 20, Ending.FINISHED)]


def test_a_gang_would_be_slow_with_its_share_too() -> None:
    # At hour 4 two wait, nobody else is there: two shares of 2 GPUs. The gang of 4 would take 4 hours with its own, so
    # its figure is (4 + 2) / 4 = 1.5; that of the small one, which has waited an hour less, (3 + 2) / 2 = 2.5.
    jobs = [job(0, 0, 4, 4), job(1, 0, 2, 4), job(2, 1, 2, 1)]
    result = replay(jobs, ONE, FairFinish(jobs, ONE, TARIFF))
    assert stays(result) == [(0, 0, 4, Ending.FINISHED), (2, 4, 6, Ending.FINISHED), (1, 6, 8, Ending.FINISHED)]


Make = Callable[[Sequence[ReplayJob]], ReplayPolicy]
REFERENCES: dict[str, Make] = {
    "las": lambda jobs: LeastAttained(jobs, TWO, TARIFF),
    "las-lost": lambda jobs: LeastAttained(jobs, TWO, TARIFF, work_is_lost=True),
    "ftf": lambda jobs: FairFinish(jobs, TWO, TARIFF),
    "fifo": lambda jobs: InOrder("fifo", jobs, TWO, TARIFF),
    "sjf": lambda jobs: InOrder("sjf", jobs, TWO, TARIFF),
}


@pytest.mark.parametrize("name", REFERENCES)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_every_job_gets_its_work_done_once_on_gpus_that_there_are(name: str, seed: int) -> None:
    drawn = random.Random(seed)
    arrivals = sorted(drawn.uniform(0, 60) for _ in range(150))
    jobs = [
        job(i, at, drawn.lognormvariate(0.0, 1.5), drawn.choice([1, 1, 2, 4]), drawn.choice([0, 0, 1]))
        for i, at in enumerate(arrivals)
    ]
    result, again = (replay(jobs, TWO, REFERENCES[name](jobs)) for _ in range(2))
    assert result.fingerprint() == again.fingerprint()
    for region in range(2):
        changes = sorted(
            change
            for where, begin, end, gpus in zip(result.region, result.start_s, result.end_s, result.gpus, strict=True)
            if where == region
            for change in ((begin, 1, gpus), (end, 0, -gpus))
        )
        busy = np.cumsum([gpus for _, _, gpus in changes])
        assert busy.max() <= TWO.gpus[region]
        assert busy.min() >= 0
    ran = result.end_s - result.start_s
    for index, one in enumerate(jobs):
        (finished,) = ran[(result.job == index) & (result.ending == Ending.FINISHED)]
        stopped = ran[(result.job == index) & (result.ending == Ending.STOPPED)].sum()
        assert finished + (stopped if name == "las" else 0.0) == pytest.approx(one.run_s)


def test_of_jobs_elsewhere_the_one_with_the_least_data_per_gpu_hour_comes_first() -> None:
    # Two and five hours are of one kind; three GB for two are more per hour than five for five.
    jobs = [
        ReplayJob(job_id=name, arrive_s=0.0, run_s=hours * HOUR, gpus=1, home=0, data_gb=data_gb)
        for name, hours, data_gb in (("short", 2.0, 3.0), ("long", 5.0, 5.0))
    ]
    queues = _Queues(jobs, homes=1)
    for index in range(2):
        queues.add(index)
    found = queues.lightest(0, lambda _: True)
    assert found is not None and jobs[found[1]].job_id == "long"
    assert found[0] == pytest.approx(1.0)
