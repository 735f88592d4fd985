import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from click.testing import CliRunner

from tests.ledger_rows import START, assigned, happened, ledger, submitted
from tests.unit.cli.conftest import put
from thalweg.cli.main import cli
from thalweg.query.reports.account_report import AccountBy, AccountReport, account_report
from thalweg.query.sql.query import TableReader
from thalweg.sync.delta.contracts import ACCOUNT, DECISIONS, PLACEMENTS, TASKS
from thalweg.sync.ledger.account_fold import AccountFold, entries_table
from thalweg.sync.ledger.folds import fold_ledger

HOUR = 3_600.0
NOW = START + timedelta(hours=20)


def facts() -> pa.Table:
    """A task that ran over midnight, one that runs since three hours, one that waits since the beginning."""
    node = [{"node_id": "n", "workers": 1, "gpus": 2, "gpu_milli": 0, "devices": [0, 1]}]
    data = [{"region": "far", "size_gb": 10}]
    return pa.concat_tables(
        [
            ledger(submitted("done", tenant="a", data=data), submitted("waits", tenant="b"), batch_id=0, at_s=0),
            ledger(assigned("done", 1, "x", nodes=node, egress_usd=0.9), batch_id=1, at_s=HOUR),
            ledger(happened("done", "succeeded", 1), submitted("runs", tenant="b"), batch_id=2, at_s=16 * HOUR),
            ledger(assigned("runs", 1, "y", nodes=node), batch_id=3, at_s=17 * HOUR),
        ]
    )


@pytest.fixture
def accounted(tmp_path: Path) -> Path:
    rows = facts()
    tasks, placements = fold_ledger(rows)
    put(tmp_path, TASKS, tasks)
    put(tmp_path, PLACEMENTS, placements)
    put(tmp_path, ACCOUNT, entries_table(AccountFold().fold(rows)))
    return tmp_path


def report(warehouse: Path, by: AccountBy, since: datetime = START, **more: Any) -> AccountReport:
    with TableReader(str(warehouse)) as reader:
        return account_report(reader, by, since, NOW, **more)


def sums(gpu_hours: float, usd: float, gb: float, egress: float, waited: float) -> dict[str, Any]:
    return {
        name: pytest.approx(value)
        for name, value in zip(
            ("gpu_hours", "usd", "egress_gb", "egress_usd", "waited_h"),
            (gpu_hours, usd, gb, egress, waited),
            strict=True,
        )
    }


def test_it_is_summed_by_tenant_region_task_and_day_with_what_is_open(accounted: Path) -> None:
    held, runs = sums(30, 360, 10, 0.9, 0), sums(6, 72, 0, 0, 0)
    assert report(accounted, AccountBy.REGION).rows == [
        {"region": "x", **held},
        {"region": "y", **runs},
        {"region": None, **sums(0, 0, 0, 0, 1 + 1 + 20)},
    ]
    assert report(accounted, AccountBy.TASK).rows == [
        {"task": "done", **sums(30, 360, 10, 0.9, 1)},
        {"task": "runs", **sums(6, 72, 0, 0, 1)},
        {"task": "waits", **sums(0, 0, 0, 0, 20)},
    ]
    assert report(accounted, AccountBy.TENANT).rows == [
        {"tenant": "a", **sums(30, 360, 10, 0.9, 1)},
        {"tenant": "b", **sums(6, 72, 0, 0, 21)},
    ]
    assert report(accounted, AccountBy.DAY).rows == [
        {"day": "2026-06-01", **sums(22, 11 * 24, 10, 0.9, 1 + 12)},
        {"day": "2026-06-02", **sums(8 + 6, 4 * 24 + 72, 0, 0, 1 + 8)},
    ]
    assert report(accounted, AccountBy.DAY).total == sums(36, 432, 10, 0.9, 22)
    assert report(accounted, AccountBy.TASK, tenant="a").total == sums(30, 360, 10, 0.9, 1)


def test_what_began_before_counts_from_then(accounted: Path) -> None:
    later = report(accounted, AccountBy.TASK, START + timedelta(hours=15)).rows
    assert later == [
        {"task": "runs", **sums(6, 72, 0, 0, 1)},
        {"task": "done", **sums(2, 24, 0, 0, 0)},
        {"task": "waits", **sums(0, 0, 0, 0, 5)},
    ]


def test_what_was_paid_to_move_data_for_a_task_that_runs_counts_once(tmp_path: Path) -> None:
    """In the day and the place where it began, and not at all where that lies before the report's time."""
    node = [{"node_id": "n", "workers": 1, "gpus": 1, "gpu_milli": 0, "devices": [0]}]
    data = [{"region": "far", "size_gb": 10}, {"region": "x", "size_gb": 5}]
    rows = pa.concat_tables(
        [
            ledger(submitted("runs", data=data), submitted("plain"), batch_id=0, at_s=0),
            ledger(
                assigned("runs", 1, "x", nodes=node, egress_usd=0.9),
                assigned("plain", 1, "x", nodes=node),
                batch_id=1,
                at_s=HOUR,
            ),
        ]
    )
    tasks, placements = fold_ledger(rows)
    for contract, table in ((TASKS, tasks), (PLACEMENTS, placements), (DECISIONS, rows)):
        put(tmp_path, contract, table)
    put(tmp_path, ACCOUNT, entries_table(AccountFold().fold(rows)))
    by_day = report(tmp_path, AccountBy.DAY).rows
    assert [(row["egress_gb"], row["egress_usd"]) for row in by_day] == [(10.0, 0.9), (0.0, 0.0)]
    assert report(tmp_path, AccountBy.REGION).total["egress_usd"] == pytest.approx(0.9)
    assert report(tmp_path, AccountBy.TASK, START + timedelta(hours=2)).total["egress_gb"] == 0


def test_the_command_prints_a_table_or_json(accounted: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    def run(*arguments: str) -> str:
        result = CliRunner().invoke(cli, ["account", *arguments])
        assert result.exit_code == 0, result.output
        return result.stdout

    since = ["--since", START.isoformat(), "--warehouse", str(accounted)]
    document = json.loads(run("--by", "task", "--json", *since))
    assert [row["task"] for row in document["rows"]][-1] in ("done", "runs", "waits")
    assert document["total"]["gpu_hours"] > 36
    lines = run("--by", "region", *since).splitlines()
    assert lines[0].split() == ["region", "GPU-hours", "USD", "egress", "GB", "egress", "USD", "waited", "h"]
    assert {line.split()[0] for line in lines[2:]} == {"x", "y", "(waiting)", "all"}
    assert "Nothing was held" in run("--warehouse", str(tmp_path_factory.mktemp("empty")))
    for wrong in (["--since", "3"], ["--as-of", "1h ago"], ["--by", "colour"]):
        assert CliRunner().invoke(cli, ["account", *wrong, "--warehouse", str(accounted)]).exit_code == 2
    assert datetime.now(UTC) > NOW
