"""A warehouse of a few rows: what a command costs before the tables have grown."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa

from thalweg.sync.delta.contracts import DECISIONS, LINKS, NODES, PLACEMENTS, PRICES, TASKS, TableContract
from thalweg.sync.delta.store import append, open_or_create
from thalweg.sync.ledger.folds import fold_ledger

PLACED, WAITING = "placed", "waits"
_REGION = "aws:us-east-1"


def make_warehouse(folder: str) -> None:
    """Write one region with a node of eight GPUs, a task that was placed on it and one that waits."""
    now = datetime.now(UTC)
    facts: list[dict[str, Any]] = [
        _submitted(PLACED, gpus=1),
        _submitted(WAITING, gpus=512),
        {
            "task_id": PLACED,
            "transition": "assigned",
            "epoch": 1,
            "attempt": 1,
            "region": _REGION,
            "pool_id": f"{_REGION}/A100/on-demand",
            "nodes": [{"node_id": "n", "workers": 1, "gpus": 1, "gpu_milli": 0, "devices": [0]}],
            "cost_usd_per_hour": 3.06,
            "plan_id": "p",
        },
    ]
    common = {"query_id": "q", "batch_id": 0, "driver_epoch": 1, "decided_at": now, "copy": 0, "epoch": 0}
    ledger = pa.Table.from_pylist([{**common, "row": row, **fact} for row, fact in enumerate(facts)], DECISIONS.schema)
    tasks, placements = fold_ledger(ledger)
    node = {"node_id": "n", "gpu_model": "A100", "spot": False, "gpus": 8, "cpus": 96.0, "memory_gb": 1024.0}
    seen = {"region": _REGION, "observed_at": now - timedelta(seconds=1)}
    written: list[tuple[TableContract, pa.Table]] = [
        (DECISIONS, ledger),
        (TASKS, tasks),
        (PLACEMENTS, placements),
        (NODES, _table(NODES, {**seen, **node, "state": "ready"})),
        (LINKS, _table(LINKS, {**seen, "dst_region": _REGION, "rtt_ms": 1.0, "gbps": 10.0, "usd_per_gb": 0.0})),
        (PRICES, _table(PRICES, {**seen, "gpu_model": "A100", "spot": False, "usd_per_gpu_hour": 3.06})),
    ]
    for contract, rows in written:
        append(open_or_create(contract, folder), rows)


def _submitted(task_id: str, gpus: int) -> dict[str, Any]:
    request = {"task_id": task_id, "per_worker": {"gpus": gpus}, "expected_s": 600}
    return {"task_id": task_id, "transition": "submitted", "priority": 0, "request": json.dumps(request)}


def _table(contract: TableContract, row: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist([row], schema=contract.schema)
