"""How far a convex function stays on one of its lines: found by asking for its value and a tangent, never by steps.

The optimum of a linear program is convex and piecewise linear in a right-hand side, and the least cost of finitely many
plans is concave and piecewise linear in a price. Where the tangent of a far point crosses the line at hand is the
next point to ask at; every answer but the last shows a piece not seen before, so it ends (Eisner, Severance 1976,
J. ACM 23; Newton's method for a piecewise linear function).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Tangent:
    """A line that touches a convex function at a point and lies nowhere above it."""

    at: float
    value: float
    slope: float

    def height(self, point: float) -> float:
        """The line's value at a point."""
        return self.value + self.slope * (point - self.at)


def stays_until(
    line: Tangent, far: float, tangent: Callable[[float], Tangent], tolerance: float
) -> tuple[float, Tangent | None]:
    """Find the last point, from where a line touches towards `far`, at which it still does.

    Args:
        line: a tangent.
        far: where to look from, on either side.
        tangent: the function's value and a slope, at a point between.
        tolerance: of values, below which a function counts as being on its line.

    Returns:
        The point, and the tangent of the piece beyond it; None where the line touches as far as `far`.
    """
    point, beyond = far, None
    while True:
        found = tangent(point)
        if found.value <= line.height(point) + tolerance:
            return point, beyond
        beyond = found
        bend = found.slope - line.slope
        crossing = line.at if not bend else line.at + (line.value - found.height(line.at)) / bend
        # Rounding must not carry the search past either end.
        nearer = min(max(crossing, min(line.at, point)), max(line.at, point))
        if nearer in (point, line.at):
            return nearer, beyond
        point = nearer
