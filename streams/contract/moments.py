"""Moments that are written in seconds where milliseconds are wanted: taken at their word they lie in 1970."""

from datetime import UTC, datetime
from typing import Final

FIRST_MS: Final = 1_000_000_000
LAST_MS: Final = 100_000_000_000
"""What as seconds lies between 2001 and 5138, and as milliseconds between the 12th of January 1970 and March 1973."""


def looks_like_seconds(ms: int | None) -> bool:
    """Tell whether a moment was probably meant in seconds."""
    return ms is not None and FIRST_MS <= ms < LAST_MS


def objection(name: str, ms: int | None) -> str | None:
    """Say what is wrong with a moment; None where nothing is.

    Args:
        name: of its field.
        ms: milliseconds since 1970, as they were sent.
    """
    if ms is None or not looks_like_seconds(ms):
        return None
    return (
        f"{name} {ms} is a moment of {datetime.fromtimestamp(ms / 1_000, UTC):%B %Y}: milliseconds since 1970 are "
        f"wanted, and this looks like seconds ({datetime.fromtimestamp(ms, UTC):%Y-%m-%d %H:%M} UTC)"
    )
