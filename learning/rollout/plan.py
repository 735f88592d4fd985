"""What a roll-out is told: which version instead of which, in which waves, and what it may cost to be wrong."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

MEASURES: Final = ("wrong", "failed", "slow", "odd")
"""What a request can come to, each a yes or no: its answer was wrong, of those whose truth became known; there was no
answer; it came after `slow_ms`; its input or answer was unlike what the version had learned from (drift)."""
WAVES: Final = (0.01, 0.05, 0.25, 1.0)
NAME: Final = r"[^\s/\x00-\x1f\x7f]{1,180}"
"""Of a model, a version or an edge: it is part of records' keys, so it has no slash."""
DIGEST: Final = "[0-9a-f]{64}"
MARGINS: Final[Mapping[str, float]] = {"wrong": 0.03, "failed": 0.02, "slow": 0.1, "odd": 0.1}


class RolloutPlanError(ValueError):
    """A roll-out cannot be carried out as it was told; the text names what was seen and what is allowed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutPlan:
    """One roll-out. Shares are of 1."""

    model: str
    version: str
    """The new one."""
    digest: str
    """SHA-256 of its bytes, in hex."""
    last_version: str = ""
    """The last good one: it serves beside the new one, and alone where that is taken back. Empty: there is none."""
    last_digest: str = ""
    waves: tuple[float, ...] = WAVES
    """Shares of the edges, growing to 1."""
    share: float = 0.5
    """Of the requests of an edge in the wave that the new version answers; the last good one answers the others, so
    both meet the same requests, at the same times, on the same edge."""
    margins: Mapping[str, float] = field(default_factory=lambda: dict(MARGINS))
    """By measure, how much larger its share may not be with the new version; what is not named is not looked at."""
    false_alarm: float = 0.01
    """Largest chance that a version which is no worse is taken back for its outcomes."""
    missed: float = 0.05
    """Largest chance, for each wave, that a version which is worse by a margin or more goes on to the next one."""
    soak_s: float = 43_200.0
    """Least time of the first wave, seconds; of each further one it is half of that of the wave before. What a version
    does only later must have time to show, and while few edges have it that costs least."""
    deadline_s: float = 7 * 86_400.0
    """Longest time of a wave, seconds; what has not been shown to be safe by then is taken back."""
    quorum: float = 0.5
    """Share of a wave's edges that must have told outcomes of the new version before the next one."""
    slow_ms: float = 1_000.0
    """An answer after this is slow."""

    def check(self) -> None:
        """Refuse what cannot be carried out.

        Raises:
            RolloutPlanError: names what was seen and what is allowed.
        """
        for name in ("model", "version"):
            _named(name, getattr(self, name), NAME)
        _named("digest", self.digest, DIGEST)
        if self.last_version or self.last_digest:
            _named("last_version", self.last_version, NAME)
            _named("last_digest", self.last_digest, DIGEST)
            if self.last_version == self.version:
                raise RolloutPlanError(f"version {self.version!r} is the last good one: allowed is another")
        rising = all(a < b for a, b in zip(self.waves, self.waves[1:], strict=False))
        if not (self.waves and rising and self.waves[0] > 0 and self.waves[-1] == 1 and len(self.waves) <= 20):
            raise RolloutPlanError(f"waves {self.waves}: allowed are shares that grow, the last of them 1")
        if not self.margins or set(self.margins) - set(MEASURES):
            raise RolloutPlanError(f"margins of {sorted(self.margins)}: allowed are some of {', '.join(MEASURES)}")
        for name, least, most in (
            ("share", 0.05, 0.95),
            ("false_alarm", 1e-6, 0.5),
            ("missed", 1e-6, 0.5),
            ("soak_s", 0, 30 * 86_400),
            ("deadline_s", max(self.soak_s, 1), 90 * 86_400),
            ("quorum", 0, 1),
            ("slow_ms", 0.001, 1e9),
        ):
            _within(name, getattr(self, name), least, most)
        for name, margin in self.margins.items():
            _within(f"margin of {name}", margin, 0.001, 0.5)

    def least_s(self, stage: int) -> float:
        """Return the least time of a wave, seconds, by its number from 0."""
        return self.soak_s / float(2**stage)

    def watched(self) -> tuple[int, ...]:
        """Return the numbers of the measures that are looked at."""
        return tuple(number for number, name in enumerate(MEASURES) if name in self.margins)


def _named(what: str, name: object, pattern: str) -> None:
    if not isinstance(name, str) or re.fullmatch(pattern, name) is None:
        allowed = "64 digits of hex" if pattern == DIGEST else "1 to 180 characters, no blank and no slash"
        raise RolloutPlanError(f"{what} {name!r}: allowed are {allowed}")


def _within(what: str, number: float, least: float, most: float) -> None:
    if not (math.isfinite(number) and least <= number <= most):
        raise RolloutPlanError(f"{what} {number}: allowed are {least:g} to {most:g}")
