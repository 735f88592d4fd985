"""The gate: a small model passes only if it is small enough, as right, and as quick, by what was measured of both."""

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What is asked of a small model."""

    times_smaller: float = 4.0
    points: float = 0.5
    """Most accuracy that may be lost, in points of a hundred."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One model on the held-out samples."""

    size_bytes: int
    accuracy: float
    """Share of the samples whose class it names."""
    p50_us: float
    """Of one sample's answer, processor time, in microseconds."""
    p99_us: float
    """Of one sample's answer, processor time, in microseconds. Of the model as it was, the larger of two."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A small model beside the model as it was."""

    recipe: str
    full: Measured
    small: Measured
    reasons: tuple[str, ...] = field(default=())
    """Why it does not pass; none where it does."""

    @property
    def passed(self) -> bool:
        """Whether it passes."""
        return not self.reasons

    @property
    def times_smaller(self) -> float:
        """How many times smaller it is."""
        return self.full.size_bytes / self.small.size_bytes

    @property
    def points_lost(self) -> float:
        """Accuracy that was lost, in points of a hundred; below zero where some was won."""
        return 100 * (self.full.accuracy - self.small.accuracy)


def judge(recipe: str, full: Measured, small: Measured, limits: Limits) -> Judged:
    """Compare a small model with the model as it was."""
    found = Judged(recipe=recipe, full=full, small=small)
    return Judged(recipe=recipe, full=full, small=small, reasons=tuple(_reasons(found, limits)))


def _reasons(found: Judged, limits: Limits) -> Sequence[str]:
    reasons = []
    if found.times_smaller < limits.times_smaller:
        reasons.append(
            f"{found.times_smaller:.2f} times smaller ({found.full.size_bytes:,} to {found.small.size_bytes:,} bytes); "
            f"asked are {limits.times_smaller:g} times"
        )
    # A sample's share of the accuracy is a binary fraction; a loss of exactly the limit is none.
    if found.points_lost > limits.points + 1e-9:
        reasons.append(
            f"{found.points_lost:.2f} points lost ({100 * found.full.accuracy:.2f} % to "
            f"{100 * found.small.accuracy:.2f} %); allowed are {limits.points:g}"
        )
    if found.small.p99_us > found.full.p99_us:
        reasons.append(
            f"p99 of one answer {found.small.p99_us:.1f} µs of processor time; the model as it was takes "
            f"{found.full.p99_us:.1f}"
        )
    return reasons
