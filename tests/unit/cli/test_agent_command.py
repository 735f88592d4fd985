from pathlib import Path

import pytest
from click.testing import CliRunner

from thalweg.agent.store import AgentStore
from thalweg.cli.agent_command import _process_runner, _rounds, _tables
from thalweg.cli.main import cli
from thalweg.conf.settings import AgentSettings, FederateSettings, KafkaSettings, Settings, WarehouseSettings


def test_a_store_with_credentials_in_its_address_is_refused_before_anything_is_connected(tmp_path: Path) -> None:
    command = ["agent", "--region", "aws:us-east-1", "--runner", "process", "--state", str(tmp_path / "state")]
    setting = ["--bootstrap", "127.0.0.1:1", "--set", "agent.artefacts=s3://KEY:SECRET@bucket"]
    refused = CliRunner().invoke(cli, [*command, *setting])
    assert refused.exit_code == 2
    assert "agent.artefacts holds credentials" in refused.stderr
    assert "SECRET" not in refused.output
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize("words", ["time limit", "memory", "cores"])
def test_help_says_what_is_enforced(words: str) -> None:
    assert words in CliRunner().invoke(cli, ["agent", "--help"]).stdout


def test_settings_in_their_units_reach_the_runner(tmp_path: Path) -> None:
    runner = _process_runner(AgentSettings(log_mb=2, keep_runs=3, keep_runs_s=4, keep_runs_mb=5), tmp_path, "/tables")
    kept = runner.retention
    assert (runner.log_bytes, kept.runs, kept.seconds, kept.size_bytes) == (2_000_000, 3, 4, 5_000_000)
    assert runner.warehouse == "/tables"


def test_tasks_are_told_where_the_tables_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THALWEG_STATE", str(tmp_path))
    monkeypatch.chdir(tmp_path)

    def told(path: str) -> str:
        return _tables(Settings(warehouse=WarehouseSettings(path=path)))

    assert _tables(Settings()) == str(tmp_path / "warehouse")
    assert told("elsewhere") == str(tmp_path / "elsewhere")
    assert told("s3://bucket/tables") == "s3://bucket/tables"
    assert told("s3://KEY:SECRET@bucket/tables") == ""


def test_participants_are_told_where_rounds_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = Settings(kafka=KafkaSettings(bootstrap_servers="b:1", sasl_username="agent", ssl_cafile="ca.pem"))
    told = _rounds(settings, "/state/warehouse")
    assert told == {
        "THALWEG_KAFKA__BOOTSTRAP_SERVERS": "b:1",
        "THALWEG_KAFKA__TOPIC_PREFIX": "thalweg",
        "THALWEG_KAFKA__SECURITY_PROTOCOL": "PLAINTEXT",
        "THALWEG_KAFKA__SSL_CAFILE": str(tmp_path / "ca.pem"),
        "THALWEG_FEDERATE__PAYLOADS": "/state/payloads",
    }

    def payloads(named: str, tables: str = "/state/warehouse") -> str | None:
        said = _rounds(settings.model_copy(update={"federate": FederateSettings(payloads=named)}), tables)
        return said.get("THALWEG_FEDERATE__PAYLOADS")

    assert payloads("elsewhere") == str(tmp_path / "elsewhere")
    assert payloads("s3://bucket/p", "") == "s3://bucket/p"
    assert payloads("s3://KEY:SECRET@bucket/p") is None
    assert payloads(FederateSettings().payloads, "s3://bucket/tables") == "s3://bucket/payloads"


def test_a_damaged_file_ends_the_agent_in_words_before_anything_is_connected(tmp_path: Path) -> None:
    AgentStore(tmp_path).close()
    file = tmp_path / "agent.sqlite"
    file.write_bytes(file.read_bytes()[:4096] + b"\xff" * 8192)
    refused = CliRunner().invoke(
        cli, ["agent", "--region", "aws:us-east-1", "--state", str(tmp_path), "--bootstrap", "127.0.0.1:1"]
    )
    assert refused.exit_code == 1
    assert "Move the file away and start again" in refused.stderr
    assert "Traceback" not in refused.output
