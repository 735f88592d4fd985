"""The rooms of the code and their wings, as pyproject.toml orders and docstrings tell them, for the architecture."""

import ast
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from thalweg.reference.pages import table

_FRONT: Final = "thalweg"
"""The room that people touch: its folder also holds the links through which the other rooms are imported."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wing:
    """A part of a room: a package, or a module that stands for itself."""

    name: str
    sentence: str
    parts: tuple["Wing", ...] = ()
    """Where a contract orders them: rooms of its own, from the innermost outwards."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """A folder at the top, with its wings from the innermost outwards."""

    name: str
    sentence: str
    may_import: tuple[str, ...] | None
    """Rooms that the layers allow, nearest first; None where a room stands beside them."""
    wings: tuple[Wing, ...]


def rooms_text(root: Path) -> str:
    """The table of rooms, then a table of wings for each."""
    found = rooms(root)
    summary = [(f"`{room.name}/`", room.sentence, _allowed(room)) for room in found]
    parts = [table(("room", "holds", "may import"), summary)]
    for room in found:
        if room.wings:
            rows = [(f"`{wing.name}`", wing.sentence) for wing in room.wings]
            parts.append(f"### In `{room.name}/`\n\n{table(('wing', 'holds'), rows)}")
        for wing in room.wings:
            if wing.parts:
                rows = [(f"`{part.name}`", part.sentence) for part in wing.parts]
                parts.append(f"### In `{room.name}/{wing.name}/`\n\n{table(('wing', 'holds'), rows)}")
    return "\n\n".join(parts)


def rooms(root: Path) -> list[Room]:
    """Every room: what others import before whoever imports it, and last what stands beside them all.

    Raises:
        ValueError: if a room or wing has no sentence, or a wing is in no contract.
    """
    contracts = layer_contracts(root)
    whole = [name for layer in contracts[_FRONT] for name in layer]
    front = tuple(name for name in whole if not _is_room(root, name))
    order = [name for name in whole if _is_room(root, name)]
    order.insert(sum(whole.index(name) < whole.index(front[0]) for name in order), _FRONT)
    beside = sorted(link.name for link in (root / _FRONT).iterdir() if link.is_symlink() and link.name not in order)
    found = []
    for at, name in enumerate([*beside, *order]):
        layers = (
            [[n for n in layer if n in front] for layer in contracts[_FRONT]]
            if name == _FRONT
            else contracts.get(name, [])
        )
        wings = [wing for layer in reversed(layers) for wing in layer] or _packages(root / name)
        if unlisted := set(_packages(root / name)) - set(wings):
            raise ValueError(
                f"{name}/ has {', '.join(sorted(unlisted))}, which no layers contract in pyproject.toml places; "
                "add it where its imports belong"
            )
        found.append(
            Room(
                name=name,
                sentence=sentence(root / name),
                may_import=tuple(order[at - len(beside) + 1 :]) if name in order else None,
                wings=tuple(
                    Wing(
                        name=wing,
                        sentence=sentence(root / name / wing),
                        parts=_parts(root / name / wing, contracts.get(wing, [])) if name == _FRONT else (),
                    )
                    for wing in wings
                ),
            )
        )
    return found[::-1]


def _parts(folder: Path, layers: list[list[str]]) -> tuple[Wing, ...]:
    return tuple(Wing(name=one, sentence=sentence(folder / one)) for layer in reversed(layers) for one in layer)


def layer_contracts(root: Path) -> Mapping[str, list[list[str]]]:
    """Layers of each room, and of wings that have some, by its name, outermost first; the front's are the whole's."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    return {
        contract["containers"][0].rpartition(".")[2]: [
            [name.strip() for name in layer.split(":")] for layer in contract["layers"]
        ]
        for contract in project["tool"]["importlinter"]["contracts"]
        if contract["type"] == "layers"
    }


def sentence(path: Path) -> str:
    """First line of a package's or module's docstring.

    Raises:
        ValueError: if there is none.
    """
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    told = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) if file.is_file() else None
    if not told:
        raise ValueError(
            f"{file}: wanted is a docstring whose first line says what is there; the architecture shows it"
        )
    return told.partition("\n")[0]


def _allowed(room: Room) -> str:
    if room.may_import is None:
        return "nothing of ours; stands beside"
    return ", ".join(f"`{name}`" for name in room.may_import) or "nothing of ours"


def _is_room(root: Path, name: str) -> bool:
    return (root / name).is_dir()


def _packages(folder: Path) -> list[str]:
    """Packages that lie in a folder itself, not behind a link."""
    return sorted(file.parent.name for file in folder.glob("*/__init__.py") if not file.parent.is_symlink())
