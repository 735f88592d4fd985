"""What a strategy is: a function from a problem in canonical order to a partial plan, a bound and prices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from thalweg.scheduling.arrays import FloatArray
from thalweg.scheduling.problem.cost import Arcs
from thalweg.scheduling.problem.model import Problem
from thalweg.scheduling.problem.solution import SolveLimits, StopReason
from thalweg.scheduling.solve.bound import Prices
from thalweg.scheduling.solve.partial_plan import PartialPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a strategy found, in canonical order."""

    plan: PartialPlan
    bound: float
    prices: Prices
    stopped: StopReason
    trace: tuple[tuple[int, float, float], ...] = ()


Strategy = Callable[[Problem, Arcs, SolveLimits, int, "FloatArray | None"], Found]
