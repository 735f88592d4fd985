"""What a look at what runs comes to, before it is proved on the real nodes: moves, each with its reason and saving."""

import re
from dataclasses import dataclass
from typing import Final, NamedTuple, Self

from thalweg.scheduling.ids import TaskId
from thalweg.scheduling.pack.need import Pool
from thalweg.scheduling.world.fleet import CopyKey

FIRST_WORDS: Final = "looked again"
"""Of the reason of every row that a look leads to."""
CHEAPER: Final = "it is cheaper there"
APART: Final = "its copies share a region"
_SAID: Final = re.compile(
    rf"^{FIRST_WORDS}: (?P<why>.*), saves (?P<saving>-?[\d.]+) USD in (?P<hours>[\d.]+) h: "
    r".*, (?P<by_hour>[+-][\d.]+) USD an hour saved, (?P<lost>[\d.]+) USD lost$"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LookLimits:
    """What a look may do.

    Attributes:
        most_moved: copies that one look moves.
        rest_ms: a copy that was placed more recently is left alone, so that nothing goes to and fro.
        start_up_s: from the stop until it works again at the other place; GPUs are paid meanwhile.
    """

    most_moved: int = 32
    rest_ms: int = 600_000
    start_up_s: float = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RunLeft:
    """How long a copy is expected to run on, and what it would do again, in hours."""

    left_h: float
    """Of its work."""
    lost_h: float
    """Work since its last checkpoint, or since it was placed, and the start-up: paid for twice if it moves."""

    @property
    def elsewhere_h(self) -> float:
        """How long it would run at another place."""
        return self.left_h + self.lost_h


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A copy that should move.

    Attributes:
        held: the copy.
        assigned_ms: when it was placed where it is: a later placement is another matter.
        to: the pool it should go to; None for any where it has a place.
        why: in words.
        run: how long it has to go on.
        saving_usd: of the rest of its run, what moving loses taken off; None where it moves for somebody else.
        lost_usd: what moving loses.
        usd_per_gpu_hour: price of its pool and of the other one, at which it pays.
        for_task: whom it makes room for.
    """

    held: CopyKey
    assigned_ms: int
    to: Pool | None
    why: str
    run: RunLeft
    saving_usd: float | None = None
    lost_usd: float = 0.0
    usd_per_gpu_hour: tuple[float, float] = (0.0, 0.0)
    for_task: TaskId | None = None


class SaidSaving(NamedTuple):
    """What the reason of a row says of its move."""

    why: str
    saving_usd: float
    hours: float
    """How long the copy was expected to run at its new place."""
    usd_an_hour: float
    lost_usd: float

    @classmethod
    def read(cls, reason: str) -> Self | None:
        """Read a row's reason; None of one that no look has led to."""
        found = _SAID.match(reason)
        if found is None:
            return None
        figures = (float(found[name]) for name in ("saving", "hours", "by_hour", "lost"))
        return cls(found["why"], *figures)

    def realised_usd(self, hours: float) -> float:
        """US dollars that a move has saved after so many hours at the new place."""
        return self.usd_an_hour * hours - self.lost_usd


def first_words(why: str, saving_usd: float, run: RunLeft) -> str:
    """Begin the reason of a row; `ordering.moved` says the rest of it."""
    return f"{FIRST_WORDS}: {why}, saves {saving_usd:.4f} USD in {run.elsewhere_h:.4f} h"
