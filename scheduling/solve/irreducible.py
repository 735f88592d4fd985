"""Which limits no plan can keep together: irreducible infeasible sets, found by deletion.

"All these tasks are placed" is a limit like the others, so a set says which tasks cannot be placed together as well as
why. A limit without which the rest still cannot be kept is deleted, and what remains at the end is irreducible: it
cannot be kept, and without any one of its members it can (Chinneck, Dravnieks 1991, ORSA J. Computing 3). Whole blocks
are tried before single limits, as most limits of a problem are in nobody's way (Junker 2004, QuickXplain).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from thalweg.scheduling.problem.cost import arc_costs
from thalweg.scheduling.problem.model import Problem, Weights
from thalweg.scheduling.problem.named_limits import LimitKind, NamedLimit, limits_of, loosened
from thalweg.scheduling.problem.solution import DEFAULT_LIMITS, SolveLimits
from thalweg.scheduling.solve.formulation import formulate, solve_integer

Member = TypeVar("Member", bound=Hashable)


@dataclass(frozen=True, slots=True, kw_only=True)
class InfeasibleSet:
    """Limits that no plan can keep together.

    Attributes:
        limits: in the order of `limits_of`.
        irreducible: whether it is proven that without any one of them the others can be kept. It is not where the
            solver met its limit of effort on the way.
    """

    limits: tuple[NamedLimit, ...]
    irreducible: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class InfeasibleSets:
    """What keeps the tasks of a problem from being all placed.

    Attributes:
        found: sets, no two of which demand the same class; none where all tasks can be placed.
        complete: whether all tasks that are in none of them can be placed together.
    """

    found: tuple[InfeasibleSet, ...]
    complete: bool


def infeasible_sets(problem: Problem, effort: SolveLimits = DEFAULT_LIMITS) -> InfeasibleSets:
    """Name the limits that keep the tasks of a problem from being all placed, whatever the cost.

    After each set its demands are left out, and what remains is looked at, until all of that can be placed.

    Args:
        problem: one that `check_problem` passes.
        effort: its `mip_nodes` are for each question.
    """
    found: list[InfeasibleSet] = []
    while True:
        all_fit = can_place_all(problem, effort)
        if all_fit is not False:
            return InfeasibleSets(found=tuple(found), complete=all_fit is True)
        found.append(_infeasible_set(problem, effort))
        problem = loosened(problem, (limit for limit in found[-1].limits if limit.kind is LimitKind.DEMAND))


def _infeasible_set(problem: Problem, effort: SolveLimits) -> InfeasibleSet:
    every = limits_of(problem)
    undecided = False

    def infeasible(kept: Sequence[NamedLimit]) -> bool:
        nonlocal undecided
        keeps = set(kept)
        answer = can_place_all(loosened(problem, (limit for limit in every if limit not in keeps)), effort)
        undecided |= answer is None
        return answer is False

    return InfeasibleSet(limits=irreducible(every, infeasible), irreducible=not undecided)


def irreducible(members: Sequence[Member], infeasible: Callable[[Sequence[Member]], bool]) -> tuple[Member, ...]:
    """Delete members until none can be spared.

    Args:
        members: a set that is infeasible; what comes first is deleted first.
        infeasible: whether a part of them is; a set that has an infeasible part is infeasible.

    Returns:
        A part that is infeasible and becomes feasible without any one of its members, in the order given.
    """
    kept = tuple(members)
    blocks = [kept]
    while blocks:
        block = blocks.pop()
        inside = set(block)
        rest = tuple(member for member in kept if member not in inside)
        if infeasible(rest):
            kept = rest
        elif len(block) > 1:
            half = len(block) // 2
            blocks += [block[half:], block[:half]]
    return kept


def can_place_all(problem: Problem, effort: SolveLimits = DEFAULT_LIMITS) -> bool | None:
    """Tell whether some plan places every task, at any price; None where the solver has met its limit before."""
    classes = problem.classes
    problem = replace(problem, weights=Weights())  # prices decide nothing here
    arcs = arc_costs(problem)
    class_index, pool_index = np.nonzero(np.isfinite(arcs.usd) & (classes.count > 0)[:, None])
    program = formulate(problem, arcs, class_index, pool_index, [])
    room = np.bincount(class_index, program.upper[: len(class_index)], len(classes))
    copies = classes.count * classes.replicas
    if (room < copies).any():
        return False
    if not copies.any():
        return True
    # What is minimised is the number of tasks that wait: then both answers are proven by numbers, none by a status.
    waiting = np.concatenate([np.zeros(len(class_index)), np.ones(len(classes))])
    answer = solve_integer(replace(program, usd=waiting), effort, 0.0)
    if answer.copies is not None:
        placed = np.bincount(class_index, np.rint(answer.copies), len(classes))
        if (placed == copies).all():
            return True
    return False if answer.complete or answer.bound > 0.5 else None
