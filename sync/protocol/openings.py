"""Which opening of a store's file a write was made in: tells a store from its copy.

A copy of a store's file (put back from a backup, or running beside the original) goes on with the sequences that the
original gives to other writes. Each time a file is opened, the writes that follow carry the opening's token and the
newest sequence the file had then. Two openings that both wrote behind the same point are two copies, and everything
up to that point is common to both.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Final, NamedTuple

from thalweg.sync.protocol.gaps import Received
from thalweg.sync.protocol.stamps import MAX_COUNTER

KEPT: Final = 32
"""Newest openings of a life that the centre remembers: a copy older than so many restarts is judged by stamps alone."""


class Opening(NamedTuple):
    """One opening of a store's file in which something was written."""

    began: int  # newest sequence of the file when it was opened
    token: int  # no two openings have the same


Openings = tuple[Opening, ...]


def opening_of(openings: Sequence[Opening], seq: int) -> Opening | None:
    """Return the opening that wrote a sequence; None if it is older than all that are known.

    Args:
        openings: ascending; each ends where the next begins.
        seq: the write's.
    """
    return next((opening for opening in reversed(openings) if seq > opening.began), None)


def taken_over(known: Openings, lineage: Openings, received: Received) -> Openings | None:
    """Return the openings once one more has spoken; None if what has arrived is not of its file: it is a copy's.

    Args:
        known: to the centre, ascending.
        lineage: of the file that speaks, ascending; the last is its present opening, the others wrote what it has.
        received: what has arrived of the life.
    """
    new = lineage[-1]
    if new in known:
        return known if new == known[-1] else None
    if any(other.began > new.began for other in known) or _arrived(received, new.began, MAX_COUNTER):
        return None
    wrote = set()
    bounds = sorted({opening.began for opening in (*known, *lineage)})
    for began, end in pairwise(bounds):
        if _arrived(received, began, end):
            theirs, own = opening_of(known, end), opening_of(lineage, end)
            if theirs is not None and own is not None and theirs != own:
                return None
            wrote.add(theirs)
    # Of what is not in the file, only what has written counts: the rest is not waited for.
    return tuple(sorted({*(other for other in known if other in wrote), *lineage}))[-KEPT:]


def _arrived(received: Received, after: int, end: int) -> bool:
    """Say whether anything behind one sequence and up to another has arrived."""
    return received.contiguous > after or any(after < seq <= end for seq in received.above)


def admits(known: Openings, opening: Opening, seq: int) -> bool:
    """Say whether a write is of the store that goes on: its opening has spoken, and no later one wrote the sequence."""
    if not known or opening.began < known[0].began:
        return True  # older than all that are remembered
    return opening_of(known, seq) == opening


def first_shut_out(
    mine: Openings, theirs: Openings, replaced: Iterable[int], received: Received, first: int, last: int
) -> int | None:
    """Return from which of our sequences on the centre takes nothing of this file; None if it takes all.

    Args:
        mine: openings of this file, the present one last.
        theirs: openings that the centre knows.
        replaced: tokens that it does not listen to any more.
        received: what has arrived there.
        first: of our sequences that may be shut out.
        last: of our sequences; the one after it is the next write's.
    """
    if not mine or not theirs:
        return None
    merged = None if mine[-1].token in replaced else taken_over(theirs, mine, received)
    known = theirs if merged is None else merged
    for seq in sorted({first, last + 1, *(opening.began + 1 for opening in (*mine, *known))}):
        own = opening_of(mine, seq)
        # What was written before openings were named is nobody's who names one.
        if first <= seq <= last + 1 and opening_of(known, seq) != own and (own or len(mine) < KEPT):
            return seq
    return last + 1 if merged is None else None
