"""Which pools a class may use is worked out once for all that ask for the same places, and anew where these change."""

from tests.unit.scheduling.worlds import node, spec, world_of
from thalweg.scheduling.ids import RegionId
from thalweg.scheduling.world.tasks import TaskSpec
from thalweg.scheduling.world.waiting import ClassKey
from thalweg.scheduling.world.world import World


def usable(world: World, asked: TaskSpec, taken: str = "") -> list[bool]:
    none = frozenset[RegionId]()
    key = ClassKey(spec=asked, missing=1, taken=frozenset({RegionId(taken)}) if taken else none, avoid=none)
    found = world.usable_pools(key)
    again = world.usable_pools(key)
    again[:] = ~again  # who is given an answer may change it
    assert world.usable_pools(key).tolist() == found.tolist()
    return [bool(one) for one in found]


def test_classes_that_ask_for_other_places_are_told_apart() -> None:
    world = world_of(node("east", "a"), node("west", "b", model="H100"), node("west", "c", spot=True))
    assert usable(world, spec()) == usable(world, spec(priority=900, tenant="b")) == [True, True, False]
    assert usable(world, spec(spot_ok=True)) == [True, True, True]
    assert usable(world, spec(gpu_models=("H100",))) == [False, True, False]
    assert usable(world, spec(allowed_regions=("east",))) == [True, False, False]
    assert usable(world, spec(), taken="east") == [False, True, False]
    assert usable(world, spec(origin_region="east", max_rtt_ms=10.0)) == [True, False, False]


def test_new_links_and_new_pools_are_seen() -> None:
    world = world_of(node("east", "a"), node("west", "b"))
    near = spec(origin_region="east", max_rtt_ms=10.0)
    assert usable(world, near) == [True, False]
    world.set_links({("east", "west"): (5.0, 5.0, 0.0)})
    assert usable(world, near) == [True, True]
    world.set_nodes([node("east", "a"), node("west", "b"), node("west", "c", model="H100")])
    assert usable(world, near) == [True, True, True]
