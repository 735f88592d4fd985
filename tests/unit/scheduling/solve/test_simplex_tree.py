"""The spanning tree of the network simplex: each node has the children that were hung below it and not cut since."""

import random

import numpy as np

from thalweg.scheduling.solve.transport.simplex import (
    FIRST_CHILD,
    NEXT_SIBLING,
    NONE,
    PARENT,
    PREVIOUS_SIBLING,
    STACK,
    cut,
    hang,
    push_children,
)

NODES = 12


def test_whatever_is_cut_and_hung_elsewhere_a_walk_meets_the_children_of_each() -> None:
    draw = random.Random(0)
    tree = np.zeros((9, NODES), np.int64)
    tree[[PARENT, FIRST_CHILD, NEXT_SIBLING, PREVIOUS_SIBLING]] = NONE
    parents = dict.fromkeys(range(1, NODES), 0)
    for node, parent in parents.items():
        hang(node, parent, 0, 1, tree)
    for _ in range(200):
        node = draw.randrange(1, NODES)
        parent = draw.choice([other for other in range(NODES) if other < node])  # so nothing hangs below itself
        cut(node, tree)
        hang(node, parent, 0, 1, tree)
        parents[node] = parent
        for one in range(NODES):
            tree[STACK, 1:] = NONE
            top = push_children(one, 0, tree)
            expected = [child for child, above in parents.items() if above == one]
            assert sorted(tree[STACK, 1 : top + 1].tolist()) == expected
