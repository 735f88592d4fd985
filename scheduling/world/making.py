"""A world from what is known: the one builder, for the place job's start, for a replay and for an explanation."""

from collections.abc import Iterable, Mapping

from thalweg.scheduling.ids import RegionId
from thalweg.scheduling.world.facts import TenantLimits, WorldFacts
from thalweg.scheduling.world.tasks import Change, Transition
from thalweg.scheduling.world.world import World


def world_from(
    facts: WorldFacts,
    rows: Iterable[Transition],
    now_ms: int,
    *,
    heard: Iterable[RegionId] = (),
    tenants: Mapping[str, TenantLimits] | None = None,
) -> World:
    """Make the world that facts and the ledger's rows lead to.

    Args:
        facts: what the tables say of places and nodes; what they leave open can be learned later (`World.learn`).
        rows: of the ledger, in its order: all of them, or fewer that lead to the same (`sync.ledger.short_story`).
        now_ms: the moment at which regions count as heard.
        heard: regions that are there. Others where the rows place something are expected to speak up.
        tenants: who may hold only so much.
    """
    world = World()
    world.set_tenants(tenants or {})
    world.learn(facts)
    for region in heard:
        world.hear(region, now_ms)
    follow_all(world, rows, now_ms)
    return world


def follow_all(world: World, rows: Iterable[Transition], now_ms: int) -> None:
    """Let a world follow rows that were decided before; regions where they place something are expected from now."""
    for row in rows:
        world.follow(row)
        if row.change is Change.ASSIGNED and row.region is not None:
            world.expect(row.region, now_ms)
