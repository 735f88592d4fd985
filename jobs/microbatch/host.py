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


@dataclass(slots=True, kw_only=True)
class Host:
    """One job's; made by whoever starts its query, as often as needed."""

    isolation: Isolation = field(default_factory=Isolation)
    """Records that cannot be digested."""
    unplannable: set[BatchId] = field(default_factory=set)
    """Batches whose plan has failed."""
    surround: Callable[[], AbstractContextManager[None]] = nullcontext
    """Around each batch: the process's garbage waits meanwhile."""
    pulse: Pulse = field(default_factory=Pulse)
    """Tells a batch that hangs."""
