"""What is written can be read, costs few bytes, and what anybody else may have written is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.learning.codecs.codec import CodecError, parse_codec
from thalweg.learning.codecs.feedback import Feedback
from thalweg.learning.vectors.parameters import VectorError

CODECS = (
    "whole", "whole+zstd", "delta", "delta+zstd", "delta+bits=8", "delta+bits=4", "delta+top=0.1",
    "delta+top=0.01+bits=4",
    "delta+top=0.02+bits=8+zstd", "delta+top=0.3+bits=4+zstd",
)  # fmt: skip


def noise(size: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(size).astype(np.float32)


@given(st.sampled_from(CODECS), st.integers(1, 3_000), st.integers(0, 2**32))
def test_what_is_read_is_what_was_kept(name: str, size: int, seed: int) -> None:
    codec = parse_codec(name)
    vector = noise(size, seed)
    found = codec.decode(codec.encode(vector), size)
    kept = found != 0
    assert kept.sum() <= max(1, round(codec.top * size))
    largest = float(np.abs(vector).max())
    # Of what was kept the error is half a level; what was left out is no larger than what was kept.
    levels = 2 ** (codec.bits - 1) - 1 if codec.bits < 32 else 2**24
    assert np.abs(found - vector)[kept].max(initial=0) <= largest / levels
    if codec.top < 1 and kept.any() and not kept.all():
        assert np.abs(vector[~kept]).max() <= np.abs(vector[kept]).min() + largest / levels
    if not codec.loses:
        assert found.tobytes() == vector.tobytes()


@pytest.mark.parametrize("name", CODECS)
def test_a_codecs_name_says_it(name: str) -> None:
    assert parse_codec(name).name == name


@pytest.mark.parametrize(
    "name", ["", "half", "whole+bits=8", "delta+bits=3", "delta+top=2", "delta+top=0.1+top=0.2", "delta+"]
)
def test_a_name_that_says_nothing_is_refused_with_what_is_allowed(name: str) -> None:
    with pytest.raises(CodecError, match="allowed are `whole` or `delta`"):
        parse_codec(name)


@given(st.sampled_from(CODECS), st.binary(max_size=200), st.integers(0, 200), st.data())
def test_hostile_bytes_are_refused_or_read_as_finite_numbers(
    name: str, raw: bytes, cut: int, data: st.DataObject
) -> None:
    codec = parse_codec(name)
    honest = codec.encode(noise(100, 1))
    place = data.draw(st.integers(0, len(honest)))
    for bad in (raw, honest[:cut], honest[:place] + raw + honest[place:]):
        try:
            found = codec.decode(bad, 100)
        except VectorError:
            continue
        assert found.shape == (100,)
        assert np.isfinite(found).all()


def test_a_packed_bomb_is_not_unpacked() -> None:
    bomb = parse_codec("whole+zstd").encode(np.zeros(10_000_000, np.float32))
    assert len(bomb) < 10_000
    with pytest.raises(VectorError, match="would unpack to 40000000 bytes"):
        parse_codec("delta+zstd").decode(bomb, 100)


def test_a_hundredth_of_the_numbers_in_four_bits_is_a_two_hundredth_of_the_bytes() -> None:
    assert len(parse_codec("delta+top=0.01+bits=4").encode(noise(10_000, 1))) < 40_000 / 200


@given(st.sampled_from([name for name in CODECS if parse_codec(name).loses]), st.integers(1, 400), st.integers(0, 99))
def test_what_was_left_out_is_sent_later(name: str, size: int, seed: int) -> None:
    codec = parse_codec(name)
    feedback = Feedback(codec, size)
    wanted, sent = np.zeros(size), np.zeros(size)
    for number in range(8):
        change = noise(size, seed + number)
        wanted += change
        sent += codec.decode(feedback.encode(change), size)
        np.testing.assert_allclose(sent + feedback.owed, wanted, atol=1e-3)
