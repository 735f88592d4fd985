"""Roll-outs over simulated edges: what is decided is decided by the code that runs live, and it is as promised."""

import re
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from thalweg.conf.environment import PROJECT_ROOT
from thalweg.learning.rollout.facts import ENDS, RolloutKind
from thalweg.learning.rollout.plan import RolloutPlan
from thalweg.learning.rollout.records import ArmCounts, DesiredModel, ReportedModel, RolloutWish
from thalweg.learning.rollout.reports import desired
from thalweg.learning.rollout.rollout import Rollouts, take
from thalweg.learning.simulation.edge_fleet import HARMS, EdgeFleet, FleetTerms, Harm
from thalweg.learning.simulation.rollout_history import RolloutHistory, play

PLAN = RolloutPlan(model="sim", version="2", digest="2" * 64, last_version="1", last_digest="1" * 64)
TERMS = FleetTerms()


@pytest.fixture(scope="module")
def histories() -> dict[Harm, list[RolloutHistory]]:
    return {harm: [play(PLAN, TERMS, harm, seed) for seed in range(3)] for harm in HARMS}


def test_harm_is_taken_back_while_few_requests_have_met_it_and_what_is_no_worse_arrives(
    histories: dict[Harm, list[RolloutHistory]],
) -> None:
    ends = {harm: {one.end for one in played} for harm, played in histories.items()}
    assert ends.pop("none") == {RolloutKind.COMPLETED}
    assert set(map(frozenset, ends.values())) == {frozenset({RolloutKind.ROLLED_BACK})}
    assert {one.rule for one in histories["latency"]} == {"slow"}
    assert {one.rule for one in (*histories["accuracy"], *histories["drift"])} == {"wrong"}
    assert max(one.exposed for harm in ends for one in histories[harm]) <= 0.02


def test_waves_only_ever_grow_and_a_history_has_one_end(histories: dict[Harm, list[RolloutHistory]]) -> None:
    for played in histories.values():
        for one in played:
            cuts = [fact.cut for fact in one.facts if fact.kind is RolloutKind.WIDENED]
            assert cuts == sorted(set(cuts)) and len(cuts) >= 1
            assert [fact.kind in ENDS for fact in one.facts] == [False] * (len(one.facts) - 1) + [True]


def test_after_the_end_one_version_is_desired_of_every_edge_and_its_facts_lead_to_it_again(
    histories: dict[Harm, list[RolloutHistory]],
) -> None:
    for played in histories.values():
        for one in played:
            rollouts = Rollouts()
            for fact in one.facts:
                take(rollouts, fact)
            run = rollouts.newest["sim"]
            wanted = {desired(run, at) for at in (0, run.cut, 2**53 - 1)}
            (only,) = wanted
            assert only is not None and only.beside is None
            assert only.serve.version == ("2" if one.end is RolloutKind.COMPLETED else "1")


def test_a_seed_is_one_history() -> None:
    assert play(PLAN, TERMS, "accuracy", 5) == play(PLAN, TERMS, "accuracy", 5) != play(PLAN, TERMS, "accuracy", 6)


def test_as_many_edges_are_away_as_was_asked_and_reports_wait_for_them() -> None:
    fleet = EdgeFleet(replace(TERMS, edges=3_000), "none", np.random.default_rng(1))
    away = []
    everybody = np.ones(3_000, bool)
    for step in range(60):
        fleet.desire(everybody, only_new=False)
        fleet.step(step * 300.0, 0.5)
        fleet.report()
        away.append(1 - fleet.online.mean())
    assert abs(np.mean(away) - 0.3) < 0.02
    new, bad_new, last, bad_last = fleet.tally()[0]
    assert abs(new / (new + last) - 0.5) < 0.01 and abs((bad_new + bad_last) / (new + last) - 0.1) < 0.01
    assert 0 < fleet.heard(everybody) < 3_000
    assert not fleet.converged(only_new=False)


def test_the_page_of_records_names_every_field() -> None:
    page = Path(PROJECT_ROOT / "docs" / "reference" / "rollout-records.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(\w+)`", page))
    for kind in (DesiredModel, ReportedModel, ArmCounts, RolloutWish):
        missing = {field.name for field in msgspec.structs.fields(kind)} - named
        assert not missing, f"{kind.__name__}: {missing}"
