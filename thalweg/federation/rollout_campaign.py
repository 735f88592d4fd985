"""Many roll-outs over simulated edges, a seed each, and what they come to; a long campaign keeps a record.

Of a seed every harm is played, and no harm. A history is kept as one line of its record, so that every figure can be
made again from it.
"""

import importlib.util
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, Final, Self

import msgspec
import numpy as np

from thalweg.learning.rollout.facts import RolloutKind
from thalweg.learning.rollout.plan import RolloutPlan
from thalweg.learning.simulation.edge_fleet import HARMS, FleetTerms, Harm
from thalweg.learning.simulation.rollout_history import play
from thalweg.sync.proof.campaign_record import AnyCampaignRecord, follows
from thalweg.sync.proof.code_digest import digest_of

HOUR_S: Final = 3_600.0
GOAL: Final = 0.02
"""Largest share of requests that a harmful version may answer."""
_NAME: Final = "thalweg."
_ROOTS: Final = ("learning.simulation.rollout_history",)


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutEnd:
    """How one history ended; see `RolloutHistory` for the figures."""

    seed: int
    end: RolloutKind
    rule: str
    stage: int
    decided_s: float
    converged_s: float
    exposed: float
    exposed_in_all: float

    def line(self) -> str:
        """Write it."""
        figures = f"{self.decided_s:.0f} {self.converged_s:.0f} {self.exposed:.6f} {self.exposed_in_all:.6f}"
        return f"{self.seed} {self.end.value} {self.rule} {self.stage} {figures}"

    @classmethod
    def of(cls, line: str) -> Self:
        """Read it."""
        seed, end, rule, stage, decided, converged, exposed, in_all = line.split()
        return cls(
            seed=int(seed), end=RolloutKind(end), rule=rule, stage=int(stage), decided_s=float(decided),
            converged_s=float(converged), exposed=float(exposed), exposed_in_all=float(in_all),
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutCampaign:
    """What was played."""

    seed: int
    ends: Mapping[Harm, Sequence[RolloutEnd]]
    seconds: float


class RolloutRecord(AnyCampaignRecord, frozen=True, kw_only=True):
    """What has been played so far."""

    edges: int
    offline: float
    soak_h: float
    share: float
    ends: dict[str, tuple[str, ...]] = msgspec.field(default_factory=dict)
    """By harm, a line for each seed (`RolloutEnd`)."""


def campaign_plan(soak_h: float, share: float) -> RolloutPlan:
    """Make the plan that is played: the command's own, but for what is varied.

    Args:
        soak_h: least time of the first wave, hours.
        share: of requests that the new version answers in a wave.

    Raises:
        RolloutPlanError: it cannot be carried out.
    """
    plan = RolloutPlan(
        model="campaign", version="2", digest="2" * 64, last_version="1", last_digest="1" * 64,
        soak_s=soak_h * HOUR_S, share=share,
    )  # fmt: skip
    plan.check()
    return plan


def play_seeds(
    plan: RolloutPlan, terms: FleetTerms, first: int, count: int, harms: Iterable[Harm] = HARMS
) -> RolloutCampaign:
    """Play seeds one after the other."""
    began = time.perf_counter()
    ends = {harm: [_played(plan, terms, harm, seed) for seed in range(first, first + count)] for harm in harms}
    return RolloutCampaign(seed=first, ends=ends, seconds=time.perf_counter() - began)


def extended(record: RolloutRecord, run: RolloutCampaign, now: datetime) -> RolloutRecord:
    """Add the next seeds.

    Raises:
        ValueError: they do not follow the last one.
    """
    follows(record, run.seed)
    count = len(next(iter(run.ends.values())))
    return msgspec.structs.replace(
        record,
        done=record.done + count,
        running_seconds=round(record.running_seconds + run.seconds, 1),
        processes=1,
        ended_at=now,
        ends={harm: (*record.ends.get(harm, ()), *(end.line() for end in ends)) for harm, ends in run.ends.items()},
    )


def summary(ends: Sequence[RolloutEnd]) -> dict[str, Any]:
    """Sum histories of one harm up; shares are of 1, times in hours."""
    back = [one for one in ends if one.end is RolloutKind.ROLLED_BACK]
    exposed = np.array([one.exposed for one in ends])
    decided_h = np.array([one.decided_s for one in ends]) / HOUR_S
    after_h = np.array([one.converged_s - one.decided_s for one in ends]) / HOUR_S
    return {
        "histories": len(ends),
        "completed": sum(one.end is RolloutKind.COMPLETED for one in ends),
        "rolled_back": len(back),
        "rolled_back_by": dict(sorted(Counter(f"{one.rule} in wave {one.stage + 1}" for one in back).items())),
        "exposed_mean": round(float(exposed.mean()), 6),
        "exposed_p99": round(float(np.quantile(exposed, 0.99)), 6),
        "exposed_max": round(float(exposed.max()), 6),
        "exposed_over_2_percent": int((exposed > GOAL).sum()),
        "exposed_until_all_are_back_max": max(one.exposed_in_all for one in ends),
        "decided_h_median": round(float(np.median(decided_h)), 3),
        "decided_h_max": round(float(decided_h.max()), 3),
        "converged_h_after_median": round(float(np.median(after_h)), 3),
        "converged_h_after_max": round(float(after_h.max()), 3),
        "converged": len(ends),  # one in which an edge does not come to what is desired has no end: it raises
    }


def summaries(record: RolloutRecord) -> dict[str, dict[str, Any]]:
    """Sum a record up, by harm."""
    return {harm: summary([RolloutEnd.of(line) for line in lines]) for harm, lines in record.ends.items()}


def kept_promises(found: Mapping[str, Mapping[str, Any]]) -> bool:
    """Tell whether at most one in a hundred was taken back for nothing, and no harm met more requests than the goal."""
    quiet = found["none"]
    harmful = [one for harm, one in found.items() if harm != "none"]
    return quiet["rolled_back"] <= 0.01 * quiet["histories"] and all(
        one["rolled_back"] == one["histories"] and one["exposed_max"] <= GOAL for one in harmful
    )


@cache
def rollout_code_digest() -> str:
    """Return a digest of what is played and what decides."""
    return digest_of(_ROOTS, _NAME, _source_of)


def _played(plan: RolloutPlan, terms: FleetTerms, harm: Harm, seed: int) -> RolloutEnd:
    one = play(plan, terms, harm, seed)
    return RolloutEnd(
        seed=seed, end=one.end, rule=one.rule, stage=one.stage, decided_s=one.decided_s, converged_s=one.converged_s,
        exposed=round(one.exposed, 6), exposed_in_all=round(one.exposed_in_all, 6),
    )  # fmt: skip


def _source_of(name: str) -> Path:
    """Find a module's file; of a package, its folder."""
    spec = importlib.util.find_spec(_NAME + name)
    assert spec is not None, name
    return Path(spec.origin or "") if spec.submodule_search_locations is None else Path(spec.origin or "").parent
