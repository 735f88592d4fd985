"""Histories: what happens to five regions and a centre in one simulated run, drawn from a seed.

A history is data: steps at virtual times, the clocks' errors, the network's rates. The same seed gives the same
history, and leaving steps out gives a smaller one, which is how a failure is minimised.
"""

import random
from typing import NamedTuple

from thalweg.sync.protocol.changes import Add, Assign, Change, Delete, Increment, Lower, Raise, Remove

REGIONS = ("ap", "eu", "sa", "us", "za")
CENTRE = -1
HOUR_MS = 3_600_000
HORIZON_MS = 4_000  # the eventful part


class HistoryStep(NamedTuple):
    """One thing that happens; `region` is an index into REGIONS, or CENTRE."""

    at_ms: int
    kind: str
    region: int
    key: str = ""
    change: Change | None = None
    amount: int = 0  # milliseconds of a clock jump, or the stage at which the centre crashes

    def __str__(self) -> str:
        """Return a line of a trace."""
        who = "centre" if self.region == CENTRE else REGIONS[self.region]
        what = f" {self.key} {self.change!r}" if self.change else f" {self.amount}" if self.amount else ""
        return f"{self.at_ms:6d} ms  {who:6s} {self.kind}{what}"


class History(NamedTuple):
    """A whole run."""

    seed: int
    steps: tuple[HistoryStep, ...]  # by time
    skews_ms: tuple[int, ...]  # of each region's clock; the centre's comes last
    late: frozenset[int]  # regions that are not there from the beginning
    loss: float
    duplication: float
    delay_ms: int  # largest


_ELEMENTS = ("p", "q", "r")


def history(seed: int) -> History:
    """Draw a history."""
    draw = random.Random(seed)
    chance, below = draw.random, draw.randrange
    regions = range(len(REGIONS))
    # Coarse clocks tick alike everywhere, so that stamps tie down to the region.
    coarse = chance() < 0.3
    skews = (0,) * (len(REGIONS) + 1) if coarse else tuple(_skew(draw) for _ in range(len(REGIONS) + 1))
    late = frozenset(r for r in regions if chance() < 0.1)
    keys = ("a", "b", "c")[: 1 + below(3)]
    steps: list[HistoryStep] = [HistoryStep(300 + below(2_000), "sync", region) for region in late]
    for _ in range(4 + below(9)):
        at, region = below(HORIZON_MS), below(5)
        if coarse:
            at -= at % 1_000
        steps.append(HistoryStep(at, "write", region, keys[below(len(keys))], _change(draw)))
        if chance() < 0.7:
            steps.append(HistoryStep(at + below(60), "sync", region))
    steps += [HistoryStep(below(HORIZON_MS), "sync", below(5)) for _ in range(6 + below(10))]
    if chance() < 0.5:
        for _ in range(1 + below(2)):
            region, at = below(5), below(HORIZON_MS - 500)
            steps.append(HistoryStep(at, "cut", region))
            steps.append(HistoryStep(at + 200 + below(2_000), "heal", region))
    for kind, likely in (("crash", 0.3), ("wipe", 0.06), ("leave", 0.08), ("jump", 0.15)):
        if chance() < likely:
            amount = below(2 * HOUR_MS) - HOUR_MS if kind == "jump" else 0
            steps.append(HistoryStep(below(HORIZON_MS), kind, below(5), amount=amount))
    if chance() < 0.3:
        steps.append(HistoryStep(below(HORIZON_MS), "crash", CENTRE, amount=below(5)))
    if chance() < 0.15:
        steps.append(HistoryStep(below(HORIZON_MS), "compact", CENTRE))
    if chance() < 0.3:
        steps += [HistoryStep(below(HORIZON_MS), "digest", CENTRE) for _ in range(3)]
    if chance() < 0.03:
        steps.append(HistoryStep(HORIZON_MS, "rot", below(5)))
    steps += _stores_and_topics(random.Random(seed ^ 0xC0FFEE), keys)
    steps.sort(key=_time)
    calm = chance() < 0.4
    return History(
        seed=seed,
        steps=tuple(steps),
        skews_ms=skews,
        late=late,
        loss=0.0 if calm else 0.3 * chance(),
        duplication=0.0 if calm else 0.3 * chance(),
        delay_ms=20 if calm else 20 + below(800),
    )


def _stores_and_topics(draw: random.Random, keys: tuple[str, ...]) -> list[HistoryStep]:
    """Draw what happens to whole stores, topics and clocks: copies put back, made anew, lost, days ahead."""
    chance, below = draw.random, draw.randrange
    steps: list[HistoryStep] = []
    if chance() < 0.16:
        region, kept_at = below(5), below(HORIZON_MS // 2)
        at = kept_at + 1 + below(HORIZON_MS // 2)
        offline = chance() < 0.5
        steps += [HistoryStep(kept_at, "backup", region), HistoryStep(at, "restore", region)]
        steps += [HistoryStep(at, "cut", region), HistoryStep(at + 600, "heal", region)] if offline else []
        for _ in range(below(4)):
            later = min(at + below(500), HORIZON_MS - 1)
            steps.append(HistoryStep(later, "write", region, keys[below(len(keys))], _change(draw)))
        steps.append(HistoryStep(at + 610 + below(100), "sync", region))
    if chance() < 0.12:
        for _ in range(1 + below(2)):
            steps.append(HistoryStep(below(HORIZON_MS), "together", below(5), keys[below(len(keys))], _change(draw)))
    if chance() < 0.1:
        region, at = below(5), below(HORIZON_MS)
        amount = (3 + below(400)) * 24 * HOUR_MS * (-1 if chance() < 0.2 else 1)
        steps += [HistoryStep(at, "far", region, amount=amount)]
        for _ in range(1 + below(3)):
            later = min(at + below(400), HORIZON_MS - 1)
            steps.append(HistoryStep(later, "write", region, keys[below(len(keys))], _change(draw)))
            steps.append(HistoryStep(later + below(60), "sync", region))
        steps += [HistoryStep(at + 200 + below(1_500), "right", region)] if chance() < 0.6 else []
    if chance() < 0.12:
        steps.append(HistoryStep(below(HORIZON_MS), "anew", CENTRE))
    if chance() < 0.07:
        kept_at = below(HORIZON_MS // 2)
        steps += [HistoryStep(kept_at, "keep", CENTRE), HistoryStep(kept_at + below(HORIZON_MS // 2), "lose", CENTRE)]
    return steps


def _time(step: HistoryStep) -> int:
    return step.at_ms


def _skew(draw: random.Random) -> int:
    """Most clocks are right within half a second, some within minutes, a few are an hour wrong."""
    kind = draw.random()
    if kind < 0.7:
        return draw.randrange(-500, 500)
    if kind < 0.9:
        return draw.randrange(-150_000, 150_000)
    return draw.randrange(-HOUR_MS, HOUR_MS + 1)


def _change(draw: random.Random) -> Change:
    kind = draw.randrange(10)
    if kind < 3:
        return Assign("f" if kind else "g", draw.randrange(100))
    if kind == 3:
        return Raise("m", draw.randrange(100))
    if kind == 4:
        return Lower("m", draw.randrange(100))
    if kind == 5:
        return Increment("n", draw.randrange(1, 9))
    if kind < 8:
        return Add("s", (_ELEMENTS[draw.randrange(3)],))
    return Remove("s", (_ELEMENTS[draw.randrange(3)],)) if kind == 8 else Delete()
