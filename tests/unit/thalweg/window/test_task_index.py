"""Columns in memory answer what the tables' own listing answers, and groups add up to it."""

import random
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests.ledger_rows import START
from tests.unit.thalweg.window.histories import REGIONS, TENANTS, random_batches, write_tables
from thalweg.query.reports.task_index import TaskGrouping, TaskIndex
from thalweg.query.reports.task_list import TaskFilter, TaskOrder, list_tasks
from thalweg.query.sql.query import TableReader
from thalweg.scheduling.decisions.array_words import array_of
from thalweg.sync.ledger.folds import fold_ledger

COMPARED = (
    *("task_id", "state", "regions", "tenant", "priority", "reason", "cost_usd_per_hour", "submitted_at"),
    *("changed_at", "name", "held", "value_usd_per_hour"),
)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[TaskIndex, str]:
    """Columns of half of the tasks in order, the rest put later, some of them anew; and the tables of the same."""
    batches = random_batches(7, 12, 240)
    folder = str(tmp_path_factory.mktemp("warehouse"))
    write_tables(folder, batches)
    columns = TaskIndex()
    columns.put(fold_ledger(pa.concat_tables(batches[:6]))[0])
    columns.settle()
    columns.put(fold_ledger(pa.concat_tables(batches))[0])
    return columns, folder


def filters() -> list[TaskFilter]:
    chance = random.Random(3)
    some: list[TaskFilter] = [TaskFilter()]
    choices: dict[str, tuple[Any, ...]] = {
        "states": (("waiting",), ("running", "assigned"), ("succeeded",), ("nowhere",)),
        "tenant": (*TENANTS, "nobody"),
        "region": (*REGIONS, "nowhere"),
        "name": ("*1*", "t?", "sweep-1*", "run_1*", "*%", "t1*3", "*", "Ä"),
        "array": ("sweep-0", "sweep-9", "t"),
        "reason": ("CAPACITY: 1", "_", "%"),
        "since": (START + timedelta(seconds=6), START - timedelta(days=1)),
        "task_ids": (("t1", "t2", "nothing"), ("sweep-0[3]",)),
        "held": (True, False),
    }
    for name, values in choices.items():
        some += [TaskFilter(**{name: value}) for value in values]
    for _ in range(25):
        names = chance.sample(sorted(choices), 2)
        some.append(TaskFilter(**{name: chance.choice(choices[name]) for name in names}))
    return some


def test_columns_find_what_the_tables_list_in_the_same_order(told: tuple[TaskIndex, str]) -> None:
    columns, folder = told
    chance = random.Random(1)
    with TableReader(folder) as reader:
        for wanted in filters():
            for order in chance.sample(list(TaskOrder), 2):
                turned, limit = chance.random() < 0.5, chance.choice((0, 3, 17, 1_000))
                expected = list_tasks(reader, wanted, order, turned=turned, limit=limit)
                found = columns.find(wanted, order, turned=turned, limit=limit)
                what = (wanted, order, turned, limit)
                assert found.by_state == expected.by_state, what
                assert found.matching == expected.matching, what
                shown = [{name: task[name] for name in COMPARED} for task in found.tasks]
                assert shown == [{name: task[name] for name in COMPARED} for task in expected.tasks], what


def test_pages_follow_one_another(told: tuple[TaskIndex, str]) -> None:
    columns, _ = told
    for order in (*TaskOrder, "gpus"):
        whole = columns.find(TaskFilter(), order, limit=10_000).tasks  # type: ignore[arg-type]
        pages = [columns.find(TaskFilter(), order, limit=7, offset=at).tasks for at in range(0, len(whole) + 7, 7)]  # type: ignore[arg-type]
        assert [task for page in pages for task in page] == whole, order


def test_groups_count_every_task_and_each_region_of_a_copy(told: tuple[TaskIndex, str]) -> None:
    columns, _ = told
    wanted = TaskFilter(tenant="ads")
    tasks = columns.find(wanted, limit=10_000).tasks
    for by in (TaskGrouping.STATE, TaskGrouping.TENANT, TaskGrouping.KIND):
        groups = columns.group(wanted, by)
        assert {row[by]: row["tasks"] for row in groups} == Counter(task[by] for task in tasks), by
        assert sum(row["gpus"] for row in groups) == sum(task["gpus"] for task in tasks)
        assert all(sum(row["by_state"].values()) == row["tasks"] for row in groups)
    regions = {row["region"]: row["tasks"] for row in columns.group(wanted, TaskGrouping.REGION)}
    assert regions == Counter(region for task in tasks for region in set(task["regions"]) or {None})
    arrays = {row["array"]: row["tasks"] for row in columns.group(wanted, TaskGrouping.ARRAY)}
    assert arrays == Counter(array for task in tasks if (array := array_of(task["task_id"])) is not None)


def test_a_request_says_how_many_gpus_a_task_asks_for(tmp_path: Path) -> None:
    del tmp_path
    from tests.ledger_rows import ledger, submitted

    rows = ledger(
        submitted("nothing"),
        submitted("shares", per_worker={"gpu_milli": 250}, workers=2),
        submitted("copies", per_worker={"gpus": 4}, workers=3, replicas=2),
        submitted("parts", subtasks=[{"workers": 2, "per_worker": {"gpus": 8}}, {"per_worker": {"gpus": 1}}]),
    )
    columns = TaskIndex()
    columns.put(fold_ledger(rows)[0])
    found = {task["task_id"]: task["gpus"] for task in columns.find(TaskFilter(), limit=9).tasks}
    assert found == {"nothing": 0, "shares": 0.5, "copies": 24, "parts": 17}


def test_nothing_is_found_where_nothing_is() -> None:
    columns = TaskIndex()
    for order in TaskOrder:
        assert columns.find(TaskFilter(name="*a*"), order, limit=5).tasks == []
    assert [columns.group(TaskFilter(), by) for by in TaskGrouping] == [[]] * len(TaskGrouping)
    columns.settle()
    assert columns.find(TaskFilter(region="a", array="b", reason="c"), limit=5).matching == 0
