"""A replicated record: the state that is merged, and the value an application reads from it.

A record is a causal CRDT: five drawers of fields, one per policy, under one version vector that says which writes the
whole state contains. It travels and rests in this form; JSON is its only encoding.
"""

from typing import Any

import msgspec

from thalweg.sync.protocol.stamps import ZERO, Hlc
from thalweg.sync.protocol.vectors import Vector

# Below Kafka's usual message limit of 1 MB, with room for headers and the batch around it.
MAX_RECORD_BYTES = 900_000
MAX_KEY_BYTES = 1024
# JSON readers give up between some hundred and some thousand levels; one value must not stop any of them.
MAX_DEPTH = 64
# Record keys and the centre's own messages share the compacted topic; NUL starts the latter's keys.
RESERVED_KEY_PREFIX = "\0"


class KeyRefusedError(ValueError):
    """The key cannot name a record."""


class Register(msgspec.Struct, frozen=True, array_like=True):
    """A value and when it was written."""

    value: Any
    at: Hlc


class Dot(msgspec.Struct, frozen=True, array_like=True):
    """One addition of a set element: the writer's sequence and when."""

    seq: int
    at: Hlc


class CounterTally(msgspec.Struct, frozen=True, array_like=True):
    """One writer's own total of a counter, as of its sequence."""

    seq: int
    total: int
    at: Hlc


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Everything known about one key.

    Invariant: whatever lies in a drawer is newer than `deleted`. Empty fields are absent, so equal states have equal
    encodings.
    """

    key: str
    written: Hlc = ZERO  # newest write that was not a delete
    deleted: Hlc = ZERO  # newest delete
    version: int = 0  # revisions along the longest chain of writes
    vector: Vector = {}
    last: dict[str, Register] = {}  # last writer wins
    maxima: dict[str, tuple[Register, ...]] = {}  # no entry is both smaller and older than another
    minima: dict[str, tuple[Register, ...]] = {}
    counters: dict[str, dict[str, CounterTally]] = {}  # field -> actor -> its total
    sets: dict[str, dict[str, dict[str, Dot]]] = {}  # field -> element -> actor -> its latest addition

    @property
    def live(self) -> bool:
        """Say whether the record exists for an application; otherwise it is a tombstone."""
        return self.written > self.deleted

    @property
    def at(self) -> Hlc:
        """The newest stamp in the record, by which the table is merged."""
        return max(self.written, self.deleted)


_NESTING = (dict, list)  # what `dict | list` would make anew for every value

_DETERMINISTIC = msgspec.json.Encoder(order="deterministic")
_RECORD = msgspec.json.Decoder(Record)


def canonical(value: Any) -> bytes:
    """Encode so that equal values give equal bytes."""
    return _DETERMINISTIC.encode(value)


def encode_record(record: Record) -> bytes:
    """Return the record's only encoding."""
    return _DETERMINISTIC.encode(record)


def decode_record(text: bytes | str) -> Record:
    """Read a record.

    Raises:
        msgspec.DecodeError: Not JSON, or not a record.
    """
    return _RECORD.decode(text)


def checked_key(key: str) -> str:
    """Return the key unchanged.

    Raises:
        KeyRefusedError: Empty, too long, not encodable or reserved.
    """
    if key.isascii() and 0 < len(key) <= MAX_KEY_BYTES and key[0] != RESERVED_KEY_PREFIX:
        return key
    try:
        size = len(key.encode())
    except UnicodeEncodeError as error:
        raise KeyRefusedError(
            f"key {key[:60]!r} is not valid Unicode: {error.reason}; remove lone surrogates"
        ) from None
    if not 0 < size <= MAX_KEY_BYTES:
        raise KeyRefusedError(f"key of {size} bytes; allowed are 1 to {MAX_KEY_BYTES} bytes of UTF-8")
    if key.startswith(RESERVED_KEY_PREFIX):
        raise KeyRefusedError(f"key {key[:60]!r} starts with U+0000, which is reserved; choose another first character")
    return key


def malformed(record: Record) -> str | None:
    """Return what keeps a decoded state from being one, or None: types are right by now, meanings need not be.

    What lies in a drawer must be stamped after the delete and not after the newest write, or it would win by a stamp
    that nobody has judged; and its sequence must be one that the vector contains.
    """
    deleted, written, vector = record.deleted, record.written, record.vector
    for name, register in record.last.items():
        if not deleted < register.at <= written:
            return _wrong_stamp(record, name, register.at)
        if isinstance(register.value, _NESTING) and too_deep(register.value):
            return f"field {name[:80]!r} is nested deeper than {MAX_DEPTH}"
    for drawer in (record.maxima, record.minima):
        for name, registers in drawer.items():
            if not registers or any(type(register.value) not in (int, float) for register in registers):
                return f"field {name[:80]!r} of policy max or min holds no numbers; a writer keeps one or more"
            for register in registers:
                if not deleted < register.at <= written:
                    return _wrong_stamp(record, name, register.at)
    for name, tallies in record.counters.items():
        if not tallies:
            return f"counter {name[:80]!r} has no totals; leave an empty field out"
        for actor, tally in tallies.items():
            if not deleted < tally.at <= written:
                return _wrong_stamp(record, name, tally.at)
            if not 0 < tally.seq <= vector.get(actor, 0):
                return _wrong_sequence(name, actor, tally.seq)
    for name, elements in record.sets.items():
        if not elements or not all(elements.values()):
            return f"set {name[:80]!r} is empty or has an element nobody added; leave it out"
        for dots in elements.values():
            for actor, dot in dots.items():
                if not deleted < dot.at <= written:
                    return _wrong_stamp(record, name, dot.at)
                if not 0 < dot.seq <= vector.get(actor, 0):
                    return _wrong_sequence(name, actor, dot.seq)
    return None


def _wrong_stamp(record: Record, name: str, at: Hlc) -> str:
    return (
        f"field {name[:80]!r} is stamped {tuple(at)}; allowed is after the record's delete "
        f"{tuple(record.deleted)} and up to its newest write {tuple(record.written)}"
    )


def _wrong_sequence(name: str, actor: str, seq: int) -> str:
    return f"field {name[:80]!r} holds sequence {seq} of {actor[:200]}, which is not in the record's vector"


def too_deep(value: Any) -> bool:
    """Say whether a value is nested deeper than `MAX_DEPTH`."""
    if not isinstance(value, _NESTING):
        return False
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for one in level
            for inner in (one.values() if isinstance(one, dict) else one)
            if isinstance(inner, _NESTING)
        ]
        if not level:
            return False
    return True


def view(record: Record | None) -> dict[str, Any] | None:
    """Return what an application reads: field -> value, or None for a record that does not exist.

    Sets read as sorted lists. If writers disagreed about a field's policy, both kinds are kept and the one written
    last is shown.
    """
    if record is None or not record.live:
        return None
    if not (record.maxima or record.minima or record.counters):
        # The common shapes, without comparing stamps: registers alone, or with sets of other names.
        plain: dict[str, Any] = {name: register.value for name, register in record.last.items()}
        if record.sets.keys().isdisjoint(plain):
            for name, elements in record.sets.items():
                plain[name] = sorted(elements)
            return {name: plain[name] for name in sorted(plain)}
    shown: dict[str, tuple[Hlc, int, Any]] = {}
    for name, register in record.last.items():
        shown[name] = (register.at, 0, register.value)
    for rank, drawer, choose in ((1, record.maxima, max), (2, record.minima, min)):
        for name, registers in drawer.items():
            _show(shown, name, max(r.at for r in registers), rank, choose(r.value for r in registers))
    for name, tallies in record.counters.items():
        _show(shown, name, max(t.at for t in tallies.values()), 3, sum(t.total for t in tallies.values()))
    for name, elements in record.sets.items():
        newest = max(dot.at for dots in elements.values() for dot in dots.values())
        _show(shown, name, newest, 4, sorted(elements))
    return {name: shown[name][2] for name in sorted(shown)}


def _show(shown: dict[str, tuple[Hlc, int, Any]], name: str, at: Hlc, rank: int, value: Any) -> None:
    if name not in shown or (at, rank) > shown[name][:2]:
        shown[name] = (at, rank, value)
