"""Repeated answers: what is kept is what was given, never more than allowed, and the oldest use goes first."""

from collections import OrderedDict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.serving.repeated_answers import OVERHEAD_BYTES, RepeatedAnswers, answer_key

KEYS = st.sampled_from([b"a", b"b", b"c", b"d"])
ACTS = st.lists(st.tuples(KEYS, st.none() | st.binary(max_size=600)), max_size=60)


@given(ACTS, st.integers(0, 2_500))
def test_answers_are_those_of_a_plain_reckoning(acts: list[tuple[bytes, bytes | None]], limit: int) -> None:
    answers, kept = RepeatedAnswers(limit), OrderedDict[bytes, bytes]()
    for key, content in acts:
        if content is None:
            assert answers.get(key) == kept.get(key)
            if key in kept:
                kept.move_to_end(key)
            continue
        answers.put(key, content)
        if len(content) + OVERHEAD_BYTES <= limit:
            kept.pop(key, None)
            kept[key] = content
        while sum(len(one) + OVERHEAD_BYTES for one in kept.values()) > limit:
            kept.popitem(last=False)
        assert answers.size_bytes == sum(len(one) + OVERHEAD_BYTES for one in kept.values()) <= limit
        assert len(answers) == len(kept)


ONE = {"x": np.array([[1, 2]], np.float32)}


@pytest.mark.parametrize(
    ("version", "arrays", "outputs"),
    [
        ("b", ONE, ["label"]),
        ("a", {"x": np.array([[1, 3]], np.float32)}, ["label"]),
        ("a", {"x": np.array([[1], [2]], np.float32)}, ["label"]),
        ("a", {"x": np.array([[1, 2]], np.float64)}, ["label"]),
        ("a", {"y": np.array([[1, 2]], np.float32)}, ["label"]),
        ("a", ONE, []),
    ],
)
def test_what_differs_in_anything_is_another_answer(
    version: str, arrays: dict[str, np.ndarray], outputs: list[str]
) -> None:
    assert answer_key(version, arrays, outputs) != answer_key("a", ONE, ["label"])
    assert answer_key("a", {"x": ONE["x"].copy()}, ["label"]) == answer_key("a", ONE, ["label"])


def test_words_that_run_into_each_other_are_told_apart() -> None:
    keys = {answer_key("a", {"x": np.array(words, object)}, []) for words in (["ab", "c"], ["a", "bc"], ["abc", ""])}
    assert len(keys) == 3
