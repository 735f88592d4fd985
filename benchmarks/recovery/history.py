"""A long past: a ledger of a million tasks, most of which have ended, written as its driver would have left it."""

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
import pyarrow as pa
from deltalake import Transaction

from thalweg.sync.delta.appender import Appender
from thalweg.sync.delta.contracts import DECISIONS

ROWS_PER_BATCH: Final = 1_000
TASKS_PER_FILE: Final = 50_000
"""A quarter of a million rows: what compaction leaves of a minute and a half at 500 requests a second."""
_ENDED_LIFE: Final = ("submitted", "assigned", "accepted", "running", "succeeded")
_LIVE_LIFE: Final = ("submitted", "assigned", "accepted", "running")
_WAITING_LIFE: Final = ("submitted",)
_WAITING_GPUS: Final = (1, 2, 4, 8)
_WAITING_CPUS: Final = (4, 8, 16)
GPUS_PER_NODE: Final = 8


def write_history(
    warehouse: str,
    tasks: int,
    live: int,
    regions: Sequence[str],
    now_ms: int,
    *,
    waiting: int = 0,
    per_node: int = GPUS_PER_NODE,
) -> int:
    """Write the ledger; return how many rows it has.

    Of `tasks` the last `live` run, one GPU each, `per_node` to a node, region after region in turn; the others have
    ended. `waiting` more wait for an H100, of many needs, tenants and priorities.
    """
    table = Appender(DECISIONS, warehouse)
    first = 0
    for number, life, count in _groups(tasks, live, waiting):
        seat = number - (tasks - live) if life is _LIVE_LIFE else number % max(live, 1)
        rows = _rows(number, count, life, seat, regions, first, now_ms, per_node)
        last_batch = (first + rows.num_rows - 1) // ROWS_PER_BATCH
        table.commit(table.write(rows, now_ms), Transaction("thalweg-place-driver", 1), Transaction("past", last_batch))
        first += rows.num_rows
    return first


def node_of(live_task: int, regions: Sequence[str], per_node: int = GPUS_PER_NODE) -> tuple[str, str, int]:
    """Region, node and device of a live task."""
    slot, region = divmod(live_task, len(regions))
    return regions[region], f"node-{slot // per_node:06d}", slot % per_node


def _groups(tasks: int, live: int, waiting: int) -> Iterator[tuple[int, tuple[str, ...], int]]:
    """First task, life and number of tasks of each file."""
    begun = tasks - live
    for begin, end, life in (
        (0, begun, _ENDED_LIFE),
        (begun, tasks, _LIVE_LIFE),
        (tasks, tasks + waiting, _WAITING_LIFE),
    ):
        for number in range(begin, end, TASKS_PER_FILE):
            yield number, life, min(TASKS_PER_FILE, end - number)


def _asks_for_one(task_id: str, index: int, observed_ms: int) -> str:
    return (
        f'{{"task_id":"{task_id}","tenant":"tenant-{index % 7}","per_worker":{{"gpus":1,"cpus":4,"memory_gb":16,'
        f'"gpu_models":["A100"]}},"expected_s":600,"observed_at":{observed_ms}}}'
    )


def _asks_for_what_is_full(task_id: str, index: int, observed_ms: int) -> str:
    gpus, cpus = _WAITING_GPUS[index % len(_WAITING_GPUS)], _WAITING_CPUS[index // 4 % len(_WAITING_CPUS)]
    return (
        f'{{"task_id":"{task_id}","tenant":"tenant-{index % 7}","priority":{300 + index % 3 * 100},"per_worker":'
        f'{{"gpus":{gpus},"cpus":{cpus},"memory_gb":16,"gpu_models":["H100"]}},"expected_s":{600 * (1 + index % 5)},'
        f'"observed_at":{observed_ms}}}'
    )


def _rows(
    number: int,
    count: int,
    life: tuple[str, ...],
    seat: int,
    regions: Sequence[str],
    first_row: int,
    now_ms: int,
    per_node: int,
) -> pa.Table:
    steps = len(life)
    total = count * steps
    step = np.tile(np.arange(steps), count)
    task = np.repeat(np.arange(number, number + count), steps)
    at = np.arange(first_row, first_row + total)
    places = [node_of(seat + index, regions, per_node) for index in range(count)]
    region_of_task = np.array([place[0] for place in places], object)
    shares = [
        [{"node_id": node, "workers": 1, "gpus": 1, "gpu_milli": 0, "devices": [device]}] for _, node, device in places
    ]
    is_submitted, is_assigned = step == 0, step == 1
    placed = ~is_submitted
    ids = [f"past-{index:07d}" for index in range(number, number + count)]

    def only(mask: np.ndarray, values: Sequence[object], kind: pa.DataType) -> pa.Array:
        """Values of each task, on the rows of a mask; null on the others."""
        spread = np.empty(total, object)
        spread[mask] = np.repeat(np.array([*values, None], object)[:-1], int(mask.sum()) // count)
        return pa.array(spread.tolist(), kind)

    asks = _asks_for_what_is_full if life is _WAITING_LIFE else _asks_for_one
    requests = [asks(task_id, index, now_ms - index) for index, task_id in enumerate(ids)]
    nothing = pa.nulls(total, pa.string())
    columns: dict[str, pa.Array] = {field.name: pa.nulls(total, field.type) for field in DECISIONS.schema}
    columns |= {
        "query_id": pa.array(["past"] * total),
        "batch_id": pa.array(at // ROWS_PER_BATCH, pa.int64()),
        "row": pa.array(at % ROWS_PER_BATCH, pa.int32()),
        "driver_epoch": pa.array(np.ones(total, np.int64)),
        "decided_at": pa.array((now_ms - 3_600_000 + at // ROWS_PER_BATCH) * 1_000, pa.int64()).cast(
            DECISIONS.schema.field("decided_at").type
        ),
        "task_id": pa.array(np.repeat(np.array(ids, object), steps).tolist(), pa.string()),
        "copy": pa.array(np.zeros(total, np.int32)),
        "epoch": pa.array(np.where(is_submitted, 0, 1).astype(np.int64)),
        "transition": pa.array(np.array(life, object)[step].tolist(), pa.string()),
        "attempt": pa.array(np.zeros(total, np.int32)),
        "region": only(placed, region_of_task.tolist(), pa.string()),
        "pool_id": only(placed, [f"{region}/A100/on-demand" for region in region_of_task], pa.string()),
        "nodes": only(is_assigned, shares, DECISIONS.schema.field("nodes").type),
        "plan_id": only(is_assigned, ["past"] * count, pa.string()),
        "cost_usd_per_hour": only(is_assigned, [2.0] * count, pa.float64()),
        "tenant": pa.array([f"tenant-{index % 7}" for index in (task - number).tolist()], pa.string()),
        "priority": pa.array(np.full(total, 500, np.int32)),
        "request": only(is_submitted, requests, DECISIONS.schema.field("request").type),
        "content_hash": only(is_submitted, [f"{index:064x}" for index in range(number, number + count)], pa.string()),
        "reason": nothing,
    }
    for name in ("compute_usd", "egress_usd", "stall_usd", "latency_usd", "risk_usd", "move_usd"):
        columns[name] = only(is_assigned, [0.3] * count, pa.float64())
    return pa.table([columns[field.name].cast(field.type) for field in DECISIONS.schema], schema=DECISIONS.schema)
