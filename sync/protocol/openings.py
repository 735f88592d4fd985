"""Which opening of a store's file a write was made in: tells a store from its copy.

A copy of a store's file (put back from a backup, or running beside the original) goes on with the sequences that the
original gives to other writes. Each time a file is opened, the writes that follow carry the opening's token and the
newest sequence the file had then. Two openings that both wrote behind the same point are two copies, and everything
up to that point is common to both.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from thalweg.sync.protocol.gaps import Received
from thalweg.sync.protocol.stamps import MAX_COUNTER

KEPT: Final = 32
"""Newest openings of a life that the centre remembers: a copy older than so many restarts is judged by stamps alone."""


class Opening(NamedTuple):
    """One opening of a store's file in which something was written."""

    began: int  # newest sequence of the file when it was opened
    token: int  # no two openings have the same


def opening_of(openings: Sequence[Opening], seq: int) -> Opening | None:
    """Return the opening that wrote a sequence; None if it is older than all that are known.

    Args:
        openings: ascending; each ends where the next begins.
        seq: the write's.
    """
    return next((opening for opening in reversed(openings) if seq > opening.began), None)


def admits(openings: Sequence[Opening], new: Opening, seq: int, received: Received) -> bool:
    """Say whether a write can be of the store that wrote what has been received.

    Args:
        openings: known so far, ascending.
        new: in which the write says it was made.
        seq: the write's.
        received: what has arrived of the life.
    """
    if new in openings:
        return opening_of(openings, seq) == new
    end = next((other.began for other in openings if other.began > new.began), MAX_COUNTER)
    # What has arrived behind the new one's beginning, and before the next, was written in another.
    return seq <= end and received.contiguous <= new.began and not any(new.began < s <= end for s in received.above)


def with_opening(openings: Sequence[Opening], new: Opening) -> tuple[Opening, ...]:
    """Return the openings with one more, ascending, the newest of them."""
    return tuple(openings) if new in openings else tuple(sorted({*openings, new}))[-KEPT:]


def first_not_admitted(
    mine: Sequence[Opening], theirs: Sequence[Opening], received: Received, first: int, last: int
) -> int | None:
    """Return the first of our sequences that the centre can not take, or has taken from another copy; None for none.

    Args:
        mine: openings of this file, ascending. What is older than all of them is not judged.
        theirs: openings in which what has arrived there was written.
        received: what has arrived there.
        first: of our sequences.
        last: of our sequences.
    """
    bounds = {first, *(opening.began + 1 for opening in (*mine, *theirs))}
    for seq in sorted(bound for bound in bounds if first <= bound <= last):
        own = opening_of(mine, seq)
        # Without an opening it was written by a version that named none: then it is nobody's who names one.
        named = len(mine) < KEPT and opening_of(theirs, seq) is not None
        if (named and seq <= received.contiguous) if own is None else not admits(theirs, own, seq, received):
            return seq
    return None
