"""Maintenance beside running jobs: it frees what nobody needs, disturbs no writer and says what it did."""

import json
import os
from pathlib import Path

import pyarrow as pa
from deltalake import DeltaTable

from tests.ledger_rows import ledger, submitted
from thalweg.conf.settings import Settings, WarehouseSettings
from thalweg.jobs.accounting.order_audit import OrderAudit
from thalweg.jobs.maintain import Audit, maintain, one_round
from thalweg.jobs.runtime.job import Stop
from thalweg.sync.delta.appender import Appender
from thalweg.sync.delta.contracts import AUDIT, QUARANTINE, TELEMETRY


class NoWait(Stop):
    """Stops never and waits never."""

    def wait(self, seconds: float) -> bool:
        return False


NOW_MS = 1_700_000_000_000


def telemetry(gpus: int) -> pa.Table:
    row = {"day": 0, "kind": "node", "node_id": "n", "region": "r", "gpus": gpus, "stamp_ms": 1, "observed_at": 1_000}
    return pa.Table.from_pylist(
        [row | {"stamp_counter": 0, "stamp_region": "r", "version": 0, "received_at": 0}], schema=TELEMETRY.schema
    )


def test_a_round_frees_files_and_the_writer_goes_on(tmp_path: Path) -> None:
    writer = Appender(TELEMETRY, str(tmp_path))
    writer.commit(writer.write(telemetry(8), NOW_MS))
    orphan = tmp_path / "telemetry" / "day=1970-01-01" / "part-orphan.parquet"
    orphan.write_bytes(b"x")
    os.utime(orphan, (0, 0))

    (done,) = maintain(str(tmp_path))
    writer.commit(writer.write(telemetry(4), NOW_MS))

    assert (done.table, done.removed_files, done.checkpoint_version, done.error) == ("telemetry", 1, 1, None)
    assert not orphan.exists()
    assert DeltaTable(str(tmp_path / "telemetry")).to_pyarrow_table()["gpus"].to_pylist() == [4, 8]


def test_every_order_is_written_down_once(tmp_path: Path) -> None:
    audit = Audit(str(tmp_path), lambda: NOW_MS)
    after = {"type": "drain", "region": "east"}
    orders = [
        {"task_id": "", "transition": "ordered", "ordered": json.dumps({"subject": "drain/east", "who": "ann", **more})}
        for more in ({"after": after}, {"before": after})
    ]
    first, second = ledger(*orders[:1], batch_id=3), ledger(submitted("t"), *orders[1:], batch_id=4)
    for _ in range(2):  # the second life is told all of it again
        keeper = OrderAudit(audit.append, audit.mark)
        for piece in (first, second):
            keeper.note("a ledger", piece)
    written = DeltaTable(str(tmp_path / "audit")).to_pyarrow_table().sort_by("at").to_pylist()
    assert [(row["actor"], row["action"], row["subject"]) for row in written] == [("ann", "drain", "drain/east")] * 2
    assert [json.loads(row["detail"])["after"] for row in written] == [after, None]


def test_a_broken_table_does_not_keep_the_others_waiting(tmp_path: Path) -> None:
    Appender(TELEMETRY, str(tmp_path))
    Appender(QUARANTINE, str(tmp_path))
    (tmp_path / "telemetry" / "_delta_log" / f"{0:020d}.json").write_text("{not json")

    done = {one.table: one for one in maintain(str(tmp_path))}

    assert done["telemetry"].error
    assert done["quarantine"].error is None


def test_stored_rows_that_break_a_rule_are_written_down(tmp_path: Path) -> None:
    writer = Appender(TELEMETRY, str(tmp_path))
    writer.commit(writer.write(telemetry(-5), NOW_MS))
    settings = Settings(warehouse=WarehouseSettings(path=str(tmp_path)))

    one_round(settings, Audit(str(tmp_path), lambda: NOW_MS))

    rows = DeltaTable(str(tmp_path / "audit")).to_pyarrow_table().to_pylist()
    assert [(row["action"], row["subject"], row["outcome"], row["detail"]) for row in rows] == [
        ("check", "telemetry", "broken", '{"gpus_in_range": 1}')
    ]


def test_a_round_over_sound_tables_writes_nothing_down(tmp_path: Path) -> None:
    writer = Appender(TELEMETRY, str(tmp_path))
    writer.commit(writer.write(telemetry(8), NOW_MS))
    settings = Settings(warehouse=WarehouseSettings(path=str(tmp_path)))

    one_round(settings, Audit(str(tmp_path), lambda: NOW_MS))

    assert DeltaTable(str(tmp_path / "audit")).count() == 0


def test_the_audits_own_files_stay_few_and_its_old_rows_leave(tmp_path: Path) -> None:
    moment = [NOW_MS]
    audit = Audit(str(tmp_path), lambda: moment[0], NoWait())
    for number in range(40):
        audit.record("check", f"table {number}", "done", {})
    audit.tidy()
    table = DeltaTable(str(tmp_path / "audit"))
    assert table.count() == 40 and len(table.file_uris()) < 5
    moment[0] += 10_000 * 86_400_000
    audit.tidy()
    assert DeltaTable(str(tmp_path / "audit")).count() == (40 if AUDIT.retention_days is None else 0)
