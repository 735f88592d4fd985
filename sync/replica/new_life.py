"""When a store's life cannot go on: from which write on it must be stated anew.

A life is a name under which the centre counts writes. It cannot go on where the centre has writes under it that this
store did not make, and where the centre takes no more of its stamps. Everything before the returned sequence is common
and is delivered first; nothing from it on is ever taken under the old name.
"""

from typing import Final

from thalweg.sync.protocol.entries import RegionEntry
from thalweg.sync.protocol.gaps import MAX_ASKED, Received
from thalweg.sync.protocol.openings import Openings, first_shut_out
from thalweg.sync.protocol.stamps import DEFAULT_LIMITS
from thalweg.sync.replica.state import ReplicaState

MOST_JUDGED: Final = 10_000
"""Sequences beyond the first hole: with more, what lies there is judged when the hole is smaller."""


def first_to_move(state: ReplicaState, openings: Openings, entry: RegionEntry) -> tuple[int, bool]:
    """Return the first sequence that goes into a new life (0: none), and whether another copy of the store is why."""
    received = arrived(entry)
    differs = first_shut_out(openings, entry.openings, entry.replaced, received, state.confirmed + 1, state.seq)
    if differs is None and received.highest > state.seq:
        differs = state.seq + 1
    candidates = [seq for seq in (state.moving_from, differs or 0, entry.refused_from) if seq]
    return min(candidates, default=0), state.copied or entry.copied or differs is not None


def arrived(entry: RegionEntry) -> Received:
    """Read from the centre's words what has arrived there, and what it knows to exist."""
    received = Received(
        entry.contiguous, (), max([entry.contiguous, entry.newest, *(last for _, last in entry.missing)])
    )
    if entry.newest - entry.contiguous > MOST_JUDGED:
        return received
    after = entry.contiguous
    # Of many holes only the first are told; what is between later ones is not known.
    for first, last in entry.missing:
        received.above.update(range(after + 1, first))
        after = last
    if len(entry.missing) < MAX_ASKED:
        received.above.update(range(after + 1, entry.newest + 1))
    return received


def still_ahead(ahead_ms: int, measured_ms: int) -> int:
    """Return how far ahead our wall clock still is.

    What the centre said is older than now, so the measure is never too small, and the smallest is the best.
    """
    return 0 if measured_ms <= DEFAULT_LIMITS.park_ms else min(ahead_ms, measured_ms)
