"""The oracle: what must come out of a history, computed from the writes alone, the slow and obvious way.

It shares no merge code and no version vectors with the product. Which writes a writer had seen is followed through the
simulated network as sets (bit masks over write numbers), the plain definition of happened-before (Lamport, 1978).
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from thalweg.sync.protocol.changes import Add, Assign, Change, Delete, Increment, Lower, Raise, Remove
from thalweg.sync.protocol.stamps import ZERO, Hlc


class KnownWrite(NamedTuple):
    """A write as it happened. Its number is its place in the order of happening."""

    number: int
    actor: str
    seq: int
    key: str
    change: Change
    at: Hlc
    seen: int  # bit n: the writer had seen write n of this key


def concurrent_pairs(writes: Sequence[KnownWrite]) -> set[tuple[int, int]]:
    """Return the numbers of every two writes of one key of which neither had seen the other."""
    pairs = set()
    for index, later in enumerate(writes):
        for earlier in writes[:index]:
            # A write cannot have seen one that happened after it, so one direction is enough.
            if earlier.key == later.key and not later.seen >> earlier.number & 1:
                pairs.add((earlier.number, later.number))
    return pairs


def sequences_seen(write: KnownWrite, writes: Sequence[KnownWrite]) -> dict[str, int]:
    """Return per writer the highest sequence among the writes of the key that this write includes: its vector."""
    found = {write.actor: write.seq}
    for other in writes:
        if write.seen >> other.number & 1:
            found[other.actor] = max(other.seq, found.get(other.actor, 0))
    return found


def expected_outcome(left: KnownWrite, right: KnownWrite) -> tuple[str, str]:
    """Return the policy and the resolution that the row of this pair must name."""
    if isinstance(left.change, Delete) or isinstance(right.change, Delete):
        return "delete", "newer_wins"
    (policy, field), other = _said(left.change), _said(right.change)
    if (policy, field) != other:
        return "none", "disjoint"
    return policy, "newer_wins" if policy == "last_writer" else "merged"


def shows(value: Any, change: Change) -> bool:
    """Say whether a row's value of a write is what the write did; of counters and extremes, that it is there."""
    if isinstance(change, Delete):
        return value is None
    shown = value.get(change.field)
    if isinstance(change, Assign):
        return bool(shown == change.value)
    if isinstance(change, Add | Remove):
        return all((element in shown) == isinstance(change, Add) for element in change.elements)
    if isinstance(change, Increment):
        return isinstance(shown, int)
    return bool(shown >= change.value if isinstance(change, Raise) else shown <= change.value)


def _said(change: Assign | Raise | Lower | Add | Remove | Increment) -> tuple[str, str]:
    match change:
        case Assign():
            return "last_writer", change.field
        case Raise():
            return "max", change.field
        case Lower():
            return "min", change.field
        case Increment():
            return "counter", change.field
        case Add() | Remove():
            return "add_wins_set", change.field


def expected_value(writes: Sequence[KnownWrite]) -> dict[str, Any] | None:
    """Return what an application must read in the end, from all the writes of one key in order of happening."""
    deleted = _newest_delete(writes)
    alive = [w for w in writes if w.at > deleted and not isinstance(w.change, Delete)]
    if not alive:
        return None
    value: dict[str, tuple[Hlc, int, Any]] = {}
    for write in sorted(alive, key=lambda w: w.at):
        if isinstance(write.change, Assign):
            value[write.change.field] = (write.at, 0, write.change.value)
    reached = _reached(writes)
    for rank, kind, choose in ((1, Raise, max), (2, Lower, min)):
        said = [(w.at, reached[w.number]) for w in alive if isinstance(w.change, kind)]
        if said:
            _put(value, "m", max(at for at, _ in said), rank, choose(v for _, v in said))
    totals = _totals(writes)
    latest = {w.actor: w for w in writes if isinstance(w.change, Increment)}
    counted = [w for w in latest.values() if w.at > deleted]
    if counted:
        _put(value, "n", max(w.at for w in counted), 3, sum(totals[w.number] for w in counted))
    held = _held(writes, deleted)
    if held:
        _put(value, "s", max(held.values()), 4, sorted(held))
    return {name: value[name][2] for name in sorted(value)}


def _newest_delete(writes: Iterable[KnownWrite]) -> Hlc:
    return max((w.at for w in writes if isinstance(w.change, Delete)), default=ZERO)


def _deleted_before(write: KnownWrite, writes: Sequence[KnownWrite]) -> Hlc:
    """Return the newest delete that the writer had seen."""
    return _newest_delete(w for w in writes if write.seen >> w.number & 1)


def _reached(writes: Sequence[KnownWrite]) -> dict[int, int | float]:
    """Return for each raise or lower the extreme that its writer then stated."""
    stated: dict[int, int | float] = {}
    for write in writes:
        if isinstance(write.change, Raise | Lower):
            choose = max if isinstance(write.change, Raise) else min
            floor = _deleted_before(write, writes)
            known = [
                stated[w.number]
                for w in writes
                if type(w.change) is type(write.change) and write.seen >> w.number & 1 and w.at > floor
            ]
            stated[write.number] = choose([write.change.value, *known])
    return stated


def _totals(writes: Sequence[KnownWrite]) -> dict[int, int]:
    """Return for each increment the total that its writer then stated: on top of its last one, if it still saw that."""
    totals: dict[int, int] = {}
    last: dict[str, KnownWrite] = {}
    for write in writes:
        if isinstance(write.change, Increment):
            before = last.get(write.actor)
            counts_on = before is not None and before.at > _deleted_before(write, writes)
            totals[write.number] = write.change.by + (totals[before.number] if before and counts_on else 0)
            last[write.actor] = write
    return totals


def _held(writes: Sequence[KnownWrite], deleted: Hlc) -> dict[str, Hlc]:
    """Return the elements of the set with the stamp of their newest addition that counts."""
    held: dict[str, Hlc] = {}
    removals = [w for w in writes if isinstance(w.change, Remove)]
    additions = [w for w in writes if isinstance(w.change, Add)]
    for write in additions:
        assert isinstance(write.change, Add)
        for element in write.change.elements:
            removed = any(
                r.seen >> write.number & 1 and isinstance(r.change, Remove) and element in r.change.elements
                for r in removals
            )
            if write.at > deleted and not removed:
                held[element] = max(held.get(element, ZERO), write.at)
    return held


def _put(value: dict[str, tuple[Hlc, int, Any]], name: str, at: Hlc, rank: int, what: Any) -> None:
    """Where writers used two policies for one field, the one written last is shown."""
    if name not in value or (at, rank) > value[name][:2]:
        value[name] = (at, rank, what)
