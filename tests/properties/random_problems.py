"""Random placement problems, small enough for an independent exact solver."""

from __future__ import annotations

import numpy as np

from thalweg.scheduling.problem.model import Network, Problem, Tenants, Weights, make_classes, make_pools


def random_problem(seed: int, *, classes: int = 6, pools: int = 5, tasks: int = 4, balance: float = 0.0) -> Problem:
    """A problem with every kind of constraint in it now and then; the seed decides all."""
    rng = np.random.default_rng(seed)
    size, width = int(rng.integers(1, classes + 1)), int(rng.integers(1, pools + 1))
    regions, models = int(rng.integers(1, 4)), int(rng.integers(1, 4))
    dimensions = int(rng.choice([1, 3]))
    gpus = rng.choice([1, 2, 3, 4, 5, 8] if rng.random() < 0.7 else [0, 0.5, 1, 2], size).astype(float)
    count = rng.integers(0, tasks + 1, size)
    need = np.stack([gpus, gpus * rng.choice([2, 4, 12], size), gpus * rng.choice([16, 64], size)], 1)[:, :dimensions]
    share = rng.dirichlet(np.ones(width)) * max(float((gpus * count).sum()), 1.0) / rng.choice([0.4, 0.8, 1.0, 1.3])
    capacity = np.stack([np.ceil(share), np.ceil(share) * 6, np.ceil(share) * 50], 1)[:, :dimensions]
    own = np.eye(regions, dtype=bool)
    linked = (rng.random((regions, regions)) < 0.8) | own
    network = Network(
        rtt_ms=np.where(own, 0.0, np.where(linked, rng.uniform(5, 200, own.shape), np.inf)),
        gbps=np.where(own, np.inf, np.where(linked, rng.uniform(0.5, 10, own.shape), 0.0)),
        usd_per_gb=np.where(own, 0.0, np.where(linked, rng.choice([0.0, 0.02, 0.09], own.shape), np.inf)),
    )
    items = rng.integers(0, 3, size)
    item_start = np.concatenate([[0], np.cumsum(items)])
    copies = rng.integers(1, 3, item_start[-1])
    copy_start = np.concatenate([[0], np.cumsum(copies)])
    running = rng.random(size) < 0.3
    replicas = np.where(rng.random(size) < 0.25, rng.integers(2, 4, size), 1)
    with_tenants = rng.random() < 0.3
    return Problem(
        regions=tuple(f"r{i}" for i in range(regions)),
        gpu_models=tuple(f"m{i}" for i in range(models)),
        pools=make_pools(
            [f"p{i}" for i in range(width)],
            region=rng.integers(0, regions, width),
            gpu_model=rng.integers(0, models, width),
            capacity=capacity,
            usd_per_gpu_hour=rng.uniform(0.5, 4.0, width),
            spot=rng.random(width) < 0.3,
        ),
        network=network,
        classes=make_classes(
            [f"c{i}" for i in range(size)],
            count=count,
            need=need,
            expected_h=rng.uniform(0.1, 20.0, size),
            wait_usd=float(rng.choice([1e6, 1e3, 50.0])),
            regions=regions,
            gpu_model_count=models,
            gpu_models=rng.random((size, models)) < 0.7,
            allowed_regions=rng.random((size, regions)) < 0.8,
            spot_ok=rng.random(size) < 0.6,
            checkpoint_h=np.where(rng.random(size) < 0.5, 0.5, np.inf),
            origin=rng.integers(-1, regions, size),
            max_rtt_ms=np.where(rng.random(size) < 0.3, 100.0, np.inf),
            max_usd_per_hour=np.where(rng.random(size) < 0.15, 8.0, np.inf),
            replicas=replicas,
            tenant=rng.integers(-1, 2, size) if with_tenants else None,
            items=(
                item_start,
                rng.uniform(1, 500, item_start[-1]),
                copy_start,
                rng.integers(0, regions, copy_start[-1]),
            ),
            current=(np.concatenate([[0], np.cumsum(running)]), rng.integers(0, width, int(running.sum()))),
        ),
        weights=Weights(
            rtt=float(rng.choice([0.0, 0.01])),
            risk=float(rng.choice([0.0, 1.0])),
            move=float(rng.choice([0.0, 5.0])),
            balance=balance,
        ),
        tenants=Tenants(
            tenant_ids=("a", "b"),
            quota_gpus=np.array([float(rng.integers(0, 20)), np.inf]),
            budget_usd_per_hour=np.array([np.inf, float(rng.integers(1, 40))]),
        )
        if with_tenants
        else Tenants(),
    )
