"""The group itself: what --help says without importing, and what is said where only the client is installed."""

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from thalweg.cli import main
from thalweg.reference.pages import commands


def test_the_list_of_commands_says_what_each_says_of_itself() -> None:
    for name, command in commands():
        assert main.COMMANDS[name][2] == command.get_short_help_str(limit=200), name


def test_help_imports_no_command() -> None:
    assert CliRunner().invoke(main.cli, ["--help"]).exit_code == 0
    look = (
        "import sys; from click.testing import CliRunner; from thalweg.cli.main import cli;"
        "assert CliRunner().invoke(cli, ['--help']).exit_code == 0;"
        "print(sorted(name for name in sys.modules if name.startswith('thalweg.')))"
    )
    told = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True).stdout
    assert told.strip() == "['thalweg.cli', 'thalweg.cli.main']"


def test_a_package_that_is_not_installed_is_named_with_what_brings_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(main.COMMANDS, "plan", ("package_that_is_nowhere.plan", "plan", ""))
    monkeypatch.setattr(sys, "argv", ["thalweg", "plan"])
    with pytest.raises(SystemExit, match="2"):
        main.main()
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and "package_that_is_nowhere" in told and "pip install 'thalweg[plane]'" in told


def test_a_fault_in_our_own_imports_is_not_taken_for_a_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(main.COMMANDS, "plan", ("thalweg.nowhere", "plan", ""))
    monkeypatch.setattr(sys, "argv", ["thalweg", "plan"])
    with pytest.raises(ModuleNotFoundError, match="nowhere"):
        main.main()


def test_up_says_that_it_has_a_broker_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THALWEG_STATE", str(tmp_path))
    result = CliRunner().invoke(main.cli, ["up", "--set", "kafka.bootstrap_servers=127.0.0.1:1"])
    assert result.exit_code == 2
    assert "starts a broker of its own" in result.output
    assert not list(tmp_path.iterdir())
