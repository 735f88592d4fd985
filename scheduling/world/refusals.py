"""Back-off from regions that give back what they are assigned: each time twice as long before the next try.

Counted once for everything that was assigned before the last count, so that a plan whose thirty assignments are all
refused is one refusal. All of it follows from the ledger's rows, so a restart knows what was counted.
"""

from dataclasses import dataclass
from typing import Final

from thalweg.scheduling.ids import RegionId

FIRST_MS: Final = 1_000
MOST_MS: Final = 600_000
"""Longest back-off; what stayed longer than this in a region was no refusal, and counting starts again after it."""


@dataclass(slots=True, kw_only=True)
class Refusals:
    """Refusals in a row."""

    count: int = 0
    last_ms: int = -1
    """When the last one was counted."""
    until_ms: int = 0
    """No new try before this moment."""

    def note(self, assigned_ms: int, now_ms: int, free: int = 0) -> bool:
        """Count a refusal now of what was assigned then; whether it was counted.

        Args:
            assigned_ms: when it was assigned.
            now_ms: the moment.
            free: so many refusals cost nothing yet.
        """
        if assigned_ms < self.last_ms <= now_ms:  # else the clock was set back
            return False
        self.count = 1 if now_ms - assigned_ms > MOST_MS else self.count + 1
        self.last_ms = now_ms
        self.until_ms = now_ms + back_off_ms(self.count - free)
        return True


def back_off_ms(count: int) -> int:
    """How long to wait after so many refusals in a row."""
    return 0 if count < 1 else int(min(FIRST_MS * 2 ** min(count - 1, 32), MOST_MS))


def in_words(region: RegionId, refusals: Refusals, now_ms: int) -> str:
    """Say what is known of a region that refuses."""
    again_s = max(refusals.until_ms - now_ms, 0) / 1000
    times = "once" if refusals.count == 1 else f"{refusals.count} times in a row"
    return f"region {region} gave it back {times}, and is tried again in {again_s:.0f} s"
