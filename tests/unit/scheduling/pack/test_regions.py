"""Regions taken out of the world and packed as values: the same slots as packing in place, in any process."""

import pickle

import numpy as np
import pytest

from thalweg.scheduling.pack.nodes import Need, Nodes, Pool
from thalweg.scheduling.pack.packer import Packer, Request
from thalweg.scheduling.pack.regions import pack_region, region_work, requests_by_region

SHAPES = (
    Need(gpus=1, gpu_milli=470, cpu_milli=8_000, memory_mib=30_000),
    Need(gpus=1, gpu_milli=250, cpu_milli=2_000, memory_mib=8_000),
    Need(gpus=1, cpu_milli=11_000, memory_mib=49_000),
    Need(gpus=4, cpu_milli=32_000, memory_mib=131_000),
)


def a_world(regions: int = 3, per_region: int = 6) -> Nodes:
    nodes = Nodes()
    for at in range(per_region):
        for region in range(regions):
            pool = Pool(f"r{region}", "T4" if at % 2 else "G2")
            nodes.set_node(f"n{region}-{at}", pool, gpus=4, cpu_milli=48_000, memory_mib=200_000)
    return nodes


def some_requests(nodes: Nodes, number: int, seed: int) -> list[Request]:
    rng = np.random.default_rng(seed)
    regions = sorted({pool.region for pool in nodes.pools})
    members = {r: frozenset(i for i, pool in enumerate(nodes.pools) if pool.region == r) for r in regions}
    return [
        (SHAPES[int(rng.integers(len(SHAPES)))], members[regions[int(rng.integers(len(regions)))]])
        for _ in range(number)
    ]


def counted(requests: list[Request]) -> dict[Request, float]:
    return {request: float(requests.count(request)) for request in set(requests)}


@pytest.mark.parametrize(("batch", "moves"), [(1, 0.0), (4, 0.0), (1, 0.2)])
def test_a_region_packs_the_same_elsewhere_as_in_place(batch: int, moves: float) -> None:
    nodes = a_world()
    nodes.lose(2)
    before = some_requests(nodes, 20, seed=1)
    expected = counted(before)
    packer = Packer(nodes)
    for region in ("r0", "r1", "r2"):
        packer.expect(region, {r: w for r, w in expected.items() if nodes.pools[min(r[1])].region == region})
    for need, pools in before:
        packer.place(need, sorted(pools))
    requests = some_requests(nodes, 40, seed=2)
    positions = requests_by_region(nodes, requests)
    works = [
        region_work(nodes, region, [requests[at] for at in places], expected, batch=batch, moves=moves)
        for region, places in positions.items()
    ]
    elsewhere = [pack_region(pickle.loads(pickle.dumps(work))) for work in works]
    assert sum(slot is not None for one in elsewhere for slot in one.slots) > 5
    if batch == 1 and moves == 0.0:
        in_place = [packer.place_each([requests[at] for at in places]) for places in positions.values()]
        assert [list(one.slots) for one in elsewhere] == in_place
    else:
        assert elsewhere == [pack_region(work) for work in works]


def test_taking_a_region_out_changes_nothing_and_shares_nothing() -> None:
    nodes = a_world()
    free, clock = nodes.gpu_milli_free.copy(), nodes.clock
    requests = [request for request in some_requests(nodes, 60, seed=3) if 0 in request[1]]
    pack_region(region_work(nodes, "r0", requests, counted(requests)))
    assert (nodes.gpu_milli_free == free).all() and nodes.clock == clock


def test_slots_name_rows_of_the_world() -> None:
    nodes = a_world()
    mine = frozenset(i for i, pool in enumerate(nodes.pools) if pool.region == "r1")
    packed = pack_region(region_work(nodes, "r1", [(SHAPES[3], mine)] * 8, {}))
    rows = [slot.node for slot in packed.slots if slot is not None]
    assert sorted(rows) == [row for row in range(len(nodes)) if nodes.pools[int(nodes.pool[row])].region == "r1"]
    assert packed.slots.count(None) == 2


def test_a_request_for_another_region_is_refused_by_name() -> None:
    nodes = a_world()
    theirs = frozenset(i for i, pool in enumerate(nodes.pools) if pool.region == "r2")
    with pytest.raises(ValueError, match=r"region r0 .* names pools of \['r2'\]"):
        region_work(nodes, "r0", [(SHAPES[0], theirs)], {})


def test_a_region_without_nodes_places_nothing() -> None:
    nodes = Nodes()
    pool = nodes.pool_at(Pool("empty", "T4"))
    packed = pack_region(region_work(nodes, "empty", [(SHAPES[0], frozenset((pool,)))], {}))
    assert packed.slots == (None,)
