"""A warehouse of very many tasks, made as columns: most have ended, thousands run and wait; and a ledger that goes on.

The tables hold what a fold of so long a ledger would; its earlier rows are left out, and the marks say up to where the
tables are folded, as the place job's do.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Self

import numpy as np
import pyarrow as pa
from deltalake import CommitProperties, Transaction, write_deltalake

from thalweg.scheduling.world.value import value_usd_per_hour
from thalweg.sync.delta.contracts import (
    ACCOUNT,
    DECISIONS,
    LINKS,
    NODES,
    PLACEMENTS,
    PLANS,
    PRICES,
    TASKS,
    TableContract,
)
from thalweg.sync.delta.store import append, open_or_create, table_uri
from thalweg.sync.ledger.fold_marks import FOLD_BATCH, FOLD_DRIVER

REGIONS: Final = (
    *("aws:us-east-1", "aws:us-west-2", "aws:eu-central-1", "gcp:europe-west4", "gcp:us-central1", "azure:eastus2"),
    *("azure:swedencentral", "lab:zurich", "edge:tokyo", "edge:sao-paulo"),
)
TENANTS: Final = ("research", "ads", "vision", "speech", "robotics", "fraud", "batch-platform")
_MODELS: Final = ("A100", "H100", "L4")
_GPUS: Final = (1, 1, 1, 2, 4, 8)
_REASONS: Final = (
    "capacity: 8 GPUs of A100 are needed on one node, 5 are free there",
    "capacity: no node of H100 has room for 4 GPUs",
    "residency: allowed_regions has no region that is heard",
    "latency: max_rtt_ms is 30, the nearest region with room is at 41",
    "quota: tenant vision holds 512 of 512 GPUs",
)
_PIECE: Final = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class WarehouseSize:
    """How many tasks there are of each kind."""

    ended: int = 900_000
    running: int = 80_000
    waiting: int = 20_000

    @classmethod
    def of(cls, tasks: int, running: int, waiting: int) -> Self:
        """So many in all; those that neither run nor wait have ended."""
        return cls(ended=tasks - running - waiting, running=running, waiting=waiting)

    @property
    def tasks(self) -> int:
        """All of them."""
        return self.ended + self.running + self.waiting


class GrowingLedger:
    """Writes further rows of the ledger, one commit each, as a place job would."""

    def __init__(self, folder: str) -> None:
        self._table = open_or_create(DECISIONS, folder)
        self.batch = 0

    def commit(self, facts: Sequence[dict[str, Any]], at: datetime) -> None:
        """Append one batch."""
        self.batch += 1
        common = {
            "query_id": "bench",
            "batch_id": self.batch,
            "driver_epoch": 1,
            "decided_at": at,
            "copy": 0,
            "epoch": 0,
        }
        rows = [{**common, "row": row, **fact} for row, fact in enumerate(facts)]
        append(self._table, pa.Table.from_pylist(rows, DECISIONS.schema))


def submitted(task_id: str, gpus: int = 1, tenant: str = "research") -> dict[str, Any]:
    """Make the row by which a task begins."""
    request = {"task_id": task_id, "kind": "train", "per_worker": {"gpus": gpus}, "expected_s": 3_600, "tenant": tenant}
    return {
        "task_id": task_id,
        "transition": "submitted",
        "tenant": tenant,
        "priority": 500,
        "request": json.dumps(request),
        "topic": "thalweg.requests",
        "topic_partition": 0,
        "topic_offset": abs(hash(task_id)) % 10**6,
    }


def placed(task_id: str, region: str, gpus: int = 1) -> dict[str, Any]:
    """Make the row by which a task is assigned."""
    seats = [{"node_id": f"{region}-n0", "workers": 1, "gpus": gpus, "gpu_milli": 0, "devices": list(range(gpus))}]
    pool = f"{region}/A100/on-demand"
    more = {"region": region, "pool_id": pool, "nodes": seats, "plan_id": "plan-1", "cost_usd_per_hour": 2.5 * gpus}
    money = {"compute_usd": 2.5 * gpus, "egress_usd": 0.4, "stall_usd": 0.0, "latency_usd": 0.0, "risk_usd": 0.0}
    return {"task_id": task_id, "transition": "assigned", "epoch": 1, "attempt": 1, **more, **money, "move_usd": 0.0}


def make_window_warehouse(folder: str, now: datetime, size: WarehouseSize, seed: int = 0) -> GrowingLedger:
    """Write the tables into an empty folder; the ledger goes on from there."""
    chance = np.random.default_rng(seed)
    ledger = GrowingLedger(folder)
    ledger.commit([submitted("first-of-all")], now - timedelta(days=1))
    marks = CommitProperties(app_transactions=[Transaction(FOLD_DRIVER, 1), Transaction(FOLD_BATCH, ledger.batch)])
    for first in range(0, size.tasks, _PIECE):
        numbers = np.arange(first, min(first + _PIECE, size.tasks))
        tasks, placements = tasks_and_placements(numbers, now, size, chance)
        for contract, rows in ((TASKS, tasks), (PLACEMENTS, placements)):
            open_or_create(contract, folder)
            write_deltalake(table_uri(folder, contract.name), rows, mode="append", commit_properties=marks)
    for contract, facts in (
        (NODES, _nodes(now, size, chance)),
        (LINKS, _links(now, chance)),
        (PRICES, _prices(now)),
        (PLANS, _plans(now, chance)),
        (ACCOUNT, _account(now, chance)),
    ):
        append(open_or_create(contract, folder), _rows(contract, facts))
    return ledger


def _rows(contract: TableContract, facts: Sequence[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(list(facts), contract.schema)


def tasks_and_placements(
    numbers: Any, now: datetime, size: WarehouseSize, chance: np.random.Generator
) -> tuple[pa.Table, pa.Table]:
    """Make rows of `tasks` and `placements` for tasks of these numbers."""
    count = len(numbers)
    ends = np.array(["succeeded", "succeeded", "succeeded", "succeeded", "failed", "cancelled"])
    states = ends[chance.integers(0, 6, count)].astype(object)
    states[numbers >= size.ended] = "running"
    states[numbers >= size.ended + size.running] = "waiting"
    is_placed = states == "running"
    gpus = np.array(_GPUS)[chance.integers(0, len(_GPUS), count)]
    region = np.array(REGIONS)[chance.integers(0, len(REGIONS), count)]
    tenant = np.array(TENANTS)[np.minimum(chance.zipf(1.6, count) - 1, len(TENANTS) - 1)]
    kinds = np.array(["train", "infer", "batch"])[chance.integers(0, 3, count)]
    ids = [
        f"{kind}-{number:07d}" if number % 5 else f"sweep-{number // 5_000:03d}[{number}]"
        for kind, number in zip(kinds, numbers.tolist(), strict=True)
    ]
    begun = now.timestamp() * 1e6 - chance.uniform(60, 86_000, count) * 1e6
    changed = np.minimum(begun + chance.exponential(1_800, count) * 1e6, now.timestamp() * 1e6 - 1e6)
    cost = np.where(is_placed, gpus * 2.5, 0.0)
    reasons = np.array(_REASONS)[chance.integers(0, len(_REASONS), count)]
    requests = [
        json.dumps(
            {
                "task_id": task_id,
                "kind": kind,
                "tenant": owner,
                "per_worker": {"gpus": int(need)},
                "expected_s": 3_600,
                "image": "registry.example/train:2026.11",
                "command": ["python", "train.py", "--run", task_id],
            }
        )
        for task_id, kind, owner, need in zip(ids, kinds, tenant, gpus, strict=True)
    ]

    def moments(values: Any) -> pa.Array:
        return pa.array(values.astype(np.int64)).cast(pa.timestamp("us", tz="UTC"))

    priority = chance.integers(3, 8, count) * 100
    tasks = pa.table(
        {
            "task_id": ids,
            "state": pa.array(states, pa.string()),
            "epoch": np.where(states == "waiting", 0, 1),
            "attempt": np.ones(count, np.int32),
            "regions": [[place] if state != "waiting" else [] for place, state in zip(region, states, strict=True)],
            "tenant": tenant,
            "priority": priority.astype(np.int32),
            "reason": [why if state == "waiting" else None for why, state in zip(reasons, states, strict=True)],
            "cost_usd_per_hour": cost,
            "submitted_at": moments(begun),
            "changed_at": moments(changed),
            "request": pa.array(requests, pa.large_string()),
            "name": pa.nulls(count, pa.string()),
            "held": np.zeros(count, bool),
            "value_usd_per_hour": value_usd_per_hour(priority, gpus, np.full(count, np.nan)),
        },
        schema=TASKS.schema,
    )
    chosen = np.flatnonzero(is_placed)
    seats = [
        [
            {
                "node_id": f"{region[row]}-n{int(numbers[row]) % 200}",
                "workers": 1,
                "gpus": int(gpus[row]),
                "gpu_milli": 0,
                "devices": [],
            }
        ]
        for row in chosen
    ]
    placements = pa.table(
        {
            "task_id": [ids[row] for row in chosen],
            "copy": np.zeros(len(chosen), np.int32),
            "epoch": np.ones(len(chosen), np.int64),
            "state": ["running"] * len(chosen),
            "region": region[chosen],
            "pool_id": [f"{place}/A100/on-demand" for place in region[chosen]],
            "nodes": seats,
            "plan_id": ["plan-1"] * len(chosen),
            "cost_usd_per_hour": cost[chosen],
            "assigned_at": moments(begun[chosen]),
            "changed_at": moments(changed[chosen]),
        },
        schema=PLACEMENTS.schema,
    )
    return tasks, placements


def _nodes(now: datetime, size: WarehouseSize, chance: np.random.Generator) -> list[dict[str, Any]]:
    each = max(2, round(size.running * 2.9 / 8 / len(REGIONS)))
    return [
        {
            "region": region,
            "node_id": f"{region}-n{number}",
            "gpu_model": _MODELS[number % 3],
            "spot": number % 4 == 0,
            "gpus": 8,
            "cpus": 96.0,
            "memory_gb": 1_024.0,
            "gpu_utilisation": float(chance.uniform(0.3, 1)),
            "cpu_utilisation": float(chance.uniform(0.1, 0.7)),
            "memory_used_gb": float(chance.uniform(100, 900)),
            "state": "ready",
            "observed_at": now - timedelta(hours=1 if region == "edge:sao-paulo" else 0),
        }
        for region in REGIONS
        for number in range(min(each, 200 + each // 10))
    ]


def _links(now: datetime, chance: np.random.Generator) -> list[dict[str, Any]]:
    return [
        {
            "region": one,
            "dst_region": other,
            "rtt_ms": float(chance.uniform(8, 240)),
            "gbps": float(chance.choice([1, 5, 10])),
            "usd_per_gb": float(chance.choice([0.01, 0.02, 0.09])),
            "observed_at": now,
        }
        for one in REGIONS
        for other in REGIONS
        if one != other
    ]


def _prices(now: datetime) -> list[dict[str, Any]]:
    return [
        {
            "region": region,
            "gpu_model": model,
            "spot": spot,
            "observed_at": now,
            "usd_per_gpu_hour": round(base * (0.35 if spot else 1) * (1 + 0.03 * place), 3),
        }
        for place, region in enumerate(REGIONS)
        for model, base in zip(_MODELS, (2.1, 3.9, 0.7), strict=True)
        for spot in (False, True)
    ]


def _plans(now: datetime, chance: np.random.Generator) -> list[dict[str, Any]]:
    plans = []
    for number in range(200):
        bound = float(chance.uniform(4e6, 4.2e6))
        gap = float(chance.choice([0.0, 1e-12, 0.0004, 0.02]))
        placed_usd = float(chance.uniform(10, 900))
        steps = {
            f"{step}_ms": float(chance.gamma(2, scale))
            for step, scale in (("read", 5), ("plan", 12), ("commit", 8), ("publish", 3))
        }
        prices = [
            {
                "pool_id": f"{region}/A100/on-demand",
                "saves_usd": 1.0,
                "saves_usd_per_hour": float(saves),
                "usd_per_gpu_hour": 2.1,
            }
            for region, saves in zip(REGIONS, (16.0, 4.2, 3.1, 0.4), strict=False)
        ]
        plans.append(
            {
                "plan_id": f"plan-{number}",
                "query_id": "bench",
                "batch_id": number,
                "strategy": "flow",
                "planned_at": now - timedelta(seconds=3 * number),
                "status": "optimal" if gap < 1e-9 else "feasible",
                "objective_usd": bound * (1 + gap),
                "bound_usd": bound,
                "gap": gap,
                "considered": 4_096,
                "placed": int(chance.integers(0, 60)),
                "revoked": int(chance.integers(0, 3)),
                "waiting": 20_000 + int(chance.integers(-300, 300)),
                **steps,
                "pool_prices": prices,
                "placed_usd_per_hour": placed_usd / 4,
                "delay_usd_per_hour": 60_000 + float(chance.uniform(-900, 900)),
                "placed_usd": placed_usd,
                "least_usd": placed_usd * (1 - gap),
            }
        )
    return plans


def _account(now: datetime, chance: np.random.Generator) -> list[dict[str, Any]]:
    entries = []
    for number in range(2_000):
        ended = now - timedelta(hours=float(chance.uniform(0, 14 * 24)))
        hours = float(chance.uniform(0.2, 6))
        gpus = int(chance.choice(_GPUS))
        entries.append(
            {
                "day": ended.date(),
                "kind": "held",
                "task_id": f"old-{number}",
                "tenant": TENANTS[number % len(TENANTS)],
                "region": REGIONS[number % len(REGIONS)],
                "copy": 0,
                "epoch": 1,
                "began_at": ended - timedelta(hours=hours),
                "ended_at": ended,
                "hours": hours,
                "gpu_hours": hours * gpus,
                "usd": hours * gpus * 2.5,
                "egress_gb": 10.0,
                "egress_usd": 0.9,
                "driver_epoch": 1,
                "batch_id": 1,
                "row": number,
            }
        )
    return entries
