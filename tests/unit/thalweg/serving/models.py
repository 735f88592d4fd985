"""Small models for tests: of known answers, and of any size."""

import hashlib
from typing import Any

import numpy as np

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
