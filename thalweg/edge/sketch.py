"""Quantiles of numbers that are not kept: each is counted in a bucket as wide as the error that was asked for.

DDSketch (Masson, Rim and Lee 2019): bucket i holds the numbers in (γⁱ⁻¹, γⁱ] with γ = (1 + α) / (1 - α), and is told
as 2 γⁱ / (γ + 1), which is within the share α of each of them. Counts are whole numbers, so sketches of parts add up to
the sketch of the whole, in any order.
"""

import math
from collections import Counter
from collections.abc import Iterable
from typing import Final

LEAST: Final = 1e-9
"""Numbers of at most this size are told as 0: no figure of ours means anything so small."""


class QuantileSketch:
    """Counts of numbers, by size."""

    def __init__(self, error: float) -> None:
        """Begin with none.

        Args:
            error: largest share of a quantile by which it is told wrong; between 0 and 1, both excluded.
        """
        self.error = error
        self._log_gamma = math.log1p(error) - math.log1p(-error)
        self._counts: Counter[tuple[int, int]] = Counter()
        """By sign and bucket; the sign of a small number is 0."""
        self._least, self._most = math.inf, -math.inf

    @property
    def count(self) -> int:
        """How many numbers."""
        return self._counts.total()

    @property
    def buckets(self) -> int:
        """How many counts are kept."""
        return len(self._counts)

    def add(self, numbers: Iterable[float]) -> None:
        """Count finite numbers."""
        for number in numbers:
            self._least, self._most = min(self._least, number), max(self._most, number)
            size = abs(number)
            if size <= LEAST:
                self._counts[0, 0] += 1
            else:
                self._counts[(1 if number > 0 else -1), math.ceil(math.log(size) / self._log_gamma)] += 1

    def merge(self, other: "QuantileSketch") -> None:
        """Add what another of the same error has counted."""
        if other.error != self.error:
            raise ValueError(f"a sketch of error {other.error:g}: allowed is {self.error:g}")
        self._counts += other._counts
        self._least, self._most = min(self._least, other._least), max(self._most, other._most)

    def quantile(self, share: float) -> float:
        """Return the number of which this share of all is no larger, within the error.

        Of n numbers it is the one of rank ⌈share × n⌉ from below, at least the first.

        Raises:
            ValueError: there are no numbers.
        """
        if not self._counts:
            raise ValueError("a quantile of nothing: allowed is a sketch of at least one number")
        rank = max(1, math.ceil(share * self.count))
        for sign, bucket in sorted(self._counts, key=lambda place: (place[0], place[0] * place[1])):
            rank -= self._counts[sign, bucket]
            if rank <= 0:
                # No number is outside of these, so no quantile is: a share of at most 1 is told as one.
                return min(max(sign * self._told(bucket), self._least), self._most)
        raise AssertionError("a share of at most 1 is reached")

    def _told(self, bucket: int) -> float:
        return math.exp(bucket * self._log_gamma) * (1 - self.error)  # 2 γⁱ / (γ + 1), and 2 / (γ + 1) = 1 - α
