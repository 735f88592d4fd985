"""Ledger rows for tests: literal facts in, `decisions` rows out."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa

from thalweg.sync.delta.contracts import DECISIONS

START = datetime(2026, 6, 1, 12, tzinfo=UTC)


def request(task_id: str, **fields: Any) -> str:
    return json.dumps({"task_id": task_id, **fields})


def ledger(*facts: dict[str, Any], batch_id: int = 0, driver_epoch: int = 1, at_s: float | None = None) -> pa.Table:
    """Rows of one commit, in the order given; a fact names `task_id`, `transition` and whatever else it sets.

    The commit's time is a second per batch after START unless `at_s` says otherwise.
    """
    decided_at = START + timedelta(seconds=batch_id if at_s is None else at_s)
    rows = [
        {
            "query_id": f"query-{driver_epoch}",
            "batch_id": batch_id,
            "row": index,
            "driver_epoch": driver_epoch,
            "decided_at": decided_at,
            "copy": 0,
            "epoch": 0,
        }
        | fact
        for index, fact in enumerate(facts)
    ]
    return pa.Table.from_pylist(rows, schema=DECISIONS.schema)


def submitted(task_id: str, **request_fields: Any) -> dict[str, Any]:
    return {
        "task_id": task_id,
        "transition": "submitted",
        "request": request(task_id, **request_fields),
        "tenant": request_fields.get("tenant", "default"),
        "priority": request_fields.get("priority", 500),
    }


def assigned(task_id: str, epoch: int, region: str = "aws:us-east-1", **fields: Any) -> dict[str, Any]:
    return {
        "task_id": task_id,
        "transition": "assigned",
        "epoch": epoch,
        "attempt": 1,
        "region": region,
        "pool_id": f"{region}/A100/on-demand",
        "nodes": [{"node_id": f"{region}-n1", "workers": 1, "gpus": 8, "gpu_milli": 0, "devices": [0, 1]}],
        "plan_id": "plan-1",
        "cost_usd_per_hour": 24.0,
    } | fields


def happened(task_id: str, transition: str, epoch: int = 0, **fields: Any) -> dict[str, Any]:
    return {"task_id": task_id, "transition": transition, "epoch": epoch, **fields}
