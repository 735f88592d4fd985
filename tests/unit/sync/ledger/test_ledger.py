"""The ledger: rows as they were decided, read back whole, by one driver at a time."""

from pathlib import Path

import pytest

from thalweg.scheduling.pack.nodes import Need
from thalweg.scheduling.world.tasks import Change, Money, Part, Share, TaskSpec, Transition
from thalweg.streams.placement.task_specs import read_spec
from thalweg.sync.delta.store import AnotherWriterError
from thalweg.sync.ledger.ledger import Ledger, from_rows, to_rows

REQUEST = '{"task_id": "t", "command": ["run"], "per_worker": {"gpus": 2}}'
SPEC = TaskSpec(parts=(Part(workers=1, need=Need(gpus=2)),))
ROWS = [
    Transition(
        change=Change.SUBMITTED, task_id="t", decided_ms=5, spec=SPEC, request=REQUEST, content_hash="h", topic="r",
        topic_partition=1, topic_offset=2, topic_timestamp_ms=3, tenant="default", priority=500,
    ),
    Transition(
        change=Change.ASSIGNED, task_id="t", decided_ms=6, epoch=1, region="east", pool_id="east/A100/on-demand",
        shares=(Share(node_id="n", workers=1, gpus=2, gpu_milli=0, devices=(0, 3)),), plan_id="p", usd_per_hour=4.0,
        money=Money(compute_usd=4.0, egress_usd=1.0), tenant="default", priority=500,
    ),
    Transition(change=Change.LOST, task_id="t", decided_ms=7, epoch=1, region="east", reason="silent"),
]  # fmt: skip


def commit(ledger: Ledger, batch_id: int, rows: list[Transition]) -> None:
    ids = [f"e{batch_id}" if row.change is Change.ASSIGNED else None for row in rows]
    table = to_rows(rows, ids, query_id="q", batch_id=batch_id, driver_epoch=ledger.driver_epoch)
    ledger.commit(table, "q", batch_id, offsets=batch_id)


def test_a_committed_batch_is_known_and_read_back_as_it_was_decided(tmp_path: Path) -> None:
    ledger = Ledger.claim(str(tmp_path))
    assert ledger.committed_batch("q") is None
    commit(ledger, 0, ROWS[:2])
    commit(ledger, 4, ROWS[2:])
    for reader in (ledger, Ledger.claim(str(tmp_path))):
        assert reader.committed_batch("q") == 4
        assert reader.committed_batch("another") is None
        rows = reader.batch("q", 0)
        assert rows.column("event_id").to_pylist() == [None, "e0"]
        assert from_rows(rows, read_spec) == ROWS[:2]
        assert from_rows(reader.batch("q", 4), read_spec) == ROWS[2:]


def test_all_rows_come_in_the_order_they_were_decided_across_drivers_and_compaction(tmp_path: Path) -> None:
    first = Ledger.claim(str(tmp_path))
    for batch in range(60):
        commit(first, batch, ROWS[:2])
    assert first.compact() == 60
    second = Ledger.claim(str(tmp_path))
    commit(second, 60, ROWS[2:])
    read = [(row["batch_id"], row["row"]) for part in second.all_rows() for row in part.to_pylist()]
    assert read == [(batch, row) for batch in range(60) for row in (0, 1)] + [(60, 0)]
    assert second.committed_batch("q") == 60


def test_the_older_of_two_drivers_cannot_commit_any_more(tmp_path: Path) -> None:
    old = Ledger.claim(str(tmp_path))
    new = Ledger.claim(str(tmp_path))
    assert new.driver_epoch == old.driver_epoch + 1
    with pytest.raises(AnotherWriterError):
        commit(old, 0, ROWS)
    commit(new, 0, ROWS)
    assert len(new.batch("q", 0)) == 3


def test_who_was_overtaken_between_two_lives_does_not_claim_the_ledger_again(tmp_path: Path) -> None:
    first = Ledger.claim(str(tmp_path))
    again = Ledger.claim(str(tmp_path), first.driver_epoch)
    assert again.driver_epoch == first.driver_epoch + 1, "nobody else has come"
    Ledger.claim(str(tmp_path))
    with pytest.raises(AnotherWriterError):
        Ledger.claim(str(tmp_path), again.driver_epoch)
