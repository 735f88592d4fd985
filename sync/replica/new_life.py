"""When a store's life cannot go on: from which write on it must be stated anew.

A life is a name under which the centre counts writes. It cannot go on where the centre has writes under it that this
store did not make, and where the centre takes no more of its stamps. Everything before the returned sequence is common
and is delivered first; nothing from it on is ever taken under the old name.
"""

from thalweg.sync.protocol.entries import RegionEntry
from thalweg.sync.protocol.openings import first_difference
from thalweg.sync.protocol.stamps import DEFAULT_LIMITS
from thalweg.sync.replica.state import ReplicaState


def first_to_move(state: ReplicaState, entry: RegionEntry) -> tuple[int, bool]:
    """Return the first sequence that goes into a new life (0: none), and whether another copy of the store is why."""
    known = max([entry.contiguous, *(last for _, last in entry.missing)])
    last = min(entry.contiguous, state.seq)
    differs = first_difference(state.openings, entry.openings, state.confirmed + 1, last)
    if differs is None and known > state.seq:
        differs = state.seq + 1
    candidates = [seq for seq in (state.moving_from, differs or 0, entry.refused_from) if seq]
    return min(candidates, default=0), state.copied or entry.copied or differs is not None


def still_ahead(ahead_ms: int, measured_ms: int) -> int:
    """Return how far ahead our wall clock still is.

    What the centre said is older than now, so the measure is never too small, and the smallest is the best.
    """
    return 0 if measured_ms <= DEFAULT_LIMITS.park_ms else min(ahead_ms, measured_ms)
