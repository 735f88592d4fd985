"""What a strategy is: a function from a problem in canonical order to a draft, a bound and prices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from scheduling.arrays import FloatArray
from scheduling.bound import Prices
from scheduling.cost import Arcs
from scheduling.draft import Draft
from scheduling.model import Problem
from scheduling.solution import Limits, Stopped


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a strategy found, in canonical order."""

    draft: Draft
    bound: float
    prices: Prices
    stopped: Stopped
    trace: tuple[tuple[int, float, float], ...] = ()


Strategy = Callable[[Problem, Arcs, Limits, int, "FloatArray | None"], Found]
