"""Random rows of any table, for tests: nulls, whole columns of them, long strings, moments between milliseconds."""

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa

from thalweg.sync.delta.contracts import TableContract

START = datetime(2026, 6, 1, 12, tzinfo=UTC)
_WORDS = ("a", "b", "ä", "succeeded", "running", "x" * 70, "aws:us-east-1", "", "\U0001f600", "'quoted'")


def random_rows(contract: TableContract, count: int, chance: random.Random, batch: int = 0) -> pa.Table:
    """Rows whose required columns are filled; others are null at times, some of them throughout.

    Bounded columns are filled as the jobs fill them, and differ by batch.
    """
    empty = {field.name for field in contract.schema if field.nullable and chance.random() < 0.25}
    columns = {
        field.name: [
            None
            if field.nullable and field.name not in contract.bounded and (field.name in empty or chance.random() < 0.2)
            else _value(field.type, chance, batch)
            for _ in range(count)
        ]
        for field in contract.schema
    }
    for name in contract.partition_by:
        columns[name] = [(START + timedelta(days=batch % 2)).date()] * count
    for number, name in enumerate(contract.key):
        if number == 0 and pa.types.is_string(contract.schema.field(name).type):
            columns[name] = [f"{batch:03d}-{row:03d}" for row in range(count)]
    return pa.table([pa.array(columns[field.name], field.type) for field in contract.schema], schema=contract.schema)


def _value(kind: pa.DataType, chance: random.Random, batch: int) -> Any:
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return chance.choice(_WORDS)
    if pa.types.is_integer(kind):
        return batch * 10 + chance.randrange(-5, 5)
    if pa.types.is_floating(kind):
        return chance.choice((-1.5, 0.0, 2.25, float(batch)))
    if pa.types.is_boolean(kind):
        return chance.random() < 0.5
    if pa.types.is_timestamp(kind):
        return START + timedelta(seconds=batch, microseconds=chance.randrange(5_000))
    if pa.types.is_date(kind):
        return START.date()
    if pa.types.is_list(kind):
        return [_value(kind.value_type, chance, batch) for _ in range(chance.randrange(3))]
    if pa.types.is_struct(kind):
        return {field.name: _value(field.type, chance, batch) for field in kind}
    return chance.choice((b"", b"\x00\xff", b"bytes"))
