"""`thalweg quality`: what is stored, judged by the rules of the site."""

import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from click.testing import CliRunner, Result

from thalweg.cli.main import cli
from thalweg.conf.environment import TELEMETRY_RULES
from thalweg.conf.settings import ObserveSettings
from thalweg.streams.telemetry.rules import site_rules
from thalweg.sync.delta.appender import Appender
from thalweg.sync.delta.contracts import TELEMETRY

NOW_MS = 1_790_000_000_000


def store(warehouse: Path, *samples: dict[str, Any]) -> None:
    whole = {"day": 0, "kind": "node", "node_id": "n", "region": "r", "stamp_ms": 1, "observed_at": 1_000}
    whole |= {"stamp_counter": 0, "stamp_region": "r", "version": 0, "received_at": 0}
    writer = Appender(TELEMETRY, str(warehouse))
    for number, sample in enumerate(samples):
        writer.commit(writer.write(pa.Table.from_pylist([whole | sample], schema=TELEMETRY.schema), NOW_MS + number))


def run(warehouse: Path, *arguments: str) -> Result:
    return CliRunner().invoke(cli, ["quality", "--warehouse", str(warehouse), *arguments])


def breaking(result: Result) -> dict[str, int]:
    document = json.loads(result.stdout)
    return {one["rule"]: one["breaking"] for one in document["rules"] if one["breaking"]}


@pytest.fixture
def site_rules_file(tmp_path: Path) -> str:
    path = tmp_path / "rules.yaml"
    path.write_text("rules: [{name: small_nodes, field: gpus, min: 0, max: 4}]")
    return f"observe.rules={path}"


def test_sound_rows_break_no_rule_and_every_rule_is_named(tmp_path: Path) -> None:
    store(tmp_path, {"gpus": 8}, {"gpus": 4})
    result = run(tmp_path, "--json")
    document = json.loads(result.stdout)
    assert (result.exit_code, document["rows"], document["ok"], breaking(result)) == (0, 2, True, {})
    named = {one["rule"] for one in document["rules"]} | set(document["not_stored"])
    assert named == {rule.name for rule in site_rules(ObserveSettings())}


def test_rows_that_break_a_rule_are_counted_under_its_name_and_the_exit_code_says_so(tmp_path: Path) -> None:
    store(tmp_path, {"gpus": -5}, {"gpus": 8, "cpu_utilisation": 7.0}, {"gpus": -1})
    result = run(tmp_path, "--json")
    assert (result.exit_code, breaking(result)) == (1, {"gpus_in_range": 2, "cpu_utilisation_is_a_share": 1})
    table = run(tmp_path)
    assert table.exit_code == 1
    assert re.search(r"gpus_in_range +gpus +0 to 1024 +2\n", table.stdout)


def test_the_newest_rows_are_judged_whatever_the_files(tmp_path: Path) -> None:
    store(tmp_path, {"gpus": -5}, {"gpus": 8}, {"gpus": 8})
    assert run(tmp_path, "--rows", "2").exit_code == 0
    assert run(tmp_path, "--rows", "3").exit_code == 1


def test_a_site_has_its_own_rules(tmp_path: Path, site_rules_file: str) -> None:
    store(tmp_path, {"gpus": 8}, {"gpus": 4})
    result = run(tmp_path, "--json", "--set", site_rules_file)
    assert (result.exit_code, breaking(result)) == (1, {"small_nodes": 1})


def test_the_librarys_page_names_what_was_judged(tmp_path: Path) -> None:
    store(tmp_path, {"gpus": 8})
    assert run(tmp_path, "--html", str(tmp_path / "report")).exit_code == 0
    assert "gpu_utilisation" not in (tmp_path / "report" / "index.html").read_text(), "nothing stored to judge"
    assert "gpus" in (tmp_path / "report" / "index.html").read_text()


def test_no_rows_break_nothing_and_no_warehouse_is_said(tmp_path: Path) -> None:
    assert json.loads(run(tmp_path, "--json").stdout)["rows"] == 0
    assert "there is no warehouse" in run(tmp_path / "nowhere").stderr


@pytest.mark.parametrize("text", ["rules: 7", "rules: [{name: a, field: nope}]"])
def test_a_wrong_rule_file_is_a_wrong_call(tmp_path: Path, text: str) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(text)
    result = run(tmp_path, "--set", f"observe.rules={path}")
    assert result.exit_code == 2
    assert str(path) in result.stderr


def test_a_site_may_change_any_bound_of_the_shipped_file(tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(re.sub(r"max: 1024", "max: 2048", TELEMETRY_RULES.read_text()))
    (changed,) = [rule for rule in site_rules(ObserveSettings(rules=str(path))) if rule.name == "gpus_in_range"]
    assert changed.max == 2_048
