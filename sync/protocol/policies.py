"""How one field of two states becomes one: last writer, max, min, add-wins set, counter.

Every join here is commutative, associative and idempotent, and drops what is not newer than the record's delete. All
are state-based (Shapiro et al., "Conflict-free Replicated Data Types", SSS 2011); the set is the one without its own
tombstones (Bieniusa et al., "An optimized conflict-free replicated set", 2012), with the record's vector as context.
"""

from collections.abc import Callable, Mapping
from enum import StrEnum

from thalweg.sync.protocol.records import CounterTally, Dot, Register, canonical
from thalweg.sync.protocol.stamps import Hlc


class MergePolicy(StrEnum):
    """What two concurrent writes of one field mean."""

    LAST_WRITER = "last_writer"
    MAX = "max"
    MIN = "min"
    ADD_WINS_SET = "add_wins_set"
    COUNTER = "counter"


def newer_register(left: Register, right: Register) -> Register:
    """Return the one written last.

    A writer with a clock never stamps two values alike, but a plain producer can: then the larger encoding wins, so
    that the order of arrival still does not matter.
    """
    if left.at != right.at:
        return left if left.at > right.at else right
    return left if canonical(left.value) >= canonical(right.value) else right


def joined_last(left: Mapping[str, Register], right: Mapping[str, Register], deleted: Hlc) -> dict[str, Register]:
    """Join the last-writer drawer."""
    result = dict(left)
    for name, register in right.items():
        mine = result.get(name)
        result[name] = register if mine is None else newer_register(mine, register)
    return {name: register for name, register in result.items() if register.at > deleted}


def joined_maxima(
    left: Mapping[str, tuple[Register, ...]], right: Mapping[str, tuple[Register, ...]], deleted: Hlc
) -> dict[str, tuple[Register, ...]]:
    """Join the max drawer."""
    return _joined_extremes(left, right, deleted, lambda a, b: bool(a >= b))


def joined_minima(
    left: Mapping[str, tuple[Register, ...]], right: Mapping[str, tuple[Register, ...]], deleted: Hlc
) -> dict[str, tuple[Register, ...]]:
    """Join the min drawer."""
    return _joined_extremes(left, right, deleted, lambda a, b: bool(a <= b))


def _joined_extremes(
    left: Mapping[str, tuple[Register, ...]],
    right: Mapping[str, tuple[Register, ...]],
    deleted: Hlc,
    reaches: Callable[[float, float], bool],
) -> dict[str, tuple[Register, ...]]:
    result = {}
    for name in left.keys() | right.keys():
        kept = frontier((*left.get(name, ()), *right.get(name, ())), deleted, reaches)
        if kept:
            result[name] = kept
    return result


def frontier(
    registers: tuple[Register, ...], deleted: Hlc, reaches: Callable[[float, float], bool]
) -> tuple[Register, ...]:
    """Keep, newest first, the entries that no newer entry reaches.

    One value would not do: a delete may later remove the largest value and must uncover the next one that is newer.
    """
    kept: list[Register] = []
    for register in sorted(registers, key=lambda r: (r.at, r.value), reverse=True):
        if register.at > deleted and not any(reaches(k.value, register.value) for k in kept):
            kept.append(register)
    return tuple(kept)


def joined_counters(
    left: Mapping[str, Mapping[str, CounterTally]], right: Mapping[str, Mapping[str, CounterTally]], deleted: Hlc
) -> dict[str, dict[str, CounterTally]]:
    """Join the counter drawer: of each writer the later of its own totals."""
    result = {}
    for name in left.keys() | right.keys():
        mine, theirs = left.get(name, {}), right.get(name, {})
        tallies = {}
        for actor in mine.keys() | theirs.keys():
            tally = later_tally(mine.get(actor), theirs.get(actor))
            if tally.at > deleted:
                tallies[actor] = tally
        if tallies:
            result[name] = tallies
    return result


def later_tally(left: CounterTally | None, right: CounterTally | None) -> CounterTally:
    """Return the total with the higher sequence; one of the two may be missing.

    A store restored from a copy may give a sequence to two totals: then, too, all copies choose alike.
    """
    if left is None or right is None:
        found = left or right
        assert found is not None
        return found
    if left.seq != right.seq:
        return left if left.seq > right.seq else right
    return left if (left.at, left.total) >= (right.at, right.total) else right


def joined_sets(
    left: Mapping[str, Mapping[str, Mapping[str, Dot]]],
    right: Mapping[str, Mapping[str, Mapping[str, Dot]]],
    left_vector: Mapping[str, int],
    right_vector: Mapping[str, int],
    deleted: Hlc,
) -> dict[str, dict[str, dict[str, Dot]]]:
    """Join the set drawer: an addition stays unless the other side has seen it and no longer holds it."""
    result = {}
    for name in left.keys() | right.keys():
        mine, theirs = left.get(name, {}), right.get(name, {})
        elements = {}
        for element in mine.keys() | theirs.keys():
            dots = joined_dots(mine.get(element, {}), theirs.get(element, {}), left_vector, right_vector)
            alive = {actor: dot for actor, dot in dots.items() if dot.at > deleted}
            if alive:
                elements[element] = alive
        if elements:
            result[name] = elements
    return result


def joined_dots(
    left: Mapping[str, Dot], right: Mapping[str, Dot], left_vector: Mapping[str, int], right_vector: Mapping[str, int]
) -> dict[str, Dot]:
    """Join the additions of one element."""
    result = {}
    for actor in left.keys() | right.keys():
        mine, theirs = left.get(actor), right.get(actor)
        if mine is not None and theirs is not None:
            result[actor] = mine if mine.seq >= theirs.seq else theirs
        elif mine is not None and right_vector.get(actor, 0) < mine.seq:
            result[actor] = mine
        elif theirs is not None and left_vector.get(actor, 0) < theirs.seq:
            result[actor] = theirs
    return result
