"""A task's value in `tasks`: read from the request's text, and the same as the planner's of what placement reads."""

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.ledger_rows import ledger, submitted
from thalweg.scheduling.world.value import value_usd_per_hour
from thalweg.streams.contract.messages import PerWorker, Subtask, TaskArray, TaskRequest
from thalweg.streams.placement.task_specs import read_spec
from thalweg.sync.ledger.folds import LedgerFold

workers = st.one_of(st.builds(PerWorker, gpus=st.integers(0, 8)), st.builds(PerWorker, gpu_milli=st.integers(1, 999)))
requests = st.builds(
    TaskRequest,
    task_id=st.just("t"),
    workers=st.integers(1, 6),
    per_worker=workers,
    replicas=st.integers(1, 3),
    priority=st.integers(0, 1_000),
    value_usd_per_hour=st.one_of(st.none(), st.floats(0, 1e9)),
    subtasks=st.lists(
        st.builds(Subtask, subtask_id=st.just("s"), workers=st.integers(1, 4), per_worker=workers), max_size=3
    ),
)


def asked(request: TaskRequest) -> dict[str, object]:
    text = msgspec.json.encode(request).decode()
    return submitted(request.task_id) | {"request": text, "priority": request.priority}


def values(*rows: dict[str, object]) -> list[float | None]:
    folded = LedgerFold().fold(ledger(*rows, batch_id=0)).tasks
    return folded.column("value_usd_per_hour").to_pylist()


@given(requests)
def test_the_value_of_a_task_is_the_planners(request: TaskRequest) -> None:
    text = msgspec.json.encode(request).decode()
    spec = read_spec(text)
    own = np.nan if spec.value_usd_per_hour is None else spec.value_usd_per_hour
    planners = float(value_usd_per_hour(spec.priority, spec.gpus * spec.replicas, own))
    assert values(asked(request)) == [pytest.approx(planners)]


def test_an_array_has_no_value_and_its_elements_have() -> None:
    array = TaskRequest(task_id="a", array=TaskArray(count=3), per_worker=PerWorker(gpus=2))
    element = TaskRequest(task_id="a[0]", per_worker=PerWorker(gpus=2))
    assert values(asked(array), asked(element)) == [None, 4.0]


def test_a_fold_that_goes_on_from_the_tables_knows_the_same_values() -> None:
    fold = LedgerFold()
    tasks = fold.fold(ledger(asked(TaskRequest(task_id="t", value_usd_per_hour=7.5)), batch_id=0))
    gone_on = LedgerFold.restore(tasks.tasks, tasks.placements, fold.position)
    assert gone_on.all_live().tasks.column("value_usd_per_hour").to_pylist() == [7.5]
    # A table of an older version does not say it.
    place = tasks.tasks.schema.get_field_index("value_usd_per_hour")
    older = tasks.tasks.set_column(place, "value_usd_per_hour", pa.nulls(1, pa.float64()))
    gone_on = LedgerFold.restore(older, tasks.placements, fold.position)
    assert gone_on.all_live().tasks.column("value_usd_per_hour").to_pylist() == [7.5]
