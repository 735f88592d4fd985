"""A version in memory, ready to answer: loaded by ONNX Runtime, compared with what was declared, and warm."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import onnxruntime as ort

from thalweg.conf.words import cut_short
from thalweg.serving.tensors import DTYPES, Array, RequestTensor, TensorError, datatype_of, to_array
from thalweg.serving.version_record import ModelVersion, TensorSpec

WARM_RUNS: Final = 3
"""The first run of a session allocates what later ones reuse."""
MOST_WARM_VALUES: Final = 2**24
"""Of all inputs together: a model that asks for more at once, no request within the door's limit could feed."""
_SILENT: Final = 4
"""ONNX Runtime logs fatal errors alone: what a caller's values cause is the answer to that caller, not a line here."""


class ModelRefusedError(Exception):
    """Bytes are no model that may be served as the version they are said to be; the text says why."""


class LoadedModel:
    """One version. Threads may share it."""

    def __init__(self, version: ModelVersion, raw: bytes) -> None:
        """Load it, look at its inputs, and let it answer a few times.

        Args:
            version: as it was declared.
            raw: the ONNX file, whose digest has been compared.

        Raises:
            ModelRefusedError: it cannot be loaded, asks for other inputs than declared, or does not run.
        """
        self.version = version
        self._session = opened(raw)
        self.inputs = inputs_of(self._session)
        self.outputs = outputs_of(self._session)
        if self.inputs != version.inputs:
            raise ModelRefusedError(
                f"version {version.version} asks for {_told(self.inputs)}; declared is {_told(version.inputs)}"
            )
        self._warm()

    def taken(self, tensors: Sequence[RequestTensor]) -> dict[str, Array]:
        """Read a request's inputs.

        Raises:
            TensorError: they are not what the model asks for.
        """
        specs = {spec.name: spec for spec in self.inputs}
        given = [tensor.name for tensor in tensors]
        if sorted(given) != sorted(specs):
            raise TensorError(f"inputs {given}: allowed are {list(specs)}, each once")
        return {tensor.name: _fitting(tensor, specs[tensor.name]) for tensor in tensors}

    def infer(self, arrays: Mapping[str, Array], wanted: Sequence[str] = ()) -> dict[str, Array]:
        """Answer.

        Args:
            arrays: inputs by name, as `taken` gives them.
            wanted: names of outputs; none for all.

        Raises:
            TensorError: there is no such output, or the model cannot compute with these values.
        """
        names = [spec.name for spec in self.outputs]
        if strangers := [name for name in wanted if name not in names]:
            raise TensorError(f"output {strangers[0]!r}: allowed are {names}")
        asked = list(dict.fromkeys(wanted)) or names
        try:
            found = self._session.run(asked, dict(arrays))
        except Exception as error:  # ONNX Runtime's own errors share no class but this
            raise TensorError(f"the model cannot answer this: {_short(error)}") from error
        return {name: np.asarray(value) for name, value in zip(asked, found, strict=True)}

    def _warm(self) -> None:
        shapes = {spec.name: [max(length, 1) for length in spec.shape] for spec in self.inputs}
        values = sum(math.prod(shape) for shape in shapes.values())
        if values > MOST_WARM_VALUES:
            raise ModelRefusedError(
                f"version {self.version.version} asks for {values:,} values at least; allowed are {MOST_WARM_VALUES:,}"
            )
        try:
            zeros = {
                spec.name: np.full(shapes[spec.name], "" if spec.datatype == "BYTES" else 0, DTYPES[spec.datatype])
                for spec in self.inputs
            }
            for _ in range(WARM_RUNS):
                self.infer(zeros)
        except (TensorError, MemoryError, ValueError) as error:
            raise ModelRefusedError(f"version {self.version.version} does not run: {error}") from error


def opened(raw: bytes) -> ort.InferenceSession:
    """Open an ONNX file for one thread: requests run beside each other, not each on all cores.

    Raises:
        ModelRefusedError: it is none.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = _SILENT
    try:
        return ort.InferenceSession(raw, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's own errors share no class but this
        raise ModelRefusedError(f"no ONNX model that can be loaded: {_short(error)}") from error


def inputs_of(session: ort.InferenceSession) -> tuple[TensorSpec, ...]:
    """Say what a model asks for.

    Raises:
        ModelRefusedError: something that the protocol cannot carry.
    """
    return tuple(_spec(node) for node in session.get_inputs())


def outputs_of(session: ort.InferenceSession) -> tuple[TensorSpec, ...]:
    """Say what a model gives.

    Raises:
        ModelRefusedError: something that the protocol cannot carry.
    """
    return tuple(_spec(node) for node in session.get_outputs())


def _spec(node: Any) -> TensorSpec:
    try:
        datatype = datatype_of(node.type)
    except TensorError as error:
        raise ModelRefusedError(f"{node.name}: {error}") from error
    shape = tuple(length if isinstance(length, int) and length >= 0 else -1 for length in node.shape)
    return TensorSpec(name=node.name, datatype=datatype, shape=shape)


def _fitting(tensor: RequestTensor, spec: TensorSpec) -> Array:
    if tensor.datatype != spec.datatype:
        raise TensorError(f"input {tensor.name!r}: datatype {tensor.datatype}; allowed is {spec.datatype}")
    fits = len(tensor.shape) == len(spec.shape) and all(
        wanted in (-1, length) for length, wanted in zip(tensor.shape, spec.shape, strict=True)
    )
    if not fits:
        raise TensorError(f"input {tensor.name!r}: shape {tensor.shape}; allowed is {list(spec.shape)}, -1 for any")
    return to_array(tensor)


def _told(specs: Sequence[TensorSpec]) -> str:
    return ", ".join(f"{spec.name} {spec.datatype}{list(spec.shape)}" for spec in specs)


def _short(error: Exception) -> str:
    return cut_short(str(error))
