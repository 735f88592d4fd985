"""The placement line in one process: histories of trouble balance, and what is broken on purpose does not."""

from dataclasses import replace

import pytest

from thalweg.proof.breaks import BREAKS
from thalweg.proof.campaign import Tally, found, judged, run_campaign
from thalweg.proof.histories import TROUBLE, history
from thalweg.sync.proof.mutants import Mutant, broken

HISTORIES = 100
LEAST_DEATHS = 500
MOST_TRIED = 120
"""Histories in which a break must show; most show in the first few."""


def test_histories_of_trouble_balance() -> None:
    campaign = run_campaign(HISTORIES, 0, processes=1)
    assert [(failure.seed, failure.violations) for failure in campaign.failures] == []
    assert campaign.deaths >= LEAST_DEATHS
    assert campaign.happened.keys() >= TROUBLE.keys(), "every kind of trouble happens"
    assert campaign.tasks["succeeded"] > HISTORIES, "work goes on under it"


@pytest.mark.parametrize("mistake", BREAKS, ids=lambda mistake: mistake.name)
def test_what_is_broken_on_purpose_is_found(mistake: Mutant) -> None:
    with broken(mistake):
        assert any(_fails(seed) for seed in range(MOST_TRIED)), mistake.mistake


def _fails(seed: int) -> bool:
    try:
        return bool(judged(history(seed))[0])
    except Exception:
        return True  # a process that the trouble does not kill has ended


def test_a_failing_history_is_made_small_and_told() -> None:
    (mistake,) = (one for one in BREAKS if one.name == "old epoch")
    with broken(mistake):
        told = found(next(seed for seed in range(MOST_TRIED) if judged(history(seed))[0]))
    assert told.violations
    assert 1 <= len(told.acts) <= 3
    assert told.replay == f"thalweg place-sim --histories 1 --seed {told.seed}"


def test_a_seed_determines_its_history_and_what_it_comes_to() -> None:
    assert history(7) == history(7) != history(8)
    first, again = (_without_times(judged(replace(history(7)))) for _ in range(2))
    assert first == again


def _without_times(outcome: tuple[list[str], Tally]) -> tuple[list[str], Tally]:
    return outcome
