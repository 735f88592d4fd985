"""FGD's typical pods: the most popular shapes that together make up 95 % of what is asked for."""

import pytest

from thalweg.scheduling.pack.fragmentation import typical_shapes
from thalweg.scheduling.pack.kernels import GPUS, MILLI
from thalweg.scheduling.pack.nodes import Need

ANY = frozenset({0, 1})
HALF, WHOLE, PAIR = Need(gpus=1, gpu_milli=500), Need(gpus=1), Need(gpus=2)


def typical(popularity: dict[Need, float]) -> dict[tuple[int, int], float]:
    """GPUs and share of one → share of the arrivals."""
    outlook = typical_shapes({(need, ANY): weight for need, weight in popularity.items()}, pools=2)
    assert outlook.allowed.all()
    shares = outlook.shapes[:, -1] / max(outlook.shapes[:, -1].sum(), 1)
    return dict(zip(map(tuple, outlook.shapes[:, [GPUS, MILLI]].tolist()), shares.tolist(), strict=True))


def test_the_rarest_that_are_not_needed_for_95_of_a_hundred_are_left_out() -> None:
    assert typical({HALF: 60.0, WHOLE: 36.0, PAIR: 4.0}) == pytest.approx({(1, 500): 60 / 96, (1, 1000): 36 / 96})
    assert typical({HALF: 60.0, WHOLE: 34.0, PAIR: 6.0}) == pytest.approx(
        {(1, 500): 0.6, (1, 1000): 0.34, (2, 1000): 0.06}
    )


def test_shapes_that_only_memory_tells_apart_are_one() -> None:
    large = Need(gpus=2, memory_mib=9)
    assert typical({PAIR: 1.0, large: 1.0, WHOLE: 2.0}) == pytest.approx({(1, 1000): 0.5, (2, 1000): 0.5})
