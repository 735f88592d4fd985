"""CloudEvents 1.0 in Kafka's binary mode: the event's own attributes travel as `ce_` headers, the value is plain JSON.

Ids are derived from content, never drawn: the same fact always carries the same id, so a replay of a batch repeats its
ids and every reader can tell a repetition from news. (CloudEvents: "producers MUST ensure that source + id is unique
for each distinct event", and may repeat them for a duplicate.)
"""

import functools
import hashlib
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Final

import msgspec

Headers = list[tuple[str, bytes]]

SPEC_VERSION: Final = b"1.0"
TYPE_PREFIX: Final = "thalweg."
_LAST_MS: Final = 253_402_300_799_999  # the end of the year 9999
_JSON: Final = ("content-type", b"application/json")
_SPEC: Final = ("ce_specversion", SPEC_VERSION)


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """The CloudEvents attributes of one record."""

    event_id: str
    source: str
    event_type: str
    time_ms: int


_NAMES: Final = {kind: kind.__name__.encode() for kind in (str, int, bytes)}


def content_id(*parts: str | int | bytes) -> str:
    """Derive an id from what an event says: 128 bits, in hex.

    The parts' types and lengths are hashed with them, so ("ab", "c") and ("a", "bc"), 1 and "1" give different ids.
    """
    pieces: list[bytes] = []
    for part in parts:
        kind, raw = type(part), part if isinstance(part, bytes) else str(part).encode()
        pieces += (b"%s%d:" % (_NAMES.get(kind) or kind.__name__.encode(), len(raw)), raw)
    return hashlib.blake2b(b"".join(pieces), digest_size=16).hexdigest()


def write_headers(envelope: Envelope) -> Headers:
    """Headers for one record."""
    return [
        _SPEC,
        ("ce_id", envelope.event_id.encode()),
        ("ce_source", envelope.source.encode()),
        ("ce_type", (TYPE_PREFIX + envelope.event_type).encode()),
        ("ce_time", _timestamp(envelope.time_ms)),
        _JSON,
    ]


@functools.lru_cache(maxsize=256)  # the events of one batch share their moment
def _timestamp(time_ms: int) -> bytes:
    """RFC 3339 with milliseconds. A record's own time may be anything; what is no date becomes the nearest one."""
    time_ms = min(max(time_ms, 0), _LAST_MS)
    moment = datetime.fromtimestamp(time_ms // 1000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{time_ms % 1000:03d}Z".encode()


def read_headers(headers: Iterable[tuple[str, bytes]] | Sequence[tuple[str, bytes]]) -> Envelope | None:
    """Read a record's envelope; None where a plain producer wrote none, or one that is not CloudEvents 1.0."""
    found = dict(headers)
    try:
        if found["ce_specversion"] != SPEC_VERSION:
            return None
        moment = datetime.fromisoformat(found["ce_time"].decode())
        return Envelope(
            event_id=found["ce_id"].decode(),
            source=found["ce_source"].decode(),
            event_type=found["ce_type"].decode().removeprefix(TYPE_PREFIX),
            time_ms=round(moment.timestamp() * 1000),
        )
    except (KeyError, ValueError):
        return None
