"""Write the transport problem as a network of integers, run the compiled simplex on it, and read the flow back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from thalweg.scheduling.arrays import FloatArray, IntArray
from thalweg.scheduling.solve.transport.arc_list import ArcList
from thalweg.scheduling.solve.transport.simplex import FORBIDDEN, NONE, POTENTIAL, FlowNetwork, run_simplex
from thalweg.scheduling.solve.transport.transport import Segments, Transport, TransportFlow

MAX_PIVOTS = 1 << 40
"""No limit in practice: strongly feasible trees cannot cycle."""
_COST_RANGE = 1 << 48
"""Integer cost of the dearest arc: potentials, sums along a path, stay in 64 bits for paths of 2^14 arcs."""


def by_simplex(
    problem: Transport,
    start_prices: FloatArray | None,
    region_prices: FloatArray | None = None,
    max_pivots: int = MAX_PIVOTS,
) -> TransportFlow:
    """Solve with the compiled network simplex; region_prices are what the balance is expected to charge."""
    nodes = _number_nodes(problem)
    network, scale, dearest_usd = _network(problem, nodes)
    if start_prices is None:
        start_prices = np.zeros(nodes.pools)
    expected = start_prices if region_prices is None else start_prices + region_prices[problem.region]
    basis, pivots = run_simplex(
        network,
        np.rint(np.minimum(start_prices, dearest_usd) * scale).astype(np.int64),
        np.rint(np.clip(expected, -dearest_usd, dearest_usd) * scale).astype(np.int64),
        _by_regret(problem, expected),
        max_pivots,
    )
    flow = basis.flow[: network.dense].reshape(nodes.classes, nodes.pools)
    class_index, pool_index = np.nonzero(flow)
    potential = basis.tree[POTENTIAL]
    of_region = potential[nodes.first_region : nodes.first_region + problem.regions]
    above = potential[nodes.sink] if problem.balance is None else of_region[problem.region]
    return TransportFlow(
        class_index=class_index,
        pool_index=pool_index,
        units=flow[class_index, pool_index],
        prices=np.maximum(above - potential[nodes.classes : nodes.sink], 0) / scale,
        region_prices=None if problem.balance is None else -of_region / scale,
        rounds=int(pivots),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Nodes:
    """Numbers of the nodes: classes, pools, the sink, regions with a balance, then what spreads copies over regions.

    A class with a limit in each region has a node of its own for each: what enters it is limited by the arc to it.

    Attributes:
        classes: how many; they are the first.
        pools: how many; they follow.
        sink: after the pools.
        first_region: after the sink.
        spread_class: [S] class each spread node belongs to, region by region.
        spread: [S] those nodes.
    """

    classes: int
    pools: int
    sink: int
    first_region: int
    spread_class: IntArray
    spread: IntArray


def _number_nodes(problem: Transport) -> _Nodes:
    classes, pools = problem.unit_usd.shape
    sink = classes + pools
    first_spread = sink + 1 + (0 if problem.balance is None else problem.regions)
    spread_class = np.repeat(np.flatnonzero(problem.region_limit < problem.copies), problem.regions)
    return _Nodes(
        classes=classes,
        pools=pools,
        sink=sink,
        first_region=sink + 1,
        spread_class=spread_class,
        spread=first_spread + np.arange(len(spread_class)),
    )


def _network(problem: Transport, nodes: _Nodes) -> tuple[FlowNetwork, float, float]:
    """The network in integers, integer cost per USD, and the USD of its dearest arc."""
    extra, first_arc = _extra_arcs(problem, nodes)
    tail, head, room, extra_usd = extra.columns()
    finite = np.isfinite(problem.unit_usd)
    dearest_extra = float(np.abs(extra_usd).max(initial=0.0))
    dearest = max(dearest_extra, float(problem.unit_usd.max(initial=0.0, where=finite)), 1e-12)
    scale = _COST_RANGE / dearest
    dense = problem.unit_usd.size
    usd = np.empty(dense + len(extra_usd), np.int64)
    with np.errstate(invalid="ignore"):
        usd[:dense] = np.rint(problem.unit_usd * scale).ravel()
    usd[:dense][~finite.ravel()] = FORBIDDEN
    usd[dense:] = np.rint(extra_usd * scale)
    spread_node = np.full(nodes.classes, NONE, np.int64)
    owner, first = np.unique(nodes.spread_class, return_index=True)
    spread_node[owner] = nodes.spread[first]
    network = FlowNetwork(
        classes=nodes.classes,
        pools=nodes.pools,
        dense=dense,
        sink=nodes.sink,
        usd=usd,
        of_class=np.stack([problem.units, problem.copies, spread_node]),
        of_pool=np.stack([problem.capacity, problem.region]),
        extra=np.stack([tail, head, room]),
        first_arc=first_arc,
    )
    return network, scale, dearest


def _extra_arcs(problem: Transport, nodes: _Nodes) -> tuple[ArcList, IntArray]:
    """Arcs beside those from classes to pools, and the one of them by which each node first hangs on the tree."""
    extra, regions, segments = ArcList(), problem.regions, problem.balance
    supply = problem.units * problem.copies
    sinks = np.full(nodes.classes, nodes.sink)
    extra.add(np.arange(nodes.classes), sinks, supply + 1, problem.wait_usd)
    pool_nodes = nodes.classes + np.arange(nodes.pools)
    to_region = np.full(nodes.pools, nodes.sink) if segments is None else nodes.first_region + problem.region
    extra.add(pool_nodes, to_region, problem.capacity, np.zeros(nodes.pools))
    first_segment = np.zeros(0, np.int64)
    if segments is not None:
        # The cheapest segment of each region comes first, so it is the one the region hangs on.
        first_segment = len(extra) + np.searchsorted(segments.region, np.arange(regions))
        sinks = np.full(len(segments.region), nodes.sink)
        extra.add(nodes.first_region + segments.region, sinks, _open_ended(segments), segments.unit_usd)
    first_spread_wait = len(extra)
    # A copy held up before its region may wait there as well as at its class.
    spread, owner = nodes.spread, nodes.spread_class
    extra.add(spread, np.full(len(spread), nodes.sink), supply[owner] + 1, problem.wait_usd[owner])
    limit = (problem.region_limit * problem.units)[owner]
    extra.add(owner, spread, limit, np.zeros(len(spread)))
    first_arc = [np.arange(nodes.sink), np.array([NONE]), first_segment, first_spread_wait + np.arange(len(spread))]
    return extra, np.concatenate(first_arc).astype(np.int64)


def _open_ended(segments: Segments) -> IntArray:
    """Lengths with one unit more in each region's last piece: a full region still hangs on a piece with room."""
    last = np.append(np.diff(segments.region) > 0, True)
    return np.asarray(segments.length + last)


def _by_regret(problem: Transport, prices: FloatArray) -> IntArray:
    """Classes by what their second-best place would cost more, most first: who is indifferent chooses last."""
    priced = np.column_stack([problem.unit_usd + prices, problem.wait_usd])
    if priced.shape[1] < 2:
        return np.arange(len(priced))
    two = np.partition(priced, 1, axis=1)[:, :2]
    with np.errstate(invalid="ignore"):
        return np.argsort(-(two[:, 1] - two[:, 0]), kind="stable")
