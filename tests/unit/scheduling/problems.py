"""Small placement problems for unit tests, written out so that the right answer can be worked out on paper."""

from __future__ import annotations

from typing import Any

import numpy as np

from thalweg.scheduling.problem.model import Network, Problem, Tenants, Weights, local_network, make_classes, make_pools


def linked(size: int, *, rtt_ms: float = 50.0, gbps: float = 1.0, usd_per_gb: float = 0.1) -> Network:
    """Every pair of regions linked alike."""
    own = np.eye(size, dtype=bool)
    local = local_network(size)
    return Network(
        rtt_ms=np.where(own, local.rtt_ms, rtt_ms),
        gbps=np.where(own, local.gbps, gbps),
        usd_per_gb=np.where(own, local.usd_per_gb, usd_per_gb),
    )


def problem(
    *,
    gpus: list[float],
    prices: list[float],
    need: list[float],
    count: list[int] | None = None,
    region: list[int] | None = None,
    hours: list[float] | None = None,
    wait_usd: float | list[float] = 1e6,
    network: Network | None = None,
    weights: Weights = Weights(),  # noqa: B008 - frozen
    tenants: Tenants | None = None,
    capacity: Any = None,
    pool_columns: dict[str, Any] | None = None,
    **columns: Any,
) -> Problem:
    """Pools p0, p1, ... (by default one a region) and classes c0, c1, ..."""
    where = np.array(region if region is not None else range(len(gpus)), np.int64)
    regions = int(where.max(initial=-1)) + 1
    amounts = np.array(need, float)
    return Problem(
        regions=tuple(f"r{i}" for i in range(regions)),
        gpu_models=("A100",),
        pools=make_pools(
            [f"p{i}" for i in range(len(gpus))],
            region=where,
            gpu_model=np.zeros(len(gpus), np.int64),
            capacity=np.array(gpus, float) if capacity is None else capacity,
            usd_per_gpu_hour=np.array(prices, float),
            **(pool_columns or {}),
        ),
        network=network or linked(regions),
        classes=make_classes(
            [f"c{i}" for i in range(len(need))],
            count=np.array(count or [1] * len(need), np.int64),
            need=amounts,
            expected_h=np.array(hours or [1.0] * len(need)),
            wait_usd=np.array(wait_usd, float),
            regions=regions,
            gpu_model_count=1,
            **columns,
        ),
        weights=weights,
        tenants=tenants or Tenants(),
    )
