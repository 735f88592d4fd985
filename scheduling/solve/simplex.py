"""A network simplex for transportation from many classes to few pools, compiled.

A general minimum-cost-flow code stores each of the 3,000,000 arcs of a large problem as an arc; here they stay the
dense cost matrix they are born as, so a row is priced in one pass and no graph is built. Trees are kept strongly
feasible (Cunningham 1976: no cycling) and costs are integers, so potentials are exact and two machines walk the same
way. Where numba is missing or cannot compile, `scheduling.solve.transport` uses OR-Tools instead: slower, the same
optimum.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from thalweg.scheduling.compiled import compiled

FORBIDDEN = 1 << 61
"""Cost of an arc that does not exist: above any potential, so that it never enters."""
LOWER, TREE, UPPER = 0, 1, 2
_CHUNK = 256


@compiled
def _tail(arc: int, pools: int, dense: int, spread: Any, region: Any, extra_tail: Any) -> int:
    if arc >= dense:
        return int(extra_tail[arc - dense])
    row = arc // pools
    return int(row if spread[row] < 0 else spread[row] + region[arc % pools])


@compiled
def _head(arc: int, pools: int, classes: int, dense: int, extra_head: Any) -> int:
    return int(extra_head[arc - dense]) if arc >= dense else classes + arc % pools


@compiled
def _room(arc: int, pools: int, dense: int, units: Any, copies: Any, capacity: Any, extra_room: Any) -> int:
    if arc >= dense:
        return int(extra_room[arc - dense])
    row = arc // pools
    supply = units[row] * copies[row]
    if supply <= capacity[arc % pools]:
        return int(supply)
    # A gang that lies whole in a pool uses a multiple of its own size there.
    return int(min(capacity[arc % pools] // units[row], copies[row]) * units[row])


@compiled
def _walk(
    pred: Any, parent: Any, child: Any, after: Any, depth: Any, pi: Any, stack: Any, sink: int, pools: int, dense: int,
    spread: Any, region: Any, extra_tail: Any, flat: Any, extra_usd: Any,
) -> None:  # fmt: skip
    """Compute depths and potentials of the whole tree from the sink."""
    top = 0
    stack[0] = sink
    while top >= 0:
        node = stack[top]
        top -= 1
        arc = pred[node]
        if arc >= 0:
            up = _tail(arc, pools, dense, spread, region, extra_tail) == node
            cost = flat[arc] if arc < dense else extra_usd[arc - dense]
            pi[node] = pi[parent[node]] + (-cost if up else cost)
            depth[node] = depth[parent[node]] + 1
        below = child[node]
        while below >= 0:
            top += 1
            stack[top] = below
            below = after[below]


@compiled
def run_simplex(
    usd: Any,
    units: Any,
    copies: Any,
    capacity: Any,
    region: Any,
    spread: Any,
    extra_tail: Any,
    extra_head: Any,
    extra_room: Any,
    extra_usd: Any,
    first_arc: Any,
    start_prices: Any,
    guess: Any,
    order: Any,
    sink: int,
    max_pivots: int,
) -> Any:
    """Pivot to optimality.

    Args:
        usd: [C, P] integer cost of one unit; FORBIDDEN where there is no arc.
        units: [C] of one copy.
        copies: [C].
        capacity: [P] units.
        region: [P].
        spread: [C] first of the class's nodes, one a region, its arcs leave from; -1 when they leave from the class.
        extra_tail: arcs beside the dense ones: waiting, pool to sink or region, balance segments, class to its nodes.
        extra_head: as extra_tail.
        extra_room: units.
        extra_usd: integer cost of one unit.
        first_arc: [nodes] extra arc by which each node first hangs on the tree, towards the sink; -1 for the sink.
        start_prices: [P] integer prices of the pools to start near.
        guess: [P] integer prices the first choice is made at: start_prices and what the region is expected to charge.
        order: classes in the order in which they choose at the start.
        sink: root.
        max_pivots: stop here.

    Returns:
        (flow on dense arcs [C, P], flow on extra arcs, potentials by node, pivots).
    """
    classes, pools = usd.shape
    dense = classes * pools
    nodes = len(first_arc)
    flow = np.zeros(dense, np.int64)
    extra_flow = np.zeros(len(extra_tail), np.int64)
    state = np.zeros(dense + len(extra_tail), np.int8)
    parent = np.full(nodes, -1, np.int64)
    pred = np.full(nodes, -1, np.int64)
    depth = np.zeros(nodes, np.int64)
    pi = np.zeros(nodes, np.int64)
    child = np.full(nodes, -1, np.int64)
    after = np.full(nodes, -1, np.int64)
    before = np.full(nodes, -1, np.int64)
    stack = np.empty(nodes, np.int64)
    flat = usd.reshape(dense)
    # First the start prices are charged by the pools, so that nearly all find their place at once; then they are
    # dropped and the few places they had wrong are put right.
    for pool in range(pools):
        extra_usd[classes + pool] += start_prices[pool]
    charged = True
    # Crash start: each class fills its cheapest pools at those prices, while there is room. A pool hangs on the class
    # that filled it up, a class on the last pool it entered, and everything else on the sink, which keeps the tree
    # strongly feasible.
    left_in = capacity.copy()
    for node in range(nodes):
        if node != sink:
            pred[node] = dense + first_arc[node]
    for row in order:
        left = units[row] * copies[row]
        if spread[row] < 0:
            base = row * pools
            while left > 0:
                chosen, best = -1, extra_usd[row]
                for pool in range(pools):
                    if left_in[pool] > 0 and flat[base + pool] != FORBIDDEN and flow[base + pool] == 0:
                        cost = flat[base + pool] + guess[pool]
                        if cost < best:
                            chosen, best = pool, cost
                if chosen < 0:
                    break
                arc = base + chosen
                room = min(capacity[chosen] // units[row], copies[row]) * units[row]
                piece = min(left, room, left_in[chosen])
                flow[arc] = piece
                left -= piece
                left_in[chosen] -= piece
                state[arc] = UPPER
                if left_in[chosen] == 0:
                    state[pred[classes + chosen]] = UPPER
                    pred[classes + chosen] = arc
                elif left == 0 and piece < room:
                    pred[row] = arc
        extra_flow[first_arc[row]] = left
    for pool in range(pools):
        extra_flow[classes + pool] = capacity[pool] - left_in[pool]
    for node in range(sink + 1, nodes):
        pred[node] = dense + first_arc[node]
    for pool in range(pools):
        # Segments of a region fill up from the cheapest; the region hangs on the one with room left.
        node = extra_head[classes + pool]
        amount = capacity[pool] - left_in[pool]
        while node != sink:
            extra = pred[node] - dense
            if amount == 0 and extra_flow[extra] < extra_room[extra]:
                break
            piece = min(amount, extra_room[extra] - extra_flow[extra])
            extra_flow[extra] += piece
            amount -= piece
            if extra_flow[extra] == extra_room[extra]:
                state[pred[node]] = UPPER
                pred[node] += 1
    for node in range(nodes):
        if node != sink:
            arc = pred[node]
            state[arc] = TREE
            tail = _tail(arc, pools, dense, spread, region, extra_tail)
            up = _head(arc, pools, classes, dense, extra_head) if tail == node else tail
            parent[node] = up
            after[node] = child[up]
            if child[up] >= 0:
                before[child[up]] = node
            child[up] = node
    _walk(pred, parent, child, after, depth, pi, stack, sink, pools, dense, spread, region, extra_tail, flat, extra_usd)
    rows = classes + (len(extra_tail) + _CHUNK - 1) // _CHUNK
    at, quiet, pivots = 0, 0, 0
    while pivots < max_pivots:
        if quiet >= rows:
            if not charged:
                break
            charged, quiet = False, 0
            for pool in range(pools):
                extra_usd[classes + pool] -= start_prices[pool]
            _walk(
                pred, parent, child, after, depth, pi, stack, sink, pools, dense, spread, region, extra_tail, flat,
                extra_usd,
            )  # fmt: skip
        # Price one row: the arc whose entry saves most a unit.
        entering, best = -1, 0
        if at < classes:
            base = at * pools
            spreads = spread[at] >= 0
            own = pi[at]
            for pool in range(pools):
                if spreads:
                    own = pi[spread[at] + region[pool]]
                reduced = flat[base + pool] + own - pi[classes + pool]
                if reduced < best:
                    if state[base + pool] == LOWER:
                        entering, best = base + pool, reduced
                elif -reduced < best and state[base + pool] == UPPER:
                    entering, best = base + pool, -reduced
        else:
            low = (at - classes) * _CHUNK
            for extra in range(low, min(low + _CHUNK, len(extra_tail))):
                reduced = extra_usd[extra] + pi[extra_tail[extra]] - pi[extra_head[extra]]
                kind = state[dense + extra]
                if (reduced < best and kind == LOWER) or (-reduced < best and kind == UPPER):
                    entering, best = dense + extra, -abs(reduced)
        at = at + 1 if at + 1 < rows else 0
        quiet += 1
        if entering < 0:
            continue
        quiet = 0
        pivots += 1
        tail = _tail(entering, pools, dense, spread, region, extra_tail)
        head = _head(entering, pools, classes, dense, extra_head)
        room = _room(entering, pools, dense, units, copies, capacity, extra_room)
        forward = state[entering] == LOWER
        source, target = (tail, head) if forward else (head, tail)
        reduced = pi[tail] - pi[head] + (flat[entering] if entering < dense else extra_usd[entering - dense])
        # The cycle: source -> target over the entering arc, target up to the join, down to source.
        join, other = source, target
        while join != other:
            if depth[join] >= depth[other]:
                join = parent[join]
            else:
                other = parent[other]
        delta, leaving, side = room, -1, 0
        node = source
        while node != join:
            arc = pred[node]
            up = _tail(arc, pools, dense, spread, region, extra_tail) == node
            held = flow[arc] if arc < dense else extra_flow[arc - dense]
            left = held if up else _room(arc, pools, dense, units, copies, capacity, extra_room) - held
            if left < delta:
                delta, leaving, side = left, node, 1
            node = parent[node]
        node = target
        while node != join:
            arc = pred[node]
            up = _tail(arc, pools, dense, spread, region, extra_tail) == node
            held = flow[arc] if arc < dense else extra_flow[arc - dense]
            left = _room(arc, pools, dense, units, copies, capacity, extra_room) - held if up else held
            if left <= delta:
                delta, leaving, side = left, node, 2
            node = parent[node]
        if delta > 0:
            signed = delta if forward else -delta
            if entering < dense:
                flow[entering] += signed
            else:
                extra_flow[entering - dense] += signed
            for start in range(2):
                node = source if start == 0 else target
                while node != join:
                    arc = pred[node]
                    up = _tail(arc, pools, dense, spread, region, extra_tail) == node
                    change = delta if up == (start == 1) else -delta
                    if arc < dense:
                        flow[arc] += change
                    else:
                        extra_flow[arc - dense] += change
                    node = parent[node]
        if leaving < 0:
            state[entering] = UPPER if forward else LOWER
            continue
        out = pred[leaving]
        held = flow[out] if out < dense else extra_flow[out - dense]
        state[out] = LOWER if held == 0 else UPPER
        state[entering] = TREE
        # Cut below `leaving`, turn the path from the entering arc's end up to it around, hang it on the other end.
        root, hook = (source, target) if side == 1 else (target, source)
        shift = -reduced if root == tail else reduced
        node, new_parent, new_pred = root, hook, entering
        while True:
            old_parent, old_pred = parent[node], pred[node]
            if before[node] >= 0:
                after[before[node]] = after[node]
            else:
                child[old_parent] = after[node]
            if after[node] >= 0:
                before[after[node]] = before[node]
            parent[node], pred[node] = new_parent, new_pred
            before[node] = -1
            after[node] = child[new_parent]
            if child[new_parent] >= 0:
                before[child[new_parent]] = node
            child[new_parent] = node
            if node == leaving:
                break
            node, new_parent, new_pred = old_parent, node, old_pred
        top = 0
        stack[0] = root
        while top >= 0:
            node = stack[top]
            top -= 1
            pi[node] += shift
            depth[node] = depth[parent[node]] + 1
            below = child[node]
            while below >= 0:
                top += 1
                stack[top] = below
                below = after[below]
    return flow.reshape(classes, pools), extra_flow, pi, pivots
