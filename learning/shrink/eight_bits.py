"""Weights of eight bits, by ONNX Runtime's dynamic quantisation: products of whole numbers, scaled as it runs."""

import logging
from pathlib import Path
from typing import Final

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic

_PRODUCTS: Final = frozenset({"MatMul", "Gemm", "Conv", "Gather", "Attention", "LSTM"})
"""What the quantiser writes in eight bits; a model that has none stays as it is."""


def can_be_written_in_eight_bits(model: onnx.ModelProto) -> bool:
    """Tell whether there is anything in it that the quantiser takes."""
    return any(node.op_type in _PRODUCTS for node in model.graph.node)


def in_eight_bits(model: onnx.ModelProto, scratch: Path) -> onnx.ModelProto:
    """Write a model's weights in eight bits, a scale for each.

    Weights are unsigned: signed ones saturate on processors without VNNI instructions, which edges often are (ONNX
    Runtime's documentation, "When to use reduce-range and per-channel quantization?").

    Args:
        model: in float32.
        scratch: folder for a file that the quantiser writes.
    """
    written = scratch / "eight-bits.onnx"
    logging.getLogger().disabled, before = True, logging.getLogger().disabled  # it advises on the root logger
    try:
        quantize_dynamic(onnx.ModelProto.FromString(model.SerializeToString()), written, weight_type=QuantType.QUInt8)
    finally:
        logging.getLogger().disabled = before
    made = onnx.load(str(written))
    written.unlink()
    for node in made.graph.node:
        node.name = ""
        node.doc_string = ""
    return made
