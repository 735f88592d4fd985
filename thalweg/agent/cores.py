"""Which cores a worker may use: as many as it asked for, those that least was promised of."""

import math
from collections.abc import Iterable, Sequence


class CoreShares:
    """What of each core is promised to running workers."""

    def __init__(self, cores: Iterable[int]) -> None:
        self._promised = dict.fromkeys(sorted(cores), 0.0)

    def take(self, cpus: float) -> tuple[int, ...]:
        """Choose cores for a worker; none where it asked for nothing, or for all there are: it may use every core."""
        count = math.ceil(cpus)
        if not 0 < count < len(self._promised):
            return ()
        chosen = tuple(sorted(sorted(self._promised, key=lambda core: (self._promised[core], core))[:count]))
        self._add(chosen, cpus / count)
        return chosen

    def give_back(self, cores: Sequence[int], cpus: float) -> None:
        """Take a promise back."""
        if cores:
            self._add(cores, -cpus / len(cores))

    def _add(self, cores: Sequence[int], share: float) -> None:
        for core in cores:
            self._promised[core] = round(self._promised[core] + share, 6)
