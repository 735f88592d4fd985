"""Whoever reads the ledger reads the same in it: world, tables (whole, and told again from their rows), and replay.

The rows are those of rich legal lives, and any rows at all: late, stale, repeated, of copies that are gone and of tasks
that have ended.
"""

import json

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.properties.readings import (
    held_of_nodes,
    of_live,
    read_by_replay,
    read_by_tables,
    read_by_world,
    without_scalars,
    world_of_tables,
)
from tests.properties.test_fold_rebuild import ledgers
from tests.properties.world_histories import History
from tests.unit.scheduling.worlds import spec
from thalweg.scheduling.world.facts import WorldFacts
from thalweg.scheduling.world.making import world_from
from thalweg.scheduling.world.tasks import TaskSpec
from thalweg.streams.placement.task_specs import read_spec
from thalweg.sync.ledger.folds import fold_ledger
from thalweg.sync.ledger.ledger import SpecOf, from_rows


def spec_of(request: str) -> TaskSpec:
    return spec(gpus=2, replicas=json.loads(request).get("replicas", 1))


def judge(rows: pa.Table, spec_of: SpecOf, cut: int) -> None:
    history = from_rows(rows, spec_of)
    world = world_from(WorldFacts(), history, 0)
    names = set(rows.column("task_id").to_pylist())
    told = read_by_world(world, names)
    tasks, placements = fold_ledger(rows)
    assert read_by_tables(tasks.to_pylist(), placements.to_pylist()) == told
    again = world_of_tables(tasks, placements, spec_of)
    assert read_by_world(again, names) == of_live(told)
    assert held_of_nodes(again) == held_of_nodes(world)
    for begin in (0, cut, len(history)):
        assert read_by_replay(history[:begin], history[begin:]) == without_scalars(told), begin


@settings(max_examples=100, deadline=None)
@given(rows=ledgers, cut=st.integers(0, 60))
def test_any_rows_at_all_are_read_alike(rows: pa.Table, cut: int) -> None:
    judge(rows, spec_of, cut)


@pytest.mark.parametrize("seed", range(20))
def test_legal_lives_are_read_alike(seed: int) -> None:
    history = History(seed)
    for _ in range(4 + seed % 12):
        history.batch()
    rows = pa.concat_tables(history.batches)
    judge(rows, read_spec, rows.num_rows // 2)
    again, names = world_from(WorldFacts(), from_rows(rows, read_spec), 0), set(rows.column("task_id").to_pylist())
    assert read_by_world(again, names) == read_by_world(history.world, names)
