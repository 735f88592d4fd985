"""`thalweg bench rollout`: what speed costs in a roll-out over simulated edges: points of the front.

The campaign of many seeds is `thalweg rollout-sim`; here are the plans beside the one that was chosen, with few seeds.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from thalweg.federation.rollout_campaign import HOUR_S, campaign_plan, play_seeds, summary
from thalweg.learning.simulation.edge_fleet import FleetTerms
from thalweg.stack.machine import describe

SOAKS_H: Final = (1.0, 3.0, 6.0, 12.0, 24.0)
SHARES: Final = (0.1, 0.25, 0.5)
DRIFTS_H: Final = (4.0, 12.0, 24.0, 48.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutSize:
    """How much is measured."""

    seeds: int = 40
    """Of each point."""
    edges: int = 1_000
    offline: float = 0.3
    """Share of the edges that cannot be reached, at any time."""
    soak_h: float = 12.0
    """Least time of the first wave, hours, where it is not varied."""
    share: float = 0.5
    """Of requests that the new version answers in a wave, where it is not varied."""


def measure(size: RolloutSize) -> dict[str, Any]:
    """Play every point; some three minutes of a processor."""
    terms = FleetTerms(edges=size.edges, offline=size.offline)
    return {
        "machine": describe(),
        "seeds": size.seeds,
        "soak_h": size.soak_h,
        "share": size.share,
        "soak": [{"soak_h": one} | _point(one, size.share, terms, size.seeds) for one in SOAKS_H],
        "shares": [{"share": one} | _point(size.soak_h, one, terms, size.seeds) for one in SHARES],
        "drift": [{"drift_h": one} | _drifted(size, terms, one) for one in DRIFTS_H],
    }


def _point(soak_h: float, share: float, terms: FleetTerms, seeds: int) -> dict[str, Any]:
    run = play_seeds(campaign_plan(soak_h, share), terms, 0, seeds)
    quiet = summary(run.ends["none"])
    found = {"full_h_median": quiet["decided_h_median"], "false_roll_backs": quiet["rolled_back"]}
    for harm, ends in run.ends.items():
        if harm != "none":
            one = summary(ends)
            found |= {f"{harm}_{name}": one[name] for name in _OF_HARM}
    return found


_OF_HARM: Sequence[str] = ("exposed_mean", "exposed_max", "decided_h_median", "completed")


def _drifted(size: RolloutSize, terms: FleetTerms, drift_h: float) -> dict[str, Any]:
    slow = replace(terms, drift_s=drift_h * HOUR_S)
    run = play_seeds(campaign_plan(size.soak_h, size.share), slow, 0, size.seeds, ("drift",))
    one = summary(run.ends["drift"])
    return {
        name: one[name]
        for name in ("completed", "exposed_mean", "exposed_max", "exposed_over_2_percent", "rolled_back_by")
    }
