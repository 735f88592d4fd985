import json
from pathlib import Path

from click.testing import CliRunner

from tests.unit.jobs.replication.test_replicator import Stage, put
from thalweg.cli.sync_command import sync, sync_sim
from thalweg.sync.protocol.changes import Assign


def test_sync_shows_every_region_with_its_gaps_conflicts_and_refusals(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    eu, us = stage.join("eu"), stage.join("us")
    put(eu, "k", Assign("f", 1))
    put(us, "k", Assign("f", 2))
    stage.exchange(eu, us)
    put(eu, "lost", Assign("f", 1))
    eu.outgoing()
    put(eu, "kept", Assign("f", 1))
    stage.exchange(eu)
    stage.take(stage.inputs("us", [b"nonsense"]))
    answer = CliRunner().invoke(sync, ["--warehouse", str(tmp_path), "--json"])
    assert answer.exit_code == 0, answer.output
    document = json.loads(answer.output)
    by_region = {row["region"]: row for row in document["regions"]}
    assert by_region["eu"]["gaps_open"] == 1 and by_region["us"]["refused"] == 1
    assert by_region["eu"]["conflicts"] == by_region["us"]["conflicts"] == 1
    assert document["newest_conflicts"][0]["key"] == "k" and document["newest_refusals"][0]["reason"]
    assert document["totals"] == {"records": 2, "tombstones": 0, "conflicts": 1, "gaps_open": 1}
    shown = CliRunner().invoke(sync, ["--warehouse", str(tmp_path)])
    assert shown.exit_code == 0 and "Open gaps" in shown.output and "2 records" in shown.output


def test_sync_writes_a_snapshot(tmp_path: Path) -> None:
    stage = Stage(tmp_path / "warehouse")
    stage.exchange(stage.join("eu"))
    arguments = ["--warehouse", str(tmp_path / "warehouse"), "--snapshot", str(tmp_path / "s.gz"), "--json"]
    answer = CliRunner().invoke(sync, arguments)
    assert answer.exit_code == 0 and json.loads(answer.output)["bytes"] == (tmp_path / "s.gz").stat().st_size


def test_sync_without_tables_has_nothing_to_show_and_no_snapshot(tmp_path: Path) -> None:
    assert json.loads(CliRunner().invoke(sync, ["--warehouse", str(tmp_path), "--json"]).output)["regions"] == []
    answer = CliRunner().invoke(sync, ["--warehouse", str(tmp_path), "--snapshot", str(tmp_path / "s.gz")])
    assert answer.exit_code == 1


def test_sync_sim_ends_with_0_when_all_is_well_and_records_the_run(tmp_path: Path) -> None:
    arguments = ["--histories", "20", "--seed", "3", "--json", "--record", str(tmp_path / "run.json")]
    answer = CliRunner().invoke(sync_sim, arguments)
    assert answer.exit_code == 0, answer.output
    document = json.loads(answer.output)
    assert (document["histories"], document["seed"], document["failed"]) == (20, 3, 0)
    assert json.loads((tmp_path / "run.json").read_text()) == document


def test_sync_sim_goes_on_where_its_record_stopped(tmp_path: Path) -> None:
    arguments = ["--histories", "20", "--record", str(tmp_path / "run.json"), "--at-most", "12", "--json"]
    done = [json.loads(CliRunner().invoke(sync_sim, arguments).output)["done"] for _ in range(3)]
    assert done == [12, 20, 20]
    other = CliRunner().invoke(sync_sim, ["--histories", "21", "--record", str(tmp_path / "run.json")])
    assert other.exit_code == 2 and "name another file" in other.output
    assert CliRunner().invoke(sync_sim, ["--at-most", "3"]).exit_code == 2


def test_sync_sim_ends_with_1_and_prints_seed_trace_and_replay_when_a_history_fails() -> None:
    answer = CliRunner().invoke(sync_sim, ["--histories", "20", "--mutant", "forget-at-once"])
    assert answer.exit_code == 1
    assert "replay: thalweg sync-sim --histories 1 --seed" in answer.output and "write" in answer.output


def test_sync_sim_refuses_an_unknown_mutant() -> None:
    assert CliRunner().invoke(sync_sim, ["--mutant", "nonsense"]).exit_code == 2
