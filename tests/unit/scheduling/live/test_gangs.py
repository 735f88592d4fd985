"""Gangs of unlike workers: the order in which a request lists them decides nothing."""

from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.scheduling.worlds import ask, placed, where
from thalweg.scheduling.pack.nodes import Need
from thalweg.scheduling.world.tasks import Part, TaskSpec
from thalweg.scheduling.world.world import NodeFacts, World


def machines(*cpus: float, gpus: int = 0) -> World:
    world = World()
    world.set_nodes(
        NodeFacts(
            region="r", node_id=f"n{at}", gpu_model="T4", spot=False, gpus=gpus, cpus=count, memory_gb=999.0, ready=True
        )
        for at, count in enumerate(cpus)
    )
    world.set_prices({("r", "T4", False): 1.0})
    world.hear("r", 0)
    return world


def gang(*cpus: int, spread: bool = False) -> TaskSpec:
    parts = tuple(Part(workers=1, need=Need(gpus=0, cpu_milli=count * 1_000)) for count in cpus)
    return TaskSpec(parts=parts, spread_workers=spread)


@pytest.mark.parametrize("listed", list(permutations((30, 50))))
def test_a_gang_is_placed_in_whatever_order_its_parts_are_listed(listed: tuple[int, ...]) -> None:
    world = machines(53, 31)
    ask(world, "gang", gang(*listed))
    placed(world)
    assert where(world, "gang") == ["r"]


@given(st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=3), min_size=1, max_size=4), st.randoms())
@settings(max_examples=150, deadline=None)
def test_a_gang_that_can_be_packed_is_packed(nodes: list[list[int]], random: object) -> None:
    """Nodes are made of what the gang's workers need, so there is a packing without any room left."""
    workers = [count for node in nodes for count in node]
    random.shuffle(workers)  # type: ignore[attr-defined]
    assert_packed(nodes, workers)


def test_a_full_packing_of_many_like_workers_is_found() -> None:
    """Found by the test above: trying which of the like workers sits where used up all the steps."""
    assert_packed([[2], [2, 2], [2, 2, 2], [2, 2, 3]], [2, 2, 2, 2, 3, 2, 2, 2, 2])


def assert_packed(nodes: list[list[int]], workers: list[int]) -> None:
    world = machines(*(float(sum(node)) for node in nodes))
    ask(world, "gang", gang(*workers))
    placed(world)
    assert where(world, "gang") == ["r"]
    copy = world.tasks["gang"].copies[0]
    assert copy.workers == len(workers)
    assert not world.nodes.cpu_milli_free.any()
