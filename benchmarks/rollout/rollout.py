"""`thalweg bench rollout`: roll-outs over simulated edges, a third of them away, with the deciding code that runs live.

Nothing is harmful, or the version answers 3 points more requests wrongly, or drifts there, or is half as slow again.
Each history has a seed of its own; seed 0 of two calls is the same history.
"""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import click
import numpy as np

from thalweg.learning.rollout.facts import RolloutKind
from thalweg.learning.rollout.plan import RolloutPlan
from thalweg.learning.simulation.edge_fleet import HARMS, FleetTerms, Harm
from thalweg.learning.simulation.rollout_history import play
from thalweg.stack.machine import describe

FRONT_SOAKS_H: Final = (1.0, 3.0, 6.0, 12.0, 24.0)
FRONT_SHARES: Final = (0.1, 0.25, 0.5)
FRONT_DRIFTS_H: Final = (4.0, 12.0, 24.0, 48.0)
HOUR_S: Final = 3_600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutSize:
    """How much is measured."""

    seeds: int = 1_000
    """Histories of each harm."""
    front_seeds: int = 40
    """Histories of each point of the fronts."""
    edges: int = 1_000
    offline: float = 0.3
    """Share of the edges that cannot be reached, at any time."""
    soak_h: float = 12.0
    """Least time of the first wave, hours; each further one's is half of it."""
    share: float = 0.5
    """Of the requests of an edge in the wave that the new version answers."""
    harms: str = ",".join(HARMS)
    """Which, with commas between them."""
    parts: str = "harms,front"
    """`harms`, `front` or both."""


def measure(size: RolloutSize) -> dict[str, Any]:
    """Measure; all of it takes some ten minutes of a processor.

    Raises:
        click.UsageError: a harm or part is unknown.
    """
    wanted: list[Harm] = [harm for harm in HARMS if harm in size.harms.split(",")]
    parts = size.parts.split(",")
    if len(wanted) != len(size.harms.split(",")) or set(parts) - {"harms", "front"}:
        raise click.UsageError(f"allowed are harms of {', '.join(HARMS)}, and parts of harms, front")
    terms = FleetTerms(edges=size.edges, offline=size.offline)
    plan = plan_of(size.soak_h, size.share)
    found: dict[str, Any] = {
        "machine": describe(),
        "parameters": {"seeds": size.seeds, "front_seeds": size.front_seeds, "soak_h": size.soak_h},
        "fleet": {name: getattr(terms, name) for name in FleetTerms.__dataclass_fields__},
        "plan": {name: getattr(plan, name) for name in RolloutPlan.__dataclass_fields__},
    }
    if "harms" in parts:
        found["harms"] = {harm: summed(plan, terms, harm, range(size.seeds)) for harm in wanted}
    if "front" in parts:
        seeds = range(size.front_seeds)
        found["front"] = {
            "soak": [{"soak_h": one} | _point(plan_of(one, size.share), terms, seeds) for one in FRONT_SOAKS_H],
            "share": [{"share": one} | _point(plan_of(size.soak_h, one), terms, seeds) for one in FRONT_SHARES],
            "drift": [{"drift_h": one} | _drifted(plan, terms, one, seeds) for one in FRONT_DRIFTS_H],
        }
    return found


def plan_of(soak_h: float, share: float) -> RolloutPlan:
    """Make the plan that is measured: the command's own, but for what is varied."""
    plan = RolloutPlan(
        model="bench", version="2", digest="2" * 64, last_version="1", last_digest="1" * 64,
        soak_s=soak_h * HOUR_S, share=share,
    )  # fmt: skip
    plan.check()
    return plan


def summed(plan: RolloutPlan, terms: FleetTerms, harm: Harm, seeds: Sequence[int]) -> dict[str, Any]:
    """Play histories of one harm and sum them up."""
    began = time.process_time()
    played = [play(plan, terms, harm, seed) for seed in seeds]
    seconds = time.process_time() - began
    completed = [one for one in played if one.end is RolloutKind.COMPLETED]
    back = [one for one in played if one.end is RolloutKind.ROLLED_BACK]
    return {
        "histories": len(played),
        "completed": len(completed),
        "rolled_back": len(back),
        "rolled_back_by": dict(sorted(Counter(f"{one.rule}, wave {one.stage + 1}" for one in back).items())),
        "exposed_mean": _rounded(np.mean([one.exposed for one in played])),
        "exposed_p99": _rounded(np.quantile([one.exposed for one in played], 0.99)),
        "exposed_max": _rounded(max(one.exposed for one in played)),
        "exposed_over_2_percent": sum(one.exposed > 0.02 for one in played),
        "exposed_until_all_are_back_max": _rounded(max(one.exposed_in_all for one in played)),
        **{f"decided_h_{name}": value for name, value in _hours([one.decided_s for one in played]).items()},
        **{
            f"converged_h_after_{name}": value
            for name, value in _hours([one.converged_s - one.decided_s for one in played]).items()
        },
        "all_converged": len(played),  # a history that does not converge raises
        "requests_mean": round(float(np.mean([one.requests for one in played]))),
        "processor_seconds": round(seconds, 1),
    }


def _point(plan: RolloutPlan, terms: FleetTerms, seeds: Sequence[int]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for harm in HARMS:
        one = summed(plan, terms, harm, seeds)
        if harm == "none":
            found |= {"full_h_median": one["decided_h_median"], "false_roll_backs": one["rolled_back"]}
        else:
            found |= {f"{harm}_exposed_{name}": one[f"exposed_{name}"] for name in ("mean", "max")}
            found |= {f"{harm}_decided_h_median": one["decided_h_median"]}
    return found


def _drifted(plan: RolloutPlan, terms: FleetTerms, drift_h: float, seeds: Sequence[int]) -> dict[str, Any]:
    one = summed(plan, replace(terms, drift_s=drift_h * HOUR_S), "drift", seeds)
    return {name: one[name] for name in ("exposed_mean", "exposed_max", "exposed_over_2_percent", "rolled_back_by")}


def _hours(seconds: Sequence[float]) -> dict[str, float]:
    hours = np.array(seconds) / HOUR_S
    return {"median": round(float(np.median(hours)), 3), "max": round(float(hours.max()), 3)}


def _rounded(share: Any) -> float:
    return round(float(share), 6)
