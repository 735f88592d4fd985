"""What is decided before a broker starts: its id, its ports, its settings. The broker itself: tests/acceptance."""

import socket
import uuid
from pathlib import Path

import pytest

from thalweg.broker import BrokerPorts, choose_ports, new_cluster_id, server_properties
from thalweg.ports import FIRST_PORT, LAST_PORT, accepts_connections, free_port, is_free


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


def test_a_broker_gets_two_different_ports() -> None:
    ports = choose_ports()
    assert ports.clients != ports.controller
    assert choose_ports(ports) == ports


@pytest.mark.parametrize("listening", ["0.0.0.0", "127.0.0.1"])
def test_a_port_somebody_listens_on_is_not_free_whatever_the_address(listening: str) -> None:
    with socket.create_server((listening, 0)) as server:
        assert not is_free(server.getsockname()[1])
