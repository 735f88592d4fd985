"""One roll-out over many edges on a virtual clock: edges are simulated, what is decided is decided by `rollout`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from thalweg.learning.rollout.facts import RolloutFact, RolloutKind
from thalweg.learning.rollout.plan import RolloutPlan
from thalweg.learning.rollout.rollout import Rollout, Rollouts, Seen, decide, take
from thalweg.learning.rollout.waves import position
from thalweg.learning.simulation.edge_fleet import EdgeFleet, FleetTerms, Harm

MS: Final = 1_000
MOST_STEPS: Final = 40_000
"""Four weeks of minutes: a history that takes longer does not converge."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutHistory:
    """What became of it. Times are in seconds since the beginning."""

    seed: int
    end: RolloutKind
    rule: str
    stage: int
    """The wave in which it ended."""
    decided_s: float
    back_s: float
    """When the last edge that was reachable at the decision, or came back until then, serves what is desired."""
    converged_s: float
    """When every edge does."""
    exposed: float
    """Share of all requests until `back_s` that the new version answered, 0 to 1."""
    exposed_in_all: float
    """Share until `converged_s`."""
    requests: float
    """Until `back_s`."""
    facts: Sequence[RolloutFact]


def play(plan: RolloutPlan, terms: FleetTerms, harm: Harm, seed: int) -> RolloutHistory:
    """Play one.

    Args:
        plan: of the roll-out.
        terms: of the edges.
        harm: what the new version does.
        seed: of everything drawn.

    Raises:
        RuntimeError: it does not end.
    """
    rng = np.random.default_rng(seed)
    fleet = EdgeFleet(terms, harm, rng)
    # Who comes first is drawn by the version: another one for each seed.
    positions = np.array([position(plan.model, f"{plan.version}-{seed}", f"edge-{one}") for one in range(terms.edges)])
    ascending = tuple(np.sort(positions).tolist())
    started = RolloutFact(kind=RolloutKind.STARTED, model=plan.model, number=1, at_ms=0, plan=plan)
    rollouts = Rollouts()
    take(rollouts, started)
    run, facts = rollouts.newest[plan.model], [started]
    within = positions <= run.cut
    for number in range(MOST_STEPS):
        now_s = number * terms.step_s
        seen = _seen(fleet, run, positions, ascending)
        while (fact := decide(run, seen, int(now_s * MS))) is not None:
            take(rollouts, fact)
            facts.append(fact)
            within = positions <= run.cut
            seen = _seen(fleet, run, positions, ascending)
        if run.end is not None:
            return _after(fleet, run, seed, now_s, facts)
        fleet.desire(within, only_new=False)
        fleet.step(now_s, plan.share)
        fleet.report()
    raise RuntimeError(f"seed {seed}: no end after {MOST_STEPS} steps")


def _seen(fleet: EdgeFleet, run: Rollout, positions: npt.NDArray[np.int64], ascending: Sequence[int]) -> Seen:
    within = positions <= run.cut
    return Seen(tally=fleet.tally(), positions=ascending, heard=fleet.heard(within), in_wave=int(within.sum()))


def _after(fleet: EdgeFleet, run: Rollout, seed: int, decided_s: float, facts: Sequence[RolloutFact]) -> RolloutHistory:
    """Go on until every edge has come back once."""
    assert run.end is not None
    only_new = run.end is RolloutKind.COMPLETED
    nobody = np.zeros(fleet.terms.edges, bool)
    reachable = fleet.online.copy()
    requests = exposed = back_s = 0.0
    for number in range(MOST_STEPS):
        now_s = decided_s + number * fleet.terms.step_s
        fleet.desire(nobody, only_new)
        if number == 1:  # what was decided has reached who can be reached
            wrong = fleet.candidate | (fleet.only_new != only_new)
            assert not (wrong & reachable & fleet.online).any()
            requests, exposed, back_s = fleet.requests, fleet.exposed, now_s
        if fleet.converged(only_new) and number > 1:
            return RolloutHistory(
                seed=seed,
                end=run.end,
                rule=facts[-1].rule,
                stage=run.stage,
                decided_s=decided_s,
                back_s=back_s,
                converged_s=now_s,
                exposed=exposed / requests,
                requests=requests,
                exposed_in_all=fleet.exposed / fleet.requests,
                facts=facts,
            )
        fleet.step(now_s, run.plan.share)
    raise RuntimeError(f"seed {seed}: not converged after {MOST_STEPS} steps")
