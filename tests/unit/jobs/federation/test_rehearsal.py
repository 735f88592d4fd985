"""Death at any point, nonsense at any time: the same versions, bit for bit, and every record a fact exactly once."""

from collections import Counter
from pathlib import Path

import pytest

pytest.importorskip("cryptography", reason="the extra `learning` is not installed")

from thalweg.federation.rehearsal import Rehearsed, planned, rehearse
from thalweg.learning.rounds.facts import FactKind
from thalweg.learning.rounds.run_spec import RunSpec
from thalweg.learning.secrecy.secret_terms import SecrecyTerms

SPEC = RunSpec(parameters=80, rounds=4, quorum=3, begin_with=3, deadline_ms=10**9)
SCARCE = RunSpec(
    parameters=20, rounds=4, quorum=3, begin_with=3, deadline_ms=10**9, codec="delta", aggregate="median", per_round=3
)
"""Inline payloads, changes, another aggregate."""
SECRET = RunSpec(
    parameters=20, rounds=2, quorum=3, begin_with=3, deadline_ms=10**9, codec="delta", most_samples=50,
    secrecy=SecrecyTerms(largest=8.0),
)  # fmt: skip
TOLD_BY_CHANGES = RunSpec(parameters=80, rounds=4, quorum=3, begin_with=3, deadline_ms=10**9, downlink="delta+bits=4")


def once(spec: RunSpec, folder: Path, seed: int, deaths: frozenset[int] = frozenset()) -> Rehearsed:
    return rehearse(str(folder), spec, participants=3, seed=seed, deaths=deaths)


def test_a_centre_or_region_that_dies_at_any_point_changes_no_version(tmp_path: Path) -> None:
    undisturbed = once(SPEC, tmp_path / "undisturbed", 0)
    assert len(undisturbed.versions) == 4 and undisturbed.deaths == 0
    died = 0
    for seed in range(40):
        deaths = planned(undisturbed.points, seed)
        found = once(SPEC, tmp_path / str(seed), seed, deaths)
        died += found.deaths
        assert found.versions == undisturbed.versions, (seed, deaths)
        places = Counter(fact.place for fact in found.facts if fact.place is not None)
        assert set(places.values()) == {1}, f"seed {seed}: a record is two facts"
        assert found.refused > 0
        rounds = Counter(fact.round_number for fact in found.facts if fact.kind is FactKind.CLOSED)
        assert set(rounds.values()) == {1}
    assert died > 40


@pytest.mark.parametrize("spec", [SCARCE, TOLD_BY_CHANGES, SECRET], ids=["updates", "versions", "secret"])
def test_changes_medians_and_secret_updates_are_as_sure(spec: RunSpec, tmp_path: Path) -> None:
    versions = {
        once(spec, tmp_path / str(seed), seed, planned(100, seed) if seed else frozenset()).versions
        for seed in range(8)
    }
    assert len(versions) == 1


def test_every_single_point_was_died_at(tmp_path: Path) -> None:
    """One death at each point of a short run, in turn."""
    short = RunSpec(parameters=80, rounds=1, quorum=2, begin_with=2, deadline_ms=10**9)

    def one(name: str, deaths: frozenset[int]) -> Rehearsed:
        return rehearse(str(tmp_path / name), short, participants=2, seed=1, deaths=deaths)

    undisturbed = one("undisturbed", frozenset())
    for point in range(1, undisturbed.points + 1):
        found = one(str(point), frozenset({point}))
        assert found.deaths == 1
        assert found.versions == undisturbed.versions, point
