"""The page that draws the rooms: the house, and each room's wings, from the imports of the code."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from thalweg.reference.imports import Arrows, arrows, imports_of, levels, modules_of, without_detours
from thalweg.reference.pages import page_text, table
from thalweg.reference.rooms import Room, rooms
from thalweg.reference.walks import WALKS, Walk

_HEAD: Final = """\
An arrow points from who imports to what is imported, so data flows the other way, from left to right. What a chain of
arrows says already has no arrow of its own; the table counts those, too. No arrow points from a wing outwards.
What each wing holds: [architecture](../explanation/architecture.md#rooms)."""

_WALKS: Final = """\
## Three walks through the house

The files that a record passes, in the order in which they are first entered, as the test sees it that follows one
(`tests/unit/jobs/test_walks.py`). Left out are `microbatch` and what each job decides (`placer`, `observer`,
`replicator`), which call one after the other, and what every file asks for something small (stamps, ids, contracts,
metrics). A file that is entered again on the way is named with the reason."""


def rooms_page(root: Path) -> str:
    """The whole page."""
    imports = imports_of(root)
    found = rooms(root)
    inside = {
        room.name: (
            names := [wing.name for wing in room.wings],
            arrows(imports, "thalweg" if room.name == "thalweg" else f"thalweg.{room.name}", names),
        )
        for room in found
    }
    files = modules_of(root).values()
    rows = []
    for room in found:
        names, drawn = inside[room.name]
        count = sum(room_of(file, root) == room.name for file in files)
        rows.append((f"`{room.name}/`", str(count), str(len(names)), str(len(levels(names, drawn))), str(len(drawn))))
    parts = [
        _HEAD,
        table(("room", "files", "wings", "levels", "arrows"), rows),
        *_walks(),
        "## The house",
        _drawn(*_house(root, found)),
    ]
    for room in found:
        names, drawn = inside[room.name]
        if names:
            parts += [f"## `{room.name}/`", room.sentence, _drawn(names, drawn)]
    return page_text("Rooms, drawn", *parts)


def room_of(file: Path, root: Path) -> str:
    """Name the room of a file: its folder in `thalweg/` that is a link, or `thalweg` itself."""
    first = file.relative_to(root / "thalweg").parts[0]
    return first if (root / "thalweg" / first).is_symlink() else "thalweg"


def _house(root: Path, found: Sequence[Room]) -> tuple[list[str], Arrows]:
    names = [room.name for room in found]
    modules = modules_of(root)
    counted: dict[tuple[str, str], int] = {}
    for importer, imported in imports_of(root).items():
        for module in imported:
            ends = room_of(modules[importer], root), room_of(modules[module], root)
            if ends[0] != ends[1]:
                counted[ends] = counted.get(ends, 0) + 1
    return names, counted


def _drawn(names: Sequence[str], drawn: Arrows) -> str:
    lines = ["flowchart RL"]
    lines += [f'  {_id(name)}["{name}"]' for level in levels(names, drawn) for name in level]
    lines += [f"  {_id(importer)} --> {_id(imported)}" for importer, imported in sorted(without_detours(drawn))]
    return "```mermaid\n{}\n```".format("\n".join(lines))


def _walks() -> list[str]:
    parts = [_WALKS]
    for walk in WALKS:
        again = [(f"`{file}`", reason) for file, reason in walk.again.items()]
        parts += [f"**{walk.title}.** {walk.sentence}", _walked(walk), table(("entered again", "for"), again)]
    return parts


def _walked(walk: Walk) -> str:
    lines = ["flowchart LR"]
    ids = {file: f"f{at}" for at, file in enumerate(walk.files)}
    for file, name in ids.items():
        lines.append(f'  {name}["{file.removesuffix(".py")}"]')
    lines += [f"  {ids[one]} --> {ids[next_]}" for one, next_ in zip(walk.files, walk.files[1:], strict=False)]
    return "```mermaid\n{}\n```".format("\n".join(lines))


def _id(name: str) -> str:
    return f"at_{name}"  # some names, such as `end`, mean something to mermaid
