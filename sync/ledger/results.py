"""Rows of `results`: how each run ended and what it left, and each task that was cancelled."""

from collections.abc import Sequence
from typing import Final, NamedTuple

import pyarrow as pa

from thalweg.sync.delta.contracts import RESULTS
from thalweg.sync.ledger.run_outcome import read_outcome, text_of
from thalweg.sync.ledger.task_history import LedgerRow

_MOMENT: Final = RESULTS.schema.field("ended_at").type


class RunEnd(NamedTuple):
    """A row of the ledger with which a run or a task ended, and what its task is called and whose it is."""

    row: LedgerRow
    name: str | None
    tenant: str | None


def results_table(ends: Sequence[RunEnd]) -> pa.Table:
    """Make the rows, in the ledger's order."""
    rows = [end.row for end in ends]
    left = [read_outcome(row.outcome) for row in rows]
    started_us = [None if one.started_ms is None else one.started_ms * 1_000 for one in left]
    columns = {
        "task_id": [row.task_id for row in rows],
        "copy": [row.copy for row in rows],
        "epoch": [row.epoch for row in rows],
        "state": [row.transition for row in rows],
        "ends": [bool(row.ends) for row in rows],
        "attempt": [row.attempt for row in rows],
        "region": [row.region for row in rows],
        "cause": [row.cause for row in rows],
        "exit_code": [one.exit_code for one in left],
        "metrics": [text_of(one.metrics) for one in left],
        "result": [text_of(one.result) for one in left],
        "log": [one.log for one in left],
        "artefacts": [text_of(one.artefacts) for one in left],
        "started_at": pa.array(started_us, pa.int64()).cast(_MOMENT),
        "ended_at": pa.array([row.decided_us for row in rows], pa.int64()).cast(_MOMENT),
        "reason": [row.reason for row in rows],
        "name": [end.name for end in ends],
        "tenant": [end.tenant for end in ends],
    }
    return pa.table(columns, schema=RESULTS.schema)
