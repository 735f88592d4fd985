"""YAML that people write is read, or refused quickly in words and with a line, whatever it is."""

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.agent.fleet import FleetError, read_fleet
from thalweg.conf.settings import ObserveSettings, SettingsError, load_settings
from thalweg.conf.yaml_tree import MOST_REPEATED, YamlTreeError, read_tree
from thalweg.streams.telemetry.rules import RulesError, site_rules

LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n"
    for before, name in zip("abcdefghijkl", "bcdefghijklm", strict=True)
)
STAIRS = "a0: &a0 {x: 1}\n" + "".join(f"a{n}: &a{n} {{x: {{x: *a{n - 1}}}}}\n" for n in range(1, 400))
HOSTILE = {
    "place: &x {trigger_ms: 50, y: *x}\n": "an alias within what it stands for, which would never end, at line 1",
    "\n- &x [*x]\n": "never end, at line 2",
    "a: &x\n  b: [1, {c: *x}]\n": "never end, at line 2",
    LAUGHS: "aliases stand for more than the 100,000 values that are allowed at line 6",
    STAIRS: "nested deeper than the 64 levels that are allowed at line 32",
    "a: " + "[" * 10_000: "nested deeper than the 64 levels that are allowed at line 1, column 67",
    "a: " + "{a: " * 10_000: "nested deeper than the 64 levels",
    "\n".join(
        " " * level + "a:" for level in range(200)
    ): "nested deeper than the 64 levels that are allowed at line 64",
    "a: 1\nb: 2\na: 1\n": "'a' stands twice, in line 1 and in line 3",
    "x:\n  a: 1\n  'a': {}\n": "'a' stands twice, in line 2 and in line 3",
    "a: {b: 1, b: 1}": "'b' stands twice, in line 1 and in line 1",
    f"\na: {'9' * 5_000}": "a number of 5,000 digits: allowed are 300 at line 2, column 4",
    f"a: -{'1:' * 3_000}1": "a number of 6,002 digits",
    "a: 2026-13-45": "a value that looks like a YAML timestamp and is none at line 1",
    "a: !!bool maybe": "a value that looks like a YAML bool and is none at line 1",
    "a: !!int ''": "a value that looks like a YAML int and is none at line 1",
    "a: !!timestamp x": "a value that looks like a YAML timestamp and is none at line 1",
    "a: 1\n---\nb: 1\n": "no YAML at line 2",
    "a: [1\nb": "no YAML at line",
    "a: 1\nb: \0": "no YAML: a character that is not allowed in line 2",
    "a: !!python/object:os.system x": "no YAML at line 1",
    "? [a]\n: 1\n": "no YAML at line 1",
    "a: *b": "no YAML at line 1, column 4",
}


@pytest.mark.parametrize("text, words", HOSTILE.items(), ids=lambda value: value[:20].replace("\0", ""))
def test_what_cannot_be_meant_is_told_quickly_with_its_line(text: str, words: str) -> None:
    began = time.monotonic()
    with pytest.raises(YamlTreeError) as refused:
        read_tree(text)
    assert words in str(refused.value)
    assert "set_int_max_str_digits" not in refused.value.in_full
    assert time.monotonic() - began < 5


@given(st.text(alphabet="ab: {}[]&*-\n'\"!<#?|>%@`~,0915.eE_xX", max_size=80))
def test_any_text_is_a_tree_or_words(text: str) -> None:
    try:
        read_tree(text)
    except YamlTreeError as error:
        assert str(error)


def test_what_is_meant_is_read_as_before() -> None:
    tree = read_tree("base: &base {a: 1, b: 2}\nmore:\n  <<: *base\n  b: 3\nlist: [yes, 1.5, '1']\nagain: *base\n")
    assert tree.value["more"] == {"a": 1, "b": 3}
    assert tree.value["list"] == [True, 1.5, "1"]
    assert tree.lines["more", "b"] == 4 and tree.lines["list", "1"] == 5 and tree.lines["again", "a"] == 1
    assert read_tree("").value is None


def test_a_file_may_be_as_long_as_it_likes() -> None:
    text = "nodes:\n" + "".join(f"- {{id: n{number}, gpus: 8}}\n" for number in range(3_000))
    assert len(read_tree(text).value["nodes"]) == 3_000 < MOST_REPEATED


@pytest.mark.parametrize("text", ["place: &x {trigger_ms: 50, y: *x}\n", LAUGHS, "a: " + "[" * 10_000, "a: 1\na: 1\n"])
def test_every_reader_of_yaml_names_its_file(text: str, tmp_path: Path) -> None:
    file = tmp_path / "file.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError, match=rf"settings file {file}: .*line \d"):
        load_settings(file, environment={})
    with pytest.raises(FleetError, match=rf"fleet {file}: .*line \d"):
        read_fleet(file, "aws:us-east-1")
    with pytest.raises(RulesError, match=rf"rule file {file}: .*line \d"):
        site_rules(ObserveSettings(rules=str(file)))
