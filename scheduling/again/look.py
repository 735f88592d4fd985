"""One look at all that runs, together with what waits, on a copy of the world: which copies should move, and why."""

from collections.abc import Sequence

from thalweg.scheduling.again.apart import apart
from thalweg.scheduling.again.cheaper import cheaper_places
from thalweg.scheduling.again.proposals import LookLimits, Proposal
from thalweg.scheduling.again.running import ClassBook, running_of
from thalweg.scheduling.again.seats import seats
from thalweg.scheduling.live.demand import Demand
from thalweg.scheduling.live.live_plan import PlanSettings
from thalweg.scheduling.live.who_asks import split_by_share
from thalweg.scheduling.world.world import World


def look_again(
    world: World,
    settings: PlanSettings,
    limits: LookLimits,
    now_ms: int,
    *,
    stuck: Sequence[Demand] = (),
    book: ClassBook | None = None,
) -> list[Proposal]:
    """Say what should move, most important first; equal inputs give equal moves.

    Args:
        world: with its prices; read, and left as it was.
        settings: weights and prices.
        limits: of the look.
        now_ms: the moment.
        stuck: who waits and finds no room, the most urgent first.
        book: what earlier looks know of the copies' needs; None begins one.
    """
    book = book or ClassBook()
    running = running_of(world, book, limits, now_ms)
    if settings.fair_share:
        stuck = split_by_share(world, stuck, world.pools())
    moves = apart(world, running, most=limits.most_moved)
    moving = frozenset(one.held[0] for one in moves)
    room = seats(world, running, book, stuck, settings, now_ms, most=limits.most_moved - len(moves))
    if moving.isdisjoint(one.held[0] for one in room):
        moves += room
    moves += cheaper_places(
        world,
        running,
        book,
        stuck,
        settings,
        limits,
        now_ms,
        most=limits.most_moved - len(moves),
        without=frozenset(one.held[0] for one in moves),
    )
    return moves
