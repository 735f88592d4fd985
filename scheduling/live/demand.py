"""A demand: tasks of one class that are planned alike, and what it costs to leave one of them waiting."""

from dataclasses import dataclass

import numpy as np

from thalweg.scheduling.ids import TaskId
from thalweg.scheduling.world.hold import HoldEstimator, as_requested
from thalweg.scheduling.world.value import (
    BEYOND_SHARE_TIMES,
    RankRule,
    deadline_times,
    rank,
    value_usd_per_hour,
    wait_usd,
)
from thalweg.scheduling.world.waiting import ClassKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """Tasks of one class that are planned alike.

    Attributes:
        tasks: ids, oldest first.
        order: of arrival of the first; names the demand.
        since_ms: when the oldest of the class began to wait.
        beyond_share: above what its tenant is entitled to while others want it, too.
        rank: as the queue has it; None where it is in none.
        closed: pools that are kept for others.
        far: pools that are further from its data than waiting for nearer ones costs (`near_data`).
    """

    key: ClassKey
    tasks: tuple[TaskId, ...]
    order: int
    since_ms: int
    beyond_share: bool = False
    rank: float | None = None
    closed: frozenset[int] = frozenset()
    far: frozenset[int] = frozenset()

    def wait_usd(self, now_ms: int, base_usd: float, rule: RankRule) -> float:
        """Price, within a plan, of leaving one task of it waiting."""
        own = rank_of(self.key, self.since_ms, now_ms, rule) if self.rank is None else self.rank
        lowered = own / (BEYOND_SHARE_TIMES if self.beyond_share else 1.0)
        return float(self.key.missing * wait_usd(lowered, self.key.spec.gpus, base_usd))


def delay_usd_per_hour(key: ClassKey, now_ms: int) -> float:
    """What an hour's delay of one task of a class costs now."""
    spec, copies = key.spec, max(key.missing, 1)
    given = np.nan if spec.value_usd_per_hour is None else spec.value_usd_per_hour
    slack_ms = np.inf if spec.start_by_ms is None else spec.start_by_ms - now_ms
    return float(value_usd_per_hour(spec.priority, spec.gpus * copies, given) * deadline_times(slack_ms))


def rank_of(key: ClassKey, since_ms: int, now_ms: int, rule: RankRule, hold_of: HoldEstimator = as_requested) -> float:
    """Rank of a class that is in no queue, where its data lie."""
    spec, copies = key.spec, max(key.missing, 1)
    value = delay_usd_per_hour(key, now_ms)
    return float(rank(value, max(spec.gpus, 1.0) * copies * hold_of(spec).hours, now_ms - since_ms, rule))
