"""What a row of `plans` says of a plan: what it placed, what that costs, what waits, and what a GPU more would save."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Final

from thalweg.jobs.microbatch.outcome import BatchId
from thalweg.scheduling.live.live_plan import Plan, PlanSettings, PoolPrice
from thalweg.scheduling.live.plan_money import plan_money
from thalweg.scheduling.live.pool_prices import pool_prices
from thalweg.scheduling.live.whole_pools import whole_pools
from thalweg.scheduling.passed import has_passed
from thalweg.scheduling.world.world import World

PRICED_AGAIN_MS: Final = 1_000
"""Prices of pools look at all that waits, which takes as long as a small plan: the plans of a second share them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRecord:
    """One row of `plans`; fields are its columns, `planned_at` in microseconds."""

    plan_id: str
    query_id: str
    batch_id: int
    planned_at: int
    strategy: str
    status: str
    objective_usd: float
    bound_usd: float
    gap: float
    considered: int
    placed: int
    revoked: int
    waiting: int
    read_ms: float
    plan_ms: float
    commit_ms: float
    publish_ms: float
    pool_prices: list[dict[str, object]]
    placed_usd_per_hour: float
    delay_usd_per_hour: float
    placed_usd: float
    least_usd: float


class PlanRecorder:
    """Describes the plans of one world, in their order."""

    def __init__(self, world: World) -> None:
        """Begin; nothing has been priced yet."""
        self._world = world
        self._prices: tuple[PoolPrice, ...] = ()
        self._priced_ms: int | None = None

    def record(
        self,
        made: Plan,
        plan_id: str,
        batch: BatchId,
        now_ms: int,
        settings: PlanSettings,
        seconds: Mapping[str, float],
    ) -> PlanRecord:
        """Describe a plan that the world has followed.

        Args:
            made: the plan.
            plan_id: its id.
            batch: of which it is.
            now_ms: when it was made.
            settings: that it was made with.
            seconds: how long each of its steps took.
        """
        money = plan_money(made, whole_pools(self._world))
        if self._priced_ms is None or has_passed(self._priced_ms, now_ms, PRICED_AGAIN_MS):
            self._prices, self._priced_ms = pool_prices(self._world, settings, money.rather, now_ms), now_ms
        return PlanRecord(
            plan_id=plan_id,
            query_id=batch.query_id,
            batch_id=batch.batch_id,
            planned_at=now_ms * 1_000,
            strategy=made.strategy,
            status=made.status,
            objective_usd=made.objective,
            bound_usd=made.bound,
            gap=made.gap,
            considered=made.considered,
            placed=len(made.assignments),
            revoked=len(made.preempted),
            waiting=len(self._world.waiting),
            pool_prices=[asdict(price) for price in self._prices],
            placed_usd_per_hour=money.placed_usd_per_hour,
            delay_usd_per_hour=self._world.waiting.delay_usd_per_hour(now_ms),
            placed_usd=money.placed_usd,
            least_usd=money.least_usd,
            **{f"{step}_ms": taken * 1_000 for step, taken in seconds.items()},
        )
