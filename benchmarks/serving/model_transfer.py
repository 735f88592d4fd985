"""`bench model-transfer`: bytes of a new version on its way: whole, packed, and as its difference to the last one.

Models are of the digits of scikit-learn. What is compared with the ways that versions have (`serving.transfer`) is one
that they have not: float32 numbers against the last version's, their bytes sorted by place, and then packed. It loses
nothing either, and is what would find a small change in every number, if there is anything to be found.
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
import zstandard
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier

from thalweg.learning.local.network import LayeredNetwork
from thalweg.learning.local.training import LocalTraining, trained
from thalweg.learning.shrink.eight_bits import in_eight_bits
from thalweg.learning.shrink.sources import NetworkSource, SklearnSource
from thalweg.learning.vectors.parameters import Vector
from thalweg.serving.transfer import difference, packed
from thalweg.stack.machine import describe

_LEVEL: Final = 9
_FLOAT_BYTES: Final = 4


def measure(trees: int = 100, more_trees: int = 5, hidden: int = 512, seed: int = 0) -> dict[str, Any]:
    """Measure each way of each new version.

    Args:
        trees: of the forest.
        more_trees: that its next version has.
        hidden: width of the network's hidden layer.
        seed: of everything.
    """
    found = {name: _ways(old, new) for name, old, new in _versions(trees, more_trees, hidden, seed)}
    return {"machine": describe(), **found}


def _versions(trees: int, more_trees: int, hidden: int, seed: int) -> Iterator[tuple[str, bytes, bytes]]:
    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype(np.float32)
    half = len(y) // 2

    def forest(samples: int, count: int) -> RandomForestClassifier:
        return RandomForestClassifier(count, random_state=seed).fit(x[:samples], y[:samples])

    def of_forest(model: RandomForestClassifier) -> bytes:
        return bytes(SklearnSource(model=model, inputs=x.shape[1]).onnx(1.0).SerializeToString())

    grown = forest(half, trees).set_params(n_estimators=trees + more_trees, warm_start=True)
    old = of_forest(forest(half, trees))
    yield f"forest_with_{more_trees}_more_trees", old, of_forest(grown.fit(x[:half], y[:half]))
    yield "forest_of_a_tenth_more_samples", old, of_forest(forest(half + half // 10, trees))

    network = LayeredNetwork(inputs=x.shape[1], hidden=hidden, classes=10)
    how = LocalTraining(epochs=5)
    before, _, _ = trained(network, network.initial(seed), x[:half], y[:half], how, seed)
    after, _, _ = trained(network, before, x[half:], y[half:], LocalTraining(epochs=1, rate=0.01), seed)
    last = before.copy()
    last[-(hidden + 1) * 10 :] = after[-(hidden + 1) * 10 :]

    def of_network(vector: Vector) -> bytes:
        return bytes(NetworkSource(network=network, vector=vector).onnx(1.0).SerializeToString())

    def of_eight_bits(vector: Vector) -> bytes:
        with TemporaryDirectory() as scratch:
            small = in_eight_bits(NetworkSource(network=network, vector=vector).onnx(1.0), Path(scratch))
        return bytes(small.SerializeToString())

    yield "network_trained_on", of_network(before), of_network(after)
    yield "network_whose_last_layer_was_trained_on", of_network(before), of_network(last)
    yield "network_of_eight_bits_trained_on", of_eight_bits(before), of_eight_bits(after)


def _ways(old: bytes, new: bytes) -> dict[str, Any]:
    ways: dict[str, Callable[[], bytes]] = {
        "packed": lambda: packed(new),
        "difference": lambda: difference(new, old),
        "sorted_difference": lambda: _sorted_difference(new, old),
    }
    told: dict[str, Any] = {"whole_bytes": len(new)}
    for name, make in ways.items():
        began = time.process_time()
        made = make()
        told[f"{name}_bytes"] = len(made)
        told[f"{name}_ms"] = round(1_000 * (time.process_time() - began), 1)
    return told


def _sorted_difference(new: bytes, old: bytes) -> bytes:
    """Write what bits have changed, every fourth byte after the other; what the longer file has more stays as it is."""
    length = min(len(new), len(old)) // _FLOAT_BYTES * _FLOAT_BYTES
    before, after = (np.frombuffer(raw[len(raw) - length :], np.uint8) for raw in (old, new))
    change = (before ^ after).reshape(-1, _FLOAT_BYTES)
    return zstandard.ZstdCompressor(level=_LEVEL).compress(new[: len(new) - length] + change.T.tobytes())
