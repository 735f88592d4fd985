"""A warehouse of 230,000 tasks, as the jobs leave one: most have ended, the fleet is full, and thousands wait.

The tables are folds of the ledger that is written beside them, by the product's own fold and its own file writer.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import numpy as np
import pyarrow as pa

from thalweg.sync.delta.appender import Appender
from thalweg.sync.delta.contracts import DECISIONS, LINKS, NODES, PLACEMENTS, PRICES, TASKS, TableContract
from thalweg.sync.ledger.folds import fold_ledger

REGIONS: Final = tuple(f"region-{index:02d}" for index in range(20))
MODELS: Final = ("A100", "H100")
GATED: Final = "gated"
"""A task that waits for another, and not for room."""
ARRAY: Final = "sweep"
ELEMENTS: Final = 1_000
"""Of the array; a tenth of them may run at once and have their turn, but no room."""
REFUSED: Final = "refused"
"""A task whose request the place job refused: the ledger knows it, and no table."""
_NODE_SIZES: Final = (4, 2, 1, 1)
"""GPUs of the four tasks that fill a node of eight."""
_LEDGER_FILE: Final = 100_000
_SETTLED_FILE: Final = 50_000
_CHANGING_FILE: Final = 8_192


@dataclass(frozen=True, kw_only=True)
class CrowdSize:
    """How many tasks there are of each kind."""

    ended: int = 200_000
    running: int = 20_000
    waiting: int = 10_000

    @property
    def tasks(self) -> int:
        """All of them."""
        return self.ended + self.running + self.waiting

    @property
    def nodes_per_region(self) -> int:
        """As many as the running tasks fill."""
        return -(-self.running // (len(_NODE_SIZES) * len(REGIONS)))


def waiting_needs(index: int) -> dict[str, Any]:
    """Different kinds of tasks that have no place, in turn."""
    kinds: tuple[dict[str, Any], ...] = (
        {"per_worker": {"gpus": 1}},
        {"per_worker": {"gpus": 8}},
        {"per_worker": {"gpus": 8}, "workers": 8},
        {"per_worker": {"gpus": 4, "gpu_models": ["H100"]}, "allowed_regions": list(REGIONS[:2])},
        {"per_worker": {"gpus": 2}, "origin_region": REGIONS[3], "max_rtt_ms": 30.0},
        {"per_worker": {"gpus": 2}, "replicas": 2},
    )
    return {
        **kinds[index % len(kinds)],
        "priority": 300 + 100 * (index % 4),
        "expected_s": 3_600 * (1 + index % 5),
        "tenant": f"team-{index % 7}",
    }


def make_crowd(folder: str, now: datetime, size: CrowdSize, seed: int = 0) -> None:
    """Write the tables into an empty folder."""
    rows = _Rows(now, np.random.default_rng(seed))
    for index in range(size.ended):
        rows.ended(index)
    for index in range(size.running):
        rows.running(index)
    for index in range(size.waiting):
        rows.waiting(index)
    rows.gated()
    rows.array()
    rows.refused()
    ledger = pa.Table.from_pylist(rows.rows, DECISIONS.schema)
    rows.rows.clear()
    tasks, placements = fold_ledger(ledger)
    is_settled = np.isin(tasks["state"].to_numpy(), ["succeeded", "failed", "cancelled"])
    _write(folder, DECISIONS, ledger, _LEDGER_FILE, now)
    _write(folder, TASKS, tasks.filter(pa.array(is_settled)), _SETTLED_FILE, now)
    _write(folder, TASKS, tasks.filter(pa.array(~is_settled)), _CHANGING_FILE, now)
    _write(folder, PLACEMENTS, placements, _CHANGING_FILE, now)
    for contract, facts in (
        (NODES, _nodes(size, now)),
        (LINKS, _links(now)),
        (PRICES, _prices(now)),
    ):
        _write(folder, contract, pa.Table.from_pylist(list(facts), contract.schema), _SETTLED_FILE, now)


class _Rows:
    """Rows of the ledger, in its order."""

    def __init__(self, now: datetime, rng: np.random.Generator) -> None:
        self.rows: list[dict[str, Any]] = []
        self._now = now
        self._rng = rng

    def ended(self, index: int) -> None:
        name, began = f"ended-{index}", self._now - timedelta(seconds=86_000 - index * 0.3)
        node, gpus, devices = _seat(index % 20_000)
        self._submit(name, began, {"per_worker": {"gpus": gpus, "cpus": 4 * gpus}, "expected_s": 600})
        for change, after in (("assigned", 1), ("accepted", 2), ("running", 3), ("succeeded", 600)):
            self._place(name, change, began + timedelta(seconds=after), node, gpus, devices)

    def running(self, index: int) -> None:
        name, began = f"running-{index}", self._now - timedelta(seconds=float(self._rng.uniform(600, 18_000)))
        node, gpus, devices = _seat(index)
        request = {
            "per_worker": {"gpus": gpus, "cpus": 4 * gpus, "memory_gb": 16 * gpus},
            "expected_s": 3_600 * (1 + index % 6),
            "priority": 300 + 100 * (index % 3),
            "spot_ok": True,
            "tenant": f"team-{index % 7}",
        }
        self._submit(name, began, request)
        for change, after in (("assigned", 1), ("accepted", 2), ("running", 3)):
            self._place(name, change, began + timedelta(seconds=after), node, gpus, devices)

    def waiting(self, index: int) -> None:
        name, began = f"waiting-{index}", self._now - timedelta(seconds=float(self._rng.uniform(1, 3_600)))
        self._submit(name, began, waiting_needs(index))
        self._add(name, "waiting", began + timedelta(seconds=1), reason="capacity: no node has room for it")

    def gated(self) -> None:
        began = self._now - timedelta(seconds=60)
        self._submit(GATED, began, {"per_worker": {"gpus": 1}, "after": ["waiting-774"]})
        self._add(GATED, "waiting", began, reason="parents: waits for waiting-774, which is waiting")

    def array(self) -> None:
        began, at_most = self._now - timedelta(seconds=90), ELEMENTS // 10
        needs = {"per_worker": {"gpus": 2}, "array": {"count": ELEMENTS, "at_most": at_most}}
        self._submit(ARRAY, began, needs)
        self._add(ARRAY, "waiting", began, reason=f"array: {ELEMENTS} of its {ELEMENTS} elements have not ended")
        for index in range(ELEMENTS):
            name = f"{ARRAY}[{index}]"
            self._submit(ARRAY, began, needs, name)
            self._add(name, "waiting", began + timedelta(seconds=1), reason="capacity: no node has room for it")

    def refused(self) -> None:
        self._add(REFUSED, "refused", self._now, reason="replicas is 9; allowed are 1 to 8")

    def _submit(self, name: str, at: datetime, needs: dict[str, Any], row_of: str | None = None) -> None:
        request = {
            "task_id": name,
            "kind": "train",
            "image": "registry.example/train:2026.11",
            "command": ["python", "train.py", "--run", name],
            **needs,
        }
        tenant, priority = request.get("tenant", "default"), request.get("priority", 500)
        self._add(row_of or name, "submitted", at, request=json.dumps(request), tenant=tenant, priority=priority)

    def _place(self, name: str, change: str, at: datetime, node: int, gpus: int, devices: list[int]) -> None:
        region, node_id, model, spot = _node(node)
        more: dict[str, Any] = {}
        if change == "assigned":
            seats = {"node_id": node_id, "workers": 1, "gpus": gpus, "gpu_milli": 0, "devices": devices}
            more = {"nodes": [seats], "plan_id": f"p{node}", "cost_usd_per_hour": 2.0 * gpus, "compute_usd": 4.0 * gpus}
        pool_id = f"{region}/{model}/{'spot' if spot else 'on-demand'}"
        self._add(name, change, at, epoch=1, region=region, pool_id=pool_id, attempt=0, **more)

    def _add(self, name: str, change: str, at: datetime, **more: Any) -> None:
        number = len(self.rows)
        self.rows.append(
            {
                "query_id": "q",
                "driver_epoch": 1,
                "batch_id": number // 500,
                "row": number % 500,
                "decided_at": at,
                "task_id": name,
                "copy": 0,
                "epoch": 0,
                "transition": change,
                **more,
            }
        )


def _seat(index: int) -> tuple[int, int, list[int]]:
    """Node, GPUs and devices of the task of this number: four of them fill a node."""
    node, part = divmod(index, len(_NODE_SIZES))
    first = sum(_NODE_SIZES[:part])
    return node, _NODE_SIZES[part], list(range(first, first + _NODE_SIZES[part]))


def _node(number: int) -> tuple[str, str, str, bool]:
    """Region, id, GPU model of the node of this number, and whether it is a spot one."""
    place, index = number % len(REGIONS), number // len(REGIONS)
    return REGIONS[place], f"n{index}", MODELS[index % 2], index % 5 == 0


def _nodes(size: CrowdSize, now: datetime) -> Iterator[dict[str, Any]]:
    for number in range(size.nodes_per_region * len(REGIONS)):
        region, node_id, model, spot = _node(number)
        yield {
            "region": region,
            "node_id": node_id,
            "gpu_model": model,
            "spot": spot,
            "gpus": 8,
            "cpus": 96.0,
            "memory_gb": 512.0,
            "gpu_utilisation": 0.9,
            "state": "ready",
            "observed_at": now - timedelta(seconds=1),
        }


def _links(now: datetime) -> Iterator[dict[str, Any]]:
    for here, source in enumerate(REGIONS):
        for there, target in enumerate(REGIONS):
            if here != there:
                measured = {"rtt_ms": 20.0 + 5 * abs(here - there), "gbps": 5.0, "usd_per_gb": 0.05}
                yield {"region": source, "dst_region": target, **measured, "observed_at": now}


def _prices(now: datetime) -> Iterator[dict[str, Any]]:
    for number, region in enumerate(REGIONS):
        for model in MODELS:
            for spot in (False, True):
                usd = (2.0 + number / 10) * (0.4 if spot else 1.0)
                yield {"region": region, "gpu_model": model, "spot": spot, "usd_per_gpu_hour": usd, "observed_at": now}


def _write(folder: str, contract: TableContract, rows: pa.Table, rows_of_file: int, now: datetime) -> None:
    """Write rows as files of so many, one commit each."""
    table = Appender(contract, folder)
    for start in range(0, rows.num_rows, rows_of_file):
        table.commit(table.write(rows.slice(start, rows_of_file), round(now.timestamp() * 1_000)))
