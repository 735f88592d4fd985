"""The live interface of the packer: shares, whole GPUs, gangs, anti-affinity, growth and loss of nodes."""

import pytest

from thalweg.scheduling.pack import packer
from thalweg.scheduling.pack.nodes import Need, Nodes, Pool, Slot
from thalweg.scheduling.pack.packer import Packer

A100 = Pool("aws:us-east-1", "A100")
SPOT = Pool("aws:us-east-1", "A100", spot=True)


def two_nodes() -> Nodes:
    nodes = Nodes()
    nodes.set_node("n1", A100, gpus=4, cpu_milli=32_000, memory_mib=1000)
    nodes.set_node("n2", A100, gpus=2, cpu_milli=32_000, memory_mib=1000)
    return nodes


def test_a_share_goes_where_it_leaves_least_and_comes_back_exactly() -> None:
    nodes = two_nodes()
    packer = Packer(nodes)
    before = nodes.gpu_milli_free.copy()
    first = packer.place(Need(gpus=1, gpu_milli=600, cpu_milli=1000), [0])
    second = packer.place(Need(gpus=1, gpu_milli=400, cpu_milli=1000), [0])
    assert first is not None and first == second
    nodes.release(first[0], Need(gpus=1, gpu_milli=600, cpu_milli=1000))
    nodes.release(second[0], Need(gpus=1, gpu_milli=400, cpu_milli=1000))
    assert (nodes.gpu_milli_free == before).all()
    assert nodes.cpu_milli_free.tolist() == [32_000, 32_000]


def test_a_gang_is_whole_or_nothing_and_stays_in_one_pool() -> None:
    nodes = two_nodes()
    nodes.set_node("s1", SPOT, gpus=8, cpu_milli=32_000, memory_mib=1000)
    before = nodes.gpu_milli_free.copy()
    packer = Packer(nodes)
    assert packer.place(Need(gpus=2), [0], workers=4) is None
    assert (nodes.gpu_milli_free == before).all()
    slots = packer.place(Need(gpus=2), [0, 1], workers=4)
    assert slots is not None and {s.node for s in slots} == {2}


def test_spread_workers_take_a_node_each() -> None:
    packer = Packer(two_nodes())
    slots = packer.place(Need(gpus=1), [0], workers=2, spread=True)
    assert slots is not None and {s.node for s in slots} == {0, 1}
    assert packer.place(Need(gpus=1), [0], workers=3, spread=True) is None
    assert packer.place(Need(gpus=2), [0], avoid=[0]) is None


def test_lost_nodes_take_nothing_and_new_capacity_is_used() -> None:
    nodes = two_nodes()
    packer = Packer(nodes)
    nodes.lose(0)
    assert packer.place(Need(gpus=4), [0]) is None
    nodes.set_node("n1", A100, gpus=4, cpu_milli=32_000, memory_mib=1000)
    assert packer.place(Need(gpus=4), [0]) is not None
    nodes.set_node("n3", A100, gpus=12, cpu_milli=1, memory_mib=1)
    assert packer.place(Need(gpus=12), [0]) is not None
    nodes.set_node("n1", A100, gpus=2, cpu_milli=32_000, memory_mib=1000)
    assert nodes.overcommitted().tolist() == [0]


def test_what_does_not_fit_is_refused_with_the_node_named() -> None:
    nodes = two_nodes()
    slots = Packer(nodes).place(Need(gpus=2), [0])
    assert slots is not None
    with pytest.raises(ValueError, match="does not fit on devices"):
        nodes.allocate(slots[0], Need(gpus=2))


def test_a_batch_of_more_kinds_than_are_kept_at_once_is_placed_like_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    def slots() -> list[Slot | None]:
        nodes = two_nodes()
        needs = [Need(gpus=1, gpu_milli=100 + 50 * (at % 6), cpu_milli=500 * at) for at in range(24)]
        return Packer(nodes).place_each([(need, frozenset({0})) for need in needs])

    expected = slots()
    assert None in expected and expected.count(None) < 12
    monkeypatch.setattr(packer, "_KINDS", 4)
    assert slots() == expected
