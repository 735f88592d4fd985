"""What a job's process keeps for it from one life of its query to the next.

A query that fails is started again and makes its state anew from what was committed. What made it fail must not be
forgotten with that life, or every life would end the same way.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

from thalweg.jobs.microbatch.isolation import Isolation
from thalweg.jobs.microbatch.outcome import BatchId
from thalweg.jobs.runtime.health import Pulse
from thalweg.sync.ledger.follower import Follower


@dataclass(slots=True, kw_only=True)
class Host:
    """One job's; made by whoever starts its query, as often as needed."""

    isolation: Isolation = field(default_factory=Isolation)
    """Records that cannot be digested."""
    unplannable: set[BatchId] = field(default_factory=set)
    """Batches whose plan has failed."""
    driver_epoch: int | None = None
    """With which the last life claimed the ledger: who was overtaken since must not claim it again."""
    followed: Follower | None = None
    """The world as far as a standby has followed it; the start that takes over takes it out."""
    without_lease: bool = False
    """True where the lease is still held by a driver that stands still: it was taken over from, by the fence."""
    surround: Callable[[], AbstractContextManager[None]] = nullcontext
    """Around each batch: the process's garbage waits meanwhile."""
    pulse: Pulse = field(default_factory=Pulse)
    """Tells a batch that hangs."""

    def take_followed(self) -> Follower | None:
        """Take out what a standby has followed: it is good for one start."""
        followed, self.followed = self.followed, None
        return followed
