"""Read JSON that anybody may have written: whatever the bytes are, they are read, or refused with one kind of error.

A decoder fails in more ways than its own errors: nesting exhausts the stack, a number or a text cannot be held, bytes
are no text. Each of these is the sender's mistake, so each must reach the place where a record is refused, and none the
place where a query ends.
"""

import re
from typing import Final, TypeVar

import msgspec

Message = TypeVar("Message")

DEEPEST: Final = 64
"""Levels of nesting in a text that is stored. The stack bears more, but how much more depends on who reads: what is
taken once must be readable wherever it is read again."""

# Strings whole, so that brackets within them do not count. Possessive: a text without an end is given up at once.
_TOKENS: Final = re.compile(rb'"(?:[^"\\]|\\.)*+"|[\[{]|[\]}]', re.DOTALL)


class UndecodableError(ValueError):
    """The bytes are no message; the text says why."""


def decoded(decoder: "msgspec.json.Decoder[Message]", raw: bytes | str | None) -> Message:
    """Decode one message.

    Raises:
        UndecodableError: not JSON, not of this type, a value out of range, not text, or nested too deep.
    """
    if raw is None:
        raise UndecodableError("an empty record (tombstone): allowed is a JSON object")
    try:
        return decoder.decode(raw)
    except RecursionError:
        raise UndecodableError(f"nested too deep to be read: allowed are {DEEPEST} levels") from None
    except MemoryError:
        raise  # says nothing about the bytes
    except Exception as error:
        raise UndecodableError(str(error) or type(error).__name__) from error


def check_depth(raw: bytes | str) -> None:
    """Look how deep a JSON text nests, without descending into it.

    Raises:
        UndecodableError: deeper than DEEPEST.
    """
    text = raw.encode("utf-8", "surrogatepass") if isinstance(raw, str) else raw
    if text.count(b"[") + text.count(b"{") <= DEEPEST:
        return  # nearly every message
    depth = 0
    for token in _TOKENS.finditer(text):
        first = token.group()[:1]
        depth += (first in b"[{") - (first in b"]}")
        if depth > DEEPEST:
            raise UndecodableError(f"nested deeper than {DEEPEST} levels: allowed are {DEEPEST}")
