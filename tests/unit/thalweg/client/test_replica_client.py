"""A region's live replica without a broker: its thread, and writes together."""

import time
from pathlib import Path

import pytest

from thalweg.client.replica_client import ReplicaClient
from thalweg.conf.settings import KafkaSettings
from thalweg.sync.protocol.changes import Assign, ChangeRefusedError
from thalweg.sync.protocol.entries import RegionEntry

NOW = 1_700_000_000_000


@pytest.fixture
def client(tmp_path: Path) -> ReplicaClient:
    made = ReplicaClient("eu", tmp_path / "eu.sqlite", KafkaSettings())
    replica = made._replica
    epoch = replica.join(NOW).epoch
    replica.apply([RegionEntry(region="eu", epoch=epoch, contiguous=0, centre_ms=NOW)], 1, NOW)
    return made


@pytest.mark.parametrize("trouble", [ValueError("an entry of tomorrow"), KeyError("k"), MemoryError("little memory")])
def test_nothing_that_is_raised_ends_the_thread_silently(
    client: ReplicaClient, monkeypatch: pytest.MonkeyPatch, trouble: Exception
) -> None:
    tried: list[float] = []

    def fail(*_: object) -> None:
        tried.append(time.monotonic())
        raise trouble

    monkeypatch.setattr("thalweg.client.replica_client.ensure_topics", fail)
    monkeypatch.setattr(client._stop, "wait", lambda _: time.sleep(0.01))
    client.start()
    deadline = time.monotonic() + 10
    while len(tried) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(tried) >= 3, "it tries again"
    assert str(trouble.args[0]) in (client.lag().trouble or "")
    client.put("k", Assign("f", 1))
    client.close()


def test_writes_together_that_fail_leave_no_gap(client: ReplicaClient) -> None:
    client.put("a", Assign("x", 1))
    with pytest.raises(ValueError, match="own mistake"), client.together():
        client.put("b", Assign("x", 1))
        raise ValueError("the application's own mistake")
    client.put("d", Assign("x", 1))
    assert client.keys() == ["a", "d"]
    assert client.lag().waiting == 2 == len(client._store.unconfirmed(0, 9))
    client.close()


@pytest.mark.parametrize("value", [float("nan"), {"a": [1.0, float("inf")]}])
def test_a_number_that_json_cannot_write_is_no_value(client: ReplicaClient, value: object) -> None:
    with pytest.raises(ChangeRefusedError, match=r"field price.*: allowed are finite numbers"):
        client.put("k", Assign("price", value))
    assert client.keys() == []
    client.close()


def test_every_opening_of_a_file_is_another(tmp_path: Path) -> None:
    tokens = set()
    for _ in range(3):
        client = ReplicaClient("eu", tmp_path / "eu.sqlite", KafkaSettings())
        tokens.add(client._replica.heartbeat(NOW).openings[-1].token)
        client.close()
    assert len(tokens) == 3 and 0 not in tokens
