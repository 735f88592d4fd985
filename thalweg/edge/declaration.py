"""How rows are prepared, as it is declared: the value of a record of the sync plane, read strictly."""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

import msgspec

Figure = Literal["last", "count", "sum", "mean", "min", "max", "p50", "p90", "p95", "p99"]
"""What a window tells of a number. All are exact but the p…, which are within the declared error."""

QUANTILES: Final[Mapping[str, float]] = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}

_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]


class DeclarationError(ValueError):
    """A record declares no preparation that can be carried out; the text says why."""


class Criterion(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a row must satisfy to be kept. A row that does not have the field is kept."""

    field: _Name
    """Of the row."""
    one_of: tuple[str | int | bool, ...] | None = None
    """Values that are kept."""
    min: float | None = None
    """Least value that is kept."""
    max: float | None = None
    """Largest value that is kept."""


class Moment(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where a row of a file says when it was observed."""

    field: _Name
    """Of the row: a number, or a time of a format that has such."""
    unit: Literal["s", "ms"] = "ms"
    """Of a number, since 1970."""


class Declaration(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One preparation."""

    revision: Annotated[int, msgspec.Meta(ge=1)]
    """Its number, told in the log by whoever carries it out; raise it with each change."""
    keep: tuple[Criterion, ...] = ()
    """Filter: a row that breaks one of them goes nowhere."""
    window_s: Annotated[float, msgspec.Meta(gt=0, le=3_600)]
    """Rows of a thing that fall into one window leave as one. Windows begin at whole multiples of this since 1970."""
    figures: dict[_Name, Figure] = {}
    """What is told of numbers; every other field is told as it was last."""
    at_once: tuple[_Name, ...] = ()
    """Fields whose change does not wait for the window's end."""
    error: Annotated[float, msgspec.Meta(gt=0, lt=0.5)] = 0.01
    """Largest share of a quantile by which it is told wrong."""
    thing: tuple[_Name, ...] = ()
    """Of a file: the fields that say what a row is of. Of samples it is known."""
    time: Moment | None = None
    """Of a file: when a row was observed; without it there are no windows, and rows are only kept or not."""


def read_declaration(value: Mapping[str, Any]) -> Declaration:
    """Read a record's value.

    Raises:
        DeclarationError: it is none; names what is wrong.
    """
    try:
        found = msgspec.convert(value, Declaration)
    except msgspec.ValidationError as error:
        raise DeclarationError(f"{error}{_allowed(str(error))}") from error
    for demand in found.keep:
        bounds = (demand.min, demand.max)
        if (demand.one_of is None) == (bounds == (None, None)):
            raise DeclarationError(f"a demand on {demand.field}: allowed is one_of, or min and max, either left out")
        if any(bound is not None and not math.isfinite(bound) for bound in bounds):
            raise DeclarationError(f"a demand on {demand.field}: allowed are finite bounds")
    if both := sorted(set(found.at_once) & found.figures.keys()):
        raise DeclarationError(f"{both[0]} is a figure, and at_once: allowed is one of them")
    return found


def _allowed(words: str) -> str:
    """Name the fields there are, where one was said that is not."""
    if "unknown field" not in words:
        return ""
    kind = Criterion if "`$.keep" in words else Moment if "`$.time" in words else Declaration
    return f"; allowed are {', '.join(field.name for field in msgspec.structs.fields(kind))}"
