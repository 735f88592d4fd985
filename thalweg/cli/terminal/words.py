"""Values as a person reads them: rounded, with a unit, a moment by its age."""

from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

from thalweg.cli.terminal.durations import in_words

Say = Callable[[Any], str]
"""Puts a value of a row into words; None is said as nothing."""

_LARGE: Final = ((1e12, "T"), (1e9, "G"), (1e6, "M"))
_NOTHING_USD: Final = 0.005
_NOTHING_SHARE: Final = 5e-5  # what a percentage of one digit would round to nothing


def usd(value: float | None) -> str:
    """Say an amount in cents, a smaller one in two digits, one of millions in three: 3.06, 0.0031, 1,204.50, 27.5 M."""
    if value is None:
        return ""
    if abs(value) >= 1e6:
        return amount(value)
    return f"{value:,.2f}" if value == 0 or abs(value) >= _NOTHING_USD else f"{value:.2g}"


def amount(value: float | None) -> str:
    """Say a number in three digits or whole, one of millions with its letter: 0.12, 7.25, 1,204, 27.5 M."""
    if value is None:
        return ""
    for size, letter in _LARGE:
        if abs(value) >= size:
            # Three digits, zeros among them: in a column they line up.
            return f"{value / size:#.3g}".rstrip(".") + f" {letter}" if abs(value) < 1e15 else f"{value:.3g}"
    if isinstance(value, int) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def percent(share: float | None) -> str:
    """Say a share of one in per cent with a digit: 0 %, 0.3 %, 12.5 %, 100 %."""
    if share is None:
        return ""
    return "0 %" if abs(share) < _NOTHING_SHARE else f"{round(100 * share, 1):g} %"


def milliseconds(value: float | None) -> str:
    """Say a short time: 0.4 ms, 12 ms, 1.4 s, 12 min."""
    if value is None:
        return ""
    if value >= 95_000:
        return in_words(value / 1_000)
    if value >= 1_000:
        return f"{value / 1_000:.3g} s"
    return f"{value:.0f} ms" if value >= 10 else f"{value:.1f} ms"


def seconds(value: float | None) -> str:
    """Say a duration in its largest unit."""
    return "" if value is None else in_words(value)


def ago(now: datetime) -> Say:
    """Make the saying of moments by their age at `now`: 3 min ago; one that lies ahead: in 3 min."""

    def say(moment: datetime | None) -> str:
        if moment is None:
            return ""
        age_s = (now - moment).total_seconds()
        return f"{in_words(age_s)} ago" if age_s >= 0 else f"in {in_words(-age_s)}"

    return say


def listed(values: list[Any] | None) -> str:
    """Name several things; what is missing among them is left out."""
    return ", ".join(str(value) for value in values or () if value is not None)
