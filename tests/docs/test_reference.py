"""The reference is generated: this fails when it is stale, and when what it is generated from says nothing."""

import difflib
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from click import Command
from pydantic import Field
from pydantic.fields import FieldInfo

from thalweg.cli.main import COMMANDS
from thalweg.conf.environment import PROJECT_ROOT
from thalweg.conf.settings import Settings
from thalweg.reference import pages
from thalweg.reference.errors_and_metrics import public_errors, public_metrics
from thalweg.reference.setting_types import entry_of, type_words
from thalweg.reference.write import generated, stale
from thalweg.streams.contract.topics import CONTRACTS as TOPICS
from thalweg.sync.delta.contracts import CONTRACTS as TABLES

DOCS = PROJECT_ROOT / "docs"


def page(name: str) -> str:
    return (DOCS / "reference" / name).read_text(encoding="utf-8")


def test_every_generated_document_is_up_to_date() -> None:
    for name, text in generated().items():
        written = (PROJECT_ROOT / name).read_text(encoding="utf-8").splitlines()
        differences = "\n".join(difflib.unified_diff(written, text.splitlines(), name, "generated", n=0, lineterm=""))
        assert not differences, f"run: python -m thalweg.reference.write\n{differences}"
    assert stale() == [], "run: python -m thalweg.reference.write"


def test_every_topic_and_table_is_described() -> None:
    for contract in TOPICS:
        assert f"`{contract.topic}" in page("topics.md")
        assert contract.meaning and contract.key and contract.writer
    for table in TABLES:
        assert f"\n## {table.name}\n" in page("tables.md")
        assert table.meaning
        assert all(f"`{column}`" in page("tables.md") for column in table.schema.names)


def test_every_setting_is_described() -> None:
    for group_name, group in Settings.model_fields.items():
        assert group.description, group_name
        for name, field in type(group.default).model_fields.items():
            assert field.description, f"{group_name}.{name} has no docstring"
            assert f"`{group_name}.{name}" in page("settings.md")


def test_the_types_of_settings_are_peoples_words() -> None:
    rows = [line.split(" | ") for line in pages.settings_page().splitlines() if line.startswith("| `")]
    kinds = {row[1] for row in rows}
    assert len(rows) > 100 and "text, not empty, or `null`" in kinds
    known = (
        r"text|secret text|(whole )?number( [≥>≤<] [0-9.,]+( and [≥>≤<] [0-9.,]+)*)?|entries by (name|NAME)|as below"
    )
    words = re.compile(rf"({known}|not empty|each|list of|text as|or|,| |`[^`]*`)+")
    assert [kind for kind in kinds if not words.fullmatch(kind)] == []


def test_what_entries_with_names_take_is_told_field_by_field() -> None:
    for group_name, group in Settings.model_fields.items():
        for name, field in type(group.default).model_fields.items():
            entry = entry_of(field.annotation)
            for known in entry.model_fields if entry is not None else ():
                assert f"`{group_name}.{name}.NAME.{known}`" in page("settings.md")


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (Annotated[str, Field(min_length=1)] | None, "text, not empty, or `null`"),
        (Annotated[int | None, Field(gt=0)], "whole number > 0 or `null`"),
        (Annotated[float, Field(ge=0, le=1e6)], "number ≥ 0 and ≤ 1,000,000"),
        (list[Literal["a", "b"]], "list of `a` or `b`"),
        (dict[str, dict[str, bool]], "entries by name, each entries by name, each `true` or `false`"),
    ],
)
def test_a_type_in_words(annotation: Any, words: str) -> None:
    assert type_words(FieldInfo.from_annotation(annotation)) == words


def test_a_type_without_words_is_an_error_and_no_python_on_the_page() -> None:
    with pytest.raises(ValueError, match="no words for a setting of type"):
        type_words(FieldInfo.from_annotation(Path))


def test_every_command_is_there_and_says_what_it_does() -> None:
    listed = dict(pages.commands())
    assert listed.keys() == COMMANDS.keys(), "a command's module is missing"
    for name, command in listed.items():
        assert isinstance(command, Command)
        assert command.help, f"thalweg {name} has no help"
        assert f"\n## {name}\n" in page("cli.md")


def test_every_error_and_metric_says_what_it_means() -> None:
    for error in public_errors():
        assert error.meaning, f"{error.module}.{error.name} has no docstring"
        assert f"`{error.name}`" in page("errors.md")
    metrics = public_metrics()
    assert metrics
    for metric in metrics:
        assert metric.meaning, metric.name
        assert f"`{metric.name}`" in page("metrics.md")


def test_every_dependency_has_its_sentence() -> None:
    project = tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = [item for items in project["project"]["optional-dependencies"].values() for item in items]
    wanted = [*project["project"]["dependencies"], *extras, *project["dependency-groups"]["dev"]]
    decision = (DOCS / "decisions" / "0002-dependencies.md").read_text(encoding="utf-8")
    for requirement in wanted:
        name = requirement.split("[")[0].split("=")[0].split("<")[0].split(">")[0].strip()
        assert f"`{name}`" in decision, f"{name} is in pyproject.toml without a reason in 0002-dependencies.md"


def test_the_index_of_decisions_lists_every_decision() -> None:
    index = (DOCS / "decisions" / "index.md").read_text(encoding="utf-8")
    for decision in sorted((DOCS / "decisions").glob("[0-9]*.md")):
        assert f"]({decision.name})" in index, f"{decision.name} is not in docs/decisions/index.md"


def test_declared_things_are_found_in_code(tmp_path: Path) -> None:
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "x.py").write_text(
        'A = Counter("thalweg_x_things", "Things.", ["kind"])\n'
        'B = Gauge("thalweg_x_level", "Level.")\n'
        'C = Counter("words")\n'
        'class BrokenError(OSError):\n    """It is broken.\n\n    More."""\nclass _HiddenError(OSError): ...\n'
    )
    metrics = public_metrics(tmp_path)
    assert [(metric.name, metric.kind, metric.labels) for metric in metrics] == [
        ("thalweg_x_level", "gauge", ()),
        ("thalweg_x_things_total", "counter", ("kind",)),
    ]
    (error,) = public_errors(tmp_path)
    assert (error.name, error.bases, error.meaning) == ("BrokenError", ("OSError",), "It is broken.")
