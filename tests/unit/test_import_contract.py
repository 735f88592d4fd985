"""The layers of docs/architecture.md, as import-linter reads them from pyproject.toml."""

import re
import subprocess
import sys
import tomllib

from thalweg.conf.environment import PROJECT_ROOT

PYPROJECT = PROJECT_ROOT / "pyproject.toml"


def test_every_import_points_the_right_way() -> None:
    # In a process of its own: import-linter turns off the loggers of whoever calls it.
    lint = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as lint; lint()", "--no-cache"]
    done = subprocess.run(lint, check=False, cwd=PROJECT_ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Contracts: 3 kept, 0 broken" in done.stdout


def test_the_architecture_page_names_the_same_rooms_in_the_same_order() -> None:
    contracts = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
    (layers,) = (contract["layers"] for contract in contracts if contract["type"] == "layers")
    page = (PROJECT_ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rooms = re.findall(r"^\| `(\w+)/` \|", page, flags=re.MULTILINE)
    assert [room for room in rooms if room != "conf"] == layers[::-1]
    assert "conf" in rooms
