"""The ledger cut anywhere, folded piece by piece, crashed and restored, gives what folding it in one go gives."""

import random
from typing import Any

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.ledger_rows import assigned, happened, ledger, submitted
from thalweg.sync.delta.contracts import PLACEMENTS, TASKS
from thalweg.sync.ledger.folds import FoldChanges, LedgerFold, fold_ledger

task_ids = st.sampled_from(["a", "b", "c"])
others = [
    "running",
    "accepted",
    "succeeded",
    "failed",
    "evicted",
    "lost",
    "revoked",
    "cancelled",
    "waiting",
    "refused",
    "repaired",
]
facts = st.one_of(
    st.builds(lambda task_id, replicas: submitted(task_id, replicas=replicas), task_ids, st.integers(1, 2)),
    st.builds(lambda t, r: submitted(t, replicas=r) | {"transition": "updated"}, task_ids, st.integers(1, 2)),
    st.builds(
        lambda t, e, c, r: assigned(t, e, r) | {"copy": c},
        task_ids, st.integers(0, 4), st.integers(0, 1), st.sampled_from("xyz"),
    ),
    st.builds(
        lambda t, w, e, c, reason: happened(t, w, e, copy=c, reason=reason),
        task_ids, st.sampled_from(others), st.integers(0, 4), st.integers(0, 1), st.sampled_from([None, "gave up"]),
    ),
)  # fmt: skip
ledgers = st.lists(st.lists(facts, min_size=1, max_size=6), min_size=1, max_size=12).map(
    lambda batches: pa.concat_tables(ledger(*batch, batch_id=number) for number, batch in enumerate(batches))
)

Written = tuple[dict[str, dict[str, Any]], dict[tuple[str, int], dict[str, Any]]]


def write(changes: FoldChanges, written: Written) -> None:
    tasks, placements = written
    tasks.update({row["task_id"]: row for row in changes.tasks.to_pylist()})
    placements.update({(row["task_id"], row["copy"]): row for row in changes.placements.to_pylist()})
    for row in changes.released.to_pylist():
        placements.pop((row["task_id"], row["copy"]), None)


@settings(max_examples=300, deadline=None)
@given(rows=ledgers, cuts=st.lists(st.tuples(st.integers(0, 60), st.booleans())), overlap=st.integers(0, 3))
def test_piecewise_with_restarts_and_repeated_rows_equals_from_scratch(
    rows: pa.Table, cuts: list[tuple[int, bool]], overlap: int
) -> None:
    fold, written, start = LedgerFold(), ({}, {}), 0
    for end, restart in [*sorted(cuts), (rows.num_rows, False)]:
        write(fold.fold(rows.slice(max(0, start - overlap), max(0, end - max(0, start - overlap)))), written)
        start = max(start, min(end, rows.num_rows))
        if restart:
            fold = LedgerFold.restore(
                pa.Table.from_pylist(list(written[0].values()), schema=TASKS.schema),
                pa.Table.from_pylist(list(written[1].values()), schema=PLACEMENTS.schema),
                fold.position,
            )
    whole: Written = ({}, {})
    write(LedgerFold().fold(rows), whole)
    assert written == whole


@settings(max_examples=100, deadline=None)
@given(rows=ledgers, seed=st.integers(0, 100))
def test_the_order_in_which_the_rows_are_read_changes_nothing(rows: pa.Table, seed: int) -> None:
    order = random.Random(seed).sample(range(rows.num_rows), rows.num_rows)
    assert fold_ledger(rows.take(order)) == fold_ledger(rows)


@settings(max_examples=100, deadline=None)
@given(rows=ledgers)
def test_only_live_tasks_are_placed_and_their_states_agree(rows: pa.Table) -> None:
    tasks, placements = (table.to_pylist() for table in fold_ledger(rows))
    states = {row["task_id"]: row["state"] for row in tasks}
    assert all(states[row["task_id"]] in ("waiting", "assigned", "running") for row in placements)
    for task_id, state in states.items():
        copies = {row["state"] for row in placements if row["task_id"] == task_id}
        assert state != "running" or "running" in copies
