"""What comes of a foreign description: requests, and what of it they do not say."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Path = tuple[str | int, ...]
"""Keys and positions from a document's root to a value."""

Request = dict[str, Any]
"""The content of a request message, before it is checked (`streams.contract.messages.TaskRequest`)."""


class NotUnderstoodError(ValueError):
    """A description of work cannot be read: what was seen, where, and what is allowed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """Something that a description says and its request does not, or says otherwise."""

    line: int | None
    """In the file, from 1; None where the format has none."""
    what: str
    """As the description writes it."""
    why: str
    """Why it is not said, or what is said instead."""

    def __str__(self) -> str:
        """Put it into words."""
        return (f"line {self.line}: " if self.line else "") + f"{self.what}: {self.why}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Translation:
    """The requests of a file."""

    format: str
    """Whose words it was written in."""
    requests: tuple[Request, ...]
    losses: tuple[Loss, ...] = ()
    """In the order of the file."""
    lines: tuple[Mapping[Path, int], ...] = ()
    """By request, the lines of what stands in it, as far as the format tells them; other systems' files have none."""

    def line_of(self, number: int, path: Path) -> int | None:
        """Give the line of a field of a request (counted from 0), or of the nearest that holds it; None: not known."""
        known = self.lines[number] if number < len(self.lines) else {}
        return next((known[path[:length]] for length in range(len(path), -1, -1) if path[:length] in known), None)
