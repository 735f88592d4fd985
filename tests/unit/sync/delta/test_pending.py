"""Whatever is prepared, swept, slept over and committed, in any order: every file that the log names exists."""

import os
import tempfile
import time
from pathlib import Path

import pyarrow as pa
from deltalake import DeltaTable
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.ledger_rows import START
from thalweg.jobs.runtime.append_upkeep import AppendUpkeep
from thalweg.jobs.runtime.job import Stop
from thalweg.sync.delta.appender import Appender
from thalweg.sync.delta.compaction import files_of, rewrite
from thalweg.sync.delta.contracts import CONFLICTS
from thalweg.sync.delta.store import RearrangedError
from thalweg.sync.delta.upkeep import Upkeep


class OneTable(RuleBasedStateMachine):
    """A writer that appends and prepares, sweeps in its own process and in another, and hours that pass."""

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.table = Appender(CONFLICTS, self.folder.name)
        self.rows = 0
        self.prepared: list[list[object]] = []
        for _ in range(3):
            self.append()

    @rule()
    def append(self) -> None:
        self.table.commit(self.table.write(self._row(), _now_ms()))

    @rule()
    def write_and_wait(self) -> None:
        self.prepared.append(list(self.table.write(self._row(), _now_ms())))

    @rule(share=st.integers(1, 3))
    def prepare_a_rewrite(self, share: int) -> None:
        files = files_of(DeltaTable(self.table.uri))[::share]
        merged = rewrite(self.table, files, _now_ms(), lambda: False)
        assert merged is not None
        self.prepared.append(list(merged.actions))

    @rule(hours=st.integers(1, 30), writer_lives=st.booleans())
    def time_passes(self, hours: int, writer_lives: bool) -> None:
        for path in Path(self.table.uri).rglob("*.parquet"):
            if "_delta_log" not in path.parts:
                at = path.stat().st_mtime - hours * 3600
                os.utime(path, (at, at))
        if writer_lives:
            self.table.pending.keep_young()

    @rule()
    def sweep_beside_the_writer(self) -> None:
        Upkeep(self.table.uri).sweep(self.table.pending)

    @rule()
    def sweep_in_another_process(self) -> None:
        Upkeep(self.table.uri).sweep()

    @rule(data=st.data())
    def commit_what_was_prepared(self, data: st.DataObject) -> None:
        if not self.prepared:
            return
        actions = self.prepared.pop(data.draw(st.integers(0, len(self.prepared) - 1)))
        try:
            self.table.commit(actions)  # type: ignore[arg-type]
        except (RearrangedError, FileNotFoundError):
            self.table.abandon(actions)  # type: ignore[arg-type]

    @rule()
    def somebody_merges_files(self) -> None:
        DeltaTable(self.table.uri).optimize.compact()

    @rule()
    def it_is_started_anew(self) -> None:
        self.table = Appender(CONFLICTS, self.folder.name)
        self.prepared.clear()

    @invariant()
    def every_file_that_the_log_names_exists_and_no_row_is_there_twice(self) -> None:
        if not hasattr(self, "table"):
            return
        ids = DeltaTable(self.table.uri).to_pyarrow_table()["conflict_id"].to_pylist()
        assert len(ids) == len(set(ids))

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            self.folder.cleanup()

    def _row(self) -> pa.Table:
        self.rows += 1
        row = {"conflict_id": f"c{self.rows}", "key": "k", "found_at": START}
        return pa.Table.from_pylist([row], schema=CONFLICTS.schema)


OneTable.TestCase.settings = settings(max_examples=30, stateful_step_count=25, deadline=None)
test_every_file_that_the_log_names_exists = OneTable.TestCase


def test_what_waits_for_traffic_is_committed_after_an_idle_day(tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr("thalweg.jobs.runtime.append_upkeep._PACE_S", 0)
    monkeypatch.setattr("thalweg.jobs.runtime.append_upkeep.SWEEP_EVERY_S", -1)
    table = Appender(CONFLICTS, str(tmp_path))
    for number in range(40):
        row = {"conflict_id": f"c{number}", "key": "k", "found_at": START}
        table.commit(table.write(pa.Table.from_pylist([row], schema=CONFLICTS.schema), _now_ms()))
    upkeep = AppendUpkeep(table, _now_ms, Stop())
    upkeep.step()
    (waiting,) = table.pending.paths()
    os.utime(f"{table.uri}/{waiting}", (0, 0))
    upkeep.step()
    upkeep.commit()
    assert DeltaTable(table.uri).to_pyarrow_table().num_rows == 40
    assert len(DeltaTable(table.uri).file_uris()) == 1
    assert table.pending.paths() == frozenset()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
