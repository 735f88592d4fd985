"""A moment to come, as a person says it."""

import re
from datetime import UTC, datetime, timedelta
from typing import Final

_IN: Final = re.compile(r"(?:in\s+|\+)?(\d+(?:\.\d+)?)\s*(s|m|min|h|d)")
_SECONDS: Final = {"s": 1, "m": 60, "min": 60, "h": 3_600, "d": 86_400}


def parse_moment(text: str, now: datetime, option: str) -> datetime:
    """Read `2026-11-21T12:00:00Z` (UTC where it names no zone), or how long from now: `90m`, `in 2h`.

    Raises:
        ValueError: it is neither, or lies in the past.
    """
    try:
        if match := _IN.fullmatch(text.strip()):
            return now + timedelta(seconds=float(match.group(1)) * _SECONDS[match.group(2)])
        moment = datetime.fromisoformat(text.strip())
    except (ValueError, OverflowError):
        raise ValueError(
            f"{option} {text!r}: allowed are a time (2026-11-21T12:00:00Z) or how long from now (90m, 2h)"
        ) from None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    if moment <= now:
        raise ValueError(f"{option} {text!r} lies in the past: it is {now.isoformat(timespec='seconds')} now")
    return moment
