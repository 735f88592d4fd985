"""Tensors of the Open Inference Protocol (version 2, JSON over HTTP), and arrays of numpy.

The protocol: github.com/kserve/open-inference-protocol, specification/protocol/inference_rest.md.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

DTYPES: Final[Mapping[str, type[np.generic]]] = {
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
    "BYTES": np.object_,
}
"""By the protocol's name. BYTES are strings in JSON."""
_OF_ONNX: Final[Mapping[str, str]] = {
    "tensor(bool)": "BOOL",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(float16)": "FP16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(string)": "BYTES",
}
_MOST_AXES: Final = 8
_ALLOWED: Final = {
    "b": frozenset({bool}),
    "u": frozenset({int}),
    "i": frozenset({int}),
    "f": frozenset({int, float}),
    "O": frozenset({str}),
}
"""What JSON writes a value of a kind of numpy's as; a bool is no number."""


class TensorError(ValueError):
    """A request holds no tensors that the model can take; the text says what is allowed."""


class RequestTensor(msgspec.Struct, frozen=True, kw_only=True):
    """An input as it is asked with. Fields that are not known are passed over, as the protocol wants it."""

    name: str
    shape: list[int]
    datatype: str
    data: list[Any]
    """Flat, or in lists within lists, row by row."""


class RequestOutput(msgspec.Struct, frozen=True, kw_only=True):
    """An output that is wanted."""

    name: str


class InferRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request."""

    inputs: list[RequestTensor]
    outputs: list[RequestOutput] = []
    """Those that are wanted; empty for all."""
    id: str = ""
    """The caller's; comes back with the answer."""


def datatype_of(onnx_type: str) -> str:
    """Name ONNX Runtime's type of a tensor as the protocol does.

    Raises:
        TensorError: it is none that the protocol knows.
    """
    if onnx_type not in _OF_ONNX:
        raise TensorError(f"the model has {onnx_type}: allowed are {', '.join(_OF_ONNX)}")
    return _OF_ONNX[onnx_type]


def to_array(tensor: RequestTensor) -> Array:
    """Read a tensor.

    Raises:
        TensorError: its data are not what its shape and datatype say.
    """
    if tensor.datatype not in DTYPES:
        raise TensorError(f"input {tensor.name!r}: datatype {tensor.datatype!r}; allowed are {', '.join(DTYPES)}")
    if len(tensor.shape) > _MOST_AXES or any(length < 0 for length in tensor.shape):
        raise TensorError(f"input {tensor.name!r}: shape {tensor.shape}; allowed are up to {_MOST_AXES} lengths from 0")
    flat = _flat(tensor.data)
    wanted = math.prod(tensor.shape)
    if len(flat) != wanted:
        raise TensorError(f"input {tensor.name!r}: {len(flat)} values; its shape {tensor.shape} has {wanted}")
    dtype = np.dtype(DTYPES[tensor.datatype])
    allowed = _ALLOWED[dtype.kind]
    if not allowed.issuperset(map(type, flat)):
        wrong = next(value for value in flat if type(value) not in allowed)
        raise TensorError(f"input {tensor.name!r}: {str(wrong)[:40]!r} is no value of {tensor.datatype}")
    try:
        with np.errstate(over="ignore"):  # told below
            array = np.array(flat, dtype)
    except (OverflowError, ValueError) as error:
        raise TensorError(f"input {tensor.name!r}: {error}") from error
    if dtype.kind == "f" and not np.isfinite(array).all():
        raise TensorError(f"input {tensor.name!r}: a value is too large for {tensor.datatype}")
    return array.reshape(tensor.shape)


def from_array(name: str, array: Array) -> dict[str, Any]:
    """Write a tensor, flat.

    Raises:
        TensorError: a number is not finite, which JSON cannot say.
    """
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise TensorError(f"output {name!r} holds numbers that are not finite")
    if array.dtype.kind in "OUS":
        datatype = "BYTES"
    else:
        datatype = next(name for name, dtype in DTYPES.items() if array.dtype == dtype)
    return {"name": name, "shape": list(array.shape), "datatype": datatype, "data": array.ravel().tolist()}


def _flat(data: Sequence[Any]) -> list[Any]:
    """Take lists within lists apart."""
    flat = list(data)
    for _ in range(_MOST_AXES):
        if not flat or not isinstance(flat[0], list):
            break
        if not all(isinstance(part, list) for part in flat):
            break  # found by the types of the values
        flat = [value for part in flat for value in part]
    return flat
