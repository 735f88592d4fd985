"""Which sequences of a writer have arrived, and which are missing.

Sequences are dense, so a hole is a loss (or a message still on its way): it becomes a gap, is asked for again, and is
closed by its arrival. Memory is one number while nothing is missing.
"""

from collections.abc import Iterable
from enum import StrEnum

import msgspec

Range = tuple[int, int]  # first and last sequence, both included

# Missing ranges that one entry asks for; more are asked for when these have come. Keeps the entry a few kilobytes.
MAX_ASKED = 100


class Received:
    """The sequences of one (region, epoch) that have arrived. Mutable; `ranges` is its durable form."""

    __slots__ = ("above", "contiguous", "highest")

    def __init__(self, contiguous: int = 0, above: Iterable[int] = (), highest: int = 0) -> None:
        self.contiguous = contiguous  # everything up to here has arrived
        self.above: set[int] = set(above)  # arrived beyond the first hole
        self.highest = max([highest, contiguous, *self.above])  # known to exist, arrived or not

    def add(self, seq: int) -> bool:
        """Note an arrival; False if it had arrived before."""
        if seq <= self.contiguous or seq in self.above:
            return False
        if seq > self.highest:
            self.highest = seq
        if seq == self.contiguous + 1:
            self.contiguous = seq
            while self.contiguous + 1 in self.above:
                self.contiguous += 1
                self.above.remove(self.contiguous)
        else:
            self.above.add(seq)
        return True

    def __contains__(self, seq: int) -> bool:
        """Say whether it has arrived."""
        return seq <= self.contiguous or seq in self.above

    def announce(self, highest: int) -> None:
        """Note that the writer has sent everything up to here, so that a lost tail is a hole as well."""
        self.highest = max(self.highest, highest)

    def missing(self) -> list[Range]:
        """Return the holes, ascending."""
        return holes(self.contiguous, self.above, self.highest)


def holes(contiguous: int, above: Iterable[int], highest: int) -> list[Range]:
    """Return what is missing between `contiguous` and `highest`."""
    result: list[Range] = []
    after = contiguous + 1
    for seq in sorted(above):
        if seq > after:
            result.append((after, seq - 1))
        after = seq + 1
    if highest >= after:
        result.append((after, highest))
    return result


class GapStatus(StrEnum):
    """What became of a missing range."""

    OPEN = "open"
    CLOSED = "closed"  # arrived after all
    LOST = "lost"  # the writer's store is gone: nobody can send it any more


class Gap(msgspec.Struct, frozen=True, kw_only=True):
    """A row of `sync_gaps`: one missing range, from being noticed to being closed."""

    region: str
    epoch: int
    first_seq: int
    last_seq: int
    found_ms: int
    asked_ms: int
    closed_ms: int | None = None
    status: GapStatus = GapStatus.OPEN


class GapLog:
    """Turns the holes at the end of each batch into rows: opened once, asked for again, closed on arrival."""

    __slots__ = ("ask_again_ms", "open")

    def __init__(self, open_gaps: Iterable[Gap] = (), ask_again_ms: int = 1_000) -> None:
        self.open: dict[tuple[str, int, int], Gap] = {(g.region, g.epoch, g.first_seq): g for g in open_gaps}
        self.ask_again_ms = ask_again_ms

    def review(self, region: str, epoch: int, received: Received, now_ms: int) -> list[Gap]:
        """Return the rows that changed: opened, asked for again, or closed."""
        changed: list[Gap] = []
        known_to = 0
        for key, gap in list(self.open.items()):
            if key[0] != region or key[1] != epoch:
                continue
            known_to = max(known_to, gap.last_seq)
            if received.contiguous >= gap.last_seq or all(
                s in received for s in range(gap.first_seq, gap.last_seq + 1)
            ):
                changed.append(msgspec.structs.replace(gap, closed_ms=now_ms, status=GapStatus.CLOSED))
                del self.open[key]
            elif now_ms - gap.asked_ms >= self.ask_again_ms:
                self.open[key] = msgspec.structs.replace(gap, asked_ms=now_ms)
                changed.append(self.open[key])
        if received.highest > received.contiguous:
            for first, last in received.missing():
                # A hole lying in a gap that is open already is a part of it that has not come yet.
                if last > known_to and not self._inside_open(region, epoch, first, last):
                    gap = Gap(
                        region=region,
                        epoch=epoch,
                        first_seq=max(first, known_to + 1),
                        last_seq=last,
                        found_ms=now_ms,
                        asked_ms=now_ms,
                    )
                    self.open[(region, epoch, gap.first_seq)] = gap
                    changed.append(gap)
        return changed

    def give_up(self, region: str, epoch_below: int, now_ms: int) -> list[Gap]:
        """Close as lost what an earlier life of the region never delivered."""
        gone = [key for key in self.open if key[0] == region and key[1] < epoch_below]
        return [msgspec.structs.replace(self.open.pop(key), closed_ms=now_ms, status=GapStatus.LOST) for key in gone]

    def _inside_open(self, region: str, epoch: int, first: int, last: int) -> bool:
        return any(
            gap.first_seq <= first and last <= gap.last_seq
            for key, gap in self.open.items()
            if key[0] == region and key[1] == epoch
        )
