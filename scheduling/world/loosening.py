"""When capacity of each pool last grew, on a clock that counts what may let a waiting task in.

A class of waiting tasks that was tried in vain is tried again only when a pool that it may use has loosened since.
"""

import numpy as np


class Loosening:
    """See the module's words. `by_pool` follows the world's pools."""

    def __init__(self) -> None:
        self.clock = 0
        self.by_pool = np.zeros(0, np.int64)

    def tick(self) -> None:
        """Begin something new."""
        self.clock += 1

    def note(self, pool: int, pools: int) -> None:
        """Note that a pool, by its index among so many, has loosened now."""
        if len(self.by_pool) < pools:
            self.by_pool = np.append(self.by_pool, np.zeros(pools - len(self.by_pool), np.int64))
        self.by_pool[pool] = self.clock

    def note_all(self, pools: int) -> None:
        """Note that everything may have."""
        self.tick()
        self.by_pool = np.full(pools, self.clock, np.int64)
