"""A node is in one pool at a time: what is told of it anew takes it out of the one that it was in."""

from thalweg.scheduling.pack.nodes import Nodes, Pool

A, B = Pool("r", "A"), Pool("r", "B")


def members(nodes: Nodes) -> dict[Pool, list[int]]:
    return {pool: nodes.members(nodes.pool_at(pool)).tolist() for pool in (A, B)}


def test_a_node_that_is_of_another_pool_now_is_in_that_one_alone() -> None:
    nodes = Nodes()
    for name in ("n0", "n1", "n2"):
        nodes.set_node(name, A, gpus=4, cpu_milli=1_000, memory_mib=1_000)
    assert members(nodes) == {A: [0, 1, 2], B: []}
    assert nodes.set_node("n1", B, gpus=8, cpu_milli=1_000, memory_mib=1_000) == 1
    assert members(nodes) == {A: [0, 2], B: [1]}
    assert nodes.pool.tolist() == [nodes.pool_at(A), nodes.pool_at(B), nodes.pool_at(A)]
    nodes.set_node("n1", A, gpus=8, cpu_milli=1_000, memory_mib=1_000)
    assert members(nodes) == {A: [0, 1, 2], B: []}
