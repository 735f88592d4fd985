"""What a column of any Arrow type holds, as values that JSON has, exactly.

Expressions yield more than the tables hold: nanoseconds, years beyond 9999, intervals, decimals of 76 digits. Python's
own times cannot hold these, so times are read as the integers that Arrow keeps and written out here. A time without a
zone is UTC, whatever the machine's zone is.
"""

from collections.abc import Iterable
from typing import Any, Final

from arro3.core import ChunkedArray, DataType, Field

from thalweg.query.sql.plain import plain
from thalweg.query.sql.sql_statement import QueryRefusedError
from thalweg.query.sql.type_names import family_of

_PER_SECOND: Final = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_DAY_S: Final = 86_400
_DAYS_OF_400_YEARS: Final = 146_097


def distinct(names: Iterable[str]) -> list[str]:
    """Tell columns of one name apart: `a`, `a:1`, `a:2`."""
    names = list(names)
    taken: set[str] = set()
    found = []
    for name in names:
        free, number = name, 0
        while free in taken or (number and free in names):
            number += 1
            free = f"{name}:{number}"
        taken.add(free)
        found.append(free)
    return found


def shown_values(column: ChunkedArray) -> list[Any]:
    """Give a column's values as JSON has them; no digit is lost, NaN and infinity are null.

    Raises:
        QueryRefusedError: it is a map of what no reader of ours can take out of it.
    """
    kind = column.type
    if "Map(" in str(kind):
        if "Interval(" in str(kind) or "ListView(" in str(kind):
            raise QueryRefusedError(
                f"a value of type {' '.join(str(kind).split())} cannot be shown: ask for map_entries(…) of it"
            )
        try:
            return [_shown(kind, value) for value in column.to_pylist()]
        except (ValueError, OverflowError) as error:  # a time that Python's own cannot hold
            raise QueryRefusedError(f"a map cannot be shown ({error}): ask for map_entries(…) of it") from error
    return [_shown(kind, value) for value in column.cast(_carrier(kind)).to_pylist()]


def _carrier(kind: DataType) -> DataType:
    """Choose a type that holds all that a type holds, and whose values Python can hold."""
    family = family_of(kind)
    if family == "Dictionary":
        return _carrier(_value_type(kind))
    if family in ("Timestamp", "Time64", "Duration", "Date64"):
        return DataType.int64()
    if family in ("Date32", "Time32"):
        return DataType.int32()
    if family == "Interval" or family.startswith("Decimal"):
        return DataType.string()
    if family == "Struct":
        parts = zip(distinct(part.name for part in kind.fields), kind.fields, strict=True)
        return DataType.struct([Field(name, _carrier(part.type), nullable=True) for name, part in parts])
    if _is_list(kind):
        return DataType.large_list(Field("item", _carrier(_value_type(kind)), nullable=True))
    return kind


def _shown(kind: DataType, value: Any) -> Any:
    """Write one value of a type, as its carrier gives it."""
    if value is None:
        return None
    family = family_of(kind)
    if family == "Dictionary":
        return _shown(_value_type(kind), value)
    if isinstance(value, int) and not isinstance(value, bool):
        return _of_integer(kind, value)
    if _is_list(kind):
        return [_shown(_value_type(kind), item) for item in value]
    if family == "Struct":
        types = [part.type for part in kind.fields]
        return {name: _shown(part, item) for part, (name, item) in zip(types, value.items(), strict=True)}
    return plain(value)


def _of_integer(kind: DataType, value: int) -> Any:
    match family_of(kind):
        case "Timestamp":
            return _moment(value, _PER_SECOND[str(kind.time_unit)])
        case "Date32":
            return _date(value)
        case "Date64":
            return _date(value // (_DAY_S * 1_000))
        case "Time32" | "Time64":
            return _time_of_day(value, _PER_SECOND[str(kind.time_unit)])
        case "Duration":
            return _duration(value, _PER_SECOND[str(kind.time_unit)])
        case _:
            return value


def _moment(value: int, per_second: int) -> str:
    day, rest = divmod(value, _DAY_S * per_second)
    return f"{_date(day)}T{_time_of_day(rest, per_second)}Z"


def _time_of_day(value: int, per_second: int) -> str:
    seconds, fraction = divmod(value, per_second)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}{_fraction(fraction, per_second)}"


def _fraction(value: int, per_second: int) -> str:
    """Write microseconds, and nanoseconds only where there are any."""
    nanoseconds = value * (1_000_000_000 // per_second)
    if not nanoseconds:
        return ""
    return f".{nanoseconds:09d}" if nanoseconds % 1_000 else f".{nanoseconds // 1_000:06d}"


def _duration(value: int, per_second: int) -> str:
    """Write a duration as ISO 8601 does, in seconds: a day has as many as the clock says."""
    seconds, fraction = divmod(abs(value), per_second)
    return f"{'-' if value < 0 else ''}PT{seconds}{_fraction(fraction, per_second)}S"


def _date(days: int) -> str:
    """Write a day since 1970 by the Gregorian calendar, in any year: four digits, or with its sign (ISO 8601)."""
    cycle, day = divmod(days + 719_468, _DAYS_OF_400_YEARS)  # since the first of March of the year 0
    year = (day - day // 1_460 + day // 36_524 - day // 146_096) // 365
    day -= 365 * year + year // 4 - year // 100
    month = (5 * day + 2) // 153
    day -= (153 * month + 2) // 5 - 1
    month = month + 3 if month < 10 else month - 9
    year += cycle * 400 + (month <= 2)
    return f"{year:04d}-{month:02d}-{day:02d}" if 0 <= year <= 9_999 else f"{year:+05d}-{month:02d}-{day:02d}"


def _is_list(kind: DataType) -> bool:
    return kind.value_field is not None and "List" in family_of(kind)


def _value_type(kind: DataType) -> DataType:
    assert kind.value_type is not None, kind
    return kind.value_type
