"""`thalweg up --detach`: what is prepared is prepared once, by the process that was called."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from thalweg.cli import stack_commands
from thalweg.cli.main import cli


def test_classes_are_laid_out_by_the_process_that_was_called_and_not_by_the_one_that_it_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    laid_out: list[str] = []
    commands: list[list[str]] = []
    monkeypatch.setenv("THALWEG_STATE", str(tmp_path))
    monkeypatch.setattr(stack_commands, "ensure_runtime", lambda: None)
    monkeypatch.setattr(stack_commands, "ensure_archives", lambda _: laid_out.append("laid out"))
    monkeypatch.setattr(stack_commands.stack, "up", lambda *_, **__: None)
    monkeypatch.setattr(
        stack_commands.stack, "up_in_background", lambda command, *_, **__: commands.append(command) or ""
    )
    assert CliRunner().invoke(cli, ["up", "--detach"]).exit_code == 0
    (command,) = commands
    assert CliRunner().invoke(cli, command[command.index("up") :]).exit_code == 0
    assert laid_out == ["laid out"]
    assert CliRunner().invoke(cli, ["up"]).exit_code == 0
    assert laid_out == ["laid out"] * 2


def test_who_has_little_room_hears_how_much_there_is_and_is_needed_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THALWEG_STATE", str(tmp_path))
    monkeypatch.setattr(stack_commands, "ensure_runtime", lambda: None)
    monkeypatch.setattr(stack_commands, "ensure_archives", lambda _: None)
    monkeypatch.setattr(stack_commands.stack, "up", lambda *_, **__: None)
    told = CliRunner().invoke(cli, ["up", "--set", "warehouse.min_free_gb=1000000"])
    assert told.exit_code == 0
    assert f"GB free at {tmp_path}, below the 1e+06 GB of warehouse.min_free_gb. Free space there" in told.stderr
    told = CliRunner().invoke(cli, ["up", "--prepared", "--set", "warehouse.min_free_gb=1000000"])
    assert "free at" not in told.stderr, "said by who was called"
