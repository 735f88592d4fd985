"""What comes of a foreign description: requests, and what of it they do not say."""

from dataclasses import dataclass
from typing import Any

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
