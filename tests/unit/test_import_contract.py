"""The layers of docs/architecture.md, as import-linter reads them from pyproject.toml."""

import re
import tomllib

import pytest
from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports

from conf.environment import PROJECT_ROOT

PYPROJECT = PROJECT_ROOT / "pyproject.toml"


def test_every_import_points_the_right_way(capsys: pytest.CaptureFixture[str]) -> None:
    status = lint_imports(config_filename=str(PYPROJECT), no_cache=True)
    told = capsys.readouterr().out
    assert status == EXIT_STATUS_SUCCESS, told
    assert "Contracts: 3 kept, 0 broken" in told


def test_the_architecture_page_names_the_same_rooms_in_the_same_order() -> None:
    contracts = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
    (layers,) = (contract["layers"] for contract in contracts if contract["type"] == "layers")
    page = (PROJECT_ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rooms = re.findall(r"^\| `(\w+)/` \|", page, flags=re.MULTILINE)
    assert [room for room in rooms if room != "conf"] == layers[::-1]
    assert "conf" in rooms
