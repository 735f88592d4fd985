"""Aggregates: order does not count, and a minority of liars does not get its way where that is promised."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.learning.aggregates.robust import AGGREGATES, AggregateError, WeightedChange, krum, mean
from thalweg.learning.aggregates.strategies import STRATEGIES, Combining, ReceivedUpdate
from thalweg.learning.rounds.run_spec import RunSpec, RunSpecError
from thalweg.learning.vectors.parameters import Vector


def updates(count: int, size: int, seed: int) -> list[WeightedChange]:
    generator = np.random.default_rng(seed)
    return [
        WeightedChange(
            participant=f"p{index}",
            vector=generator.standard_normal(size).astype(np.float32),
            weight=int(generator.integers(1, 100)),
        )
        for index in range(count)
    ]


@given(st.sampled_from(sorted(AGGREGATES)), st.integers(5, 12), st.integers(0, 999), st.randoms(use_true_random=False))
def test_no_aggregate_sees_the_order(name: str, count: int, seed: int, random) -> None:  # type: ignore[no-untyped-def]
    given_ = updates(count, 7, seed)
    shuffled = list(given_)
    random.shuffle(shuffled)
    aggregate = AGGREGATES[name]
    assert aggregate(shuffled, 0.2).tobytes() == aggregate(given_, 0.2).tobytes()


def test_the_mean_is_weighed_by_samples() -> None:
    told = [
        WeightedChange(participant=name, vector=np.array([value], np.float32), weight=weight)
        for name, value, weight in (("a", 1, 1), ("b", 5, 3))
    ]
    assert mean(told).tolist() == [4.0]


@pytest.mark.parametrize("name", ["median", "trimmed", "krum", "clipped"])
@pytest.mark.parametrize("lie", [1e6, -1e6, 1e29])
def test_a_fifth_of_liars_moves_a_robust_aggregate_little_and_the_mean_as_far_as_they_like(
    name: str, lie: float
) -> None:
    honest = updates(16, 20, 3)
    liars = [
        WeightedChange(participant=f"z{index}", vector=np.full(20, lie, np.float32), weight=100) for index in range(4)
    ]
    told = AGGREGATES[name]([*honest, *liars], 0.2)
    length = max(float(np.linalg.norm(update.vector)) for update in honest)
    assert np.linalg.norm(told) <= length
    assert np.linalg.norm(mean([*honest, *liars]).astype(np.float64)) > 100 * length


def test_too_few_updates_for_an_aggregate_are_an_error_that_says_how_many() -> None:
    with pytest.raises(AggregateError, match="needed are at least 4"):
        krum(updates(3, 2, 0), 0.3)


@given(st.sampled_from(sorted(AGGREGATES)), st.integers(1, 12), st.integers(0, 12), st.floats(0, 0.49))
def test_what_a_run_may_ask_for_can_be_aggregated(name: str, quorum: int, more: int, liars: float) -> None:
    spec = RunSpec(parameters=2, rounds=1, quorum=quorum, aggregate=name, liars=liars, codec="delta")
    try:
        spec.check()
    except RunSpecError:
        assert name == "krum"
        return
    assert np.isfinite(AGGREGATES[name](updates(quorum + more, 2, 0), liars)).all()


def received(change: list[float], staleness: int = 0, samples: int = 10, name: str = "p") -> ReceivedUpdate:
    return ReceivedUpdate(participant=name, vector=np.array(change, np.float32), samples=samples, staleness=staleness)


def test_fedavg_is_the_mean_of_the_parameters_bit_for_bit() -> None:
    vectors = updates(9, 50, 5)
    before: Vector = np.full(50, 0.1, np.float32)
    sent = [ReceivedUpdate(participant=u.participant, vector=u.vector, samples=u.weight, staleness=0) for u in vectors]
    found = STRATEGIES["fedavg"].advance(before, sent, Combining(whole=True), 9)
    true = sum(u.vector.astype(np.longdouble) * u.weight for u in vectors) / sum(u.weight for u in vectors)
    assert found.tobytes() == true.astype(np.float32).tobytes()


def test_fedbuff_believes_an_old_update_less() -> None:
    fedbuff = STRATEGIES["fedbuff"]
    zero = np.zeros(1, np.float32)
    for staleness in (0, 1, 3, 15):
        found = fedbuff.advance(zero, [received([1.0], staleness)], Combining(), 1)
        assert found[0] == pytest.approx(1 / np.sqrt(1 + staleness), abs=1e-6)
    both = fedbuff.advance(zero, [received([1.0], 0, name="a"), received([1.0], 3, name="b")], Combining(), 2)
    assert both[0] == pytest.approx(0.75, abs=1e-6)


def test_scaffold_moves_its_control_variate_by_the_share_that_took_part() -> None:
    before = np.zeros(4, np.float32)
    sent = [received([1, 2, 4, 8], name="a", samples=1), received([3, 2, 0, 0], name="b", samples=999)]
    found = STRATEGIES["scaffold"].advance(before, sent, Combining(), 8)
    assert found.tolist() == [2, 2, 0.5, 1]
