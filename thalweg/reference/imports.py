"""Who imports whom between what one sees at once: rooms in the tree, wings in a room; read from the code itself."""

import ast
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

_NAME: Final = "thalweg"

Arrows = Mapping[tuple[str, str], int]
"""How many files of the first import how much of the second."""


def modules_of(root: Path) -> dict[str, Path]:
    """Every module of the package by its name, `thalweg.sync.delta.store`; packages by theirs."""
    found = {}
    for folder in [root / _NAME, *(link for link in (root / _NAME).iterdir() if link.is_symlink())]:
        for file in folder.rglob("*.py"):
            parts = file.relative_to(root).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


def imports_of(root: Path) -> dict[str, set[str]]:
    """What each module imports of ours, at its head or late; not what only a type checker sees."""
    modules = modules_of(root)
    return {name: _imported(file, modules) for name, file in modules.items()}


def arrows(imports: Mapping[str, set[str]], within: str, parts: Sequence[str]) -> Arrows:
    """Count the imports between parts of a package, each a package or a module in it."""
    names = {f"{within}.{part}": part for part in parts}
    counted: Counter[tuple[str, str]] = Counter()
    for importer, imported in imports.items():
        for module in imported:
            ends = _part(importer, names), _part(module, names)
            if ends[0] is not None and ends[1] is not None and ends[0] != ends[1]:
                counted[ends[0], ends[1]] += 1
    return counted


def levels(parts: Sequence[str], drawn: Arrows) -> list[list[str]]:
    """Parts by the longest chain of imports below them, those that import nothing first.

    Raises:
        ValueError: they go round in a circle.
    """
    below = {part: {imported for importer, imported in drawn if importer == part} for part in parts}
    found: list[list[str]] = []
    while below:
        free = [part for part in below if not below[part] & below.keys()]
        if not free:
            raise ValueError(f"a circle of imports among {', '.join(below)}")
        found.append(free)
        for part in free:
            del below[part]
    return found


def without_detours(drawn: Arrows) -> list[tuple[str, str]]:
    """Leave out each arrow that a chain of others says already."""
    straight: dict[str, set[str]] = {}
    for importer, imported in drawn:
        straight.setdefault(importer, set()).add(imported)

    def reached(part: str) -> set[str]:
        return {end for near in straight.get(part, ()) for end in {near, *reached(near)}}

    return [
        (importer, imported)
        for importer, imported in drawn
        if not any(imported in reached(near) for near in straight[importer] - {imported})
    ]


def _part(module: str, names: Mapping[str, str]) -> str | None:
    return next((part for name, part in names.items() if f"{module}.".startswith(f"{name}.")), None)


def _imported(file: Path, modules: Mapping[str, Path]) -> set[str]:
    found = set()
    for node in _run(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in modules else node.module)
    return (found & modules.keys()) - {_NAME}  # the name of all is nobody's


def _run(node: ast.AST) -> Iterator[ast.AST]:
    """Walk what is run: everything but the bodies of `if TYPE_CHECKING`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING":
            continue
        yield child
        yield from _run(child)
