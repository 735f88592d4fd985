"""The merge and replica code broken on purpose, one way each, to show that the simulator would notice.

A check that cannot fail proves nothing. Each mutant replaces one function for the length of a `with` block.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import msgspec

from thalweg.sync.centre import centre, key_merge, known_regions, parking
from thalweg.sync.protocol import conflicts, merge, policies
from thalweg.sync.protocol.gaps import Received
from thalweg.sync.protocol.records import CounterTally, Dot, Record, Register
from thalweg.sync.protocol.stamps import ZERO, Admission, Hlc
from thalweg.sync.protocol.vectors import Vector
from thalweg.sync.replica import memory_store, new_life, replica


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """One deliberate mistake."""

    name: str
    mistake: str
    place: Any  # module or class
    attribute: str
    replacement: Callable[..., Any]


@contextmanager
def broken(mutant: Mutant) -> Iterator[None]:
    """Put the mistake in, and take it out again."""
    original = mutant.place.__dict__[mutant.attribute]
    setattr(mutant.place, mutant.attribute, mutant.replacement)
    try:
        yield
    finally:
        setattr(mutant.place, mutant.attribute, original)


def _no_tie_break(left: Register, right: Register) -> Register:
    return right if right.at[:2] > left.at[:2] else left


def _wall_clock_only(left: Register, right: Register) -> Register:
    return right if right.at.ms > left.at.ms else left


def _last_arrival(left: Register, right: Register) -> Register:
    return right


_merged_fields = merge.merged_fields


def _delete_forgotten(left: Record, right: Record) -> Record:
    return msgspec.structs.replace(_merged_fields(left, right), deleted=ZERO)


def _stable_at_once(_: object) -> int:
    return 2**62


def _everything_merged(_: object) -> int:
    return 2**62


_add_received = Received.add


def _always_new(received: Received, seq: int) -> bool:
    _add_received(received, seq)
    return True


_later_tally = policies.later_tally


def _added_totals(left: CounterTally | None, right: CounterTally | None) -> CounterTally:
    if left is None or right is None:
        return _later_tally(left, right)
    return CounterTally(max(left.seq, right.seq), left.total + right.total, max(left.at, right.at))


def _union_of_dots(left: Mapping[str, Dot], right: Mapping[str, Dot], *_: object) -> dict[str, Dot]:
    return {**left, **right}


def _admit_everything(*_: object) -> Admission:
    return Admission.ACCEPT


_merged_of = known_regions.merged_of


def _parked_counts_as_merged(all_lives: Any) -> dict[str, int]:
    found = list(all_lives)
    result = _merged_of(found)
    return result | {life.actor: life.received.contiguous for life in found}


def _deaf_clock(last: Hlc, _: Hlc) -> Hlc:
    return last


_load_state = memory_store.MemoryStore.load_state


def _forgotten_clock(store: memory_store.MemoryStore) -> replica.ReplicaState | None:
    state = _load_state(store)
    return state and msgspec.structs.replace(state, clock=ZERO)


def _forgotten_sequence(store: memory_store.MemoryStore) -> replica.ReplicaState | None:
    state = _load_state(store)
    return state and msgspec.structs.replace(state, seq=state.confirmed)


_outgoing = replica.Replica.outgoing


def _sent_is_done(self: replica.Replica, limit: int = 500) -> list[Any]:
    sent = _outgoing(self, limit)
    self.store.confirm(self._sent)
    return sent


def _newest_only(key: str, write: conflicts.Write, recent: Sequence[conflicts.KeptWrite], now_ms: int) -> list[Any]:
    return conflicts.found_conflicts(key, write, recent[-1:], now_ms)


_conflict = conflicts.conflict


def _older_wins(*pair: Any) -> conflicts.Conflict:
    row = _conflict(*pair)
    return msgspec.structs.replace(row, left=row.right, right=row.left)


def _values_swapped(*pair: Any) -> conflicts.Conflict:
    row = _conflict(*pair)
    left, right = (
        msgspec.structs.replace(one, value=other.value) for one, other in ((row.left, row.right), (row.right, row.left))
    )
    return msgspec.structs.replace(row, left=left, right=right)


def _no_holes(_: Received) -> list[Any]:
    return []


def _left_vector(left: Vector, _: Vector) -> Vector:
    return left


def _right_replaces(_: Record | None, right: Record) -> Record:
    return right


def _store_alone(self: replica.Replica) -> Any:
    return self.store.transaction()


def _no_life_ends(state: replica.ReplicaState, openings: Any, entry: Any) -> tuple[int, bool]:
    return 0, False


def _any_opening(*_: object) -> bool:
    return True


def _far_is_forgotten(*_: object) -> None:
    return None


def _any_topic(self: centre.Centre, position: int, topic: str) -> int:
    return min(position, self.position)


def _nothing_again(*_: object) -> list[Any]:
    return []


def _meet_anybody(*_: object) -> None:
    return None


_first_to_move = new_life.first_to_move


def _move_everything(state: replica.ReplicaState, openings: Any, entry: Any) -> tuple[int, bool]:
    first, copied = _first_to_move(state, openings, entry)
    return (state.confirmed + 1 if first else 0), copied


MUTANTS = (
    Mutant(
        name="failed-writes-count",
        mistake="writes together that fail leave their sequences behind",
        place=replica.Replica,
        attribute="together",
        replacement=_store_alone,
    ),
    Mutant(
        name="copies-unnoticed",
        mistake="a store that was put back from a copy goes on in the same life",
        place=replica,
        attribute="first_to_move",
        replacement=_no_life_ends,
    ),
    Mutant(
        name="moved-and-delivered",
        mistake="a new life repeats what the copy and its original have in common",
        place=replica,
        attribute="first_to_move",
        replacement=_move_everything,
    ),
    Mutant(
        name="copies-are-originals",
        mistake="the centre takes the writes of two copies under one name",
        place=centre,
        attribute="admits",
        replacement=_any_opening,
    ),
    Mutant(
        name="copies-acknowledge",
        mistake="a copy goes on although it knows less than its original has acknowledged",
        place=known_regions.KnownRegion,
        attribute="meet",
        replacement=_meet_anybody,
    ),
    Mutant(
        name="far-stamps-have-arrived",
        mistake="a write that is refused for its stamp counts as arrived",
        place=centre.Centre,
        attribute="_refused_for_good",
        replacement=_far_is_forgotten,
    ),
    Mutant(
        name="positions-of-any-topic",
        mistake="a position in a topic that was made anew since acknowledges what the present one holds",
        place=centre.Centre,
        attribute="_here",
        replacement=_any_topic,
    ),
    Mutant(
        name="nothing-published-again",
        mistake="a replica topic made anew stays without what was there",
        place=centre.Centre,
        attribute="everything",
        replacement=_nothing_again,
    ),
    Mutant(
        name="no-tie-break",
        mistake="equal clock readings are not ordered by region",
        place=policies,
        attribute="newer_register",
        replacement=_no_tie_break,
    ),
    Mutant(
        name="wall-clock-only",
        mistake="stamps are compared by milliseconds alone",
        place=policies,
        attribute="newer_register",
        replacement=_wall_clock_only,
    ),
    Mutant(
        name="last-arrival-wins",
        mistake="of two concurrent values the one that arrives later is kept",
        place=policies,
        attribute="newer_register",
        replacement=_last_arrival,
    ),
    Mutant(
        name="replace-instead-of-merge",
        mistake="an arriving state replaces the known one",
        place=key_merge,
        attribute="merge",
        replacement=_right_replaces,
    ),
    Mutant(
        name="no-tombstones",
        mistake="a merge of concurrent states forgets the delete",
        place=merge,
        attribute="merged_fields",
        replacement=_delete_forgotten,
    ),
    Mutant(
        name="forget-at-once",
        mistake="tombstones and recent writes are forgotten without any acknowledgement",
        place=centre,
        attribute="stable_position",
        replacement=_stable_at_once,
    ),
    Mutant(
        name="acknowledgements-count-early",
        mistake="an acknowledgement counts although earlier writes of its region are still on their way",
        place=known_regions.KnownRegion,
        attribute="merged_through",
        replacement=_everything_merged,
    ),
    Mutant(
        name="repetitions-are-news",
        mistake="an update that arrives twice is taken twice",
        place=Received,
        attribute="add",
        replacement=_always_new,
    ),
    Mutant(
        name="counters-add-up",
        mistake="two totals of one writer are added",
        place=policies,
        attribute="later_tally",
        replacement=_added_totals,
    ),
    Mutant(
        name="removed-elements-return",
        mistake="a set's union forgets what was removed",
        place=policies,
        attribute="joined_dots",
        replacement=_union_of_dots,
    ),
    Mutant(
        name="obey-the-future",
        mistake="stamps ahead of time are merged at once",
        place=parking.Parking,
        attribute="judge",
        replacement=_admit_everything,
    ),
    Mutant(
        name="parked-counts-as-merged",
        mistake="a repair takes parked updates for merged ones",
        place=centre,
        attribute="merged_of",
        replacement=_parked_counts_as_merged,
    ),
    Mutant(
        name="deaf-clock",
        mistake="a replica's clock ignores the stamps it has seen",
        place=replica,
        attribute="observed",
        replacement=_deaf_clock,
    ),
    Mutant(
        name="clock-not-kept",
        mistake="a restart forgets the clock",
        place=memory_store.MemoryStore,
        attribute="load_state",
        replacement=_forgotten_clock,
    ),
    Mutant(
        name="sequence-not-kept",
        mistake="a restart gives sequences again",
        place=memory_store.MemoryStore,
        attribute="load_state",
        replacement=_forgotten_sequence,
    ),
    Mutant(
        name="sent-is-done",
        mistake="a write is dropped when it is sent, not when it is confirmed",
        place=replica.Replica,
        attribute="outgoing",
        replacement=_sent_is_done,
    ),
    Mutant(
        name="conflicts-with-newest-only",
        mistake="a write is compared with the newest other write only",
        place=key_merge,
        attribute="found_conflicts",
        replacement=_newest_only,
    ),
    Mutant(
        name="older-wins-in-the-row",
        mistake="a conflict's row names the older write as the winner",
        place=conflicts,
        attribute="conflict",
        replacement=_older_wins,
    ),
    Mutant(
        name="values-swapped-in-the-row",
        mistake="a conflict's row shows each side with the other's value",
        place=conflicts,
        attribute="conflict",
        replacement=_values_swapped,
    ),
    Mutant(
        name="holes-unnoticed",
        mistake="missing sequences are not asked for again",
        place=Received,
        attribute="missing",
        replacement=_no_holes,
    ),
    Mutant(
        name="half-a-vector",
        mistake="a merged state claims only the left side's writes",
        place=merge,
        attribute="joined",
        replacement=_left_vector,
    ),
)
