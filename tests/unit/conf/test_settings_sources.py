"""A refused setting says where it was said, and what YAML made of a word without quotes."""

from pathlib import Path

import pytest

from thalweg.conf.settings import SettingsError, load_settings


def refusal(tmp_path: Path, file: str = "", environment: dict[str, str] | None = None, *overrides: str) -> str:
    config = tmp_path / "settings.yaml"
    config.write_text(file, encoding="utf-8")
    with pytest.raises(SettingsError) as refused:
        load_settings(config, overrides, environment=environment or {})
    return str(refused.value).replace(str(tmp_path), "")


def test_a_file_is_named_with_the_line_and_norway_with_its_quotes(tmp_path: Path) -> None:
    said = refusal(tmp_path, "place:\n  trigger_ms: 50\nkafka:\n  # a comment\n  topic_prefix: no\n")
    assert "kafka.topic_prefix: Input should be a valid string, seen False (/settings.yaml, line 5)" in said
    assert said.endswith("YAML reads no, off, yes and on as false or true: put the word into quotes")


def test_the_name_of_an_entry_is_called_that(tmp_path: Path) -> None:
    said = refusal(tmp_path, "place:\n  tenants:\n    no:\n      quota_gpus: 3\n")
    assert "[key]" not in said
    assert (
        "place.tenants: the name of an entry: Input should be a valid string, seen False (/settings.yaml, line" in said
    )
    assert "put the word into quotes" in said


def test_an_unknown_setting_and_a_wrong_list_item_say_their_lines(tmp_path: Path) -> None:
    said = refusal(tmp_path, "place:\n  trigger_ms: 50\n  triger_ms: 3\n")
    assert "place.triger_ms: no such setting (docs/reference/settings.md lists all) (/settings.yaml, line 3)" in said


def test_the_environment_and_the_command_line_say_who_they_are(tmp_path: Path) -> None:
    said = refusal(tmp_path, "", {"THALWEG_PLACE__TRIGGER_MS": "soon"}, "observe.latest_every_ms=never")
    assert "(environment variable THALWEG_PLACE__TRIGGER_MS)" in said
    assert "(--set observe.latest_every_ms)" in said


def test_the_strongest_who_said_it_is_named(tmp_path: Path) -> None:
    said = refusal(tmp_path, "place:\n  trigger_ms: 50\n", {"THALWEG_PLACE__TRIGGER_MS": "soon"})
    assert "settings.yaml" not in said
