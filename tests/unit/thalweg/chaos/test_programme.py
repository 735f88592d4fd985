"""A programme is drawn from its seed alone, has what was asked for, and leaves nothing out."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from thalweg.chaos.points import DRIVER_POINTS, JOBS_POINTS, POINTS
from thalweg.chaos.programme import DRIVER, JOBS, KILLS, ROLES, TROUBLES, TROUBLES_A_MINUTE, ChaosAct, programme

RECORDED = {"kills": 60, "minutes": 12.0}
"""As the committed record has it."""


def drawn(seed: int = 0, kills: int = 8, minutes: float = 3.0) -> list[ChaosAct]:
    return programme(seed=seed, kills=kills, minutes=minutes, driver_points=DRIVER_POINTS, jobs_points=JOBS_POINTS)


@given(seed=st.integers(0, 10_000), kills=st.integers(0, 120), minutes=st.floats(0.5, 30))
def test_it_has_as_many_kills_as_asked_within_the_time_and_in_order(seed: int, kills: int, minutes: float) -> None:
    acts = drawn(seed, kills, minutes)
    times = [act.at_s for act in acts]
    assert times == sorted(times)
    assert all(0 <= at_s <= minutes * 60 for at_s in times)
    killed = [act for act in acts if act.what == "kill"]
    assert len(killed) == kills
    assert len(acts) - kills == round(minutes * TROUBLES_A_MINUTE)
    assert acts == drawn(seed, kills, minutes), "the seed is all that matters"


@given(seed=st.integers(0, 10_000), kills=st.integers(len(ROLES), 60))
def test_every_role_dies_before_one_dies_twice(seed: int, kills: int) -> None:
    victims = [act.who for act in drawn(seed, kills) if act.what == "kill"]
    assert set(victims[: len(ROLES)]) == set(ROLES)
    assert set(victims) <= KILLS.keys()


@given(seed=st.integers(0, 10_000))
def test_the_recorded_one_hits_every_point_of_the_drivers_batch_and_does_every_kind_of_trouble(seed: int) -> None:
    acts = drawn(seed, int(RECORDED["kills"]), RECORDED["minutes"])
    hit = Counter(act.point for act in acts if act.what == "kill" and act.who == DRIVER)
    assert hit.keys() == set(DRIVER_POINTS)
    assert {act.what for act in acts} == {"kill", *(kind.name for kind in TROUBLES)}


@given(seed=st.integers(0, 10_000))
def test_points_are_dealt_like_cards(seed: int) -> None:
    points = [act.point for act in drawn(seed, 200) if act.who == JOBS and act.what == "kill"]
    assert set(points[: len(JOBS_POINTS)]) <= set(JOBS_POINTS)
    assert len(set(points[: len(JOBS_POINTS)])) == min(len(points), len(JOBS_POINTS))


@given(seed=st.integers(0, 10_000))
def test_what_is_drawn_for_a_trouble_is_what_its_kind_allows(seed: int) -> None:
    kinds = {kind.name: kind for kind in TROUBLES}
    for act in drawn(seed, minutes=20):
        if act.what != "kill":
            kind = kinds[act.what]
            assert act.who in kind.roles
            assert act.amount in kind.amounts
            assert kind.seconds[0] <= act.seconds <= kind.seconds[1]
        assert act.what in act.in_words() and act.who in act.in_words()


def test_points_have_names_of_their_own() -> None:
    assert len(set(POINTS)) == len(POINTS)
    assert set(POINTS) == {*DRIVER_POINTS, *JOBS_POINTS}
