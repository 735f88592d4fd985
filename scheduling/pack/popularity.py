"""What is expected to arrive: the shapes of workers with their popularity, and sampled futures of them.

Popularity comes from a list of known tasks (as the FGD paper has it) or is counted while tasks arrive. Either way it
says which shapes matter and nothing of their order.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from thalweg.scheduling.arrays import FloatArray, distinct
from thalweg.scheduling.pack.kernels import GPUS, MILLI, Outlook
from thalweg.scheduling.pack.nodes import GPU_MILLI, IntArray, Need

if TYPE_CHECKING:
    from numpy.typing import NDArray

Popularity = Mapping[tuple[Need, frozenset[int]], float]  # (what a worker needs, pools it may use) -> weight

# A node is offered 16 arrivals per GPU. Over a whole run of the openb trace 1.7 pods per GPU arrive, but a pod chooses
# among all nodes, so each node sees far more than it takes. 8 to 64 gave the same allocation within 0.1 points.
ARRIVALS_PER_GPU = 16
# A node beyond so many GPUs is offered no more: by then a future says enough of it, and each is as long as this.
MOST_GPUS = 128
# Worth of a shape = size / flexibility ** RARITY: what few nodes can take is worth more on them. Between 0.3 and 0.75
# the result hardly changes; 0 lets pods without a wish fill the only nodes that others may use.
RARITY = 0.5
RAREST = 0.01
SIZES = 16  # rows of the index by size; a device that is nearly full then skips what cannot fit
WORTH_UNIT = 10  # worth is in tenths, so that it stays an integer
GANG_WEIGHT = 1.0  # of `room` against expected fill; both are GPU-milli


def sample_futures(
    popularity: Popularity,
    *,
    pools: int,
    gpus: IntArray,
    cpu_milli: IntArray,
    memory_mib: IntArray,
    pool: IntArray,
    futures: int,
    seed: int,
) -> Outlook:
    """Draw `futures` sequences of arrivals for the nodes described by the columns.

    Only shapes with GPUs are drawn: what is packed for is GPU, and a future CPU-only task has other nodes to go to.
    Each shape appears in the whole sample as often as its popularity says, to within one; only the order is random.

    Args:
        popularity: shapes and weights; the order of the mapping does not matter.
        pools: how many pools the board has; `popularity` names them by index.
        gpus: devices per node.
        cpu_milli: capacity per node.
        memory_mib: capacity per node.
        pool: pool per node.
        futures: how many sequences.
        seed: of the order.
    """
    kinds = sorted(
        ((need.gpus, need.gpu_milli, need.cpu_milli, need.memory_mib, tuple(sorted(where))), weight)
        for (need, where), weight in popularity.items()
        if weight > 0 and need.gpus
    )
    if not kinds:
        kinds = [((1, 1000, 0, 0, tuple(range(pools))), 1.0)]
    width = ARRIVALS_PER_GPU * min(int(gpus.max(initial=1)), MOST_GPUS)
    shapes = np.zeros((len(kinds), 6), np.int64)
    allowed = np.zeros((len(kinds), pools), np.uint8)
    share = np.array([weight for _, weight in kinds], np.float64)
    share /= share.sum()
    for index, ((count, milli, cpu, memory, where), _) in enumerate(kinds):
        allowed[index, list(where)] = 1
        able = (allowed[index, pool] != 0) & (gpus >= count) & (cpu_milli >= cpu) & (memory_mib >= memory)
        flexibility = max(RAREST, float(gpus[able].sum()) / max(1, int(gpus.sum())))
        rarity = flexibility**-RARITY
        gang_share = round(share[index] * rarity * GANG_WEIGHT * futures * WORTH_UNIT * 1_000_000)
        shapes[index] = (count, milli, cpu, memory, max(1, round(WORTH_UNIT * rarity)), gang_share)
    arrivals = _shuffled(share, futures, width, seed)
    size_of, next_step = _index_by_size(shapes[:, MILLI], arrivals)
    return Outlook(
        shapes=shapes,
        allowed=allowed,
        futures=arrivals,
        size_of=size_of,
        next_step=next_step,
        per_gpu=ARRIVALS_PER_GPU,
        # Shapes are sorted by GPUs, so gangs come last.
        room_from=int(np.searchsorted(shapes[:, GPUS], 2)),
        cpu_step=1000,  # whole CPUs and 4 GiB: a quarter fewer distinct states, no loss of allocation
        memory_step=4096,
    )


def _shuffled(share: FloatArray, futures: int, width: int, seed: int) -> NDArray[np.int32]:
    """Sequences in which each kind appears as often as its share says, to within one, in random order."""
    wanted = share * futures * width
    draws = np.floor(wanted).astype(np.int64)
    missing = futures * width - int(draws.sum())
    draws[np.argsort(-(wanted - draws), kind="stable")[:missing]] += 1
    sequences = np.repeat(np.arange(len(share), dtype=np.int32), draws)
    np.random.default_rng(seed).shuffle(sequences)
    return sequences.reshape(futures, width)


def _index_by_size(milli: IntArray, arrivals: NDArray[np.int32]) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
    """Return `size_of` and `next_step` of an Outlook for at most SIZES sizes."""
    widths = distinct(milli)
    sizes = widths[distinct(np.linspace(0, len(widths) - 1, min(SIZES, len(widths))).round().astype(np.int64))]
    # For a free width take the largest need that fits, then the first kept size that covers it.
    fitting = np.searchsorted(widths, np.arange(GPU_MILLI + 1), side="right") - 1
    size_of = np.where(fitting < 0, -1, np.searchsorted(sizes, widths[fitting.clip(min=0)])).astype(np.int16)
    futures, width = arrivals.shape
    next_step = np.full((futures, len(sizes), width + 1), width, np.int16)
    narrow = milli[arrivals][:, None, :] <= sizes[None, :, None]
    for step in range(width - 1, -1, -1):
        next_step[:, :, step] = np.where(narrow[:, :, step], step, next_step[:, :, step + 1])
    return size_of, next_step
