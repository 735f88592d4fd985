"""Placing what asks into the room that is free: classes to pools by the strategy, workers to nodes, and a bound."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from thalweg.scheduling.live.demand import Demand
from thalweg.scheduling.live.joint_fit import JointFit
from thalweg.scheduling.live.live_plan import PlanSettings
from thalweg.scheduling.live.live_problem import live_problem
from thalweg.scheduling.live.node_cuts import MOST_STEPS, Cut, CutMaker, with_cuts
from thalweg.scheduling.live.node_limits import with_node_limits
from thalweg.scheduling.live.node_placement import NodePlacement
from thalweg.scheduling.live.tenant_allowance import TenantAllowance
from thalweg.scheduling.pack.packer import Packer
from thalweg.scheduling.problem.model import Pools
from thalweg.scheduling.problem.solution import LIVE_LIMITS, OPTIMAL_GAP, Solution, SolveStatus
from thalweg.scheduling.solve.solve import solve
from thalweg.scheduling.world.world import World

ROUNDS: Final = 6
"""Times that a plan is made again because of what did not fit."""
MOST_ARCS: Final = 4_000
"""Classes times pools, beyond which it is made once: each time takes as long as the first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedFree:
    """What was placed; the slots are taken.

    Attributes:
        solution: of the strategy, that the placement follows.
        objective: US dollars, of what is placed and of what waits.
        bound: no placement costs less.
    """

    placement: NodePlacement
    solution: Solution
    objective: float
    bound: float

    @property
    def status(self) -> str:
        """What is known of it (`scheduling.problem.solution`)."""
        if self.solution.status is SolveStatus.EMPTY:
            return str(SolveStatus.EMPTY)
        is_tight = self.objective - self.bound <= OPTIMAL_GAP * max(abs(self.objective), 1e-9)
        return str(SolveStatus.OPTIMAL if is_tight else SolveStatus.FEASIBLE)


def place_into_free(
    world: World,
    demands: Sequence[Demand],
    settings: PlanSettings,
    now_ms: int,
    seed: int,
    packer: Packer,
    pools: Pools,
) -> PlacedFree:
    """Place what fits, at the least cost that a few tries find.

    Args:
        world: its nodes are left with what is placed on them; `PlacedFree.placement.undo` gives it back.
        demands: who asks, one row each.
        settings: of the plan.
        now_ms: ages and deadlines are counted from it.
        seed: for the strategies that draw.
        packer: over the world's nodes.
        pools: with what is free.
    """
    problem = live_problem(world, demands, settings, now_ms, pools)
    limited = with_node_limits(problem, world.nodes, [demand.key.spec.parts for demand in demands])
    limits = replace(LIVE_LIMITS, remaining_s=settings.remaining_s)
    maker = CutMaker(nodes=world.nodes, demands=demands, together=JointFit(MOST_STEPS))
    cuts = list[Cut]()
    best: PlacedFree | None = None
    bound = 0.0
    for again in range(ROUNDS + 1):
        solution = solve(with_cuts(limited, cuts), strategy=settings.strategy, limits=limits, seed=seed)
        if all(cut.proven for cut in cuts):
            bound = max(bound, solution.bound)
        for alike in (True, False):
            placement = NodePlacement(world, demands, problem, packer, TenantAllowance(world))
            placement.follow(solution, alike=alike)
            missed = placement.missed(solution)
            placement.mend()
            objective = placement.objective()
            if best is None or objective < best.objective * (1.0 - 1e-9):
                best = PlacedFree(placement=placement, solution=solution, objective=objective, bound=bound)
            if not missed:
                break
            if alike:  # whoever may go to several pools has perhaps taken the room of one who may not
                placement.undo()
        assert best is not None
        is_near = best.objective - bound <= LIVE_LIMITS.mip_gap * abs(best.objective)
        if not missed or is_near or again == ROUNDS or len(demands) * len(pools) > MOST_ARCS or limits.expired():
            break
        placement.undo()
        more = maker.cuts_of(missed, placement.fitted)
        if not more or set(more) <= set(cuts):
            placement.redo()
            break
        cuts += more
    assert best is not None
    if best.placement is not placement:
        placement.undo()
        best.placement.redo()
    return replace(best, bound=min(bound, best.objective))
