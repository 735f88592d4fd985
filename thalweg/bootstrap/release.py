"""Make the next version: ``.venv/bin/python -m thalweg.bootstrap.release``.

Each change that a user can see has a fragment, ``changelog.d/<name>.<kind>.md``: one sentence or a few. A release takes
them all into CHANGELOG.md under the next version, which their kinds decide, and writes that version to pyproject.toml.
Read the difference, commit it, tag it.
"""

import re
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Final

from thalweg.bootstrap.progress import say
from thalweg.conf.environment import PROJECT_ROOT

KINDS: Final[Mapping[str, str]] = {
    # kind: its heading, in this order
    "breaking": "What must be done differently",
    "added": "New",
    "changed": "Changed",
    "fixed": "Mended",
}
_VERSION: Final = re.compile(r'^version = "(\d+)\.(\d+)\.(\d+)"', re.MULTILINE)
_FIRST: Final = "\n## "


def main(root: Path = PROJECT_ROOT) -> int:
    """Release; return the exit code."""
    folder, changelog, project = root / "changelog.d", root / "CHANGELOG.md", root / "pyproject.toml"
    fragments = sorted(path for path in folder.glob("*.md") if path.name != "README.md")
    if unknown := [path.name for path in fragments if kind_of(path) not in KINDS]:
        say(f"changelog.d/{unknown[0]}: a fragment is named <name>.<kind>.md; kinds are {', '.join(KINDS)}")
        return 2
    if not fragments:
        say("changelog.d holds no fragment: nothing that a user can see has changed")
        return 2
    text = project.read_text(encoding="utf-8")
    version = next_version(version_in(text), [kind_of(path) for path in fragments])
    entry = section(version, datetime.now(UTC).date(), [(kind_of(p), p.read_text(encoding="utf-8")) for p in fragments])
    before, _, rest = changelog.read_text(encoding="utf-8").partition(_FIRST)
    changelog.write_text(f"{before.rstrip()}\n\n{entry}{_FIRST + rest if rest else ''}", encoding="utf-8")
    project.write_text(_VERSION.sub(f'version = "{version}"', text, count=1), encoding="utf-8")
    for path in fragments:
        path.unlink()
    say(f"version {version}: read the difference, commit it, then git tag v{version}")
    return 0


def kind_of(fragment: Path) -> str:
    """Return the kind in a fragment's name."""
    return fragment.name.removesuffix(".md").rpartition(".")[2]


def version_in(pyproject: str) -> tuple[int, int, int]:
    """Return the version that pyproject.toml states.

    Raises:
        ValueError: It states none.
    """
    found = _VERSION.search(pyproject)
    if found is None:
        raise ValueError('pyproject.toml has no line `version = "1.2.3"`')
    major, minor, patch = map(int, found.groups())
    return major, minor, patch


def next_version(now: tuple[int, int, int], kinds: Sequence[str]) -> str:
    """Count up as semantic versioning does; before 1.0.0 what breaks counts the middle number up."""
    major, minor, patch = now
    if "breaking" in kinds and major:
        return f"{major + 1}.0.0"
    if {"breaking", "added"} & set(kinds):
        return f"{major}.{minor + 1}.0"
    return f"{major}.{minor}.{patch + 1}"


def section(version: str, day: date, changes: Sequence[tuple[str, str]]) -> str:
    """Write a version's part of the changelog, its changes by kind."""
    lines = [f"## {version}, {day.isoformat()}", ""]
    for kind, heading in KINDS.items():
        texts = [" ".join(text.split()) for found, text in changes if found == kind]
        if texts:
            lines += [f"### {heading}", "", *(f"- {text}" for text in texts), ""]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
