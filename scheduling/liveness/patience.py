"""How long a region may be silent before it counts as lost, learned from the gaps between its own signs of life.

This is the accrual failure detector of Hayashibara et al. ("The φ Accrual Failure Detector", SRDS 2004) read the other
way round. With φ(t) = −log₁₀ P(gap > t) and gaps taken as normally distributed, "φ has reached 8" and "the silence is
longer than mean + 5.61 standard deviations" are one statement; the second is a length of time, which an operator can
compare with the time-out configured. That time-out is the floor: a region that speaks regularly is lost after it, and
only one whose own gaps come near it is given more. The figures are in docs/explanation/liveness.md.
"""

import math
from collections import deque
from typing import Final

DEVIATIONS: Final = 5.612
"""Standard deviations above the mean at which a normal gap has φ = 8: once in a hundred million gaps."""

WINDOW: Final = 200
"""Gaps remembered: some minutes of beats. Older ones describe another network."""

LONGEST: Final = 6
"""Patience ends at so many time-outs, whatever the gaps were: a region that is dead is found out in bounded time."""


class Patience:
    """The gaps of one region."""

    __slots__ = ("_gaps", "_squares", "_sum")

    def __init__(self) -> None:
        self._gaps: deque[int] = deque()
        self._sum = 0
        self._squares = 0

    def note(self, gap_ms: int) -> None:
        """Remember a gap between two signs of life."""
        self._gaps.append(gap_ms)
        self._sum += gap_ms
        self._squares += gap_ms * gap_ms
        if len(self._gaps) > WINDOW:
            oldest = self._gaps.popleft()
            self._sum -= oldest
            self._squares -= oldest * oldest

    def limit_ms(self, timeout_ms: int) -> int:
        """Longest silence that is not taken for death; never below the time-out, never above LONGEST of them."""
        count = len(self._gaps)
        if not count:
            return timeout_ms
        # Whole numbers of milliseconds: a sum that is added to and taken from for months must not drift.
        variance = (count * self._squares - self._sum * self._sum) / (count * count)
        accrued = self._sum / count + DEVIATIONS * math.sqrt(variance)
        return min(max(timeout_ms, math.ceil(accrued)), LONGEST * timeout_ms)
