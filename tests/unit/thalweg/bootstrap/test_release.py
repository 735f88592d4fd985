"""A release: fragments into the changelog, the version they call for, and nothing done where something is wrong."""

from pathlib import Path

import pytest

from thalweg.bootstrap import release
from thalweg.bootstrap.verbs import VERBS
from thalweg.cli.main import cli
from thalweg.conf.environment import PROJECT_ROOT

PYPROJECT = '[project]\nname = "x"\nversion = "0.4.2" # moved\n'
CHANGELOG = "# Changelog\n\nWords.\n\n## 0.4.2, 2026-01-01\n\n- Old.\n"


def clone(folder: Path, **fragments: str) -> Path:
    (folder / "changelog.d").mkdir()
    (folder / "pyproject.toml").write_text(PYPROJECT)
    (folder / "CHANGELOG.md").write_text(CHANGELOG)
    (folder / "changelog.d" / "README.md").touch()
    for name, text in fragments.items():
        (folder / "changelog.d" / f"{name.replace('__', '.')}.md").write_text(text)
    return folder


@pytest.mark.parametrize(
    ("now", "kinds", "then"),
    [
        ((0, 4, 2), ["fixed", "changed"], "0.4.3"),
        ((0, 4, 2), ["fixed", "breaking"], "0.5.0"),
        ((0, 4, 2), ["added"], "0.5.0"),
        ((1, 4, 2), ["added"], "1.5.0"),
        ((1, 4, 2), ["breaking", "added"], "2.0.0"),
    ],
)
def test_kinds_decide_the_version(now: tuple[int, int, int], kinds: list[str], then: str) -> None:
    assert release.next_version(now, kinds) == then


def test_a_release_takes_every_fragment_and_keeps_the_past(tmp_path: Path) -> None:
    root = clone(tmp_path, a__fixed="Mended\nhere.", b__added="New.")
    assert release.main(root) == 0
    text = (root / "CHANGELOG.md").read_text()
    assert text.startswith("# Changelog\n\nWords.\n\n## 0.5.0, ")
    assert text.index("### New\n\n- New.") < text.index("### Mended\n\n- Mended here.") < text.index("## 0.4.2")
    assert text.endswith("- Old.\n")
    assert 'version = "0.5.0" # moved' in (root / "pyproject.toml").read_text()
    assert [path.name for path in (root / "changelog.d").iterdir()] == ["README.md"]


@pytest.mark.parametrize("fragments", [{}, {"a__improved": "Better."}])
def test_nothing_to_say_and_an_unknown_kind_change_nothing(tmp_path: Path, fragments: dict[str, str]) -> None:
    root = clone(tmp_path, **fragments)
    assert release.main(root) == 2
    assert (root / "CHANGELOG.md").read_text() == CHANGELOG
    assert (root / "pyproject.toml").read_text() == PYPROJECT


def test_the_changelogs_newest_version_is_the_projects_and_its_fragments_are_named_right() -> None:
    newest = (PROJECT_ROOT / "CHANGELOG.md").read_text().split("\n## ")[1].partition(",")[0]
    stated = release.version_in((PROJECT_ROOT / "pyproject.toml").read_text())
    assert newest == ".".join(map(str, stated))
    for path in (PROJECT_ROOT / "changelog.d").glob("*.md"):
        assert path.name == "README.md" or release.kind_of(path) in release.KINDS, path.name


def test_a_commit_must_pass_what_ci_runs_first() -> None:
    hooks = (PROJECT_ROOT / ".pre-commit-config.yaml").read_text()
    assert "entry: ./run lint" in hooks


def test_no_verb_for_developers_hides_a_command_of_the_product() -> None:
    assert not VERBS.keys() & cli.commands.keys()
