"""The arrivals that packing reckons with: shapes with GPUs, as often as they are asked for."""

import numpy as np
import pytest

from thalweg.scheduling.pack.kernels import GPUS, Outlook
from thalweg.scheduling.pack.nodes import Need
from thalweg.scheduling.pack.popularity import sample_futures

SMALL, LARGE, WITHOUT, NEVER = Need(gpus=1), Need(gpus=4), Need(gpus=0, cpu_milli=4_000), Need(gpus=2)


def drawn(popularity: dict[Need, float]) -> Outlook:
    return sample_futures(
        {(need, frozenset({0})): weight for need, weight in popularity.items()},
        pools=1,
        gpus=np.array([8, 8]),
        cpu_milli=np.array([96_000, 96_000]),
        memory_mib=np.array([400_000, 400_000]),
        pool=np.array([0, 0]),
        futures=4,
        seed=1,
    )


def test_only_shapes_with_gpus_that_somebody_asks_for_are_drawn() -> None:
    outlook = drawn({WITHOUT: 50.0, SMALL: 3.0, LARGE: 1.0, NEVER: 0.0})
    assert outlook.shapes[:, GPUS].tolist() == [1, 4]
    shares = np.bincount(outlook.futures.ravel(), minlength=2) / outlook.futures.size
    assert shares.tolist() == pytest.approx([0.75, 0.25], abs=1 / outlook.futures.size)


def test_where_nobody_asks_for_gpus_single_ones_are_reckoned_with() -> None:
    assert drawn({WITHOUT: 50.0}).shapes[:, GPUS].tolist() == [1]
