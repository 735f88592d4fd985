"""Task requests: decoded, checked beyond their schema, and told apart by content."""

import hashlib
from typing import Any, Final

import msgspec

from thalweg.streams.contract import request_rules
from thalweg.streams.contract.decode import UndecodableError, check_depth, decoded
from thalweg.streams.contract.messages import TaskRequest

_DECODER: Final = msgspec.json.Decoder(TaskRequest)
_CONTENT: Final = msgspec.json.Decoder(dict[str, Any])
_SORTED: Final = msgspec.json.Encoder(order="sorted")

# What says when and how often a request was sent, not what it asks for.
_NOT_CONTENT: Final = ("stamp", "observed_at", "op")


class RequestError(ValueError):
    """A request that cannot be obeyed; the message names the field, what was seen and what is allowed."""


def read_request(raw: bytes | str | None) -> TaskRequest:
    """Decode and check one request.

    Raises:
        RequestError: not JSON, a wrong type, a value out of range, or needs that contradict each other.
    """
    try:
        request = decoded(_DECODER, raw)
        check_depth(raw or b"")  # it is stored, and read again by others
    except UndecodableError as error:
        raise RequestError(str(error)) from error
    if (wrong := request_rules.objection(request, len(raw or b""))) is not None:
        raise RequestError(wrong)
    return request


def content_hash(raw: bytes | str) -> str:
    """Tell requests apart by what they ask for, unknown fields included: 128 bits, in hex.

    Raises:
        RequestError: an unknown field holds what cannot be read: a number or a text that is none.
    """
    try:
        content = decoded(_CONTENT, raw)
        for name in _NOT_CONTENT:
            content.pop(name, None)
        text = _SORTED.encode(content)
    except (UndecodableError, OverflowError, msgspec.EncodeError) as error:
        raise RequestError(f"a field that is not ours cannot be read: {error}") from error
    return hashlib.blake2b(text, digest_size=16).hexdigest()
