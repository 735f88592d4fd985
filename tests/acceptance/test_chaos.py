"""A short chaos from the command line: kills and troubles, books that balance; and Ctrl-C in the middle of one."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.terminal import Terminal
from tests.patience import PATIENCE_S
from thalweg.stack.leftovers import leftovers
from thalweg.stack.state import StateFolder

pytestmark = pytest.mark.acceptance


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "thalweg", "chaos", *arguments]


@pytest.mark.timeout(2_400)
def test_a_short_chaos_loses_nothing_and_doubles_nothing(tmp_path: Path) -> None:
    record = tmp_path / "record.json"
    arguments = ("--seed", "3", "--kills", "7", "--minutes", "1.5", "--json", "--record", str(record))
    called = subprocess.run(
        command(*arguments),
        env=os.environ | {"THALWEG_STATE": str(tmp_path / "state")},
        capture_output=True,
        text=True,
        timeout=2_300,
        check=False,
    )
    document = json.loads(called.stdout)
    assert document["violations"] == [], called.stderr
    assert (called.returncode, document["ok"]) == (0, True), called.stderr
    assert list(document) == [
        "seed",
        "acts",
        "accepted",
        "placed",
        "graph_tasks",
        "graph_ended",
        "lost",
        "double_effects",
        "over_commitments",
        "orphans",
        "early_starts",
        "violations",
        "ok",
    ]
    kills = {what: count for what, count in document["acts"].items() if what.startswith("kill ")}
    assert sum(kills.values()) == 7
    assert len(kills) == 7, "each role once"
    assert len(document["acts"]) > len(kills), "and other trouble"
    assert document["accepted"] >= document["placed"] > 100
    assert document["graph_tasks"] >= document["graph_ended"] > 900, "a thousand or so, through these kills"
    assert len(re.findall(r"^\[ *[\d.]+ s\] kill: ", called.stderr, re.MULTILINE)) == 7, "each is said with its time"
    kept = json.loads(record.read_text())
    assert document.items() <= kept.items()
    assert kept["processes_killed"] >= 7
    assert leftovers(StateFolder(tmp_path / "state" / "chaos")) == []


@pytest.mark.timeout(2_000)
def test_ctrl_c_ends_a_chaos_with_an_audit_of_what_happened_so_far(tmp_path: Path) -> None:
    environment = os.environ | {"THALWEG_STATE": str(tmp_path / "state")}
    with Terminal(command("--seed", "1", "--kills", "120", "--minutes", "30", "--json"), environment) as chaos:
        chaos.wait(lambda: "is at work again" in chaos.screen())
        chaos.press_ctrl_c()
        code = chaos.ended()
        told = f"{chaos.out()}\n{chaos.screen()}"
    document = json.loads(chaos.out())
    assert (code, document["ok"]) == (0, True), told
    assert document["accepted"] > 0
    assert "asked to stop: auditing what happened so far" in told
    assert leftovers(StateFolder(tmp_path / "state" / "chaos")) == []


def test_a_wrong_call_ends_with_2_and_a_list_does_nothing(tmp_path: Path) -> None:
    environment = os.environ | {"THALWEG_STATE": str(tmp_path / "state")}

    def called(*arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            command(*arguments), env=environment, capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )

    assert called("--kills", "-1").returncode == 2
    assert called("agents-1").returncode == 2
    listed = called("--kills", "7", "--list")
    assert listed.returncode == 0
    assert listed.stdout.count(" s  kill: ") == 7
    assert not (tmp_path / "state").exists()
