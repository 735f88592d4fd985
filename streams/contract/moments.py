"""Moments as milliseconds since 1970: read from a date, and refused where seconds were written in their place.

Taken at their word, seconds lie in 1970.
"""

from datetime import UTC, datetime, timedelta
from typing import Final

FIRST_MS: Final = 1_000_000_000
LAST_MS: Final = 100_000_000_000
"""What as seconds lies between 2001 and 5138, and as milliseconds between the 12th of January 1970 and March 1973."""


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def ms_of(moment: datetime) -> int:
    """Give a moment that knows its zone in milliseconds since 1970."""
    return (moment - _EPOCH) // timedelta(milliseconds=1)


def read_date(text: str) -> int:
    """Read a date with its zone, such as 2026-12-31T10:00:00Z, as milliseconds since 1970.

    Raises:
        ValueError: it is none, lies before 1970, or names no zone, so that it would be another moment elsewhere.
    """
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ValueError(
            "allowed are a date with its zone (2026-12-31T10:00:00Z) and milliseconds since 1970"
        ) from None
    if moment.tzinfo is None:
        raise ValueError(f"it names no zone; write {moment.isoformat()}Z for UTC, or an offset such as +01:00")
    if (ms := ms_of(moment)) < 0:
        raise ValueError("it lies before 1970, where moments begin here")
    return ms


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
