"""What applications import from `thalweg.client`: every name is there, and none costs before it is asked for."""

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import thalweg.client
from thalweg.client import AsyncClient, Client, ReplicaClient
from thalweg.client.client import Client as WhereItIsWritten

ROOT = Path(__file__).parents[4]


@pytest.mark.parametrize("name", thalweg.client.__all__)
def test_every_name_can_be_imported(name: str) -> None:
    assert getattr(thalweg.client, name).__name__ == name


def test_a_name_is_the_one_of_its_module() -> None:
    assert Client is WhereItIsWritten
    assert ReplicaClient.__module__ == "thalweg.client.replica_client"


def test_type_checkers_and_programs_see_the_same_names() -> None:
    tree = ast.parse((ROOT / "thalweg/client/__init__.py").read_text("utf-8"))
    guarded = next(node for node in tree.body if isinstance(node, ast.If))
    shown = {
        alias.asname or alias.name for node in guarded.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert shown == set(thalweg.client.__all__)


@pytest.mark.parametrize("call", sorted(name for name in vars(AsyncClient) if not name.startswith("_")))
def test_a_call_of_asyncio_wants_what_the_other_wants(call: str) -> None:
    wanted, seen = (inspect.signature(getattr(one, call)).parameters for one in (Client, AsyncClient))
    assert list(seen.items()) == list(wanted.items())


def test_answers_are_waited_for_as_long_as_the_page_says() -> None:
    page = (ROOT / "docs/how-to/client.md").read_text("utf-8")
    (said,) = re.findall(r"answered\(task_ids, op, timeout_s=([0-9]+)\)", page)
    assert inspect.signature(Client.answered).parameters["timeout_s"].default == float(said)


def test_an_unknown_name_says_which_there_are() -> None:
    with pytest.raises(AttributeError, match="has Add, Assign"):
        _ = thalweg.client.Clientt


def test_the_package_alone_loads_no_broker_and_no_replica() -> None:
    program = (
        "import sys, thalweg.client\n"
        "print(sorted(name for name in sys.modules if name == 'kafka' or name.startswith('thalweg.')))"
    )
    shown = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "['thalweg.client']"
