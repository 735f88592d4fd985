"""A document on which what is understood is crossed out, so that everything else can be said."""

from collections.abc import Callable, Iterator
from typing import Any, Final, TypeVar

from thalweg.translate.documents import SourceDocument
from thalweg.translate.translation import Loss, NotUnderstoodError, Path

UNKNOWN_HERE: Final = "not said: a request has nothing like it"

_MISSING: Final = object()
Read = TypeVar("Read")


class Sheet:
    """See the module's words. Paths are written as people do: "spec.template.spec"."""

    def __init__(self, document: SourceDocument) -> None:
        self._document = document
        self._crossed: set[Path] = set()
        self._losses: list[tuple[Path, str]] = []
        self._secrets: set[Path] = set()

    def take(self, path: str | Path, *kinds: type, default: Any = None) -> Any:
        """Take what stands there, with all that is in it, and cross it out.

        Args:
            path: where.
            kinds: what it may be; none means anything. A number may be written where text is wanted.
            default: where there is nothing, or null.

        Raises:
            NotUnderstoodError: it is something else.
        """
        at = _path(path)
        value = self.look(at)
        self._crossed.add(at)
        if value is None:
            return default
        if float in kinds and isinstance(value, int) and not isinstance(value, bool):
            return value
        if kinds == (str,) and isinstance(value, int | float) and not isinstance(value, bool):
            return str(value)
        if kinds and (not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds)):
            wanted = " or ".join(_WORDS[kind] for kind in kinds)
            raise NotUnderstoodError(f"{self.where(at)}: wanted is {wanted}, seen {_seen(value)}")
        return value

    def look(self, path: str | Path) -> Any:
        """Give what stands there, and leave it; None where there is nothing."""
        value = self._document.value
        for key in _path(path):
            value = _within(value, key)
        return None if value is _MISSING else value

    def mapping(self, path: str | Path) -> dict[str, Any]:
        """Give the mapping that stands there, and leave it; an empty one where there is nothing.

        Raises:
            NotUnderstoodError: something else stands there.
        """
        return self._of_kind(path, dict) or {}

    def items(self, path: str | Path) -> list[Any]:
        """Give the list that stands there; see `mapping`."""
        return self._of_kind(path, list) or []

    def _of_kind(self, path: str | Path, kind: type) -> Any:
        value = self.look(path)
        if value is not None and not isinstance(value, kind):
            raise self.refuse(path, f"wanted is {_WORDS[kind]}, seen {_seen(value)}")
        return value

    def truth(self, path: str) -> bool:
        """Take a yes or no, in whichever words."""
        value = self.take(path, bool, str, default=False)
        if isinstance(value, bool):
            return value
        if value.lower() in _YES or value.lower() in _NO:
            return value.lower() in _YES
        raise NotUnderstoodError(f"{self.where(_path(path))}: wanted is true or false, seen {_seen(value)}")

    def read(self, path: str | Path, read: Callable[[Any], Read]) -> Read:
        """Take what stands there by a reader of its own, whose objection is said with the place."""
        try:
            return read(self.take(path))
        except NotUnderstoodError as error:
            raise self.refuse(path, str(error)) from error

    def ignore(self, *paths: str | Path) -> None:
        """Cross out what changes nothing here."""
        self._crossed.update(map(_path, paths))

    def lose(self, path: str | Path, why: str, *, secret: bool = False) -> None:
        """Cross out what is there, and say why it is not said, without the value of a secret; nothing for nothing."""
        at = _path(path)
        if self.look(at) is not None:
            self._crossed.add(at)
            self._losses.append((at, why))
            self._secrets |= {at} if secret else set()

    def has_crossed(self, path: Path) -> bool:
        """Tell whether this very place is crossed out."""
        return path in self._crossed

    def refuse(self, path: str | Path, why: str) -> NotUnderstoodError:
        """Make the error of something that stands there."""
        return NotUnderstoodError(f"{self.where(_path(path))}: {why}")

    def where(self, path: Path) -> str:
        """Name a place for a person."""
        line = self._line(path)
        return (f"line {line}: " if line else "") + spelt(path)

    def losses(self) -> list[Loss]:
        """Say all that is not said in the request, in the order of the document."""
        left = [(path, UNKNOWN_HERE) for path in self._left(self._document.value, ())]
        found = [Loss(line=self._line(path), what=self._shown(path), why=why) for path, why in (*self._losses, *left)]
        return sorted(found, key=lambda loss: loss.line or 0)

    def _left(self, value: Any, at: Path) -> Iterator[Path]:
        """Give the outermost values of which nothing is crossed out."""
        if at in self._crossed or value is None:
            return
        if at and not any(path[: len(at)] == at for path in self._crossed):
            yield at
        elif isinstance(value, dict | list):
            for key, item in value.items() if isinstance(value, dict) else enumerate(value):
                yield from self._left(item, (*at, key))

    def _line(self, path: Path) -> int | None:
        return self._document.lines.get(path)

    def _shown(self, path: Path) -> str:
        value = self.look(path)
        is_shown = not isinstance(value, dict | list) and path not in self._secrets
        return spelt(path) + (f": {_short(str(value))}" if is_shown else "")


_WORDS: Final = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    dict: "a mapping",
    list: "a list",
}
_YES: Final = frozenset({"yes", "on", "y", "true"})
_NO: Final = frozenset({"no", "off", "n", "false"})
_LONGEST: Final = 60


def spelt(path: Path) -> str:
    """Write a path as people do."""
    return (
        "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path).removeprefix(".") or "the document"
    )


def _path(path: str | Path) -> Path:
    return tuple(path.split(".")) if isinstance(path, str) else path


def _within(value: Any, key: str | int) -> Any:
    if isinstance(value, dict):
        return value.get(key, _MISSING)
    if isinstance(value, list) and isinstance(key, int) and key < len(value):
        return value[key]
    return _MISSING


def _seen(value: Any) -> str:
    return _short(repr(value)) if not isinstance(value, dict | list) else _WORDS[type(value)]


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"
