"""Telemetry records as they arrive, a row for each, whoever has read them."""

from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from thalweg.sync.delta.contracts import TELEMETRY

TIMESTAMP: Final = TELEMETRY.schema.field("received_at").type

RECORDS: Final = pa.schema(
    [
        ("key", pa.binary()),
        ("value", pa.binary()),
        ("topic", pa.string()),
        ("topic_partition", pa.int32()),
        ("topic_offset", pa.int64()),
        ("received_at", TIMESTAMP),
    ]
)
"""`received_at` is the broker's clock (the topic is stamped by it), so whoever reads a record again judges a stamp from
the future the same way."""


def to_records(received: pa.Table) -> pa.Table:
    """Bring the rows of `streams.broker.range_reader` into the form RECORDS."""
    columns = {
        "key": received["key"],
        "value": received["value"],
        "topic": received["topic"],
        "topic_partition": received["partition"],
        "topic_offset": received["offset"],
        "received_at": pc.multiply(received["timestamp_ms"], 1000).cast(TIMESTAMP),
    }
    return pa.table(columns, schema=RECORDS)
