"""A roll-out as a state machine: facts in, the state; the state, what was seen and the time in, the next fact out.

Looking changes nothing and may happen at any time. A look that comes again after a restart finds the same sums and says
the same.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from thalweg.learning.rollout.evidence import Sums, log_harm, log_mean_exp, log_safe
from thalweg.learning.rollout.facts import ENDS, NOTHING, RolloutFact, RolloutKind, Tally
from thalweg.learning.rollout.plan import MEASURES, RolloutPlan
from thalweg.learning.rollout.waves import NOBODY, cut_of

TELL_EVERY_MS: Final = 300_000
"""Between two rows that say how the evidence stands: people look at them, nothing follows from them."""
MS: Final = 1_000


@dataclass(slots=True)
class Rollout:
    """The newest roll-out of one model."""

    plan: RolloutPlan
    number: int
    stage: int = -1
    cut: int = NOBODY
    since_ms: int = 0
    """When the stage began."""
    base: Tally = NOTHING
    """What had been told when it began: a wave is judged by its own outcomes."""
    end: RolloutKind | None = None
    told_ms: int = 0
    refused: set[tuple[str, str]] = field(default_factory=set)
    """Edges whose reports were refused, and by which rule: a row each, not one each time."""

    @property
    def serving(self) -> tuple[str, str]:
        """Version and digest that every edge is to serve, in the wave beside the new one; empty where there is none."""
        plan = self.plan
        if self.end is RolloutKind.COMPLETED:
            return plan.version, plan.digest
        return plan.last_version, plan.last_digest

    def takes(self, position: int) -> bool:
        """Tell whether an edge at a position is to serve the new version beside the last good one."""
        return self.end is None and position <= self.cut


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What the edges have told, as far as it was heard."""

    tally: Tally = NOTHING
    """Sums over all edges."""
    positions: Sequence[int] = ()
    """Of all edges that are known, ascending."""
    heard: int = 0
    """Edges within the cut that have told outcomes of the new version."""
    in_wave: int = 0
    """Edges within the cut."""


@dataclass(slots=True)
class Rollouts:
    """All of them: what facts have led to."""

    newest: dict[str, Rollout] = field(default_factory=dict)
    """By model."""
    obeyed: dict[str, str] = field(default_factory=dict)
    """By model, the wish that was last obeyed or refused."""


def take(rollouts: Rollouts, fact: RolloutFact) -> None:
    """Let a fact happen."""
    if fact.wish:
        rollouts.obeyed[fact.model] = fact.wish
    if fact.kind is RolloutKind.STARTED:
        assert fact.plan is not None
        rollouts.newest[fact.model] = Rollout(fact.plan, fact.number, told_ms=fact.at_ms)
        return
    run = rollouts.newest.get(fact.model)
    if run is None or fact.number != run.number or (fact.wish and fact.kind is RolloutKind.REFUSED):
        return
    if fact.kind is RolloutKind.REFUSED:
        run.refused.add((fact.edge, fact.rule))
        return
    run.told_ms = fact.at_ms
    if fact.kind is RolloutKind.WIDENED:
        run.stage, run.cut, run.since_ms, run.base = fact.stage, fact.cut, fact.at_ms, fact.tally
    elif fact.kind in ENDS:
        run.end = fact.kind


def decide(run: Rollout, seen: Seen, now_ms: int) -> RolloutFact | None:
    """Return the next fact that is due, to be taken before the next is asked for; None where nothing is.

    Args:
        run: as it is.
        seen: what was told.
        now_ms: the time.
    """
    plan = run.plan
    if run.end is not None:
        return None
    if not plan.last_version:
        reason = "there is no version to compare it with"
        return _fact(run, seen, now_ms, RolloutKind.COMPLETED, {}, rule="first", reason=reason)
    if run.stage < 0:
        return _widened(run, seen, now_ms, {}, "begins") if len(seen.positions) else None
    evidence = weighed(run, seen.tally)
    wave_s = (now_ms - run.since_ms) / MS
    if evidence["harm"] >= math.log10(len(plan.waves) / plan.false_alarm):
        rule, reason = _harm(run, seen, evidence)
        return _fact(run, seen, now_ms, RolloutKind.ROLLED_BACK, evidence, rule=rule, reason=reason)
    if wave_s >= plan.least_s(run.stage) and _is_heard(run, seen) and not _open(plan, evidence):
        reason = "all measures are within their margins"
        if run.stage + 1 < len(plan.waves):
            return _widened(run, seen, now_ms, evidence, reason)
        return _fact(run, seen, now_ms, RolloutKind.COMPLETED, evidence, rule="safe", reason=reason)
    if wave_s > plan.deadline_s:
        waits = _open(plan, evidence) or ["a quorum of edges"]
        reason = f"not shown to be safe within {plan.deadline_s:g} s: {', '.join(waits)}"
        return _fact(run, seen, now_ms, RolloutKind.ROLLED_BACK, evidence, rule="deadline", reason=reason)
    if now_ms - run.told_ms >= TELL_EVERY_MS:
        return _fact(
            run, seen, now_ms, RolloutKind.LOOKED, evidence, reason=_waiting_words(run, seen, evidence, wave_s)
        )
    return None


def weighed(run: Rollout, tally: Tally) -> dict[str, float]:
    """Weigh what was told: logarithms, base 10, of e-values.

    `safe_…` is of what the wave has brought, and `harm_…` too; `harm_…_all` is of the whole roll-out, since edges that
    got the version first show first what it does only later. `harm` is the mean of all of these: a mean of e-values is
    one, so several measures cost a factor, and no more looks.
    """
    plan, harms = run.plan, {}
    safe = {}
    for measure in plan.watched():
        name = MEASURES[measure]
        share, margin = plan.share, plan.margins[name]
        sums = _since(run.base, tally, measure)
        safe[f"safe_{name}"] = log_safe(sums, share, margin) / _LN10
        harms[f"harm_{name}"] = log_harm(sums, share, margin)
        if run.stage > 0:
            harms[f"harm_{name}_all"] = log_harm(tally[measure], share, margin)
    mean = log_mean_exp(np.array(list(harms.values()))) / _LN10
    return {"harm": mean, **{name: log_e / _LN10 for name, log_e in harms.items()}, **safe}


def _since(base: Tally, tally: Tally, measure: int) -> Sums:
    before, now = base[measure], tally[measure]
    return now[0] - before[0], now[1] - before[1], now[2] - before[2], now[3] - before[3]


_LN10: Final = math.log(10)


def _open(plan: RolloutPlan, evidence: dict[str, float]) -> list[str]:
    """Name the measures that have not been shown to be within their margins."""
    enough = -math.log10(plan.missed)
    return [MEASURES[one] for one in plan.watched() if evidence[f"safe_{MEASURES[one]}"] < enough]


def _widened(run: Rollout, seen: Seen, now_ms: int, evidence: dict[str, float], reason: str) -> RolloutFact:
    stage = run.stage + 1
    return RolloutFact(
        kind=RolloutKind.WIDENED,
        model=run.plan.model,
        number=run.number,
        at_ms=now_ms,
        version=run.plan.version,
        stage=stage,
        wave=run.plan.waves[stage],
        cut=cut_of(run.plan.waves[stage], seen.positions, run.cut),
        edges=len(seen.positions),
        heard=seen.heard,
        tally=seen.tally,
        evidence=evidence,
        reason=reason,
    )


def _fact(
    run: Rollout,
    seen: Seen,
    now_ms: int,
    kind: RolloutKind,
    evidence: dict[str, float],
    *,
    rule: str = "",
    reason: str = "",
) -> RolloutFact:
    return RolloutFact(
        kind=kind,
        model=run.plan.model,
        number=run.number,
        at_ms=now_ms,
        version=run.plan.version,
        stage=run.stage,
        wave=run.plan.waves[run.stage] if run.stage >= 0 else 0.0,
        cut=run.cut,
        edges=len(seen.positions),
        heard=seen.heard,
        tally=seen.tally,
        evidence=evidence,
        rule=rule,
        reason=reason,
    )


def _harm(run: Rollout, seen: Seen, evidence: dict[str, float]) -> tuple[str, str]:
    """Name the measure that shows the harm, and say so in words."""
    shown = max((name for name in evidence if name.startswith("harm_")), key=evidence.__getitem__)
    name = shown.removeprefix("harm_").removesuffix("_all")
    base = NOTHING if shown.endswith("_all") else run.base
    new, bad_new, last, bad_last = _since(base, seen.tally, MEASURES.index(name))
    return name, (
        f"{name}: {bad_new} of {new} with {run.plan.version}, {bad_last} of {last} with {run.plan.last_version}; "
        f"e-value 10^{evidence[shown]:.1f} against no worse"
    )


def _is_heard(run: Rollout, seen: Seen) -> bool:
    return seen.heard >= max(1, run.plan.quorum * seen.in_wave)


def _waiting_words(run: Rollout, seen: Seen, evidence: dict[str, float], wave_s: float) -> str:
    waits = []
    if unsure := _open(run.plan, evidence):
        waits.append(f"not yet shown to be safe: {', '.join(unsure)}")
    if (left_s := run.plan.least_s(run.stage) - wave_s) > 0:
        waits.append(f"{left_s:.0f} s until the wave's least time is over")
    if not _is_heard(run, seen):
        waits.append(f"{seen.heard} of {seen.in_wave} edges have told outcomes")
    return "; ".join(waits)
