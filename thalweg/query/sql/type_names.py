"""Name Arrow's types as pyarrow does, which the answers of `thalweg sql --json` have always used, without pyarrow."""

import re
from typing import Final

from arro3.core import DataType

_SIMPLE: Final = {
    "Null": "null",
    "Boolean": "bool",
    "Float16": "halffloat",
    "Float32": "float",
    "Float64": "double",
    "Utf8": "string",
    "Utf8View": "string",
    "LargeUtf8": "large_string",
    "Binary": "binary",
    "BinaryView": "binary",
    "LargeBinary": "large_binary",
    "Date32": "date32[day]",
    "Date64": "date64[ms]",
    "Interval(MonthDayNano)": "month_day_nano_interval",
}
_WITH_UNIT: Final = {"Timestamp": "timestamp", "Duration": "duration", "Time32": "time32", "Time64": "time64"}


def type_name(kind: DataType) -> str:
    """Name a type; views, which only say how the engine keeps a value, are named as what they show."""
    shown = _bare(kind)
    if simple := _SIMPLE.get(shown):
        return simple
    family = family_of(kind)
    if family in _WITH_UNIT:
        zone = f", tz={kind.tz}" if kind.tz else ""
        return f"{_WITH_UNIT[family]}[{kind.time_unit}{zone}]"
    if family == "Struct":
        return f"struct<{', '.join(f'{part.name}: {type_name(part.type)}' for part in kind.fields)}>"
    if kind.value_field is not None and "List" in family:
        large = "large_" if family.startswith("Large") else ""
        return f"{large}list<{kind.value_field.name}: {type_name(kind.value_field.type)}>"
    return shown.lower()  # int64, uint8, decimal128(10, 2)


def family_of(kind: DataType) -> str:
    """Name a type without its parameters, as in Timestamp, Decimal128, Struct or LargeList."""
    return _bare(kind).partition("(")[0]


def engine_type(kind: DataType) -> str:
    """Name a type as the engine's `arrow_cast` takes it."""
    family = family_of(kind)
    if family == "Timestamp":
        unit = {"s": "Second", "ms": "Millisecond", "us": "Microsecond", "ns": "Nanosecond"}[str(kind.time_unit)]
        return f"Timestamp({unit}, {f'Some({chr(34)}{kind.tz}{chr(34)})' if kind.tz else 'None'})"
    return _bare(kind)


def _bare(kind: DataType) -> str:
    return re.sub(r"^arro3\.core\.DataType<(.*)>\s*$", r"\1", str(kind), flags=re.DOTALL)
