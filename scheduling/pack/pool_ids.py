"""Ids of pools: region/model/how it is bought, one id for each pool whatever the names hold.

In a model a slash is written %2F, so ids of different pools differ. Nothing takes an id apart without the region, which
every row of the ledger says beside it.
"""

from typing import Final

from thalweg.scheduling.ids import PoolId, RegionId
from thalweg.scheduling.pack.nodes import Pool

SPOT: Final = "spot"
ON_DEMAND: Final = "on-demand"
NO_GPU: Final = "cpu"
"""Stands for the model of nodes without GPUs."""

_ESCAPES: Final = (("%", "%25"), ("/", "%2F"))


def pool_name(pool: Pool) -> PoolId:
    """Id of a pool."""
    return PoolId(f"{pool.region}/{_written(pool.gpu_model)}/{SPOT if pool.spot else ON_DEMAND}")


def pool_of(region: RegionId, pool_id: PoolId) -> Pool:
    """Read the pool of a region from its id; also from ids of older ledgers, which hold slashes as they are."""
    model = pool_id.removeprefix(f"{region}/")
    spot = model.endswith(f"/{SPOT}")
    model = model.removesuffix(f"/{SPOT}" if spot else f"/{ON_DEMAND}")
    return Pool(region=region, gpu_model=_read(model), spot=spot)


def _written(model: str) -> str:
    if not model:
        return NO_GPU
    for character, escape in _ESCAPES:
        model = model.replace(character, escape)
    return f"%{ord(model[0]):X}{model[1:]}" if model == NO_GPU else model


def _read(model: str) -> str:
    if model == NO_GPU:
        return ""
    model = model.replace(f"%{ord(NO_GPU[0]):X}{NO_GPU[1:]}", NO_GPU) if model.startswith("%") else model
    for character, escape in reversed(_ESCAPES):
        model = model.replace(escape, character)
    return model
