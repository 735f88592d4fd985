"""Samples that satisfy the rules as rows of the table `telemetry`."""

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from thalweg.streams.telemetry.record_rows import TIMESTAMP
from thalweg.sync.delta.contracts import TELEMETRY


def history_rows(valid: pa.Table) -> pa.Table:
    """Rows of the `telemetry` table from samples that satisfy the rules; `day` is the day of receipt."""
    columns: dict[str, Any] = {name: valid[name] for name in valid.column_names}
    columns["day"] = valid["received_at"].cast(pa.date32())
    columns["observed_at"] = pc.multiply(valid["observed_ms"], 1000).cast(TIMESTAMP)
    schema: pa.Schema = TELEMETRY.schema
    return pa.table([columns[field.name].cast(field.type) for field in schema], schema=schema)
