"""The sum is exact whoever drops out, the centre sees noise, and nobody reveals one participant's numbers."""

import itertools
import random
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("cryptography", reason="the extra `learning` is not installed")

from thalweg.learning.secrecy.fixed_point import FixedPoint, OutOfRangeError, Words
from thalweg.learning.secrecy.secure_sum import Asked, SecureCentre, SecureParticipant, SecureSumError, Terms
from thalweg.learning.secrecy.shares import SharesError, joined, split

SIZE = 40


def entropy_of(seed: int):  # type: ignore[no-untyped-def]
    return random.Random(seed).randbytes


class Round:
    """All of them, exchange by exchange; `drops` says after which exchange who falls silent."""

    def __init__(self, terms: Terms, inputs: dict[int, Words], drops: dict[int, int]) -> None:
        self.terms, self.inputs, self.drops = terms, inputs, drops
        self.centre = SecureCentre(terms, SIZE)
        self.all = {number: SecureParticipant(number, terms, entropy_of(number)) for number in terms.participants}

    def there(self, exchange: int) -> Iterator[SecureParticipant]:
        return (one for number, one in self.all.items() if self.drops.get(number, 9) >= exchange)

    def total(self) -> Words:
        for one in self.there(1):
            self.centre.keys[one.number] = one.keys()
        for one in self.there(2):
            self.centre.sealed[one.number] = one.share(self.centre.keys)
        for one in self.there(3):
            self.centre.words[one.number] = one.masked(self.inputs[one.number], self.centre.shares_for(one.number))
        asked = self.centre.asked()
        return self.centre.total({one.number: one.unmask(asked) for one in self.there(4)})

    def expected(self) -> Words:
        return sum((self.inputs[one.number] for one in self.there(3)), np.zeros(SIZE, np.uint32))


def inputs_of(terms: Terms) -> dict[int, Words]:
    generator = np.random.default_rng(0)
    return {number: generator.integers(0, 2**32, SIZE, dtype=np.uint32) for number in terms.participants}


@pytest.mark.parametrize("exchange", [0, 1, 2, 3])
def test_the_sum_is_exact_for_every_set_of_dropouts_that_leaves_the_threshold(exchange: int) -> None:
    terms = Terms(context=b"m 1", participants=(1, 2, 3, 4, 5), threshold=3)
    terms.check()
    inputs = inputs_of(terms)
    sets = [dropped for count in range(3) for dropped in itertools.combinations(terms.participants, count)]
    assert len(sets) == 1 + 5 + 10, "every set up to n - t"
    for dropped in sets:
        found = Round(terms, inputs, dict.fromkeys(dropped, exchange))
        assert (found.total() == found.expected()).all(), (dropped, exchange)


@settings(max_examples=25)
@given(st.dictionaries(st.integers(1, 9), st.integers(0, 3), max_size=3), st.sampled_from([0, 6]))
def test_the_sum_is_exact_whoever_drops_out_when(drops: dict[int, int], degree: int) -> None:
    terms = Terms(context=b"m 1", participants=tuple(range(1, 10)), threshold=5, degree=degree)
    found = Round(terms, inputs_of(terms), drops)
    try:
        total = found.total()
    except SecureSumError:
        # Refused rather than wrong: where three of a neighbourhood of seven are gone.
        assert degree and len(drops) == 3
        return
    assert (total == found.expected()).all()


def test_beyond_the_threshold_there_is_no_sum_rather_than_a_wrong_one() -> None:
    terms = Terms(context=b"m 1", participants=(1, 2, 3, 4, 5), threshold=3)
    for exchange in (0, 1, 2, 3):
        with pytest.raises(SecureSumError, match=r"needed are [23]"):
            Round(terms, inputs_of(terms), dict.fromkeys((1, 2, 3), exchange)).total()


def test_what_the_centre_sees_of_one_is_noise() -> None:
    """Of one input, seen under many keys: every bit is as often set as not, and does not go with the input's."""
    terms = Terms(context=b"m 1", participants=(1, 2, 3), threshold=2)
    plain = np.arange(SIZE, dtype=np.uint32)
    seen = []
    for trial in range(120):
        round_ = Round(terms, dict.fromkeys(terms.participants, plain), {})
        round_.all = {n: SecureParticipant(n, terms, entropy_of(1_000 * trial + n)) for n in terms.participants}
        assert (round_.total() == plain * 3).all()
        seen.append(round_.centre.words[1])
    bits = np.unpackbits(np.stack(seen).view(np.uint8), axis=1).astype(float)
    deviation = (bits.mean(axis=0) - 0.5) * 2 * np.sqrt(len(seen))
    assert np.abs(deviation).max() < 5, "of 1,280 bits none is five standard deviations off"
    assert np.mean(deviation**2) == pytest.approx(1, abs=0.25)
    together = np.corrcoef(np.stack(seen).astype(float).T)
    assert np.abs(together[~np.eye(SIZE, dtype=bool)]).max() < 5 / np.sqrt(len(seen))


def test_nobody_reveals_both_secrets_of_one_nor_answers_twice_nor_a_sum_of_few() -> None:
    terms = Terms(context=b"m 1", participants=(1, 2, 3, 4), threshold=2)
    round_ = Round(terms, inputs_of(terms), {})
    round_.total()
    one = round_.all[1]
    with pytest.raises(SecureSumError, match=r"both secrets of \[2\]"):
        one.unmask(Asked(sent=frozenset({1, 2, 3}), gone=frozenset({2})))
    with pytest.raises(SecureSumError, match="something else was asked for before"):
        one.unmask(Asked(sent=frozenset({1, 3, 4}), gone=frozenset({2})))
    with pytest.raises(SecureSumError, match="a sum of 1"):
        one.unmask(Asked(sent=frozenset({2}), gone=frozenset({3})))


def test_a_share_that_somebody_else_sealed_is_refused() -> None:
    terms = Terms(context=b"m 1", participants=(1, 2, 3), threshold=2)
    round_ = Round(terms, inputs_of(terms), {})
    for one in round_.all.values():
        round_.centre.keys[one.number] = one.keys()
    for one in round_.all.values():
        round_.centre.sealed[one.number] = one.share(round_.centre.keys)
    shares = dict(round_.centre.shares_for(1))
    with pytest.raises(SecureSumError, match="was not sealed by it"):
        round_.all[1].masked(round_.inputs[1], {2: shares[3], 3: shares[2]})


def test_a_threshold_that_two_halves_could_reach_is_refused() -> None:
    with pytest.raises(SecureSumError, match="allowed are 3 to 5"):
        Terms(context=b"", participants=(1, 2, 3, 4, 5), threshold=2).check()


@given(st.binary(min_size=1, max_size=64), st.integers(1, 6), st.integers(0, 4), st.randoms(use_true_random=False))
def test_any_threshold_of_shares_gives_the_secret_back(secret: bytes, threshold: int, more: int, luck) -> None:  # type: ignore[no-untyped-def]
    holders = luck.sample(range(1, 100), threshold + more)
    shares = split(secret, holders, threshold, luck.randbytes)
    chosen = dict(luck.sample(sorted(shares.items()), threshold))
    assert joined(chosen, threshold, len(secret)) == secret
    with pytest.raises(SharesError, match="needed are"):
        joined(dict(list(chosen.items())[1:]), threshold, len(secret))


FIXED = FixedPoint(largest=2.0, participants=10, most_weight=100)


@given(
    st.lists(
        st.tuples(st.lists(st.floats(-2, 2, width=32), min_size=3, max_size=3), st.integers(1, 100)),
        min_size=1,
        max_size=10,
    )
)
def test_a_sum_of_fixed_point_numbers_is_exact_and_its_mean_near(told) -> None:  # type: ignore[no-untyped-def]
    total = np.zeros(4, np.uint32)
    for numbers, weight in told:
        total = total + FIXED.write(np.array(numbers, np.float32), weight)
    steps, weight = FIXED.read(total)
    exact = sum(
        np.rint(np.array(numbers, np.float32).astype(float) / FIXED.step).astype(int) * w for numbers, w in told
    )
    assert steps.tolist() == exact.tolist()
    assert weight == sum(w for _, w in told)
    true = sum(np.array(numbers) * w for numbers, w in told) / weight
    np.testing.assert_allclose(FIXED.mean(total), true, atol=FIXED.step)


@pytest.mark.parametrize(("number", "weight"), [(2.1, 1), (-2.1, 1), (np.nan, 1), (np.inf, 1), (1.0, 0), (1.0, 101)])
def test_what_does_not_fit_is_refused_and_not_clipped(number: float, weight: int) -> None:
    with pytest.raises(OutOfRangeError, match="allowed are"):
        FIXED.write(np.array([number], np.float32), weight)
