"""No command works on a cluster that nobody named: not the one on Kafka's own port, and not another stack's."""

import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from thalweg.agent.store import AgentStore
from thalweg.cli import agent_command
from thalweg.cli.main import cli
from thalweg.client.client import Client
from thalweg.conf.settings import KafkaSettings, Settings, load_settings
from thalweg.processes.identity import ProcessIdentity
from thalweg.stack.connection import NoBrokerError, with_broker
from thalweg.stack.state import StateFolder
from thalweg.streams.broker.errors import FenceError


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith("THALWEG_KAFKA")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("THALWEG_STATE", str(tmp_path / "state"))
    return tmp_path / "state"


def record_broker(folder: StateFolder, state: str) -> None:
    own = ProcessIdentity.own()
    broker = {"name": "broker", "state": state, "pid": own.pid, "started": own.started, "ports": {"kafka": 20_321}}
    folder.write_stack({"supervisor": {"pid": own.pid, "started": own.started}, "processes": [broker]})


@pytest.mark.parametrize(
    "command",
    [("submit", "--gpus", "1"), ("cancel", "train-1"), ("agent", "--region", "aws:us-east-1")],
    ids=lambda command: command[0],
)
def test_without_a_stack_and_a_name_a_command_says_so_and_connects_nowhere(
    state: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    def connects(*_: object, **__: object) -> None:
        raise AssertionError("connected to a broker that nobody named")

    monkeypatch.setattr("thalweg.cli.reach.broker_calls.Client", connects)
    monkeypatch.setattr("thalweg.cli.agent_command.run_agent", connects)
    result = CliRunner().invoke(cli, command)
    assert result.exit_code == 2, result.output
    assert f"no stack runs here (state folder {state})" in result.output
    assert "thalweg up" in result.output
    assert "--bootstrap HOST:PORT" in result.output


def test_a_client_without_a_name_means_the_stack_here_or_nobody(state: Path) -> None:
    with pytest.raises(NoBrokerError, match="no stack runs here"):
        Client()


def test_whoever_is_named_is_meant_even_at_the_default_address(state: Path) -> None:
    default = KafkaSettings().bootstrap_servers
    for settings in (
        load_settings(overrides=[f"kafka.bootstrap_servers={default}"]),
        load_settings(environment={"THALWEG_KAFKA__BOOTSTRAP_SERVERS": default}),
    ):
        assert with_broker(settings).kafka.bootstrap_servers == default
    with pytest.raises(NoBrokerError):
        with_broker(Settings())


def test_bootstrap_on_the_command_line_names_a_broker(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr("thalweg.cli.agent_command.run_agent", lambda *_, settings, **__: seen.append(settings))
    result = CliRunner().invoke(cli, ["agent", "--region", "aws:us-east-1", "--bootstrap", "broker-7:9092"])
    assert result.exit_code == 0, result.output
    assert seen[0].kafka.bootstrap_servers == "broker-7:9092"


def test_a_broker_that_is_not_ready_yet_is_not_ours_to_use(state: Path) -> None:
    folder = StateFolder(state)
    with folder.held():
        record_broker(folder, "starting")
        with pytest.raises(NoBrokerError, match=r"runs, but its broker is not ready: thalweg ps"):
            with_broker(Settings())
        record_broker(folder, "ready")
        assert with_broker(Settings()).kafka.bootstrap_servers == "127.0.0.1:20321"


def test_an_agent_looks_whose_cluster_it_is_before_it_makes_a_topic(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[object] = []
    monkeypatch.setattr(agent_command, "cluster_id", lambda _: "another's")
    monkeypatch.setattr(agent_command, "ensure_topics", lambda *topics: made.append(topics))
    store = AgentStore(tmp_path)
    store.fence.bind({"cluster": "ours", "topic prefix": "thalweg"})
    with pytest.raises(FenceError, match=r"belongs to cluster 'ours', here cluster is .another's"):
        agent_command._connect(KafkaSettings(), ["lab"], ["thalweg.assignments.lab"], store)
    assert made == []
    store.close()


def test_a_job_names_its_broker_too(monkeypatch: pytest.MonkeyPatch) -> None:
    from thalweg.jobs.runtime.job import job_main

    monkeypatch.delenv("THALWEG_KAFKA__BOOTSTRAP_SERVERS", raising=False)
    monkeypatch.setattr("sys.argv", ["job"])
    with pytest.raises(SystemExit) as ended:
        job_main(lambda _: pytest.fail("ran without a broker"), "")
    assert ended.value.code == 2
