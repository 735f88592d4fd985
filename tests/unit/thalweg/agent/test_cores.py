from hypothesis import given
from hypothesis import strategies as st

from thalweg.agent.cores import CoreShares


def test_workers_get_cores_of_their_own_while_there_are_any() -> None:
    cores = CoreShares(range(4))
    assert (cores.take(2), cores.take(1.5)) == ((0, 1), (2, 3))
    assert cores.take(0.5) == (2,)  # the one of which least is promised, the lower number first


def test_who_asks_for_nothing_or_for_all_may_use_every_core() -> None:
    cores = CoreShares(range(2))
    assert (cores.take(0), cores.take(2), cores.take(64)) == ((), (), ())


def test_what_is_given_back_is_free_again() -> None:
    cores = CoreShares(range(3))
    first = cores.take(1)
    cores.take(1)
    cores.give_back(first, 1)
    assert cores.take(1) == first


@given(st.lists(st.floats(0.001, 8), max_size=30))
def test_while_no_more_is_asked_for_than_there_is_no_core_is_promised_to_one_more_than_needed(
    asked: list[float],
) -> None:
    cores = CoreShares(range(8))
    held = [(cores.take(cpus), cpus) for cpus in asked]
    assert all(len(chosen) >= min(cpus, 7) or not chosen for chosen, cpus in held)
    for chosen, cpus in held:
        cores.give_back(chosen, cpus)
    assert cores.take(7) == tuple(range(7))
