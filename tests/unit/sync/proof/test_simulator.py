import time

import pytest

from thalweg.sync.proof.campaign import explained, run_campaign
from thalweg.sync.proof.histories import history
from thalweg.sync.proof.minimise import minimised
from thalweg.sync.proof.mutants import MUTANTS, Mutant, broken
from thalweg.sync.proof.simulator import run_history, simulate
from thalweg.sync.replica.replica import Replica


def test_two_thousand_histories_end_as_the_oracle_says() -> None:
    campaign = run_campaign(2_000, seed=1)
    assert campaign.failures == []
    assert campaign.failed == 0
    # Idle histories would prove nothing: every kind of trouble has to occur.
    assert all(count > 0 for count in campaign.happened.values()), campaign.happened
    assert campaign.happened["conflicts"] > 10_000


def test_a_seed_gives_the_same_history_and_the_same_end() -> None:
    assert history(7) == history(7)
    assert history(7) != history(8)
    assert simulate(history(7)) == simulate(history(7))


# A store destroyed in the millisecond in which it had joined: the next one took its epoch, and sequences came twice.
@pytest.mark.parametrize("seed", [368_910, 529_371])
def test_a_new_store_never_takes_the_life_of_the_one_before(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_history(history(seed)) is None
    monkeypatch.setattr(Replica, "may_join", lambda self, end: True)
    failure = run_history(history(seed))
    assert failure is not None and failure.check == "sequence"


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_every_deliberate_mistake_is_found_and_shown_small_within_a_second(mutant: Mutant) -> None:
    with broken(mutant):
        found = next((seed for seed in range(2_000) if run_history(history(seed)) is not None), None)
    assert found is not None, f"2,000 histories did not notice that {mutant.mistake}"
    assert run_history(history(found)) is None, "the mistake is still in, or the seed fails without it"
    started = time.process_time()
    shown = explained(found, mutant.name)
    assert time.process_time() - started < 1.0
    assert shown.seed == found and len(shown.trace) - 1 < len(history(found).steps)


def test_there_are_at_least_ten_mistakes_under_different_names() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) >= 10


def test_a_failure_is_shown_with_its_seed_and_a_small_trace() -> None:
    mutant = next(m for m in MUTANTS if m.name == "forget-at-once")
    campaign = run_campaign(20, seed=0, processes=1, mutant=mutant.name)
    assert campaign.failed > 0
    first = campaign.failures[0]
    assert first.replay == f"thalweg sync-sim --histories 1 --seed {first.seed} --mutant forget-at-once"
    assert explained(first.seed, mutant.name) == first
    assert len(first.trace) - 1 < len(history(first.seed).steps)


def test_a_minimised_history_fails_the_same_check_and_no_step_of_it_can_go() -> None:
    mutant = next(m for m in MUTANTS if m.name == "removed-elements-return")
    with broken(mutant):
        seed, check = next((s, f.check) for s in range(500) if (f := run_history(history(s))))
        small = minimised(history(seed), check, max_runs=3_000)
        failure = run_history(small)
        assert failure is not None and failure.check == check
        for index in range(len(small.steps)):
            rest = small._replace(steps=small.steps[:index] + small.steps[index + 1 :])
            other = run_history(rest)
            assert other is None or other.check != check


def test_an_unknown_mutant_is_refused_with_the_names_that_exist() -> None:
    with pytest.raises(ValueError, match="no-tie-break"):
        run_campaign(1, seed=0, mutant="nonsense")


def test_a_seed_that_does_not_fail_is_not_explained() -> None:
    with pytest.raises(ValueError, match="does not fail"):
        explained(1)
