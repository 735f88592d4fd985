"""A world for questions: what a crowd holds and waits for, and the few tasks that there is more to say of."""

from collections.abc import Callable, Iterable, Mapping

import numpy as np

from thalweg.scheduling.arrays import BoolArray, IntArray
from thalweg.scheduling.ids import RegionId
from thalweg.scheduling.world.crowd import Crowd, LiveTasks, find_places, take_seats, take_waiting
from thalweg.scheduling.world.facts import TenantLimits, WorldFacts
from thalweg.scheduling.world.making import follow_all
from thalweg.scheduling.world.tasks import Transition
from thalweg.scheduling.world.world import World


def world_of_crowd(
    facts: WorldFacts,
    crowd: Crowd,
    plain: BoolArray,
    story_of: Callable[[int], Iterable[Transition]],
    now_ms: int,
    *,
    heard: Iterable[RegionId] = (),
    tenants: Mapping[str, TenantLimits] | None = None,
) -> World:
    """Make the world that the whole story leads to (`making.world_from`), without telling most of it.

    Args:
        facts: what the tables say of places and nodes.
        crowd: all tasks that live, in the order of their story.
        plain: by row, whether the task sits or waits and nothing more is to be said of it.
        story_of: tells the others, by row.
        now_ms: the moment at which regions count as heard.
        heard: regions that are there.
        tenants: who may hold only so much.
    """
    world = World(LiveTasks(crowd))
    world.set_tenants(tenants or {})
    world.learn(facts)
    for region in heard:
        world.hear(region, now_ms)
    places = find_places(world, crowd.seats)
    sits = crowd.seat >= 0

    def seat(rows: IntArray) -> None:
        take_seats(world, crowd, places, rows, now_ms)

    def wait(rows: IntArray) -> None:
        take_waiting(world, crowd, rows)

    at = np.flatnonzero(sits & plain)
    plain = plain.copy()
    plain[at] = places.known[crowd.seat[at]]
    begin = 0
    # Runs between those that are told: equal tasks wait, and sit in the columns, in the order of their story.
    for told in [*np.flatnonzero(~plain).tolist(), len(plain)]:
        run = np.arange(begin, told)
        for rows, take in ((run[sits[run]], seat), (run[~sits[run]], wait)):
            if rows.size:
                take(rows)
        if told < len(plain):
            world.book.order = told
            follow_all(world, story_of(told), now_ms)
        begin = told + 1
    world.book.order = len(plain)
    return world
