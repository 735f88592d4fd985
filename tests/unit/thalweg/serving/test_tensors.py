"""Tensors of the protocol: what is written is read back, and what is not what it says is refused in words."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from thalweg.serving.tensors import DTYPES, RequestTensor, TensorError, from_array, to_array

NUMBERS = st.sampled_from([name for name in DTYPES if name != "BYTES"])


@given(st.data())
def test_a_tensor_that_was_written_is_read_back(data: st.DataObject) -> None:
    dtype = np.dtype(DTYPES[data.draw(NUMBERS)])
    finite = {"allow_nan": False, "allow_infinity": False} if dtype.kind == "f" else {}
    array = data.draw(arrays.arrays(dtype, arrays.array_shapes(max_dims=3, max_side=4), elements=finite or None))
    told = json.loads(json.dumps(from_array("x", array)))
    found = to_array(RequestTensor(**told))
    assert found.dtype == array.dtype
    assert np.array_equal(found, array)


@given(arrays.array_shapes(min_dims=1, max_dims=3, max_side=4))
def test_data_may_lie_in_lists_within_lists(shape: tuple[int, ...]) -> None:
    array = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    nested = RequestTensor(name="x", shape=list(shape), datatype="FP32", data=array.tolist())
    assert np.array_equal(to_array(nested), array)


def test_words_travel_as_bytes() -> None:
    told = from_array("label", np.array(["cat", "dög"], object))
    assert told == {"name": "label", "shape": [2], "datatype": "BYTES", "data": ["cat", "dög"]}
    assert to_array(RequestTensor(**told)).tolist() == ["cat", "dög"]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"datatype": "FP31"}, "datatype 'FP31'"),
        ({"shape": [2]}, "1 values; its shape"),
        ({"shape": [-1]}, "lengths from 0"),
        ({"shape": [1] * 9}, "up to 8"),
        ({"data": ["1"]}, "no value of FP32"),
        ({"data": [None]}, "no value of FP32"),
        ({"data": [[1, 2], 3], "shape": [2]}, "no value of FP32"),
        ({"data": [True]}, "no value of FP32"),
        ({"data": [1e39]}, "too large for FP32"),
        ({"datatype": "INT8", "data": [300]}, "out of bounds"),
        ({"datatype": "INT8", "data": [1.0]}, "no value of INT8"),
        ({"datatype": "UINT8", "data": [-1]}, "out of bounds"),
        ({"datatype": "BOOL", "data": [1]}, "no value of BOOL"),
    ],
)
def test_a_tensor_that_is_not_what_it_says_is_refused(fields: dict[str, Any], words: str) -> None:
    told = {"name": "x", "shape": [1], "datatype": "FP32", "data": [1.0], **fields}
    with pytest.raises(TensorError, match=words):
        to_array(RequestTensor(**told))


def test_numbers_that_json_cannot_say_are_refused() -> None:
    with pytest.raises(TensorError, match="not finite"):
        from_array("y", np.array([np.nan], np.float32))
