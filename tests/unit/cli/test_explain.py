import json
import threading
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from click.testing import CliRunner

from tests.ledger_rows import START, assigned, happened, ledger, submitted
from tests.unit.cli.conftest import put
from thalweg.cli.main import cli
from thalweg.query.sql.query import TableReader
from thalweg.query.sql.reading_ahead import ReadingAhead
from thalweg.query.sql.sql_statement import QueryRefusedError
from thalweg.scheduling.explain.reasons import Explainer
from thalweg.sync.delta.contracts import DECISIONS, LINKS, NODES, PLACEMENTS, PRICES, RECORDS, TASKS, TASKS_ARCHIVE
from thalweg.sync.ledger.folds import fold_ledger

EAST, WEST, NORTH = "aws:us-east-1", "gcp:us-west1", "edge:north"
PRICE = {EAST: 3.0, WEST: 2.0, NORTH: 1.0}


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """EAST has eight A100, half taken by `busy`; WEST four, NORTH eight T4; all are linked.

    `placed` fills WEST, with 900 GB of data from EAST at 0.01 USD per GB.
    """
    needs = {"per_worker": {"gpus": 4, "gpu_models": ["A100"]}, "expected_s": 7_200}
    rows = ledger(
        submitted("busy", **needs),
        assigned("busy", 1, EAST, nodes=[share(EAST, 4)], cost_usd_per_hour=12.0),
        submitted("placed", **needs, data=[{"region": EAST, "size_gb": 900}]),
        assigned("placed", 1, WEST, nodes=[share(WEST, 4)], cost_usd_per_hour=8.0, compute_usd=16.0, egress_usd=9.0),
        happened("placed", "running", 1, region=WEST),
        submitted("large", per_worker={"gpus": 8, "gpu_models": ["A100"]}, expected_s=3_600),
        happened("large", "waiting", reason="capacity: it needs 8 GPUs in one pool"),
        submitted("foreign", per_worker={"gpus": 1, "gpu_models": ["H100"]}, allowed_regions=[EAST]),
        happened("foreign", "waiting", reason="gpu_model: no pool has one"),
        submitted("done", **needs),
        happened("done", "cancelled", reason="cancelled by request"),
    )
    put(tmp_path, DECISIONS, rows)
    for contract, table in zip((TASKS, PLACEMENTS), fold_ledger(rows), strict=True):
        put(tmp_path, contract, table)
    put(tmp_path, NODES, [
        {"region": region, "node_id": f"{region}-n", "gpu_model": model, "spot": False, "gpus": gpus, "cpus": 64.0,
         "memory_gb": 512.0, "state": "ready", "observed_at": START}
        for region, model, gpus in ((EAST, "A100", 8), (WEST, "A100", 4), (NORTH, "T4", 8))
    ])  # fmt: skip
    put(tmp_path, PRICES, [
        {"region": region, "gpu_model": model, "spot": False, "usd_per_gpu_hour": PRICE[region], "observed_at": START}
        for region, model in ((EAST, "A100"), (WEST, "A100"), (NORTH, "T4"))
    ])  # fmt: skip
    put(tmp_path, LINKS, [
        {"region": a, "dst_region": b, "rtt_ms": 10.0, "gbps": float("inf"), "usd_per_gb": 0.01, "observed_at": START}
        for a in PRICE for b in PRICE if a != b
    ])  # fmt: skip
    return tmp_path


def share(region: str, gpus: int) -> dict[str, Any]:
    return {"node_id": f"{region}-n", "workers": 1, "gpus": gpus, "gpu_milli": 0, "devices": list(range(gpus))}


def put_waiting(world: Path, task: str, **request: Any) -> None:
    rows = ledger(submitted(task, **request), happened(task, "waiting", reason="capacity: full"), batch_id=1)
    for contract, table in zip((DECISIONS, TASKS), (rows, fold_ledger(rows)[0]), strict=True):
        put(world, contract, table)


def explained(task: str, world: Path) -> Any:
    result = CliRunner().invoke(cli, ["explain", task, "--warehouse", str(world), "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def told(task: str, world: Path) -> str:
    result = CliRunner().invoke(cli, ["explain", task, "--warehouse", str(world)])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_placed_task_shows_its_cost_by_component_and_the_next_best_region(world: Path) -> None:
    found = explained("placed", world)
    (copy,) = found["placed"]
    assert (copy["region"], copy["state"], copy["cost_usd_per_hour"]) == (WEST, "running", 8.0)
    assert (copy["chosen_usd"]["compute_usd"], copy["chosen_usd"]["egress_usd"]) == (16.0, 9.0)
    # By hand: 4 GPUs x 2 h x 2 USD + 900 GB x 0.01 USD here; 4 x 2 x 3 and no egress in EAST.
    assert copy["here_now_usd"] == pytest.approx(25.0)
    assert copy["next_best"]["region"] == EAST
    assert copy["next_best"]["usd"] == pytest.approx(24.0)
    by_region = {option["region"]: option for option in copy["options"]}
    assert by_region[WEST]["egress_usd"] == pytest.approx(9.0)
    assert by_region[NORTH]["usd"] is None
    assert by_region[NORTH]["reason"].startswith(("gpu_model", "residency", "capacity"))
    text = told("placed", world)
    assert "Cost when decided: 25.00 USD (compute 16.00, egress 9.00)" in text
    assert f"Next best region: {EAST}, 24.00 USD: 1.00 USD less than here" in text


def test_the_history_lists_every_transition_in_order(world: Path) -> None:
    assert [row["transition"] for row in explained("placed", world)["history"]] == ["submitted", "assigned", "running"]


def test_a_task_that_waits_for_room_says_so_and_what_would_help(world: Path) -> None:
    waits = explained("large", world)["waits"]
    assert waits["recorded"] == "capacity: it needs 8 GPUs in one pool"
    assert waits["now"].startswith("capacity")
    changes = {remedy["change"]: remedy for remedy in waits["remedies"]}
    # 8 GPUs for an hour: at 1 USD on the T4 of NORTH, at 3 USD in EAST once the other four are free.
    assert changes["GPU model T4 accepted, too"]["regions"] == [NORTH]
    assert changes["GPU model T4 accepted, too"]["usd"] == pytest.approx(8.0)
    room = changes[f"4 GPUs more free on 1 node of {EAST}/A100/on-demand"]
    assert (room["regions"], room["usd"]) == ([EAST], pytest.approx(24.0))
    # The largest that fits now: four on what is left of EAST.
    assert changes["4 GPUs instead of 8"]["usd"] == pytest.approx(12.0)
    (urgent,) = [change for change in changes if change.startswith("priority")]
    assert urgent.endswith("1 of others would give way")
    start = waits["start"]
    assert 0.0 < start["p10_h"] <= start["p50_h"] <= start["p90_h"]
    text = told("large", world)
    assert "What would change it:\n  GPU model T4 accepted, too: edge:north for 8.00 USD" in text
    assert "Estimated start: in " in text


def test_a_gang_that_waits_for_room_is_told_how_many_of_its_workers_fit(world: Path) -> None:
    put_waiting(world, "gang", workers=6, per_worker={"gpus": 1, "gpu_models": ["A100"]}, expected_s=3_600)
    changes = {remedy["change"]: remedy for remedy in explained("gang", world)["waits"]["remedies"]}
    # On the four that `busy` leaves of EAST: the same six GPU-hours at 3 USD, and longer.
    assert changes["4 workers instead of 6"]["regions"] == [EAST]
    assert changes["4 workers instead of 6"]["usd"] == pytest.approx(18.0)
    assert not [change for change in changes if change.endswith("instead of 6") and not change.startswith("4 workers")]


def test_what_no_node_has_is_not_tried_gpu_by_gpu(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_waiting(world, "huge", per_worker={"gpus": 512, "gpu_models": ["A100"]}, expected_s=3_600)
    tried: list[int] = []
    place = Explainer.place

    def counted(self: Explainer, spec: Any, *rest: Any) -> Any:
        tried.append(spec.gpus)
        return place(self, spec, *rest)

    monkeypatch.setattr(Explainer, "place", counted)
    changes = {remedy["change"] for remedy in explained("huge", world)["waits"]["remedies"]}
    assert "4 GPUs instead of 512" in changes
    assert max(gpus for gpus in tried if gpus < 512) == 8, "the T4 of NORTH are the most that are free on one node"


def test_a_child_is_told_whom_it_waits_for_and_who_is_not_there_yet(world: Path) -> None:
    archived = ledger(submitted("archived"), happened("archived", "cancelled"))
    put(world, TASKS_ARCHIVE, [row | {"archived_at": START} for row in fold_ledger(archived)[0].to_pylist()])
    ended = [{"task_id": name, "on": "end"} for name in ("archived", "done")]
    put_waiting(world, "child", after=["large", "nobody", *ended])
    now = explained("child", world)["waits"]["now"]
    assert now == "parents: waits for large, which is waiting; nobody, which nobody has submitted yet"


def test_a_task_that_asks_for_what_is_nowhere_is_told_what_there_is(world: Path) -> None:
    waits = explained("foreign", world)["waits"]
    assert waits["now"].startswith("gpu_model")
    assert [remedy["change"] for remedy in waits["remedies"]] == ["GPU model A100 accepted, too"]
    assert waits["start"] == {"p10_h": None, "p50_h": None, "p90_h": None}
    assert "Estimated start: never, as things stand" in told("foreign", world)
    assert {o["region"]: o["reason"].partition(":")[0] for o in waits["options"]} == {
        EAST: "gpu_model", WEST: "residency", NORTH: "residency",
    }  # fmt: skip


def test_an_ended_task_has_its_reason_and_history(world: Path) -> None:
    found = explained("done", world)
    assert (found["placed"], found["waits"]) == ([], None)
    assert "Reason: cancelled by request" in told("done", world)


def test_a_region_that_fell_silent_is_no_option(world: Path) -> None:
    later = pa.Table.from_pylist(
        [{"region": EAST, "node_id": "late", "gpus": 0, "state": "ready",
          "observed_at": START.replace(hour=START.hour + 1)}], schema=NODES.schema,
    )  # fmt: skip
    put(world, NODES, later)
    by_region = {option["region"]: option for option in explained("placed", world)["placed"][0]["options"]}
    assert by_region[WEST]["usd"] is None
    assert by_region[NORTH]["usd"] is None


def test_named_data_costs_egress_where_it_does_not_lie(world: Path) -> None:
    put_waiting(world, "reader", per_worker={"gpus": 1, "gpu_models": ["A100", "T4"]}, data=[{"dataset": "images"}])
    put(world, RECORDS, [{"key": "dataset/images", "value": json.dumps({"copies": [EAST], "size_gb": 500})}])
    options = {option["region"]: option for option in explained("reader", world)["waits"]["options"]}
    # By hand: 500 GB x 0.01 USD a GB to NORTH; it lies in EAST; WEST is full.
    assert (options[EAST]["egress_usd"], options[NORTH]["egress_usd"]) == (0.0, pytest.approx(5.0))


def test_what_is_read_ahead_is_not_read_again(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[bool, str]] = []
    ask = TableReader.ask

    def told(self: TableReader, statement: str, max_rows: int | None = None) -> Any:
        asked.append((threading.current_thread() is threading.main_thread(), statement))
        return ask(self, statement, max_rows)

    monkeypatch.setattr(TableReader, "ask", told)
    for task in ("placed", "large"):
        asked.clear()
        explained(task, world)
        assert not any(is_main for is_main, _ in asked), "all is read beside the loading"
        assert len(asked) == len({statement for _, statement in asked}) == 10


def test_what_fails_beside_fails_where_it_is_wanted(tmp_path: Path) -> None:
    with TableReader(str(tmp_path)) as reader:
        ahead = ReadingAhead(reader, ("SELECT nothing FROM tasks", "SELECT task_id FROM tasks"))
        with pytest.raises(QueryRefusedError, match="no column"):
            ahead.ask("SELECT nothing FROM tasks")
        assert ahead.ask("SELECT task_id FROM tasks").dicts() == []


def test_what_nobody_wants_any_more_is_not_read(world: Path) -> None:
    with TableReader(str(world)) as reader:
        statements = [f"SELECT {number} AS number FROM tasks LIMIT 1" for number in range(40)]
        ahead = ReadingAhead(reader, statements)
        ahead.close()
        # Who asks all the same is answered.
        assert [ahead.ask(statement).dicts()[0]["number"] for statement in statements] == list(range(40))


def test_an_unknown_task_and_a_version_end_with_2(world: Path) -> None:
    for arguments, words in ((["nobody"], "no task 'nobody'"), (["placed", "--as-of", "3"], "give a time")):
        result = CliRunner().invoke(cli, ["explain", *arguments, "--warehouse", str(world)])
        assert result.exit_code == 2
        assert words in result.stderr


def test_what_an_hours_delay_costs_is_told_with_where_the_figure_comes_from(world: Path) -> None:
    assert "An hour's delay of it costs 16.00 USD: 2.00 USD for each of its 8 GPUs, at priority 500" in told(
        "large", world
    )
    put_waiting(world, "given", per_worker={"gpus": 8, "gpu_models": ["A100"]}, value_usd_per_hour=99.5)
    assert "An hour's delay of it costs 99.50 USD: its request says so" in told("given", world)
    put_waiting(world, "due", per_worker={"gpu_milli": 500}, priority=600, expected_s=60, deadline=1_000_000_000_000)
    words = told("due", world)
    assert "costs 4.00 USD: 4.00 USD as for one GPU, at priority 600; now 64.00 USD, 16.0 times as much" in words
    put_waiting(world, "child", after=["placed"])
    assert "An hour's delay of it costs 2.00 USD: 2.00 USD as for one GPU" in told("child", world)
    assert explained("placed", world)["value"]["usd_per_hour"] == 8.0
    assert explained("done", world)["value"] is None
    put_waiting(world, "many", array={"count": 3})
    assert explained("many", world)["value"] is None
