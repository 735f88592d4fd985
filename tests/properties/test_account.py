"""What is booked is what was held and waited, moment by moment; cut, killed and folded again, it is the same."""

from collections import defaultdict
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pytest
from deltalake import DeltaTable
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.ledger_rows import START, assigned, happened, ledger, submitted
from thalweg.jobs.accounting.account import AccountKeeper
from thalweg.jobs.runtime.job import Stop
from thalweg.sync.delta.appender import Appender
from thalweg.sync.delta.contracts import ACCOUNT, DECISIONS
from thalweg.sync.ledger.account_fold import AccountEntry, AccountFold, days_of
from thalweg.sync.ledger.folds import LedgerFold

IDS = ("a", "b", "c")
task_ids = st.sampled_from(IDS)
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
    "repaired",
]


def taken(task_id: str, epoch: int, copy: int, region: str, gpus: int) -> dict[str, object]:
    node = {"node_id": "n", "workers": 1, "gpus": gpus - 1, "gpu_milli": 1_000, "devices": []}
    return assigned(task_id, epoch, region, copy=copy, nodes=[node], cost_usd_per_hour=3.0 * gpus, egress_usd=1.0)


facts = st.one_of(
    st.builds(
        lambda task_id, replicas, gb: submitted(
            task_id, replicas=replicas, tenant=f"of {task_id}", data=[{"region": "x", "size_gb": gb}]
        ),
        task_ids, st.integers(1, 2), st.integers(0, 3),
    ),
    st.builds(taken, task_ids, st.integers(0, 4), st.integers(0, 1), st.sampled_from("xyz"), st.integers(1, 8)),
    st.builds(
        lambda t, w, e, c, reason: happened(t, w, e, copy=c, reason=reason),
        task_ids, st.sampled_from(others), st.integers(0, 4), st.integers(0, 1), st.sampled_from([None, "gave up"]),
    ),
)  # fmt: skip


@st.composite
def ledgers(draw: st.DrawFn) -> list[pa.Table]:
    """Batches hours apart, across midnights; at the end every task is cancelled, so that every stretch ends."""
    batches = draw(st.lists(st.lists(facts, min_size=1, max_size=6), min_size=1, max_size=12))
    at_s, made = 0.0, []
    for number, batch in enumerate([*batches, [happened(task_id, "cancelled", 9) for task_id in IDS]]):
        at_s += draw(st.sampled_from([0.0, 0.25, 3_600.0, 20_000.0, 200_000.0]))
        made.append(ledger(*batch, batch_id=number, at_s=at_s))
    return made


Sums = dict[tuple[str, date, str, str | None], tuple[float, ...]]


def summed(entries: list[AccountEntry]) -> Sums:
    sums: dict[tuple[str, date, str, str | None], list[float]] = defaultdict(lambda: [0.0] * 5)
    for entry in entries:
        key = (entry.kind, date(1970, 1, 1) + timedelta(days=entry.day), entry.task_id, entry.region)
        for place, value in enumerate((entry.hours, entry.gpu_hours, entry.usd, entry.egress_gb, entry.egress_usd)):
            sums[key][place] += value
    return {key: tuple(values) for key, values in sums.items() if any(values)}


def lived_through(batches: list[pa.Table]) -> Sums:
    """Go from row to row, and add up what the tables of that moment hold until the next row."""
    sums: dict[tuple[str, date, str, str | None], list[float]] = defaultdict(lambda: [0.0] * 5)
    fold, waiting, held = LedgerFold(), set[str](), dict[tuple[str, int], tuple[str, float]]()
    before: datetime | None = None
    for row in [batch.slice(index, 1) for batch in batches for index in range(batch.num_rows)]:
        (fact,) = row.to_pylist()
        while before is not None and before < fact["decided_at"]:
            midnight = datetime(before.year, before.month, before.day, tzinfo=UTC) + timedelta(days=1)
            until = min(midnight, fact["decided_at"])
            hours = (until - before).total_seconds() / 3_600
            for task_id in waiting:
                sums["waited", before.date(), task_id, None][0] += hours
            for (task_id, _), (region, gpus) in held.items():
                for place, value in enumerate((1.0, gpus, 3.0 * gpus)):
                    sums["held", before.date(), task_id, region][place] += hours * value
            before = until
        before = fact["decided_at"]
        changes = fold.fold(row)
        for task in changes.tasks.to_pylist():
            (waiting.add if task["state"] == "waiting" else waiting.discard)(task["task_id"])
        for gone in changes.released.to_pylist():
            held.pop((gone["task_id"], gone["copy"]), None)
        for copy in changes.placements.to_pylist():
            if copy["state"] == "succeeded":
                held.pop((copy["task_id"], copy["copy"]), None)
                continue
            gpus = sum(node["gpus"] + node["gpu_milli"] / 1_000 for node in copy["nodes"])
            held[copy["task_id"], copy["copy"]] = copy["region"], gpus
            if fact["transition"] == "assigned":
                size = next((d["size_gb"] for d in eval_data(fold, copy["task_id"])), 0.0)
                booked = sums["held", before.date(), copy["task_id"], copy["region"]]
                booked[3] += size if copy["region"] != "x" else 0.0
                booked[4] += 1.0
    return {key: tuple(values) for key, values in sums.items() if any(values)}


def eval_data(fold: LedgerFold, task_id: str) -> list[dict[str, float]]:
    import json

    (request,) = [row["request"] for row in fold.all_live().tasks.to_pylist() if row["task_id"] == task_id]
    data: list[dict[str, float]] = json.loads(request)["data"]
    return data


@settings(max_examples=200, deadline=None)
@given(batches=ledgers())
def test_what_is_booked_is_what_was_held_and_waited_from_moment_to_moment(batches: list[pa.Table]) -> None:
    booked, lived = summed(AccountFold().fold(pa.concat_tables(batches))), lived_through(batches)
    assert booked.keys() == lived.keys()
    for key, values in lived.items():
        assert booked[key] == pytest.approx(values), key


@settings(max_examples=100, deadline=None)
@given(batches=ledgers(), cuts=st.lists(st.integers(0, 60)), overlap=st.integers(0, 3))
def test_piece_by_piece_with_rows_that_come_again_the_entries_are_the_same(
    batches: list[pa.Table], cuts: list[int], overlap: int
) -> None:
    rows = pa.concat_tables(batches)
    fold, entries, start = AccountFold(), [], 0
    for end in [*sorted(cuts), rows.num_rows]:
        first = max(0, start - overlap)
        entries += fold.fold(rows.slice(first, max(0, end - first)))
        start = max(start, min(end, rows.num_rows))
    assert entries == AccountFold().fold(rows)


def test_a_stretch_over_midnights_is_cut_there() -> None:
    day = 86_400_000_000
    assert list(days_of(day // 2, 2 * day + 1)) == [(0, day // 2, day), (1, day, 2 * day), (2, 2 * day, 2 * day + 1)]
    assert list(days_of(0, day)) == [(0, 0, day)]  # what ends at midnight has nothing of the next day
    assert list(days_of(day, day)) == [(1, day, day)]
    assert list(days_of(day, 0)) == [(1, day, day)]  # a clock set back


def stored(warehouse: str) -> list[dict[str, object]]:
    rows = DeltaTable(f"{warehouse}/account").to_pyarrow_table().to_pylist()
    return sorted(rows, key=lambda row: tuple(str(row[name]) for name in ACCOUNT.key))


@settings(max_examples=15, deadline=None)
@given(batches=ledgers(), kills=st.lists(st.sampled_from(["kill", "fail", "look"]), max_size=12))
def test_a_keeper_that_is_killed_and_begins_again_books_everything_once(
    batches: list[pa.Table], kills: list[str]
) -> None:
    with TemporaryDirectory() as folder:
        decisions = Appender(DECISIONS, folder)
        keeper = new_keeper(folder)
        for number, batch in enumerate(batches):
            decisions.commit(decisions.write(batch, number))
            match kills[number % len(kills)] if kills else "look":
                case "kill":
                    keeper = new_keeper(folder)
                case "fail":
                    fails_to_write(keeper)
                case "look":
                    keeper.step()
        keeper.step()
        assert keeper.step() == 0
        assert new_keeper(folder).step() == 0
        booked = stored(folder)
        whole = AccountFold().fold(pa.concat_tables(batches))
        assert len(booked) == len(whole)
        assert sum(row["usd"] for row in booked) == pytest.approx(sum(entry.usd for entry in whole))  # type: ignore[misc]
        assert len({tuple(row[name] for name in ACCOUNT.key) for row in booked}) == len(booked)


def new_keeper(folder: str) -> AccountKeeper:
    return AccountKeeper(folder, lambda: 1_780_000_000_000, Stop())


def fails_to_write(keeper: AccountKeeper) -> None:
    """Let the disk be full once."""
    table = keeper._table
    if table is None:
        keeper.step()
        return
    write, table.write = table.write, refuse  # type: ignore[method-assign]
    try:
        keeper.step()
    except OSError:
        pass
    finally:
        table.write = write  # type: ignore[method-assign]


def refuse(rows: pa.Table, now_ms: int) -> list[object]:
    raise OSError("no space left on device")


def test_a_ledger_that_was_made_anew_is_booked_from_its_beginning(tmp_path: Path) -> None:
    import shutil

    keeper = new_keeper(str(tmp_path))
    for _ in range(2):
        decisions = Appender(DECISIONS, str(tmp_path))
        decisions.commit(decisions.write(ledger(submitted("a"), batch_id=0), 0))
        decisions.commit(decisions.write(ledger(happened("a", "cancelled", 1), batch_id=1, at_s=3_600.0), 0))
        assert keeper.step() == 1
        shutil.rmtree(tmp_path / "decisions")
    assert [row["hours"] for row in stored(str(tmp_path))] == [1.0, 1.0]
    assert stored(str(tmp_path))[0]["ended_at"] == START + timedelta(hours=1)


def test_an_array_waits_by_its_elements() -> None:
    array = submitted("sweep", array={"count": 1})
    element = array | {"task_id": "sweep[0]"}
    ends = [happened("sweep[0]", "cancelled", 1), happened("sweep", "cancelled", 1)]
    rows = pa.concat_tables([ledger(array, element, batch_id=0, at_s=0.0), ledger(*ends, batch_id=1, at_s=3_600.0)])
    assert [(entry.task_id, entry.hours) for entry in AccountFold().fold(rows)] == [("sweep[0]", 1.0)]
