"""What a server has done: counts, and times of the newest requests."""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

NEWEST: Final = 2_000
"""Times that quantiles are taken of: twenty above the 99th of a hundred."""


@dataclass(slots=True)
class ServerFigures:
    """Not for several threads."""

    requests: int = 0
    """Answered."""
    refused: int = 0
    """That could not be answered as they were asked."""
    shed: int = 0
    """Turned away because too many were under way."""
    failed: int = 0
    """That the server failed."""
    in_flight: int = 0
    """That wait, or are being answered."""
    swaps: int = 0
    fetched_bytes: int = 0
    """Of models, as they were transferred."""
    _times_ms: "deque[float]" = field(default_factory=lambda: deque(maxlen=NEWEST))

    def answered(self, took_ms: float) -> None:
        """Note an answer."""
        self.requests += 1
        self._times_ms.append(took_ms)

    def quantile_ms(self, share: float) -> float:
        """Response time that this share of the newest answers did not pass; 0 where there is none."""
        return quantile(sorted(self._times_ms), share)


def quantile(ascending: Sequence[float], share: float) -> float:
    """Nearest rank: the least of the numbers that is not below this share of them; 0 where there is none."""
    if not ascending:
        return 0.0
    return ascending[max(0, math.ceil(share * len(ascending)) - 1)]
