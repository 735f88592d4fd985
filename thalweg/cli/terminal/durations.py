"""How long something took, as a person says it."""

from typing import Final

_UNITS: Final = ((86_400.0, "days"), (3_600.0, "h"), (60.0, "min"))


def in_words(seconds: float) -> str:
    """Say a duration in its largest unit of which there are two: 95 s, 12 min, 40 h, 3 days."""
    for length, unit in _UNITS:
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(seconds, 0.0):.0f} s"
