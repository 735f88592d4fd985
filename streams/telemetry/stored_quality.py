"""How well what is stored keeps the value rules: the newest rows of `telemetry`, judged with Great Expectations.

The stream judges every row before it is stored, so what breaks a rule here was let through, or was stored under other
rules than those of now.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import DeltaTable

from thalweg.streams.telemetry.rule_expectations import Report, validate
from thalweg.streams.telemetry.rules import FieldRule
from thalweg.sync.delta.compaction import files_of
from thalweg.sync.delta.contracts import TELEMETRY
from thalweg.sync.delta.data_files import folder_of
from thalweg.sync.delta.store import table_uri

SAMPLE_ROWS: Final = 20_000
"""Judged in a third of a second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """What was found."""

    rows: int
    breaking: Mapping[str, int]
    """By rule, how many rows break it; every rule that can be judged from what is stored."""
    not_stored: Sequence[str]
    """Rules about what only a record in flight has."""
    report: Report

    @property
    def broken(self) -> Mapping[str, int]:
        """The rules that some row breaks."""
        return {name: count for name, count in self.breaking.items() if count}


def stored_quality(warehouse: str, rules: Sequence[FieldRule], sample_rows: int = SAMPLE_ROWS) -> Quality:
    """Judge the newest rows; a table that nobody has written yet breaks no rule."""
    rows = newest_rows(warehouse, sample_rows)
    stored = [rule for rule in rules if rule.field in rows.column_names]
    report = validate(stored, rows.to_pandas())
    return Quality(
        rows=rows.num_rows,
        breaking={rule.name: len(report.broken.get(rule.name, ())) for rule in stored},
        not_stored=[rule.name for rule in rules if rule not in stored],
        report=report,
    )


def newest_rows(warehouse: str, count: int) -> pa.Table:
    """Read the rows of the newest files, with the time they speak of as the rules see it."""
    uri = table_uri(warehouse, TELEMETRY.name)
    pieces: list[pa.Table] = []
    missing = count
    if DeltaTable.is_deltatable(uri):
        filesystem, folder = folder_of(uri)
        for file in reversed(files_of(DeltaTable(uri))):
            piece = pq.read_table(f"{folder}/{file.path}", filesystem=filesystem, partitioning=None)
            pieces.append(piece.slice(max(piece.num_rows - missing, 0)))
            missing -= pieces[-1].num_rows
            if missing <= 0:
                break
    stored = pa.schema([column for column in TELEMETRY.schema if column.name not in TELEMETRY.partition_by])
    rows = pa.concat_tables([stored.empty_table(), *pieces], promote_options="permissive")
    return rows.append_column("observed_ms", pc.divide(rows["observed_at"].cast(pa.int64()), 1_000))
