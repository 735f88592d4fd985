"""The settings of `place` as the planner wants them: for the job itself and for whoever explains what it does."""

import math
from typing import TYPE_CHECKING

from thalweg.scheduling.again.proposals import LookLimits
from thalweg.scheduling.live.live_plan import PlanSettings
from thalweg.scheduling.problem.model import Weights
from thalweg.scheduling.world.facts import TenantLimits
from thalweg.scheduling.world.value import HOUR_MS, RankRule

if TYPE_CHECKING:
    from thalweg.conf.place_defaults import PlaceDefaults
    from thalweg.conf.settings import PlaceSettings


def plan_settings(place: "PlaceSettings | PlaceDefaults") -> PlanSettings:
    """What a plan may weigh and spend, its deadline aside."""
    weights = place.weights
    return PlanSettings(
        strategy=place.strategy,
        weights=Weights(rtt=weights.rtt, risk=weights.risk, move=weights.move, balance=weights.balance),
        wait_usd=weights.wait,
        rule=RankRule(longest_wait_ms=place.longest_wait_h * HOUR_MS),
        window_tasks=place.window_tasks,
        lost_spot_per_hour=place.lost_spot_per_hour,
        fair_share=place.fair_share,
        most_preempted=place.most_preempted,
        resize_every_ms=place.resize_every_ms,
    )


def look_limits(place: "PlaceSettings") -> LookLimits:
    """What a look at what runs may do."""
    return LookLimits(
        most_moved=place.most_moved,
        rest_ms=round(place.move_again_after_s * 1_000),
        start_up_s=place.start_up_s,
    )


def tenants_of(place: "PlaceSettings | PlaceDefaults") -> dict[str, TenantLimits]:
    """Weights and limits of the tenants."""
    return {
        name: TenantLimits(
            weight=tenant.weight,
            quota_gpus=math.inf if tenant.quota_gpus is None else tenant.quota_gpus,
            budget_usd_per_hour=math.inf if tenant.budget_usd_per_hour is None else tenant.budget_usd_per_hour,
            most_tasks=tenant.most_tasks,
        )
        for name, tenant in place.tenants.items()
    }


def assumed_price(place: "PlaceSettings | PlaceDefaults") -> float:
    """US dollars per GPU-hour of pools that nobody names a price of; NaN where nothing is assumed."""
    return math.nan if place.assumed_usd_per_gpu_hour is None else place.assumed_usd_per_gpu_hour
