"""A digest of code: of modules and all that they import of one room; comments, layout and docstrings left out."""

import ast
import hashlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

SourceOf = Callable[[str], Path]
"""File of a module that is named within the room."""


def digest_of(roots: Iterable[str], room: str, source_of: SourceOf) -> str:
    """Return a digest of what some modules run.

    Args:
        roots: their names within the room.
        room: what all its modules' names begin with, as `thalweg.sync.`; others are left out.
        source_of: gives a module's file, which need not exist.
    """
    found = hashlib.blake2b(digest_size=16)
    for name in modules_from(roots, room, source_of):
        tree = _without_docstrings(_parsed(source_of(name)))
        found.update(name.encode() + b"\0" + ast.dump(tree).encode() + b"\0")
    return found.hexdigest()


def modules_from(roots: Iterable[str], room: str, source_of: SourceOf) -> list[str]:
    """Return modules and those of their room that they import, sorted."""
    found: set[str] = set()
    waiting = list(roots)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += _imported(_parsed(source_of(name)), room, source_of)
    return sorted(found)


def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _imported(tree: ast.Module, room: str, source_of: SourceOf) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(room):
            module = str(node.module).removeprefix(room)
            is_file = source_of(module).is_file()
            yield from [module] if is_file else (f"{module}.{alias.name}" for alias in node.names)


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body = node.body[1:]
    return tree
