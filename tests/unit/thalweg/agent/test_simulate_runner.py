from tests.unit.thalweg.agents import REGION, assign
from thalweg.agent.runners import RunKey
from thalweg.agent.simulate_runner import SimulateRunner


def key_of(task_id: str, epoch: int = 1) -> RunKey:
    return (REGION, task_id, epoch)


def test_a_simulated_task_takes_its_scaled_time_more_or_less_a_fifth() -> None:
    runner = SimulateRunner(time_scale=10)
    for number in range(200):
        runner.start(assign(f"t{number}", expected_s=100), 0)
    assert runner.ended(7_999) == []
    assert len(runner.ended(10_000)) in range(60, 140)
    runner.ended(12_001)
    assert runner.progress(key_of("t1"), 12_001) is None


def test_the_same_run_takes_the_same_time_and_ends_the_same_way_in_another_life() -> None:
    def ends(first_ms: int) -> list[tuple[int, str, bool]]:
        runner = SimulateRunner(failure_share=0.5, seed=7)
        for number in range(50):
            runner.resume(assign(f"t{number}", expected_s=1), first_ms)
        return [(at, e.key[1], e.succeeded) for at in range(0, 1_300, 10) for e in runner.ended(first_ms + at)]

    assert ends(0) == ends(5_000)
    assert {succeeded for _, _, succeeded in ends(0)} == {True, False}


def test_another_seed_fails_other_tasks_and_no_share_fails_none() -> None:
    def failed(seed: int, share: float) -> set[str]:
        runner = SimulateRunner(failure_share=share, seed=seed)
        for number in range(100):
            runner.start(assign(f"t{number}", expected_s=1), 0)
        return {ended.key[1] for ended in runner.ended(2_000) if not ended.succeeded}

    assert failed(1, 0.3) != failed(2, 0.3)
    assert 10 < len(failed(1, 0.3)) < 55
    assert failed(1, 0.0) == set()


def test_a_stopped_simulation_does_not_end_by_itself() -> None:
    runner = SimulateRunner()
    runner.start(assign("t", expected_s=1), 0)
    assert runner.stop(key_of("t"), 100)
    assert runner.ended(10_000) == []


def test_a_time_limit_ends_a_simulated_task_that_would_take_longer_also_after_a_restart() -> None:
    runner = SimulateRunner(time_scale=10)
    runner.resume(assign("long", expected_s=100, time_limit_s=50), 1_000)
    runner.resume(assign("short", expected_s=100, time_limit_s=500), 1_000)
    assert runner.ended(5_999) == []
    (ended,) = runner.ended(6_000)
    assert (ended.key, ended.succeeded, ended.cause) == (key_of("long"), False, "time_limit")
    assert [end.succeeded for end in runner.ended(20_000)] == [True]


def test_what_a_simulated_task_gives_follows_from_its_id_too() -> None:
    def gives() -> dict[str, float]:
        runner = SimulateRunner(seed=3)
        for number in range(5):
            runner.start(assign(f"t{number}", expected_s=1), 0)
        return {end.key[1]: end.outputs.metrics["loss"] for end in runner.ended(2_000)}

    assert gives() == gives()
    assert len(set(gives().values())) == 5


def test_the_loss_of_a_simulated_task_falls_while_it_runs() -> None:
    runner = SimulateRunner()
    runner.start(assign("t", expected_s=1), 0)
    seen = [progress.outputs.metrics["loss"] for ms in (0, 200, 400) if (progress := runner.progress(key_of("t"), ms))]
    assert len(seen) == 3
    assert seen == sorted(seen, reverse=True)
