"""Reports of edges, judged and added up: what was seen, and what is refused, with the reason.

A report is the newest of its edge, whole, so an old one, a repetition and another order say nothing that the newest
does not. Refused ones change nothing: what the edge had told before stands.
"""

import math
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from thalweg.learning.rollout.facts import NOTHING, RolloutFact, RolloutKind, Tally
from thalweg.learning.rollout.plan import RolloutPlan
from thalweg.learning.rollout.records import (
    ArmCounts,
    DesiredModel,
    ReportedModel,
    RolloutRecordError,
    ServedVersion,
    read_reported,
)
from thalweg.learning.rollout.rollout import Rollout, Seen
from thalweg.learning.rollout.waves import position

REPORT_RULES: Final = {
    "unreadable": "it is no report",
    "unknown_rollout": "no such roll-out was begun",
    "other_version": "it tries another version than the roll-out's",
    "not_asked": "the edge is in no wave so far, and nobody has asked it",
    "ahead": "its clock is more than a day ahead",
    "went_back": "counts were told that are less than before",
    "not_split": "requests were not given to the versions as by a coin of the share that was asked",
}
AHEAD_MS: Final = 86_400_000
UNLIKELY: Final = 6.0
"""Standard deviations from the share that was asked: one honest report in 500 million is as far. A split that is not
the coin's makes the versions meet different requests (a "sample ratio mismatch", Fabijan et al. 2019)."""
LONGEST_REASON: Final = 300


class RefusedReport(NamedTuple):
    """Why a report changes nothing."""

    rule: str
    detail: str


@dataclass(slots=True)
class EdgeReports:
    """The newest report of each edge of one model that was not refused."""

    model: str
    of: dict[str, ReportedModel] = field(default_factory=dict)
    _positions: dict[str, dict[str, int]] = field(default_factory=dict)

    def take(
        self, run: Rollout | None, edge: str, value: Mapping[str, Any] | None, now_ms: int
    ) -> RefusedReport | None:
        """Take what an edge reports; return why not.

        Args:
            run: the newest roll-out of the model.
            edge: whose record it is.
            value: of the record; None where it was deleted: the edge is known no more.
            now_ms: the time.
        """
        if value is None:
            self.of.pop(edge, None)
            return None
        try:
            said = read_reported(value)
        except RolloutRecordError as error:
            return RefusedReport("unreadable", str(error))
        refused = self._objection(run, edge, said, now_ms)
        if refused is None:
            self.of[edge] = said
        return refused

    def seen(self, run: Rollout) -> Seen:
        """Add up what was told of a roll-out."""
        drawn = self._drawn(run.plan)
        positions = sorted(drawn[edge] for edge in self.of)
        told = [said for said in self.of.values() if said.number == run.number and said.beside is not None]
        heard = sum(1 for edge, said in self.of.items() if drawn[edge] <= run.cut and _tells(run, said))
        return Seen(tally=_sum(told), positions=positions, heard=heard, in_wave=bisect_right(positions, run.cut))

    def position(self, plan: RolloutPlan, edge: str) -> int:
        """Return an edge's position for a plan's version."""
        drawn = self._positions.setdefault(plan.version, {})
        if edge not in drawn:
            drawn[edge] = position(plan.model, plan.version, edge)
        return drawn[edge]

    def _drawn(self, plan: RolloutPlan) -> dict[str, int]:
        for edge in self.of:
            self.position(plan, edge)
        return self._positions.setdefault(plan.version, {})

    def _objection(self, run: Rollout | None, edge: str, said: ReportedModel, now_ms: int) -> RefusedReport | None:
        if said.at_ms > now_ms + AHEAD_MS:
            return RefusedReport("ahead", f"{said.at_ms} ms, and it is {now_ms}")
        newest = run.number if run is not None else 0
        if said.number > newest:
            return RefusedReport("unknown_rollout", f"number {said.number}, the newest is {newest}")
        if run is None or run.end is not None or said.number < newest or said.beside is None:
            return None  # it has not heard of this one yet, or nothing is tried: nothing is counted, and nothing wrong
        if said.beside != run.plan.digest:
            return RefusedReport("other_version", f"{said.beside}, of {run.plan.version} it is {run.plan.digest}")
        if self.position(run.plan, edge) > run.cut:
            return RefusedReport("not_asked", f"its position is above the cut {run.cut}")
        before = self.of.get(edge)
        if before is not None and before.number == said.number and before.beside is not None:
            for name in ("new", "last"):
                if lower := _lower(getattr(before, name), getattr(said, name)):
                    return RefusedReport("went_back", f"{name}.{lower}")
        return _split(said, run.plan.share)


def refusal(run: Rollout, edge: str, refused: RefusedReport, now_ms: int) -> RolloutFact:
    """Make the fact of a refused report."""
    reason = f"{REPORT_RULES[refused.rule]}: {refused.detail}"[:LONGEST_REASON]
    return RolloutFact(
        kind=RolloutKind.REFUSED,
        model=run.plan.model,
        number=run.number,
        at_ms=now_ms,
        version=run.plan.version,
        edge=edge,
        rule=refused.rule,
        reason=reason,
    )


def desired(run: Rollout, at: int) -> DesiredModel | None:
    """Return what is desired of an edge at a position; None where there is nothing to serve yet."""
    version, digest = run.serving
    if not version:
        return None
    tried = run.takes(at)
    plan = run.plan
    return DesiredModel(
        number=run.number,
        serve=ServedVersion(version=version, sha256=digest),
        beside=ServedVersion(version=plan.version, sha256=plan.digest) if tried else None,
        share=plan.share if tried else 0.0,
        slow_ms=plan.slow_ms,
    )


def _tells(run: Rollout, said: ReportedModel) -> bool:
    return said.number == run.number and said.beside is not None and said.new.requests > 0


def _sum(told: Iterable[ReportedModel]) -> Tally:
    sums = [list(row) for row in NOTHING]
    for said in told:
        for measure, (of, bad) in enumerate(_FIELDS):
            for arm, counts in enumerate((said.new, said.last)):
                sums[measure][2 * arm] += getattr(counts, of)
                sums[measure][2 * arm + 1] += getattr(counts, bad)
    return tuple((row[0], row[1], row[2], row[3]) for row in sums)


_FIELDS: Final = (("judged", "wrong"), ("requests", "failed"), ("requests", "slow"), ("requests", "odd"))
"""Of each measure, in the order of MEASURES: of how many, and how many."""


def _lower(before: ArmCounts, now: ArmCounts) -> str:
    return next((name for name in ArmCounts.__struct_fields__ if getattr(now, name) < getattr(before, name)), "")


def _split(said: ReportedModel, share: float) -> RefusedReport | None:
    new, all_ = said.new.requests, said.new.requests + said.last.requests
    # One more on both sides: a report of very few is never too far.
    if abs(new - share * all_) <= UNLIKELY * math.sqrt(all_ * share * (1 - share)) + 1:
        return None
    return RefusedReport("not_split", f"of {all_} asked the new version answered {new}; its share was to be {share:g}")
