"""Names for the array types of the placement core, so that signatures say what a column holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]
    BoolArray = NDArray[np.bool_]
else:  # numpy.typing takes as long to load as a table takes to read
    FloatArray = IntArray = BoolArray = np.ndarray


def distinct(values: IntArray) -> IntArray:
    """Give the values that differ, ascending: `np.unique`, which loads masked arrays to see whether it is given one."""
    ordered = np.sort(values)
    different: BoolArray = np.diff(ordered, prepend=ordered[:1] - 1) != 0
    return ordered[different]
