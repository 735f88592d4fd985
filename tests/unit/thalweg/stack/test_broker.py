"""What is decided before a broker starts: its id, its ports, its settings. The broker itself: tests/acceptance."""

import socket
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from thalweg.processes.children import NeverReadyError
from thalweg.processes.ports import FIRST_PORT, LAST_PORT, accepts_connections, free_port, is_free, keep, let_go
from thalweg.stack.broker import (
    BrokerDoor,
    BrokerPorts,
    Membership,
    answers,
    choose_ports,
    cluster_id,
    new_cluster_id,
    server_properties,
)
from thalweg.stack.state import StateFolder


def test_a_cluster_id_never_looks_like_an_option() -> None:
    draws = iter(uuid.UUID(bytes=first + bytes(15)) for first in (b"\xf8", b"\xfb", b"\0"))
    assert new_cluster_id(lambda: next(draws)) == "A" * 22


def test_settings_are_the_projects_and_what_was_chosen(tmp_path: Path) -> None:
    text = server_properties(BrokerPorts(clients=20001, controller=20002), tmp_path / "records")
    settings = dict(line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#"))
    assert settings["advertised.listeners"] == "LOCAL://127.0.0.1:20001"
    assert settings["controller.quorum.voters"] == "1@127.0.0.1:20002"
    assert settings["log.dirs"] == str(tmp_path / "records")
    assert settings["auto.create.topics.enable"] == "false"
    assert "0.0.0.0" not in text


def test_a_door_is_listened_at_and_told_by_its_other_address(tmp_path: Path) -> None:
    doors = [BrokerDoor(name="DOOR0", listens=20003, told=20004)]
    text = server_properties(BrokerPorts(clients=20001, controller=20002), tmp_path / "records", doors)
    settings = dict(line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#"))
    assert settings["advertised.listeners"] == "LOCAL://127.0.0.1:20001,DOOR0://127.0.0.1:20004"
    assert "DOOR0://127.0.0.1:20003" in settings["listeners"].split(",")
    assert "DOOR0:PLAINTEXT" in settings["listener.security.protocol.map"].split(",")


def test_one_of_several_names_them_all_and_keeps_copies_of_what_is_theirs(tmp_path: Path) -> None:
    member = Membership(number=2, controllers={1: 20002, 2: 20004, 3: 20006}, cluster="c")
    text = server_properties(BrokerPorts(clients=20003, controller=20004), tmp_path / "records", member=member)
    settings: dict[str, str] = {}  # the last word counts
    for line in text.splitlines():
        if "=" in line and not line.startswith("#"):
            name, _, value = line.partition("=")
            settings[name] = value
    assert settings["node.id"] == "2"
    assert settings["controller.quorum.voters"] == "1@127.0.0.1:20002,2@127.0.0.1:20004,3@127.0.0.1:20006"
    copied = [name for name in settings if name.endswith("replication.factor")]
    assert len(copied) == 4 and {settings[name] for name in copied} == {"3"}
    assert settings["transaction.state.log.min.isr"] == "2"


def test_a_preferred_port_is_taken_while_it_is_free() -> None:
    port = free_port()
    assert FIRST_PORT <= port < LAST_PORT
    assert free_port(preferred=port) == port
    assert free_port(preferred=port, taken=[port]) != port
    with socket.create_server(("127.0.0.1", port)):
        assert not is_free(port)
        assert accepts_connections(port)
        assert free_port(preferred=port) != port
    assert not accepts_connections(port)


def as_another_process_sees(port: int) -> bool:
    asked = f"from thalweg.processes.ports import is_free; print(is_free({port}))"
    told = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    return told.stdout.strip() == "True"


def test_a_port_that_is_kept_is_free_to_its_own_process_and_taken_to_others_while_nobody_listens() -> None:
    port = free_port()
    keep(port)
    keep(port)  # once more is no matter
    assert is_free(port)
    assert not as_another_process_sees(port)
    with socket.create_server(("127.0.0.1", port)):
        assert not is_free(port)
    assert free_port(preferred=port) == port
    let_go(port)
    let_go(port)
    assert as_another_process_sees(port)


def test_a_supervisor_keeps_the_ports_of_its_folder_and_lets_them_go(tmp_path: Path) -> None:
    folder, port = StateFolder(tmp_path), free_port()
    with folder.held():
        folder.remember_ports({"kafka": port})
        assert not as_another_process_sees(port)
    assert as_another_process_sees(port)
    folder.remember_ports({"kafka": port})  # nobody supervises
    assert as_another_process_sees(port)


def test_a_broker_gets_two_different_ports() -> None:
    ports = choose_ports()
    assert ports.clients != ports.controller
    assert choose_ports(ports) == ports


@pytest.mark.parametrize("listening", ["0.0.0.0", "127.0.0.1"])
def test_a_port_somebody_listens_on_is_not_free_whatever_the_address(listening: str) -> None:
    with socket.create_server((listening, 0)) as server:
        assert not is_free(server.getsockname()[1])


class FakeAdmin:
    """Answers as the broker of one cluster."""

    def __init__(self, **_: object) -> None:
        pass

    def describe_cluster(self) -> dict[str, object]:
        return {"cluster_id": "theirs", "brokers": [{"is_fenced": False}]}

    def close(self) -> None:
        pass


def test_only_a_broker_of_the_own_cluster_makes_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kafka.KafkaAdminClient", FakeAdmin)
    with socket.create_server(("127.0.0.1", 0)) as server:
        ports = BrokerPorts(clients=server.getsockname()[1], controller=1)
        assert answers(ports, "theirs")
        with pytest.raises(NeverReadyError, match=r"answered by cluster theirs, not by this stack's ours"):
            answers(ports, "ours")
        with pytest.raises(NeverReadyError):
            answers(ports, None)


def test_the_cluster_id_is_the_one_in_the_storage(tmp_path: Path) -> None:
    assert cluster_id(tmp_path) is None
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / "meta.properties").write_text(
        "#\nversion=1\ncluster.id=aPCVaQGTRtmOgS5LbA8_ew\nnode.id=1\n"
    )
    assert cluster_id(tmp_path) == "aPCVaQGTRtmOgS5LbA8_ew"
