"""Sums over pools that follow what is done with the nodes, held against adding everything up."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thalweg.scheduling.arrays import IntArray
from thalweg.scheduling.ids import RegionId
from thalweg.scheduling.live.node_limits import workers_by_pool, workers_of_empty_pools
from thalweg.scheduling.pack import pool_sums
from thalweg.scheduling.pack.nodes import Need, Nodes, Pool, Slot
from thalweg.scheduling.pack.packer import Packer

POOLS = [Pool(region=RegionId(region), gpu_model=model, spot=False) for region in "ew" for model in ("A", "B")]
NEEDS = [Need(gpus=2, gpu_milli=1_000, cpu_milli=4_000), Need(gpus=1, gpu_milli=400), Need(gpus=0, cpu_milli=1_000)]


@dataclass(frozen=True)
class FreeCpus:
    """CPU-milli that are free, whoever is ready; counts the rows that it was asked for."""

    asked: list[int]

    def of(self, nodes: Nodes, rows: IntArray | slice) -> IntArray:
        found = nodes.cpu_milli_free[rows][:, None]
        self.asked.append(len(found))
        return found

    def __hash__(self) -> int:
        return 1


def anew(nodes: Nodes, need: Need) -> list[list[int]]:
    """What a copy, which knows no sums yet, adds up."""
    copy = nodes.copied()
    return [
        workers.tolist()
        for workers in (
            workers_by_pool(copy, need),
            workers_of_empty_pools(copy, need),
            workers_of_empty_pools(copy, need, apart=True),
        )
    ]


def kept(nodes: Nodes, need: Need) -> list[list[int]]:
    return [
        workers.tolist()
        for workers in (
            workers_by_pool(nodes, need),
            workers_of_empty_pools(nodes, need),
            workers_of_empty_pools(nodes, need, apart=True),
        )
    ]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["set", "lose", "place", "back", "force", "all"]), st.integers(0, 31))))
def test_sums_follow_whatever_is_done_with_the_nodes(steps: list[tuple[str, int]]) -> None:
    nodes, held = Nodes(), list[tuple[Slot, Need]]()
    for row in range(6):
        nodes.set_node(f"n{row}", POOLS[row % 3], gpus=4, cpu_milli=8_000, memory_mib=1_000)
    packer = Packer(nodes)
    for what, number in steps:
        row, need = number % len(nodes), NEEDS[number % len(NEEDS)]
        if what == "set":
            nodes.set_node(f"n{number % 9}", POOLS[number % 4], gpus=number % 5, cpu_milli=9_000, memory_mib=10)
        elif what == "lose":
            nodes.lose(row)
        elif what == "place":
            (slot,) = packer.place_each([(need, frozenset((int(nodes.pool[row]),)))])
            held += [] if slot is None else [(slot, need)]
        elif what == "back" and held:
            nodes.release(*held.pop(number % len(held)))
        elif what == "force":
            nodes.force(Slot(row, (number % 6,)), NEEDS[0])
        elif what == "all":
            rows = np.array([row], np.int64)
            nodes.force_all(rows, [[0]], rows * 0 + 100, rows * 0 + 500, rows * 0 + 3)
        for need in NEEDS:
            assert kept(nodes, need) == anew(nodes, need)


def test_only_nodes_that_changed_are_looked_at_again() -> None:
    nodes, figure = Nodes(), FreeCpus([])
    for row in range(100):
        nodes.set_node(f"n{row}", POOLS[row % 2], gpus=4, cpu_milli=8_000, memory_mib=1_000)
    assert nodes.sums.of(figure)[:, 0].tolist() == [400_000, 400_000]
    nodes.force(Slot(3, ()), Need(gpus=0, cpu_milli=500))
    assert nodes.sums.of(figure)[:, 0].tolist() == [400_000, 399_500]
    nodes.sums.of(figure)[:] = 0  # the caller's own
    assert nodes.sums.of(figure)[:, 0].tolist() == [400_000, 399_500]
    assert figure.asked == [100, 1]


def test_figures_that_nobody_asks_for_are_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_sums, "MOST_FIGURES", 2)
    nodes, often = Nodes(), FreeCpus([])
    nodes.set_node("n", POOLS[0], gpus=4, cpu_milli=8_000, memory_mib=1_000)
    for milli in range(1, 5):
        nodes.sums.of(often)
        assert workers_by_pool(nodes, Need(gpus=0, cpu_milli=1_000 * milli)).tolist() == [8 // milli]
    assert often.asked == [1]
