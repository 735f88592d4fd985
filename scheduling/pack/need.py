"""What a worker needs on a node, and what nodes are alike: values without arrays, for where there is no numpy."""

import msgspec

from thalweg.scheduling.ids import RegionId

GPU_MILLI = 1000  # one whole GPU
MAX_DEVICES = 1_024  # per node, here and in every message and rule; a GB200 NVL72 rack has 72


class Need(msgspec.Struct, frozen=True, kw_only=True, cache_hash=True):
    """What one worker needs on one node: `gpus` devices with `gpu_milli` free on each, and CPU and memory beside.

    A share of a GPU is `gpus=1, gpu_milli=250`; eight whole GPUs are `gpus=8`; `gpus=0` needs no GPU at all.
    """

    gpus: int
    gpu_milli: int = GPU_MILLI
    cpu_milli: int = 0
    memory_mib: int = 0

    def __post_init__(self) -> None:
        if self.gpus < 0 or self.cpu_milli < 0 or self.memory_mib < 0:
            raise ValueError(f"a need cannot be negative, got {self}")
        if self.gpus and not 0 < self.gpu_milli <= GPU_MILLI:
            raise ValueError(f"gpu_milli is per device and lies in 1..{GPU_MILLI}, got {self.gpu_milli}")

    @property
    def total_gpu_milli(self) -> int:
        """GPU-milli over all devices of this worker."""
        return self.gpus * self.gpu_milli if self.gpus else 0


class Pool(msgspec.Struct, frozen=True, order=True, cache_hash=True):
    """Nodes that cost and compute the same: region, GPU model ("" without GPU) and how they are bought."""

    region: RegionId
    gpu_model: str
    spot: bool = False
