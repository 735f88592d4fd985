"""The placement line in one process: histories of trouble balance."""

from dataclasses import replace

from thalweg.proof.campaign import Tally, judged, run_campaign
from thalweg.proof.histories import TROUBLE, history

HISTORIES = 66
"""Some eight deaths each."""
LEAST_DEATHS = 500


def test_histories_of_trouble_balance() -> None:
    campaign = run_campaign(HISTORIES, 0, processes=1)
    assert [(failure.seed, failure.violations) for failure in campaign.failures] == []
    assert campaign.failed == 0
    assert campaign.deaths >= LEAST_DEATHS
    assert campaign.happened.keys() >= TROUBLE.keys(), "every kind of trouble happens"
    assert campaign.tasks["succeeded"] > HISTORIES, "work goes on under it"


def test_a_seed_determines_its_history_and_what_it_comes_to() -> None:
    assert history(7) == history(7) != history(8)
    first, again = (_without_times(judged(replace(history(7)))) for _ in range(2))
    assert first == again


def _without_times(outcome: tuple[list[str], Tally]) -> tuple[list[str], Tally]:
    return outcome
