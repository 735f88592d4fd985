"""The layers of docs/explanation/architecture.md, as import-linter reads them from pyproject.toml."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from thalweg.conf.environment import PROJECT_ROOT
from thalweg.reference.rooms import layer_contracts, rooms


def test_every_import_points_the_right_way() -> None:
    # In a process of its own: import-linter turns off the loggers of whoever calls it.
    lint = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as lint; lint()", "--no-cache"]
    done = subprocess.run(lint, check=False, cwd=PROJECT_ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


def test_every_package_of_a_room_has_its_place_in_a_contract_and_its_sentence() -> None:
    for room in rooms(PROJECT_ROOT):
        assert room.sentence.endswith("."), room.name
        for wing in room.wings:
            assert re.fullmatch(r"[A-Z`].*[.?]", wing.sentence), f"{room.name}/{wing.name}: {wing.sentence!r}"


def test_the_architecture_page_names_the_same_rooms_in_the_same_order() -> None:
    page = (PROJECT_ROOT / "docs" / "explanation" / "architecture.md").read_text(encoding="utf-8")
    named = re.findall(r"^\| `(\w+)/` \|", page, flags=re.MULTILINE)
    whole = [name for layer in layer_contracts(PROJECT_ROOT)["thalweg"] for name in layer]
    at_the_top = [name for name in whole if (PROJECT_ROOT / name).is_dir()]
    assert [name for name in named if name not in ("thalweg", "conf")] == at_the_top[::-1]
    for room, layers in layer_contracts(PROJECT_ROOT).items():
        folder = room if (PROJECT_ROOT / room).is_dir() else f"thalweg/{room}"
        shown = page.split(f"### In `{folder}/`")[1].split("###")[0]
        wings = re.findall(r"^\| `(\w+)` \|", shown, flags=re.MULTILINE)
        expected = [name for layer in reversed(layers) for name in layer if room != "thalweg" or name not in at_the_top]
        assert wings == expected, room


def tree(root: Path, *, layers: str = '["outer", "inner"]', inner: str = '"""Inside."""') -> Path:
    """A small project: `core` with two wings, `thalweg` with one, `conf` beside."""
    files = {
        "core/__init__.py": '"""The core."""',
        "core/outer/__init__.py": '"""Outside."""',
        "core/inner/__init__.py": inner,
        "conf/__init__.py": '"""Settings."""',
        "thalweg/__init__.py": '"""In front."""',
        "thalweg/cli/__init__.py": '"""Commands.\n\nMore."""',
        "pyproject.toml": (
            f'[[tool.importlinter.contracts]]\ntype = "layers"\ncontainers = ["thalweg"]\nlayers = ["cli", "core"]\n'
            f'[[tool.importlinter.contracts]]\ntype = "layers"\ncontainers = ["thalweg.core"]\nlayers = {layers}\n'
        ),
    }
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for room in ("core", "conf"):
        (root / "thalweg" / room).symlink_to(root / room)
    return root


def test_rooms_are_read_from_contracts_and_docstrings(tmp_path: Path) -> None:
    core, front, conf = rooms(tree(tmp_path))
    assert [(wing.name, wing.sentence) for wing in core.wings] == [("inner", "Inside."), ("outer", "Outside.")]
    assert (core.may_import, front.may_import, conf.may_import) == ((), ("core",), None)
    assert [(wing.name, wing.sentence) for wing in front.wings] == [("cli", "Commands.")]


def test_a_wing_without_a_sentence_or_a_contract_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"inner/__init__\.py: wanted is a docstring"):
        rooms(tree(tmp_path / "a", inner=""))
    with pytest.raises(ValueError, match="core/ has inner, which no layers contract"):
        rooms(tree(tmp_path / "b", layers='["outer"]'))
