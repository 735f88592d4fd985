"""Read JSON that anybody may have written: whatever the bytes are, they are read, or refused with one kind of error.

A decoder fails in more ways than its own errors: nesting exhausts the stack, a number or a text cannot be held, bytes
are no text. Each of these is the sender's mistake, so each must reach the place where a record is refused, and none the
place where a query ends.
"""

import json
import re
from typing import Any, Final, TypeVar

import msgspec

Message = TypeVar("Message")

DEEPEST: Final = 64
"""Levels of nesting in a text that is stored. The stack bears more, but how much more depends on who reads: what is
taken once must be readable wherever it is read again."""

_ESCAPES: Final = re.compile(rb"\\(?:u([0-9a-fA-F]{4})|.)", re.DOTALL)

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
        raise UndecodableError(words_of(error, raw)) from error


def words_of(error: Exception, raw: bytes | str) -> str:
    """Say why bytes are no message.

    Args:
        error: of the decoder, which says of half a character that the text is cut off.
        raw: what it was to decode.
    """
    if isinstance(error, msgspec.ValidationError):
        return str(error)
    text = raw.encode("utf-8", "surrogatepass") if isinstance(raw, str) else bytes(raw)
    if (found := _lone_surrogate(text)) is not None:
        half, at = found
        return f"text that is no Unicode: a lone surrogate, {half}, at byte {at:,}{_place_of(text)}"
    return str(error) or type(error).__name__


def _lone_surrogate(text: bytes) -> tuple[str, int] | None:
    """Find an escape that is half a character, and where it begins."""
    high: re.Match[bytes] | None = None
    for escape in _ESCAPES.finditer(text):
        code = int(escape[1] or b"0", 16)
        follows = high is not None and high.end() == escape.start()
        is_low = 0xDC00 <= code < 0xE000
        if high is not None and not (follows and is_low):
            break
        if is_low and high is None:
            return escape[0].decode(), escape.start()
        high = escape if 0xD800 <= code < 0xDC00 else None
    return None if high is None else (high[0].decode(), high.start())


def _place_of(text: bytes) -> str:
    """Name the field with the first text that is none, where the rest can be read."""
    try:
        left: list[tuple[str, Any]] = [("", json.loads(text))]
    except (ValueError, RecursionError):
        return ""
    while left:
        at, value = left.pop()
        if isinstance(value, str):
            if any(0xD800 <= ord(character) < 0xE000 for character in value):
                return f", in {at}" if at else ""
        elif isinstance(value, dict):
            steps = [(f"{at}.{key}" if at else key, key, inner) for key, inner in value.items()]
            for where, key, _ in steps:
                if any(0xD800 <= ord(character) < 0xE000 for character in key):
                    return f", in a name within {at}" if at else f", in the name {where!r}"
            left += reversed([(where, inner) for where, _, inner in steps])
        elif isinstance(value, list):
            left += reversed([(f"{at}[{index}]", inner) for index, inner in enumerate(value)])
    return ""


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
