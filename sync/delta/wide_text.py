"""Texts beyond 2 GiB: an Arrow array of `string` ends there, and a table of all requests passes it."""

from collections.abc import Mapping
from typing import Final

import pyarrow as pa

_WIDE: Final[Mapping[pa.DataType, pa.DataType]] = {
    pa.string(): pa.large_string(),
    pa.string_view(): pa.large_string(),
    pa.binary(): pa.large_binary(),
    pa.binary_view(): pa.large_binary(),
}


def wide_text(table: pa.Table) -> pa.Table:
    """Let the texts and bytes of a table be sorted, taken and joined beyond 2 GiB."""
    fields = [field.with_type(_WIDE.get(field.type, field.type)) for field in table.schema]
    return table.cast(pa.schema(fields))
