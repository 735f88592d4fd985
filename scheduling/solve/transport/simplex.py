"""A network simplex for transportation from many classes to few pools, compiled.

A general minimum-cost-flow code stores each of the 3,000,000 arcs of a large problem as an arc; here they stay the
dense cost matrix they are born as, so a row is priced in one pass and no graph is built. Trees are kept strongly
feasible (Cunningham 1976: no cycling) and costs are integers, so potentials are exact and two machines walk the same
way. Where numba is missing or cannot compile, `scheduling.solve.transport.column_generation` uses OR-Tools instead:
slower, the same optimum.

The words are those of Ahuja, Magnanti, Orlin (Network Flows, 1993, chapter 11): arcs of the basis form a spanning tree;
an arc outside it enters, closes a cycle whose top node is the apex, and the arc that first runs full or empty leaves.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from thalweg.scheduling.arrays import IntArray
from thalweg.scheduling.compiled import compiled

FORBIDDEN = 1 << 61
"""Cost of an arc that does not exist: above any potential, so that it never enters."""
LOWER, TREE, UPPER = 0, 1, 2
"""State of an arc: empty, in the basis, full."""
NONE = -1
_BLOCK = 256
"""Extra arcs priced together; of the dense arcs, those of a class are."""


# Rows of the tables below: each array of a tuple costs compiling time in every kernel, so many share one table.
UNITS, COPIES, SPREAD_NODE = range(3)
CAPACITY, REGION = range(2)
TAIL, HEAD, ROOM = range(3)
PARENT, TREE_ARC, UPWARD, DEPTH, POTENTIAL, FIRST_CHILD, NEXT_SIBLING, PREVIOUS_SIBLING, STACK = range(9)


class FlowNetwork(NamedTuple):
    """Nodes and arcs.

    Nodes are the classes, the pools, the sink, and what the caller adds. Arc c · P + p leads from class c to pool p;
    extra arcs follow after these C · P dense ones: waiting (class c to the sink is extra arc c), pools to the sink or
    to their region (pool p is extra arc C + p), and the caller's.

    classes, pools, dense: C, P and C · P.
    sink: the root of the tree.
    usd: [arcs] integer cost of one unit; FORBIDDEN where there is no arc. Changed while prices are charged.
    of_class: [3, C] UNITS of one copy, COPIES, and SPREAD_NODE: the first of a class's own nodes, one a region, its
        arcs leave from; NONE where they leave from the class itself.
    of_pool: [2, P] CAPACITY in units, REGION.
    extra: [3, E] TAIL, HEAD and ROOM in units of the extra arcs.
    first_arc: [nodes] extra arc by which each node first hangs on the tree, towards the sink; NONE for the sink.
    """

    classes: int
    pools: int
    dense: int
    sink: int
    usd: IntArray
    of_class: IntArray
    of_pool: IntArray
    extra: IntArray
    first_arc: IntArray


class Basis(NamedTuple):
    """A flow and the spanning tree that holds it up.

    flow, state: [arcs] units; LOWER, TREE or UPPER.
    tree: [9, nodes] by node the PARENT and the TREE_ARC that joins it to that, NONE for the sink; UPWARD, 1 where this
        arc leads to the parent and 0 where it comes from there; DEPTH, arcs up to the sink; POTENTIAL in integer USD;
        FIRST_CHILD, NEXT_SIBLING, PREVIOUS_SIBLING, the children of a node as a linked list, NONE at its ends; STACK is
        not by node: nodes that a walk has still to visit.
    """

    flow: IntArray
    state: NDArray[np.int8]
    tree: IntArray


@compiled
def run_simplex(
    network: FlowNetwork, start_prices: IntArray, expected_prices: IntArray, order: IntArray, max_pivots: int
) -> tuple[Basis, int]:
    """Pivot to optimality.

    Args:
        network: see there.
        start_prices: [P] prices of the pools to start near.
        expected_prices: [P] prices the first choice is made at: start_prices and what the region is expected to charge.
        order: classes in the order in which they choose at the start.
        max_pivots: stop here.

    Returns:
        (optimal basis, pivots).
    """
    # First the start prices are charged by the pools, so that nearly all find their place at once; then they are
    # dropped and the few places they had wrong are put right.
    charge(network, start_prices)
    charged = True
    basis = crash_basis(network, expected_prices, order)
    set_potentials(network, basis.tree)
    blocks = network.classes + (network.extra.shape[1] + _BLOCK - 1) // _BLOCK
    block, unimproved, pivots = blocks - 1, 0, 0
    while pivots < max_pivots:
        if unimproved >= blocks:
            if not charged:
                break
            charged, unimproved = False, 0
            charge(network, -start_prices)
            set_potentials(network, basis.tree)
        block = block + 1 if block + 1 < blocks else 0
        entering = entering_arc(block, network, basis)
        unimproved += 1
        if entering != NONE:
            unimproved = 0
            pivots += 1
            pivot(entering, network, basis)
    return basis, pivots


@compiled
def charge(network: FlowNetwork, prices: IntArray) -> None:
    """Add prices to what leaving the pools costs."""
    first = network.dense + network.classes
    for pool in range(network.pools):
        network.usd[first + pool] += prices[pool]


# Arcs.


@compiled
def tail_of(arc: int, network: FlowNetwork) -> int:
    """The node an arc leaves."""
    if arc >= network.dense:
        return network.extra[TAIL, arc - network.dense]  # type: ignore[no-any-return]
    row = arc // network.pools
    first = network.of_class[SPREAD_NODE, row]
    return row if first == NONE else first + network.of_pool[REGION, arc % network.pools]


@compiled
def head_of(arc: int, network: FlowNetwork) -> int:
    """The node an arc enters."""
    if arc >= network.dense:
        return network.extra[HEAD, arc - network.dense]  # type: ignore[no-any-return]
    return network.classes + arc % network.pools


@compiled
def room_of(arc: int, network: FlowNetwork) -> int:
    """Most units an arc can carry: a gang that lies whole in a pool uses a multiple of its own size there."""
    if arc >= network.dense:
        return network.extra[ROOM, arc - network.dense]  # type: ignore[no-any-return]
    row = arc // network.pools
    capacity = network.of_pool[CAPACITY, arc % network.pools]
    units, copies = network.of_class[UNITS, row], network.of_class[COPIES, row]
    return min(capacity // units, copies) * units  # type: ignore[no-any-return]


@compiled
def reduced_usd(arc: int, tail: int, head: int, network: FlowNetwork, tree: IntArray) -> int:
    """What one more unit on the arc costs at the potentials."""
    return network.usd[arc] + tree[POTENTIAL, tail] - tree[POTENTIAL, head]  # type: ignore[no-any-return]


# The first basis.


@compiled
def crash_basis(network: FlowNetwork, expected_prices: IntArray, order: IntArray) -> Basis:
    """Fill the cheapest pools class by class, while there is room.

    A pool hangs on the class that filled it up, a class on the last pool it entered, and everything else on the sink:
    that makes the tree strongly feasible.
    """
    basis = empty_basis(network)
    free = network.of_pool[CAPACITY].copy()
    for row in order:
        left = network.of_class[UNITS, row] * network.of_class[COPIES, row]
        if network.of_class[SPREAD_NODE, row] == NONE:
            left = fill_pools(row, left, free, expected_prices, network, basis)
        basis.flow[network.dense + network.first_arc[row]] = left
    for pool in range(network.pools):
        used = network.of_pool[CAPACITY, pool] - free[pool]
        basis.flow[network.dense + network.classes + pool] = used
        fill_segments(network.extra[HEAD, network.classes + pool], used, network, basis)
    for node in range(len(network.first_arc)):
        if node != network.sink:
            arc = basis.tree[TREE_ARC, node]
            basis.state[arc] = TREE
            tail, head = tail_of(arc, network), head_of(arc, network)
            hang(node, head if tail == node else tail, arc, int(tail == node), basis.tree)
    return basis


@compiled
def empty_basis(network: FlowNetwork) -> Basis:
    """Nothing flows; every node is to hang by its first arc, none does yet."""
    arcs, nodes = len(network.usd), len(network.first_arc)
    tree = np.zeros((9, nodes), np.int64)
    for row in (PARENT, FIRST_CHILD, NEXT_SIBLING, PREVIOUS_SIBLING):
        tree[row, :] = NONE
    for node in range(nodes):
        tree[TREE_ARC, node] = NONE if node == network.sink else network.dense + network.first_arc[node]
    return Basis(np.zeros(arcs, np.int64), np.zeros(arcs, np.int8), tree)


@compiled
def fill_pools(row: int, left: int, free: IntArray, prices: IntArray, network: FlowNetwork, basis: Basis) -> int:
    """Put the units of a class where they are cheapest; return how many are left to wait. `free` is changed."""
    while left > 0:
        pool = cheapest_pool(row, free, prices, network, basis)
        if pool == NONE:
            break
        arc = row * network.pools + pool
        room = room_of(arc, network)
        piece = min(left, room, free[pool])
        basis.flow[arc] = piece
        left -= piece
        free[pool] -= piece
        basis.state[arc] = UPPER
        pool_node = network.classes + pool
        if free[pool] == 0:
            basis.state[basis.tree[TREE_ARC, pool_node]] = UPPER
            basis.tree[TREE_ARC, pool_node] = arc
        elif left == 0 and piece < room:
            basis.tree[TREE_ARC, row] = arc
    return left


@compiled
def cheapest_pool(row: int, free: IntArray, prices: IntArray, network: FlowNetwork, basis: Basis) -> int:
    """The pool with room that a class has not used yet and that costs it least, if that is less than waiting."""
    first = row * network.pools
    cheapest, least = NONE, network.usd[network.dense + row]
    for pool in range(network.pools):
        if free[pool] > 0 and network.usd[first + pool] != FORBIDDEN and basis.flow[first + pool] == 0:
            usd = network.usd[first + pool] + prices[pool]
            if usd < least:
                cheapest, least = pool, usd
    return cheapest


@compiled
def fill_segments(node: int, amount: int, network: FlowNetwork, basis: Basis) -> None:
    """Send units from a region to the sink, by its cheapest segments first; it hangs on the one with room left."""
    while node != network.sink:
        arc = basis.tree[TREE_ARC, node]
        room = network.extra[ROOM, arc - network.dense]
        if amount == 0 and basis.flow[arc] < room:
            break
        piece = min(amount, room - basis.flow[arc])
        basis.flow[arc] += piece
        amount -= piece
        if basis.flow[arc] == room:
            basis.state[arc] = UPPER
            basis.tree[TREE_ARC, node] += 1


# The tree.


@compiled
def hang(node: int, parent: int, arc: int, upward: int, tree: IntArray) -> None:
    """Make a node, with all below it, the first child of another."""
    first = tree[FIRST_CHILD, parent]
    tree[PARENT, node], tree[TREE_ARC, node], tree[UPWARD, node] = parent, arc, upward
    tree[PREVIOUS_SIBLING, node], tree[NEXT_SIBLING, node] = NONE, first
    if first != NONE:
        tree[PREVIOUS_SIBLING, first] = node
    tree[FIRST_CHILD, parent] = node


@compiled
def cut(node: int, tree: IntArray) -> None:
    """Take a node, with all below it, from its parent's children."""
    left, right = tree[PREVIOUS_SIBLING, node], tree[NEXT_SIBLING, node]
    if left != NONE:
        tree[NEXT_SIBLING, left] = right
    else:
        tree[FIRST_CHILD, tree[PARENT, node]] = right
    if right != NONE:
        tree[PREVIOUS_SIBLING, right] = left


@compiled
def push_children(node: int, top: int, tree: IntArray) -> int:
    """Put a node's children on the stack; return its new top."""
    child = tree[FIRST_CHILD, node]
    while child != NONE:
        top += 1
        tree[STACK, top] = child
        child = tree[NEXT_SIBLING, child]
    return top


@compiled
def set_potentials(network: FlowNetwork, tree: IntArray) -> None:
    """Compute depths and potentials of the whole tree from the sink, where they are 0."""
    top = push_children(network.sink, NONE, tree)
    while top >= 0:
        node = tree[STACK, top]
        parent, usd = tree[PARENT, node], network.usd[tree[TREE_ARC, node]]
        tree[POTENTIAL, node] = tree[POTENTIAL, parent] + (-usd if tree[UPWARD, node] else usd)
        tree[DEPTH, node] = tree[DEPTH, parent] + 1
        top = push_children(node, top - 1, tree)


@compiled
def shift_potentials(root: int, shift: int, tree: IntArray) -> None:
    """Bring potentials and depths of a subtree up to date after it was hung elsewhere."""
    tree[STACK, 0] = root
    top = 0
    while top >= 0:
        node = tree[STACK, top]
        tree[POTENTIAL, node] += shift
        tree[DEPTH, node] = tree[DEPTH, tree[PARENT, node]] + 1
        top = push_children(node, top - 1, tree)


@compiled
def apex_of(one: int, other: int, tree: IntArray) -> int:
    """The lowest node that is above both, or one of them."""
    while one != other:
        if tree[DEPTH, one] >= tree[DEPTH, other]:
            one = tree[PARENT, one]
        else:
            other = tree[PARENT, other]
    return one


@compiled
def rehang(root: int, parent: int, entering: int, upward: int, leaving: int, tree: IntArray) -> None:
    """Cut the tree above `leaving`, turn the path from `root` up to it around, and hang it by the entering arc."""
    node, arc = root, entering
    while True:
        old_parent, old_arc, old_upward = tree[PARENT, node], tree[TREE_ARC, node], tree[UPWARD, node]
        cut(node, tree)
        hang(node, parent, arc, upward, tree)
        if node == leaving:
            return
        node, parent, arc, upward = old_parent, node, old_arc, 1 - old_upward


# Pricing.


@compiled
def entering_arc(block: int, network: FlowNetwork, basis: Basis) -> int:
    """The arc of a block whose entry saves most a unit; NONE when none saves anything."""
    if block < network.classes:
        return best_of_class(block, network, basis)
    return best_of_extra((block - network.classes) * _BLOCK, network, basis)


@compiled
def best_of_class(row: int, network: FlowNetwork, basis: Basis) -> int:
    """`entering_arc` among the dense arcs of a class."""
    usd, state, potential, region = network.usd, basis.state, basis.tree[POTENTIAL], network.of_pool[REGION]
    first, first_pool, spread_node = row * network.pools, network.classes, network.of_class[SPREAD_NODE, row]
    spreads, tail_potential = spread_node != NONE, potential[row]
    entering, best = NONE, 0
    for pool in range(network.pools):
        if spreads:
            tail_potential = potential[spread_node + region[pool]]
        reduced = usd[first + pool] + tail_potential - potential[first_pool + pool]
        if reduced < best:
            if state[first + pool] == LOWER:
                entering, best = first + pool, reduced
        elif -reduced < best and state[first + pool] == UPPER:
            entering, best = first + pool, -reduced
    return entering


@compiled
def best_of_extra(first: int, network: FlowNetwork, basis: Basis) -> int:
    """`entering_arc` among a block of extra arcs."""
    entering, best = NONE, 0
    for arc in range(network.dense + first, network.dense + min(first + _BLOCK, network.extra.shape[1])):
        reduced = reduced_usd(arc, tail_of(arc, network), head_of(arc, network), network, basis.tree)
        state = basis.state[arc]
        if (reduced < best and state == LOWER) or (-reduced < best and state == UPPER):
            entering, best = arc, -abs(reduced)
    return entering


# A pivot.


@compiled
def pivot(entering: int, network: FlowNetwork, basis: Basis) -> None:
    """Send what the entering arc's cycle can carry around it, and swap the arc that stops it for the entering arc."""
    tail, head = tail_of(entering, network), head_of(entering, network)
    reduced = reduced_usd(entering, tail, head, network, basis.tree)
    forward = basis.state[entering] == LOWER
    source, target = (tail, head) if forward else (head, tail)
    apex = apex_of(source, target, basis.tree)
    units, leaving, below_source = leaving_node(source, target, apex, room_of(entering, network), network, basis)
    if units > 0:
        basis.flow[entering] += units if forward else -units
        send_up(source, apex, -units, basis)
        send_up(target, apex, units, basis)
    if leaving == NONE:
        basis.state[entering] = UPPER if forward else LOWER
        return
    leaving_arc = basis.tree[TREE_ARC, leaving]
    basis.state[leaving_arc] = LOWER if basis.flow[leaving_arc] == 0 else UPPER
    basis.state[entering] = TREE
    root, parent = (source, target) if below_source else (target, source)
    rehang(root, parent, entering, int(root == tail), leaving, basis.tree)
    shift_potentials(root, -reduced if root == tail else reduced, basis.tree)


@compiled
def leaving_node(
    source: int, target: int, apex: int, room: int, network: FlowNetwork, basis: Basis
) -> tuple[int, int, bool]:
    """What the cycle can carry and the node whose tree arc stops it.

    Units go from source to target over the entering arc, from target up to the apex and down to source. Of several arcs
    that stop them the last in this order, seen from the apex, leaves: so the tree stays strongly feasible.

    Returns:
        (units, node above which the tree is cut or NONE when the entering arc itself stops them, whether the node lies
        between source and apex).
    """
    flow, tree = basis.flow, basis.tree
    units, leaving, below_source = room, NONE, False
    node = source
    while node != apex:
        arc = tree[TREE_ARC, node]
        left = flow[arc] if tree[UPWARD, node] else room_of(arc, network) - flow[arc]
        if left < units:
            units, leaving, below_source = left, node, True
        node = tree[PARENT, node]
    node = target
    while node != apex:
        arc = tree[TREE_ARC, node]
        left = room_of(arc, network) - flow[arc] if tree[UPWARD, node] else flow[arc]
        if left <= units:
            units, leaving, below_source = left, node, False
        node = tree[PARENT, node]
    return units, leaving, below_source


@compiled
def send_up(node: int, apex: int, units: int, basis: Basis) -> None:
    """Send units from a node up to the apex, or down when they are negative."""
    tree = basis.tree
    while node != apex:
        basis.flow[tree[TREE_ARC, node]] += units if tree[UPWARD, node] else -units
        node = tree[PARENT, node]
