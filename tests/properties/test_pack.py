"""Whatever is asked: no limit broken, nothing refused that fits, gangs whole, and releasing undoes placing."""

from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from thalweg.scheduling.pack.nodes import Need, Nodes, Pool, Slot
from thalweg.scheduling.pack.packer import Packer, ScoringRule

MODELS = ("", "T4", "G2")

needs = st.builds(
    Need,
    gpus=st.integers(0, 4),
    gpu_milli=st.sampled_from([50, 190, 333, 500, 810, 1000]),
    cpu_milli=st.sampled_from([0, 500, 3152, 12_000]),
    memory_mib=st.sampled_from([0, 1000, 30_517]),
)
machines = st.tuples(
    st.sampled_from(MODELS),
    st.booleans(),
    st.integers(0, 9),
    st.sampled_from([0, 4000, 33_000]),
    st.sampled_from([0, 65_536]),
)
asks = st.tuples(
    needs,
    st.sets(st.integers(0, 5), min_size=1),
    st.integers(1, 4),
    st.booleans(),
    st.sets(st.integers(0, 5), max_size=2),
)


def build(described: list[tuple[str, bool, int, int, int]]) -> Nodes:
    nodes = Nodes()
    for model in MODELS:
        for spot in (False, True):
            nodes.pool_at(Pool("r", model, spot))
    for i, (model, spot, gpus, cpu, memory) in enumerate(described):
        nodes.set_node(f"n{i}", Pool("r", model, spot), gpus=gpus, cpu_milli=cpu, memory_mib=memory)
    return nodes


def fits_somewhere(nodes: Nodes, need: Need, pools: set[int], avoid: set[int]) -> bool:
    for row in range(len(nodes)):
        if int(nodes.pool[row]) not in pools or row in avoid or not nodes.ready[row]:
            continue
        devices = [d for d in range(int(nodes.gpus[row])) if nodes.gpu_milli_free[row, d] >= need.gpu_milli]
        if nodes.fits(Slot(row, tuple(devices[: need.gpus])), need):
            return True
    return False


@settings(max_examples=150, deadline=None)
@given(st.lists(machines, max_size=6), st.lists(asks, max_size=12), st.sampled_from(ScoringRule))
def test_placing_keeps_every_limit_and_releasing_restores_the_empty_nodes(
    described: list[tuple[str, bool, int, int, int]],
    wanted: list[tuple[Need, set[int], int, bool, set[int]]],
    rule: ScoringRule,
) -> None:
    nodes = build(described)
    empty = (nodes.gpu_milli_free.copy(), nodes.cpu_milli_free.copy(), nodes.memory_mib_free.copy())
    packer = Packer(nodes, rule=rule, futures=2)
    running: list[tuple[Need, Slot]] = []
    for need, pools, workers, spread, avoid in wanted:
        before = (nodes.gpu_milli_free.copy(), nodes.cpu_milli_free.copy())
        possible = fits_somewhere(nodes, need, pools, avoid)
        slots = packer.place(need, sorted(pools), workers=workers, spread=spread, avoid=sorted(avoid))
        assert not (workers == 1 and possible and slots is None), "refused although it fits"
        assert slots is None or possible
        if slots is None:
            assert (nodes.gpu_milli_free == before[0]).all() and (nodes.cpu_milli_free == before[1]).all()
            continue
        rows = [slot.node for slot in slots]
        assert len(slots) == workers
        assert all(int(nodes.pool[row]) in pools and row not in avoid for row in rows)
        assert len({int(nodes.pool[row]) for row in rows}) == 1
        assert not spread or len(set(rows)) == workers
        assert all(len(slot.devices) == need.gpus and all(a < b for a, b in pairwise(slot.devices)) for slot in slots)
        running += [(need, slot) for slot in slots]
        assert int(nodes.gpu_milli_free.min(initial=0)) >= 0
        assert int(nodes.cpu_milli_free.min(initial=0)) >= 0 and int(nodes.memory_mib_free.min(initial=0)) >= 0
    for need, slot in running:
        nodes.release(slot, need)
    for now, then in zip((nodes.gpu_milli_free, nodes.cpu_milli_free, nodes.memory_mib_free), empty, strict=True):
        assert np.array_equal(now, then)


@settings(max_examples=60, deadline=None)
@given(st.lists(machines, min_size=1, max_size=6), st.lists(needs, max_size=12), st.integers(2, 12))
def test_equal_inputs_give_equal_slots_and_a_batch_places_no_fewer(
    described: list[tuple[str, bool, int, int, int]], wanted: list[Need], batch: int
) -> None:
    everywhere = frozenset(range(6))
    requests = [(need, everywhere) for need in wanted][:batch]
    placed = []
    for _ in range(2):
        packer = Packer(build(described), futures=2)
        packer.expect("r", dict.fromkeys(requests, 1.0))
        placed.append(packer.place_each(requests))
    assert placed[0] == placed[1]
    packer = Packer(build(described), futures=2)
    packer.expect("r", dict.fromkeys(requests, 1.0))
    jointly = packer.place_jointly(requests)
    assert sum(s is not None for s in jointly) >= sum(s is not None for s in placed[0])
