"""What a writer does to a record: assign, raise, lower, add, remove, increment, delete.

A write makes a whole new state from the state its writer saw, so whoever receives it has everything it builds on,
whatever was lost or overtaken on the way.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from thalweg.sync.protocol.policies import MergePolicy
from thalweg.sync.protocol.records import MAX_DEPTH, CounterTally, Dot, Record, Register, too_deep
from thalweg.sync.protocol.stamps import MAX_COUNTER, Hlc
from thalweg.sync.protocol.vectors import Vector


class ChangeRefusedError(ValueError):
    """The change cannot be made; the message names the field and what is allowed."""


class Assign(msgspec.Struct, frozen=True, tag_field="op", tag="assign"):
    """Last writer wins."""

    field: str
    value: Any


class Raise(msgspec.Struct, frozen=True, tag_field="op", tag="raise"):
    """At least this number."""

    field: str
    value: int | float


class Lower(msgspec.Struct, frozen=True, tag_field="op", tag="lower"):
    """At most this number."""

    field: str
    value: int | float


class Add(msgspec.Struct, frozen=True, tag_field="op", tag="add"):
    """Add the elements to a set; against a concurrent removal the addition wins."""

    field: str
    elements: tuple[str, ...]


class Remove(msgspec.Struct, frozen=True, tag_field="op", tag="remove"):
    """Remove the elements as far as the writer sees them."""

    field: str
    elements: tuple[str, ...]


class Increment(msgspec.Struct, frozen=True, tag_field="op", tag="increment"):
    """Add a whole number, negative to count down."""

    field: str
    by: int = 1


class Delete(msgspec.Struct, frozen=True, tag_field="op", tag="delete"):
    """End the record: everything written before this stamp, wherever it is, is gone."""


Change = Assign | Raise | Lower | Add | Remove | Increment | Delete

_POLICY = {
    Assign: MergePolicy.LAST_WRITER,
    Raise: MergePolicy.MAX,
    Lower: MergePolicy.MIN,
    Add: MergePolicy.ADD_WINS_SET,
    Remove: MergePolicy.ADD_WINS_SET,
    Increment: MergePolicy.COUNTER,
}


def changed_fields(changes: Sequence[Change]) -> tuple[str, ...]:
    """Return "policy:field" of each changed field, sorted; a delete has none."""
    return tuple(sorted({f"{_POLICY[type(c)]}:{c.field}" for c in changes if not isinstance(c, Delete)}))


def is_delete(changes: Sequence[Change]) -> bool:
    """Say whether the write ends the record."""
    return any(isinstance(change, Delete) for change in changes)


def changed_record(
    key: str, base: Record | None, changes: Sequence[Change], actor: str, seq: int, at: Hlc, version: int | None = None
) -> Record:
    """Return the state after the write.

    Args:
        key: The record's key.
        base: What the writer sees; None for nothing.
        changes: Applied in order; a delete must stand alone.
        actor: The writer.
        seq: Its sequence of this write, higher than any before.
        at: Its stamp, newer than anything in `base`. (A plain producer's may go back; what it adds or counts keeps
            the newer stamp.)
        version: The writer's own; None counts on from the base.

    Raises:
        ChangeRefusedError: A change is impossible.
    """
    before = base or Record(key=key)
    vector: Vector = {**before.vector, actor: seq}
    revision = before.version + 1 if version is None else max(version, before.version)
    if is_delete(changes):
        if len(changes) > 1:
            raise ChangeRefusedError(f"a delete of {key!r} came with {len(changes) - 1} other changes; send it alone")
        return Record(key=key, written=before.written, deleted=at, version=revision, vector=vector)
    drawers: dict[str, dict[str, Any]] = {}
    for change in changes:
        _change(before, drawers, change, actor, seq, at)
    return msgspec.structs.replace(before, written=at, version=revision, vector=vector, **drawers)


def _change(before: Record, drawers: dict[str, dict[str, Any]], change: Change, actor: str, seq: int, at: Hlc) -> None:
    """Put the changed field into a copy of its drawer."""
    match change:
        case Assign():
            if too_deep(change.value):
                raise ChangeRefusedError(f"field {change.field!r} is nested deeper than {MAX_DEPTH}; make it flatter")
            _opened(before, drawers, "last")[change.field] = Register(change.value, at)
        case Raise():
            drawer = _opened(before, drawers, "maxima")
            drawer[change.field] = _extreme(drawer.get(change.field, ()), _number(change.field, change.value), at, max)
        case Lower():
            drawer = _opened(before, drawers, "minima")
            drawer[change.field] = _extreme(drawer.get(change.field, ()), _number(change.field, change.value), at, min)
        case Increment():
            drawer = _opened(before, drawers, "counters")
            tallies = drawer.get(change.field, {})
            if type(change.by) is not int:
                raise ChangeRefusedError(f"counter {change.field!r} counts whole numbers, not {change.by!r}")
            mine = tallies.get(actor, CounterTally(seq, 0, at))
            if abs(mine.total + change.by) > MAX_COUNTER:
                raise ChangeRefusedError(f"counter {change.field!r} would pass ±{MAX_COUNTER}; it is {mine.total} here")
            drawer[change.field] = {**tallies, actor: CounterTally(seq, mine.total + change.by, max(at, mine.at))}
        case Add():
            drawer = _opened(before, drawers, "sets")
            elements = dict(drawer.get(change.field, {}))
            for element in change.elements:
                # One addition replaces those it has seen: the state does not grow with repeated additions.
                seen = elements.get(element, {}).values()
                elements[element] = {actor: Dot(seq, max((at, *(dot.at for dot in seen))))}
            if elements:
                drawer[change.field] = elements
        case Remove():
            drawer = _opened(before, drawers, "sets")
            left = {e: dots for e, dots in drawer.get(change.field, {}).items() if e not in change.elements}
            if left:
                drawer[change.field] = left
            else:
                drawer.pop(change.field, None)
        case Delete():  # pragma: no cover - the caller has dealt with it
            raise AssertionError(change)


def _opened(before: Record, drawers: dict[str, dict[str, Any]], name: str) -> dict[str, Any]:
    if name not in drawers:
        drawers[name] = dict(getattr(before, name))
    return drawers[name]


def _extreme(known: tuple[Register, ...], value: int | float, at: Hlc, choose: Any) -> tuple[Register, ...]:
    """Restate the extreme as the writer now sees it: its own value or the one it saw, under its own stamp."""
    reached = choose([value, *(register.value for register in known)])
    return (Register(reached, at),)


def _number(field: str, value: int | float) -> int | float:
    """Return one form for equal numbers, so that equal states have equal encodings."""
    if isinstance(value, bool) or not math.isfinite(value) or abs(value) > MAX_COUNTER:
        raise ChangeRefusedError(f"field {field!r} is {value!r}; allowed are finite numbers up to ±{MAX_COUNTER}")
    return int(value) if value == int(value) else value


# ---- plain values ----------------------------------------------------------------------------------------------


def changes_from_value(value: Any, policies: Mapping[str, MergePolicy]) -> tuple[Change, ...]:
    """Say a plain JSON value in changes, for producers that send only that.

    An object sets each of its fields by the field's policy (last writer when none is declared); a set field takes a
    list of strings and adds them; anything that is not an object becomes the field "value".

    Raises:
        ChangeRefusedError: A value does not fit its field's policy.
    """
    if not isinstance(value, dict):
        return (Assign("value", value),)
    return tuple(_plain_change(name, item, policies.get(name, MergePolicy.LAST_WRITER)) for name, item in value.items())


def _plain_change(name: str, item: Any, policy: MergePolicy) -> Change:
    if policy is MergePolicy.LAST_WRITER:
        return Assign(name, item)
    if policy is MergePolicy.ADD_WINS_SET:
        if not isinstance(item, list) or not all(isinstance(element, str) for element in item):
            raise ChangeRefusedError(f"field {name!r} is an add-wins set; give a list of strings, not {item!r:.80}")
        return Add(name, tuple(item))
    if isinstance(item, bool) or not isinstance(item, int | float):
        raise ChangeRefusedError(f"field {name!r} has policy {policy}; give a number, not {item!r:.80}")
    if policy is MergePolicy.COUNTER:
        if not isinstance(item, int):
            raise ChangeRefusedError(f"field {name!r} is a counter; give a whole number to add, not {item!r}")
        return Increment(name, item)
    return Raise(name, item) if policy is MergePolicy.MAX else Lower(name, item)
