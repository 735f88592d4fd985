"""What a region's store reads from the centre's words: what has arrived there, and what is not known of it."""

from thalweg.sync.protocol.entries import RegionEntry
from thalweg.sync.protocol.gaps import MAX_ASKED
from thalweg.sync.replica.new_life import MOST_JUDGED, arrived

NOW = 1_700_000_000_000


def said(contiguous: int, newest: int, *missing: tuple[int, int]) -> RegionEntry:
    return RegionEntry(region="eu", epoch=1, contiguous=contiguous, newest=newest, missing=missing, centre_ms=NOW)


def test_what_lies_between_the_holes_and_behind_the_last_has_arrived() -> None:
    received = arrived(said(5, 12, (6, 7), (10, 10)))
    assert [seq for seq in range(1, 14) if seq in received] == [1, 2, 3, 4, 5, 8, 9, 11, 12]
    assert received.highest == 12
    assert arrived(said(5, 5)).missing() == []


def test_behind_as_many_holes_as_are_told_nothing_is_known() -> None:
    holes = [(2 * number, 2 * number) for number in range(3, 3 + MAX_ASKED)]
    last = holes[-1][1]
    received = arrived(said(5, last + 10, *holes))
    assert last - 1 in received
    assert last + 1 not in received and received.highest == last + 10


def test_behind_a_hole_with_more_than_can_be_judged_nothing_is_known_yet() -> None:
    received = arrived(said(5, 6 + MOST_JUDGED, (6, 6)))
    assert received.contiguous == 5 and received.highest == 6 + MOST_JUDGED
    assert 7 not in received
    assert 7 in arrived(said(5, 5 + MOST_JUDGED, (6, 6))), "one fewer is judged"
