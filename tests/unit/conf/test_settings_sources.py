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


@pytest.mark.parametrize("value", ["yes", "true", "off"])
def test_a_truth_value_is_no_number_wherever_it_is_said(tmp_path: Path, value: str) -> None:
    said = refusal(tmp_path, f"place:\n  max_attempts: {value}\n  weights: {{wait: {value}}}\n")
    assert "place.max_attempts: Input should be a number, seen " in said
    assert "(/settings.yaml, line 2); YAML reads no, off, yes and on as false or true" in said
    assert "place.weights.wait: Input should be a number, seen " in said
    assert "place.trigger_ms: Input should be a number" in refusal(tmp_path, "", {}, f"place.trigger_ms={value}")
    said = refusal(tmp_path, "", {"THALWEG_PLACE__TRIGGER_MS": value})
    assert "place.trigger_ms: Input should be a number" in said and "THALWEG_PLACE__TRIGGER_MS" in said


@pytest.mark.parametrize("value", ["1", "0", "'yes'", "'true'", "1.0"])
def test_only_true_and_false_are_truth_values(tmp_path: Path, value: str) -> None:
    said = refusal(tmp_path, f"window:\n  open: {value}\n")
    assert "window.open: Input should be true or false, seen " in said
    assert "place.fair_share: Input should be true or false" in refusal(tmp_path, "", {}, f"place.fair_share={value}")


def test_numbers_and_truth_values_are_taken_as_before() -> None:
    said = ["place.trigger_ms='50'", "place.weights.wait=1e6", "place.fair_share=no", "window.open=null"]
    settings = load_settings(overrides=said, environment={})
    assert (settings.place.trigger_ms, settings.place.weights.wait, settings.place.fair_share) == (50, 1e6, False)
    assert settings.window.open is None


def test_a_key_that_stands_twice_is_refused_with_both_lines(tmp_path: Path) -> None:
    said = refusal(tmp_path, "place:\n  trigger_ms: 50\nkafka: {}\nplace:\n  trigger_ms: 60\n")
    assert said == "settings file /settings.yaml: 'place' stands twice, in line 1 and in line 4"
    said = refusal(tmp_path, "place:\n  trigger_ms: 50\n  trigger_ms: 60\n")
    assert said == "settings file /settings.yaml: 'trigger_ms' stands twice, in line 2 and in line 3"


def test_a_number_of_thousands_of_digits_is_told_by_what_it_is(tmp_path: Path) -> None:
    digits = "9" * 5_000
    said = refusal(tmp_path, f"place:\n  trigger_ms: {digits}\n")
    assert said == ("settings file /settings.yaml: a number of 5,000 digits: allowed are 300 at line 2, column 15")
    said = refusal(tmp_path, "", {}, f"place.trigger_ms={digits}")
    assert said.startswith("--set place.trigger_ms: '999") and "a number of 5,000 digits" in said and len(said) < 300


def test_settings_of_entries_are_read_by_their_kind_and_what_is_wrong_is_named() -> None:
    said = ["window.keys.lab.acts=true", "window.keys.lab.secret_file=true", "place.tenants.x.quota_gpus=3"]
    settings = load_settings(overrides=said, environment={"THALWEG_WINDOW__KEYS__LAB__TENANT": "12"})
    lab = settings.window.keys["lab"]
    assert (lab.acts, lab.secret_file, lab.tenant) == (True, "true", "12")
    assert settings.place.tenants["x"].quota_gpus == 3
    with pytest.raises(SettingsError, match="seen True"):
        load_settings(overrides=["place.tenants.x.quota_gpus=true"], environment={})
