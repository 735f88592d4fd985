"""Fewer units, fewer trees: what a model can do without is left out whole, so that it is smaller and quicker, too.

Single weights that are set to zero save nothing where it matters: a dense layer multiplies by zero as slowly, and its
file is as long. So a hidden unit is left out with all its weights, the least first by the product of the lengths of
what comes in and what goes out of it (magnitude pruning of units; Li et al. 2017, arXiv:1608.08710, for filters).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Weights = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A dense layer."""

    weights: Weights
    """[inputs, outputs]"""
    bias: Weights
    """[outputs]"""


def without_units(layers: Sequence[Layer], share: float) -> list[Layer]:
    """Leave out hidden units of a network of dense layers.

    Args:
        layers: from the inputs to the classes.
        share: of each hidden layer's units, that stays: above 0, up to 1. At least one unit does.

    Returns:
        As many layers, the hidden ones narrower. The units that stay are in the order in which they were.
    """
    cut = list(layers)
    for number in range(len(cut) - 1):
        into, out_of = cut[number], cut[number + 1]
        strength = np.linalg.norm(into.weights, axis=0) * np.linalg.norm(out_of.weights, axis=1)
        stay = max(1, round(share * strength.size))
        kept = np.sort(np.argsort(-strength, kind="stable")[:stay])
        cut[number] = Layer(weights=into.weights[:, kept], bias=into.bias[kept])
        cut[number + 1] = Layer(weights=out_of.weights[kept], bias=out_of.bias)
    return cut


def trees_that_stay(trees: int, share: float) -> int:
    """Say how many of a forest's trees stay. They were drawn alike, so any are as good: the first ones are taken."""
    return max(1, round(share * trees))
