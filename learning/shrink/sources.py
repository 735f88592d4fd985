"""Models that can be made small, each as what it takes to write it as ONNX with a share of its parts.

Every one of them takes `x`, float32 [samples, inputs], and gives `label`, the class of each sample.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, Protocol

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from thalweg.learning.local.network import LayeredNetwork
from thalweg.learning.shrink.pruning import Layer, trees_that_stay, without_units
from thalweg.learning.vectors.parameters import Vector

OPSET: Final = 17
"""Of ONNX: the newest that every runtime since 2022 reads, and that the quantiser writes for."""
IR_VERSION: Final = 8
INPUT: Final = "x"
LABEL: Final = "label"
PROBABILITIES: Final = "probabilities"


class SourceError(ValueError):
    """A model that cannot be written as ONNX here; the text says what can."""


class Source(Protocol):
    """A model."""

    @property
    def parts(self) -> str:
        """What can be left out of it: `units`, `trees`, or empty for nothing."""

    def onnx(self, share: float) -> onnx.ModelProto:
        """Write it with this share of its parts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkSource:
    """Our network of one hidden layer, or none (`learning.local.network`)."""

    network: LayeredNetwork
    vector: Vector

    @property
    def parts(self) -> str:
        """Units, where there is a hidden layer."""
        return "units" if self.network.hidden else ""

    def onnx(self, share: float) -> onnx.ModelProto:
        """Write it."""
        return written(without_units(self._layers(), share))

    def _layers(self) -> list[Layer]:
        sizes = [self.network.inputs, *([self.network.hidden] if self.network.hidden else []), self.network.classes]
        layers, begin = [], 0
        for inputs, outputs in pairwise(sizes):
            middle, end = begin + inputs * outputs, begin + (inputs + 1) * outputs
            weights = self.vector[begin:middle].reshape(inputs, outputs)
            layers.append(Layer(weights=weights, bias=self.vector[middle:end]))
            begin = end
        return layers


@dataclass(frozen=True, slots=True, kw_only=True)
class SklearnSource:
    """A classifier of scikit-learn."""

    model: Any
    inputs: int

    @property
    def parts(self) -> str:
        """Units of a multilayer perceptron, trees of a forest."""
        if hasattr(self.model, "coefs_") and hasattr(self.model, "intercepts_"):
            return "units"
        return "trees" if type(self.model).__name__ in _FORESTS else ""

    def onnx(self, share: float) -> onnx.ModelProto:
        """Write it, by skl2onnx.

        Raises:
            SourceError: skl2onnx does not know such a model.
        """
        from skl2onnx import to_onnx
        from skl2onnx.common.data_types import FloatTensorType

        try:
            made: onnx.ModelProto = to_onnx(
                self._cut(share),
                initial_types=[(INPUT, FloatTensorType([None, self.inputs]))],
                options={"zipmap": False},
                target_opset={"": OPSET, "ai.onnx.ml": 3},
            )
        except Exception as error:  # its errors share no class but this
            raise SourceError(f"{type(self.model).__name__} cannot be written as ONNX: {str(error)[:300]}") from error
        return named(made)

    def _cut(self, share: float) -> Any:
        if share >= 1:
            return self.model
        cut = copy.copy(self.model)
        if self.parts == "units":
            layers = [
                Layer(weights=weights, bias=bias)
                for weights, bias in zip(self.model.coefs_, self.model.intercepts_, strict=True)
            ]
            layers = without_units(layers, share)
            cut.coefs_ = [layer.weights for layer in layers]
            cut.intercepts_ = [layer.bias for layer in layers]
            cut.hidden_layer_sizes = tuple(layer.bias.size for layer in layers[:-1])
        elif self.parts == "trees":
            cut.estimators_ = self.model.estimators_[: trees_that_stay(len(self.model.estimators_), share)]
            cut.n_estimators = len(cut.estimators_)
        return cut


_FORESTS: Final = frozenset({"RandomForestClassifier", "ExtraTreesClassifier"})


@dataclass(frozen=True, slots=True, kw_only=True)
class OnnxSource:
    """A model that is ONNX already: nothing can be left out, its weights can be written in fewer bits."""

    model: onnx.ModelProto

    @property
    def parts(self) -> str:
        """Nothing."""
        return ""

    def onnx(self, share: float) -> onnx.ModelProto:
        """Return it."""
        return self.model


def written(layers: Sequence[Layer]) -> onnx.ModelProto:
    """Write dense layers with rectified units between them.

    MatMul and Add instead of Gemm, because the quantiser takes the former.
    """
    nodes, values, last = [], [], INPUT
    for number, layer in enumerate(layers):
        weights, bias, product, total = (f"{letter}{number}" for letter in "wbps")
        values += [
            numpy_helper.from_array(np.ascontiguousarray(layer.weights, np.float32), weights),
            numpy_helper.from_array(np.ascontiguousarray(layer.bias, np.float32), bias),
        ]
        nodes += [
            helper.make_node("MatMul", [last, weights], [product]),
            helper.make_node("Add", [product, bias], [total]),
        ]
        last = total
        if number + 1 < len(layers):
            nodes.append(helper.make_node("Relu", [total], [f"r{number}"]))
            last = f"r{number}"
    nodes += [
        helper.make_node("ArgMax", [last], [LABEL], axis=1, keepdims=0),
        helper.make_node("Softmax", [last], [PROBABILITIES], axis=1),
    ]
    inputs, classes = layers[0].weights.shape[0], layers[-1].bias.size
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, [None, inputs])],
        [
            helper.make_tensor_value_info(LABEL, TensorProto.INT64, [None]),
            helper.make_tensor_value_info(PROBABILITIES, TensorProto.FLOAT, [None, classes]),
        ],
        values,
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
    made.ir_version = IR_VERSION
    onnx.checker.check_model(made)
    return made


def named(model: onnx.ModelProto) -> onnx.ModelProto:
    """Give the graph and its producer the same names every time: skl2onnx draws some, and a digest would differ."""
    model.graph.name = "model"
    model.ir_version = min(model.ir_version, IR_VERSION)
    return model
