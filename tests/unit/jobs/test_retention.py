"""What a contract promises of how long rows and versions are kept is what happens, whoever the table's writer is."""

import os
import re
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from tests.ledger_rows import ledger, submitted
from thalweg.conf.environment import PROJECT_ROOT
from thalweg.jobs.runtime.append_upkeep import AppendUpkeep
from thalweg.jobs.runtime.job import Stop
from thalweg.query.sql.query import BY_NAME
from thalweg.sync.delta import log_writer
from thalweg.sync.delta.appender import Appender
from thalweg.sync.delta.compaction import FEW_FILES
from thalweg.sync.delta.contracts import (
    BUSY_LOG,
    CONTRACTS,
    DECISIONS,
    PLANS,
    REPLACED_KEPT,
    TableContract,
)
from thalweg.sync.delta.upkeep import Upkeep
from thalweg.sync.ledger.ledger import Ledger

DAY_MS = 86_400_000
START_MS = 1_790_000_000_000
EXPIRING = [contract for contract in CONTRACTS if contract.retention_days is not None]


def row_of(contract: TableContract, at_ms: int) -> pa.Table:
    """One row in which everything has a value, and every time is the given one."""

    def value(kind: pa.DataType) -> Any:
        if pa.types.is_timestamp(kind):
            return datetime.fromtimestamp(at_ms / 1_000, UTC)
        if pa.types.is_date(kind):
            return datetime.fromtimestamp(at_ms / 1_000, UTC).date()
        if pa.types.is_string(kind) or pa.types.is_large_string(kind):
            return "x"
        if pa.types.is_integer(kind) or pa.types.is_floating(kind):
            return 1
        return None

    return pa.Table.from_pylist([{field.name: value(field.type) for field in contract.schema}], schema=contract.schema)


class Housekeeping:
    """A table's upkeep under a clock that the test moves."""

    def __init__(self, contract: TableContract, warehouse: Path) -> None:
        self.now_ms = START_MS
        self.contract = contract
        self.table = Appender(contract, str(warehouse))
        self.upkeep = AppendUpkeep(self.table, lambda: self.now_ms, _Unpaced())

    def put(self) -> None:
        self.table.commit(self.table.write(row_of(self.contract, self.now_ms), self.now_ms))

    def round(self) -> None:
        for _ in range(2):  # what expires goes in one, what is merged in the next
            self.upkeep.step()
            self.upkeep.commit()

    def ages_days(self) -> list[float]:
        rows = DeltaTable(self.table.uri).to_pyarrow_table()
        found = rows[self.contract.ages_by].to_pylist()
        moments = [at if isinstance(at, datetime) else datetime(at.year, at.month, at.day, tzinfo=UTC) for at in found]
        return [(self.now_ms / 1_000 - moment.timestamp()) / 86_400 for moment in moments]


class _Unpaced(Stop):
    def wait(self, seconds: float) -> bool:
        return self.asked()


@pytest.mark.parametrize("contract", EXPIRING, ids=lambda contract: contract.name)
def test_rows_older_than_promised_are_gone_after_a_round_and_younger_ones_are_not(
    contract: TableContract, tmp_path: Path
) -> None:
    assert contract.retention_days is not None
    house = Housekeeping(contract, tmp_path)
    house.put()
    house.now_ms += contract.retention_days * DAY_MS // 2
    house.put()
    house.round()
    assert len(house.ages_days()) == 2
    house.now_ms += contract.retention_days * DAY_MS // 2 + 2 * DAY_MS
    house.round()
    assert len(house.ages_days()) == 1
    assert max(house.ages_days()) < contract.retention_days


def test_rows_expire_also_where_files_are_merged_again_and_again(tmp_path: Path) -> None:
    contract = PLANS
    assert contract.retention_days is not None
    house = Housekeeping(contract, tmp_path)
    step_ms = contract.retention_days * DAY_MS // (FEW_FILES * 10)
    rounds = 12
    for _ in range(rounds):
        for _ in range(FEW_FILES):
            house.put()
            house.now_ms += step_ms
        house.round()
    house.round()
    assert max(house.ages_days()) <= contract.retention_days * 1.1 + 0.5, "a tenth later at the most"
    assert len(DeltaTable(house.table.uri).file_uris()) < rounds * FEW_FILES / 2


@pytest.mark.parametrize(("hours", "goes"), [(0.5, False), (2, False), (24, False), (26, True)])
def test_what_was_merged_in_the_ledger_stays_for_streams_as_long_as_the_contract_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hours: float, goes: bool
) -> None:
    then = time.time() - hours * 3_600
    held = Ledger.claim(str(tmp_path))
    for batch in range(60):
        held.commit(ledger(submitted(f"t{batch}"), batch_id=batch), "q", batch, offsets=batch)
    monkeypatch.setattr(log_writer, "system_clock", lambda: int(then * 1_000))  # when the files were replaced
    held.compact()
    for path in (tmp_path / "decisions").rglob("*"):
        if path.is_file():
            os.utime(path, (then, then))
    upkeep = Upkeep(str(tmp_path / "decisions"))
    upkeep.checkpoint()
    assert (upkeep.sweep(held.pending) > 0) is goes
    first = tmp_path / "decisions" / "_delta_log" / f"{1:020d}.json"
    assert first.exists() is not goes
    assert DECISIONS.lag_minutes >= 24 * 60


def test_a_table_of_an_older_version_keeps_what_the_contract_says_and_a_wish_is_kept(tmp_path: Path) -> None:
    uri = str(tmp_path / "decisions")
    DeltaTable.create(
        uri,
        DECISIONS.schema,
        configuration={**DECISIONS.properties, **BUSY_LOG, REPLACED_KEPT: "7"},
        raise_if_key_not_exists=False,
    )
    Appender(DECISIONS, str(tmp_path))
    known = DeltaTable(uri).metadata().configuration
    assert known["delta.logRetentionDuration"] == DECISIONS.properties["delta.logRetentionDuration"]
    assert known[REPLACED_KEPT] == "7"


def test_a_reach_is_the_shorter_of_log_and_files() -> None:
    assert {contract.reach for contract in CONTRACTS} == {"24 hours", "an hour", "10 minutes"}
    assert {contract.name: contract.lag for contract in CONTRACTS if contract.lag != contract.reach} == {
        "decisions": "25 hours"
    }


def test_pages_that_tell_the_reach_of_tables_tell_the_contracts() -> None:
    critiques = (PROJECT_ROOT / "docs" / "explanation" / "critiques.md").read_text(encoding="utf-8")
    (past,) = [text for text in critiques.split("\n\n") if text.startswith("**The past has an edge.**")]
    told = re.search(r"(`nodes`.*)which reach back an hour; (.*) reach back\s10 minutes", past, re.DOTALL)
    assert told is not None
    hour, minutes = told.groups()
    assert {BY_NAME[name].reach for name in re.findall(r"`(\w+)`", hour)} == {"an hour"}
    assert {BY_NAME[name].reach for name in re.findall(r"`(\w+)`", minutes)} == {"10 minutes"}
    changes = (PROJECT_ROOT / "docs" / "how-to" / "read-changes.md").read_text(encoding="utf-8")
    assert f"kept for {DECISIONS.lag}" in changes
