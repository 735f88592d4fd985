"""One number in one window: enough of it for every figure, and no more."""

from fractions import Fraction

from thalweg.edge.declaration import QUANTILES, Figure
from thalweg.edge.sketch import QuantileSketch


class Gathered:
    """What was gathered of a number. Sums are exact until they are told: their order cannot be seen."""

    def __init__(self, figure: Figure, error: float) -> None:
        """Begin with none.

        Args:
            figure: that will be told.
            error: of a quantile.
        """
        self._figure = figure
        self._count = 0
        self._sum = Fraction(0)
        self._last: float = 0
        self._least: float = float("inf")
        self._most: float = float("-inf")
        self._sketch = QuantileSketch(error) if figure in QUANTILES else None

    def add(self, number: float) -> None:
        """Gather one."""
        self._count += 1
        self._last = number
        match self._figure:
            case "sum" | "mean":
                self._sum += Fraction(number)
            case "min" | "max":
                self._least, self._most = min(self._least, number), max(self._most, number)
            case _ if self._sketch is not None:
                self._sketch.add((number,))

    def told(self) -> float:
        """Tell the figure of at least one number."""
        match self._figure:
            case "count":
                return self._count
            case "sum":
                return float(self._sum)
            case "mean":
                return float(self._sum / self._count)
            case "min":
                return self._least
            case "max":
                return self._most
            case "last":
                return self._last
        assert self._sketch is not None
        return self._sketch.quantile(QUANTILES[self._figure])
