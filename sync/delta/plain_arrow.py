"""Arrow's types under the names that pyarrow gives them, without pyarrow.

The contracts of the tables are read by every command, also where only the client and the reading commands are
installed: pyarrow is 165 MB there and takes longer to import than most questions to answer. `deltalake` brings arro3,
which describes the same types in a small library, and pyarrow takes them over as they are.
"""

from collections.abc import Iterable

from arro3.core import DataType as DataType
from arro3.core import Field as Field
from arro3.core import Schema as Schema

bool_ = DataType.bool
int32 = DataType.int32
int64 = DataType.int64
float64 = DataType.float64
string = DataType.string
large_string = DataType.large_string
binary = DataType.binary
date32 = DataType.date32


def timestamp(unit: str, tz: str) -> DataType:
    """Name the type of moments: unit "us" and time zone "UTC" in all our tables."""
    return DataType.timestamp(unit, tz=tz)  # type: ignore[arg-type]  # its units are literals


def field(name: str, kind: DataType, nullable: bool = True) -> Field:
    """Name a column."""
    return Field(name, kind, nullable=nullable)


def schema(columns: Iterable[Field]) -> Schema:
    """Name the columns of a table."""
    return Schema(list(columns))


def fields(columns: Schema) -> list[Field]:
    """List the columns; two of an answer may have one name."""
    return [columns.field(place) for place in range(len(columns.names))]


def struct(parts: Iterable[Field | tuple[str, DataType]]) -> DataType:
    """Name the type of values with named parts."""
    return DataType.struct([part if isinstance(part, Field) else field(*part) for part in parts])


def list_(item: DataType) -> DataType:
    """Name the type of lists; what is in one is called as pyarrow calls it."""
    return DataType.list(field("item", item))
