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


def identity(shape: list[int], name: str = "x", *, inputs: int = 1, kind: int = TensorProto.FLOAT) -> bytes:
    """Write a model that gives back its first input; without inputs it gives a constant."""
    asked = [helper.make_tensor_value_info(name if place == 0 else f"x{place}", kind, shape) for place in range(inputs)]
    constant = [] if inputs else [helper.make_tensor(name, kind, [1], [0])]
    graph = helper.make_graph(
        [helper.make_node("Identity", [name], ["y"])],
        "identity",
        asked,
        [helper.make_tensor_value_info("y", kind, shape)],
        constant,
    )
    built = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 16)], ir_version=8)
    return bytes(built.SerializeToString())


def listing() -> bytes:
    """Write a model whose output is a list of tensors, which the protocol cannot carry."""
    tensor = helper.make_tensor_type_proto(TensorProto.FLOAT, [1, INPUTS])
    graph = helper.make_graph(
        [helper.make_node("SequenceConstruct", ["x"], ["y"])],
        "listing",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, INPUTS])],
        [helper.make_value_info("y", helper.make_sequence_type_proto(tensor))],
    )
    built = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 16)], ir_version=8)
    return bytes(built.SerializeToString())


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
