from pathlib import Path

import pyarrow as pa
import pytest

from tests.ledger_rows import START, assigned, happened, ledger, submitted
from thalweg.sync.delta.contracts import DECISIONS, LINKS, NODES, PLACEMENTS, PLANS, PRICES, TASKS, TableContract
from thalweg.sync.delta.store import append, open_or_create
from thalweg.sync.ledger.folds import fold_ledger


def put(warehouse: Path, contract: TableContract, rows: pa.Table | list[dict[str, object]]) -> None:
    """Append rows to a table of a warehouse."""
    table = pa.Table.from_pylist(rows, schema=contract.schema) if isinstance(rows, list) else rows
    append(open_or_create(contract, str(warehouse)), table)


@pytest.fixture
def warehouse(tmp_path: Path) -> Path:
    """Two regions and four tasks: one runs, one waits, one has succeeded, one is assigned.

    Commits of the ledger: second 0 (t1 to t3 submitted, two assigned), second 10 (t1 runs, t3 succeeds, t4 comes).
    """
    first = ledger(
        submitted("t1", tenant="lab"),
        submitted("t2"),
        submitted("t3"),
        happened("t2", "waiting", reason="no pool has 512 free GPUs"),
        assigned("t1", 1),
        assigned("t3", 1, "gcp:us-west1"),
        batch_id=0,
    )
    second = ledger(
        happened("t1", "running", 1),
        happened("t3", "succeeded", 1),
        submitted("t4"),
        assigned("t4", 1, "gcp:us-west1", plan_id="plan-2"),
        batch_id=10,
    )
    for rows in (first, second):
        put(tmp_path, DECISIONS, rows)
    for contract, table in zip((TASKS, PLACEMENTS), fold_ledger(pa.concat_tables([first, second])), strict=True):
        put(tmp_path, contract, table)
    put(tmp_path, NODES, [
        {"region": "aws:us-east-1", "node_id": f"n{n}", "gpu_model": "A100", "spot": False, "gpus": 8, "cpus": 96.0,
         "memory_gb": 1024.0, "state": state, "observed_at": START}
        for n, state in enumerate(("ready", "ready", "gone"))
    ])  # fmt: skip
    put(tmp_path, LINKS, [
        {"region": "aws:us-east-1", "dst_region": "gcp:us-west1", "rtt_ms": 60.0, "gbps": 5.0, "usd_per_gb": 0.09,
         "observed_at": START}
    ])  # fmt: skip
    put(tmp_path, PRICES, [
        {"region": region, "gpu_model": "A100", "spot": spot, "usd_per_gpu_hour": usd, "observed_at": START}
        for region, spot, usd in (("aws:us-east-1", False, 3.06), ("aws:us-east-1", True, 1.1), ("z", False, 2.0))
    ])  # fmt: skip
    put(tmp_path, PLANS, [
        {"plan_id": f"plan-{n}", "query_id": "q", "batch_id": n, "planned_at": START, "strategy": "flow",
         "status": "optimal", "objective_usd": 100.0 + n, "bound_usd": 100.0, "gap": n / (100.0 + n), "considered": 3,
         "placed": 2, "revoked": 0, "waiting": 1, "read_ms": 1.0, "plan_ms": 2.0, "commit_ms": 3.0, "publish_ms": 4.0,
         "placed_usd_per_hour": 24.48, "delay_usd_per_hour": 1_024.0, "placed_usd": 50.0, "least_usd": 49.9}
        for n in (1, 2)
    ])  # fmt: skip
    return tmp_path
