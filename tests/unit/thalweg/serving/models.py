"""Small models for tests: of known answers, and of any size."""

import hashlib
from typing import Any

import numpy as np
from onnx import TensorProto, helper

from thalweg.learning.shrink.pruning import Layer
from thalweg.learning.shrink.sources import written
from thalweg.serving.version_record import ModelVersion, TensorSpec, Way

INPUTS = 3


def model(answer: int, classes: int = 8, inputs: int = INPUTS) -> bytes:
    """Write a model that names this class, whatever it is asked."""
    bias = np.zeros(classes, np.float32)
    bias[answer] = 1
    return written([Layer(weights=np.zeros((inputs, classes), np.float32), bias=bias)]).SerializeToString()


def spec(inputs: int = INPUTS) -> TensorSpec:
    """What such a model asks for."""
    return TensorSpec(name="x", datatype="FP32", shape=(-1, inputs))


def version(number: int, raw: bytes, **fields: Any) -> ModelVersion:
    """Declare a version whose bytes lie in the store as they are."""
    digest = hashlib.sha256(raw).hexdigest()
    plain = Way(codec="plain", sha256=digest, size_bytes=len(raw))
    told = {"version": number, "sha256": digest, "size_bytes": len(raw), "ways": (plain,), "inputs": (spec(),)}
    return ModelVersion(**{**told, **fields})


def question(values: list[float] | None = None) -> dict[str, Any]:
    """Ask with one sample."""
    return {"name": "x", "shape": [1, INPUTS], "datatype": "FP32", "data": values or [0.0] * INPUTS}


def fragile(limit: int) -> bytes:
    """Write a model that names the class 0 while its largest input is below the limit, and fails at any other."""
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["most"], axes=[1], keepdims=0),
        helper.make_node("Cast", ["most"], ["place"], to=TensorProto.INT64),
        helper.make_node("Gather", ["classes", "place"], ["label"]),
    ]
    graph = helper.make_graph(
        nodes,
        "fragile",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, INPUTS])],
        [helper.make_tensor_value_info("label", TensorProto.INT64, [None])],
        [helper.make_tensor("classes", TensorProto.INT64, [limit], [0] * limit)],
    )
    built = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return bytes(built.SerializeToString())
