"""`bench window-index`: questions to the window's columns in this process, by the processor's time and not the wall's.

The tasks are those of `bench window`, a part of them made once and put in many times under other ids.
"""

import random
import resource
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
import pyarrow as pa

from thalweg.benchmarks.window.serving import spread
from thalweg.benchmarks.window.warehouse import TENANTS, WarehouseSize, tasks_and_placements
from thalweg.query.reports.task_index import AnyOrder, TaskGrouping, TaskIndex
from thalweg.query.reports.task_list import TaskFilter, TaskOrder
from thalweg.stack import machine

_ORDERS: Final[tuple[AnyOrder, ...]] = (*TaskOrder, "gpus")


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexParameters:
    """What is measured."""

    tasks: int = 1_000_000
    made: int = 20_000
    """So many are made; the others differ from them in their ids."""
    questions: int = 60
    """Of each kind."""
    seed: int = 0


def measure(parameters: IndexParameters) -> dict[str, Any]:
    """Fill the columns and ask them."""
    made = parameters.made
    size = WarehouseSize(ended=made * 9 // 10, running=made * 8 // 100, waiting=made * 2 // 100)
    rows, _ = tasks_and_placements(np.arange(made), datetime.now(UTC), size, np.random.default_rng(parameters.seed))
    ids = rows.column("task_id").to_pylist()
    index = TaskIndex()
    began = time.thread_time()
    for copy in range(parameters.tasks // made):
        others = [f"sweep-{copy:03d}[{n}]" if n % 5 == 0 else f"{name}-{copy:03d}" for n, name in enumerate(ids)]
        index.put(rows.set_column(0, rows.schema.field(0), pa.array(others, pa.string())))
    put_s, began = time.thread_time() - began, time.thread_time()
    index.settle()
    settled_s = time.thread_time() - began
    chance = random.Random(parameters.seed)

    def condition() -> TaskFilter:
        return chance.choice(
            (
                TaskFilter(states=(chance.choice(("waiting", "running", "succeeded")),)),
                TaskFilter(tenant=chance.choice(TENANTS)),
                TaskFilter(region="lab:zurich", states=("running",)),
                TaskFilter(name=f"*{chance.randrange(1_000)}*"),
                TaskFilter(array=f"sweep-{chance.randrange(50):03d}"),
                TaskFilter(reason="quota"),
            )
        )

    def many(ask: Callable[[], object]) -> dict[str, float]:
        times = []
        for _ in range(parameters.questions):
            began = time.process_time()
            ask()
            times.append((time.process_time() - began) * 1_000)
        return spread(times)

    everything = TaskFilter()
    return {
        "bench": "window-index",
        "machine": machine.describe(),
        "parameters": asdict(parameters),
        "tasks": len(index),
        "put_processor_s": round(put_s, 2),
        "settled_processor_s": round(settled_s, 2),
        "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1_000),
        "processor_ms": {
            "filter": many(lambda: index.find(condition(), limit=100)),
            "sort": many(
                lambda: index.find(everything, chance.choice(_ORDERS), turned=chance.random() < 0.5, limit=100)
            ),
            "filter_and_sort": many(lambda: index.find(condition(), chance.choice(_ORDERS), limit=100)),
            "group": many(lambda: index.group(everything, chance.choice(list(TaskGrouping)))),
            "filter_and_group": many(lambda: index.group(condition(), chance.choice(list(TaskGrouping)))),
            "page_far_down": many(lambda: index.find(everything, limit=100, offset=chance.randrange(len(index)))),
        },
    }
