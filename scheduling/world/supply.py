"""Pools as a plan reads them: which a class of tasks may use, what they cost and what is free in them."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from thalweg.scheduling.arrays import BoolArray, FloatArray, IntArray
from thalweg.scheduling.pack.nodes import Nodes, Pool
from thalweg.scheduling.pack.pool_ids import pool_name
from thalweg.scheduling.problem.model import Network, Pools, make_pools
from thalweg.scheduling.world.geography import UNKNOWN_REGION, Geography
from thalweg.scheduling.world.tasks import MIB_PER_GB, MILLI
from thalweg.scheduling.world.waiting import ClassKey

_MOST_KNOWN: Final = 4_096
"""Answers kept, of a byte for each pool: a driver that runs for months forgets what nobody asks any more."""


def gpu_models(pools: Sequence[Pool]) -> tuple[str, ...]:
    """GPU models in order of the alphabet; "" is a node without."""
    return tuple(sorted({pool.gpu_model for pool in pools}))


@dataclass(slots=True)
class AllowedPools:
    """Pools that classes may ever use, by what decides it: of thousands of classes most ask for the same few places."""

    _network: Network | None = None
    _pools: int = 0
    _known: dict[tuple[object, ...], BoolArray] = field(default_factory=dict)

    def to(self, key: ClassKey, pools: Sequence[Pool], geography: Geography) -> BoolArray:
        """See `may_use`; whoever changes the answer copies it.

        Args:
            key: the class.
            pools: always of the same world, whose pools only become more.
            geography: of the world, which makes its network anew where links change.
        """
        network = geography.network()
        if network is not self._network or len(pools) != self._pools:
            self._network, self._pools = network, len(pools)
            self._known.clear()
        spec = key.spec
        needs = (spec.spot_ok, spec.gpu_models, spec.allowed_regions, spec.has_command)
        places = (spec.origin_region, spec.max_rtt_ms, key.closed, *needs)
        found = self._known.get(places)
        if found is None:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            found = self._known[places] = may_use(key, pools, geography)
        return found


def may_use(key: ClassKey, pools: Sequence[Pool], geography: Geography) -> BoolArray:
    """Pools that the class may ever use, by model, region, spot, latency and command: capacity and price aside, [P]."""
    spec, closed = key.spec, key.closed
    rtt_ms = geography.network().rtt_ms[geography.index_of(spec.origin_region or UNKNOWN_REGION)]
    mask = np.zeros(len(pools), bool)
    for index, pool in enumerate(pools):
        mask[index] = (
            (spec.max_rtt_ms is None or rtt_ms[geography.index_of(pool.region)] <= spec.max_rtt_ms)
            and pool.region not in closed
            and (spec.spot_ok or not pool.spot)
            and (spec.gpu_models is None or pool.gpu_model in spec.gpu_models)
            and (spec.allowed_regions is None or pool.region in spec.allowed_regions)
            and (spec.has_command or geography.runs_without_command(pool.region))
        )
    return mask


def empty_pools(pools: Sequence[Pool], geography: Geography) -> Pools:
    """Pools with what they cost (NaN where unknown), and no capacity yet."""
    model_index = {model: index for index, model in enumerate(gpu_models(pools))}
    return make_pools(
        [pool_name(pool) for pool in pools],
        region=np.array([geography.index_of(pool.region) for pool in pools], np.int64),
        gpu_model=np.array([model_index[pool.gpu_model] for pool in pools], np.int64),
        capacity=np.zeros((len(pools), 3)),
        usd_per_gpu_hour=np.array([geography.price_of(pool) for pool in pools], np.float64),
        spot=np.array([pool.spot for pool in pools], bool),
    )


@dataclass(frozen=True, slots=True)
class _Amounts:
    """What a node that is ready has and what of it is free: GPU-milli, CPU-milli, MiB."""

    def of(self, nodes: Nodes, rows: IntArray | slice) -> IntArray:
        """Say it, [rows, 6]: free, then whole."""
        amounts = (
            nodes.gpu_milli_free[rows].clip(min=0).sum(axis=1),
            nodes.cpu_milli_free[rows].clip(min=0),
            nodes.memory_mib_free[rows].clip(min=0),
            nodes.gpus[rows] * MILLI,
            nodes.cpu_milli[rows],
            nodes.memory_mib[rows],
        )
        return np.stack(amounts, axis=1) * nodes.ready[rows][:, None]


_AMOUNTS: Final = _Amounts()
_UNITS: Final = np.array([MILLI, MILLI, MIB_PER_GB], np.float64)


def with_free_capacity(pools: Pools, nodes: Nodes, are_open: BoolArray) -> Pools:
    """Pools with what is free on their nodes now (GPUs, CPUs, GB); closed ones have none."""
    amounts = nodes.sums.of(_AMOUNTS)
    priced = np.isfinite(pools.usd_per_gpu_hour)
    return replace(
        pools,
        capacity=np.where(are_open[:, None], amounts[:, :3], 0) / _UNITS,
        usd_per_gpu_hour=np.where(priced, pools.usd_per_gpu_hour, 0.0),
        busy_gpus=(amounts[:, 3] - amounts[:, 0]) / MILLI,
    )


def whole_capacity(nodes: Nodes, are_open: BoolArray) -> FloatArray:
    """What the ready nodes of each pool have, taken or not (GPUs, CPUs, GB); closed ones have none: [P, 3]."""
    return np.asarray(np.where(are_open[:, None], nodes.sums.of(_AMOUNTS)[:, 3:], 0) / _UNITS)
