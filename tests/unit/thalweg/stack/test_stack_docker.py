"""The container files agree with the project. No engine runs here: what only an engine can tell is not claimed."""

import importlib
import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from thalweg.cli.main import COMMANDS
from thalweg.conf.environment import PROJECT_ROOT
from thalweg.conf.settings import load_settings

DOCKERFILE = PROJECT_ROOT / "docker" / "Dockerfile"
COMPOSE = PROJECT_ROOT / "docker" / "compose.yaml"
INSTRUCTIONS = {"FROM", "RUN", "ENV", "WORKDIR", "COPY", "USER", "VOLUME", "ENTRYPOINT", "CMD"}


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    document = yaml.safe_load(COMPOSE.read_text())
    assert isinstance(document, dict)
    return document


def ours(compose: dict[str, Any]) -> dict[str, Any]:
    return {name: service for name, service in compose["services"].items() if service["image"] == "thalweg"}


def test_the_dockerfile_has_only_instructions_we_know() -> None:
    text = re.sub(r"\\\n", " ", DOCKERFILE.read_text())
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    assert {line.split()[0] for line in lines} <= INSTRUCTIONS
    assert lines[0].startswith("FROM python:3.11")


def test_every_service_has_settings_that_load(compose: dict[str, Any]) -> None:
    assert set(ours(compose)) == {"place", "observe", "replicate", "maintain", "agents"}
    for service in ours(compose).values():
        settings = load_settings(environment=service["environment"])
        host, _, port = settings.kafka.bootstrap_servers.partition(":")
        assert host in compose["services"]
        assert f"CLIENTS://:{port}" in compose["services"][host]["environment"]["KAFKA_LISTENERS"]
        assert Path(settings.warehouse.path).is_relative_to("/state")


def test_every_service_starts_something_that_exists(compose: dict[str, Any]) -> None:
    for name, service in ours(compose).items():
        program = service["command"][0]
        if "entrypoint" in service:
            assert service["entrypoint"][-1] == "-m"
            assert importlib.util.find_spec(program) is not None, name
        else:
            assert program in COMMANDS, name


def test_volumes_are_declared_and_made_writable_in_the_image(compose: dict[str, Any]) -> None:
    made = re.search(r"^RUN mkdir (.+) && chown thalweg: (.+)$", DOCKERFILE.read_text(), re.MULTILINE)
    assert made is not None
    assert made.group(1) == made.group(2)
    for service in compose["services"].values():
        for volume in service["volumes"]:
            name, folder = volume.split(":")
            assert name in compose["volumes"]
            if service["image"] == "thalweg":
                assert folder in made.group(1).split()


def test_the_build_names_files_that_are_there(compose: dict[str, Any]) -> None:
    for service in ours(compose).values():
        context = (COMPOSE.parent / service["build"]["context"]).resolve()
        assert context == PROJECT_ROOT
        assert (context / service["build"]["dockerfile"]).is_file()
    assert (PROJECT_ROOT / "docker" / "Dockerfile.dockerignore").is_file()


def test_the_broker_has_the_limits_of_the_local_one(compose: dict[str, Any]) -> None:
    local = dict(
        line.split("=", 1)
        for line in (PROJECT_ROOT / "conf" / "broker" / "server.properties").read_text().splitlines()
        if "=" in line and not line.startswith("#")
    )
    container = compose["services"]["kafka"]["environment"]
    for setting in ("auto.create.topics.enable", "message.max.bytes", "group.initial.rebalance.delay.ms"):
        assert str(container["KAFKA_" + setting.upper().replace(".", "_")]) == local[setting]
