"""FGD, the published reference for packing GPU shares: place where fragments fall most.

"Beware of Fragmentation: Scheduling GPU-Sharing Workloads with Fragmentation Gradient Descent" (Weng et al., USENIX
ATC 2023): typical pods are the most popular shapes that together make up 95 % of the list; the fragments of a node are
the sum over them of popularity times the idle GPU that such a pod could not use there; the score of a placement is
floor(100 * sigmoid(drop of fragments / 1000)). Pods without GPU can use no idle GPU, wherever they are.
The paper leaves ties to the cluster's other scores; here they are decided by best fit, which comes nearest to its
figures.
"""

from __future__ import annotations

import numpy as np

from thalweg.scheduling.pack.kernels import GPUS, Outlook
from thalweg.scheduling.pack.nodes import GPU_MILLI
from thalweg.scheduling.pack.popularity import Popularity

COVERED = 0.95
_SHARE_UNIT = 10**12  # `room` divides by 10**6, so values are millionths of a GPU-milli


def typical_shapes(popularity: Popularity, *, pools: int) -> Outlook:
    """Return FGD's typical pods: GPUs, CPU and allowed pools tell shapes apart, memory does not."""
    merged: dict[tuple[int, int, int, tuple[int, ...]], float] = {}
    for (need, where), weight in popularity.items():
        key = (need.gpus, need.gpu_milli if need.gpus else 0, need.cpu_milli, tuple(sorted(where)))
        merged[key] = merged.get(key, 0.0) + weight
    total = sum(merged.values())
    typical: list[tuple[tuple[int, int, int, tuple[int, ...]], float]] = []
    covered = 0.0
    for key, weight in sorted(merged.items(), key=lambda item: (-item[1], item[0])):
        if covered >= COVERED * total:
            break
        typical.append((key, weight))
        covered += weight
    shapes = np.zeros((len(typical), 6), np.int64)
    allowed = np.zeros((len(typical), pools), np.uint8)
    for index, ((gpus, milli, cpu_milli, pools_of), weight) in enumerate(sorted(typical)):
        shapes[index] = (gpus, milli, cpu_milli, 0, 0, round(weight / covered * _SHARE_UNIT))
        allowed[index, list(pools_of)] = 1
    return Outlook(
        shapes=shapes,
        allowed=allowed,
        futures=np.zeros((0, 0), np.int32),
        size_of=np.full(GPU_MILLI + 1, -1, np.int16),
        next_step=np.zeros((0, 0, 0), np.int16),
        per_gpu=0,
        room_from=int(np.searchsorted(shapes[:, GPUS], 1)),
        cpu_step=1,
        memory_step=1 << 40,  # memory does not matter to the fragments
    )
