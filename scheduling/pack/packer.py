"""Regional packing: choose the node and the devices for workers whose region and pools are already decided.

A state of a node is worth what it is expected still to take: many sampled futures of arrivals, drawn from the
popularity of the shapes, are offered to it, and what fits is added up. A worker goes where this expected fill falls
least below what it brings. Published scores look one arrival ahead (FGD: how much idle GPU could the next pod not
use); whole futures also see that 0.53 beside 0.47 will be filled, that 0.35 beside 0.65 wants 0.32, and that eight
idle GPUs without CPU will wait for small pods. Figures: docs/measurements/packing.md; reasons: docs/decisions/0040.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from itertools import islice

import numpy as np

from thalweg.scheduling.ids import RegionId
from thalweg.scheduling.pack import kernels
from thalweg.scheduling.pack.fragmentation import typical_shapes
from thalweg.scheduling.pack.nodes import MAX_DEVICES, Need, Nodes, Slot
from thalweg.scheduling.pack.popularity import WORTH_UNIT, Popularity, sample_futures
from thalweg.scheduling.pack.seen_shapes import SeenShapes

FUTURES = 64  # 32 lose 0.05 points of allocation on openb and vary more, 128 gain nothing and cost twice the time
GRAIN_MILLI = 2  # scores closer than this are a tie, decided by best fit
_MEMO = 1 << 18  # places for states per board: 4 MiB; the openb runs visit up to 77,000
_OFFERS = 1 << 14  # places for states of devices alone: 24 MiB, touched as they come; the openb runs visit up to 9,700
_KINDS = 256  # distinct (need, pools) with kept scores per board
_FIRST_REFRESH = 64  # arrivals after which a board without given popularity looks at what it has seen
_LAST_REFRESH = 1 << 15  # after twice as many it looks again, and at last after so many more


class ScoringRule(StrEnum):
    """How a node's state is valued."""

    FILL = "fill"  # expected further fill over sampled futures
    FGD = "fgd"  # idle GPU that the next pod could use: the published reference


Request = tuple[Need, frozenset[int]]  # one worker and the pools it may use


class Board:
    """One region's nodes as the kernels read them, with everything that was computed for them."""

    def __init__(self, nodes: Nodes, region: RegionId) -> None:
        """Lay out the region's nodes as they are now."""
        pools = [index for index, pool in enumerate(nodes.pools) if pool.region == region]
        rows = np.sort(np.concatenate([nodes.members(p) for p in pools]))
        local = np.full(len(nodes.pools), -1, np.int64)
        local[pools] = np.arange(len(pools))
        self.layout = nodes.layout
        self.local_pool = {p: i for i, p in enumerate(pools)}
        self.kinds: dict[Request, int] = {}
        self.memo: kernels.Memo
        self.kept = kernels.Kept(
            rows=rows,
            pools=local[nodes.pool[rows]],
            barred=np.zeros(len(rows), np.uint8),
            seen=np.full(len(rows), -1, np.int64),
            value_version=np.full(len(rows), -1, np.int64),
            value=np.zeros(len(rows), np.int64),
            log=np.zeros(1 << max(0, len(rows) - 1).bit_length(), np.int64),
            ends=np.zeros(2, np.int64),
            marked=np.zeros(len(rows), np.int64),
            needs=np.zeros((8, 4), np.int64),
            permitted=np.zeros((8, len(pools)), np.uint8),
            read=np.full(8, -1, np.int64),
            rank=np.zeros((8, len(rows)), np.int64),
            device=np.zeros((8, len(rows)), np.int16),
        )
        self.outlook: kernels.Outlook

    def kind(self, request: Request) -> int:
        """Return the index under which scores of this request are kept, giving it one when it is new."""
        known = self.kinds.get(request)
        if known is not None:
            return known
        index = self.kinds[request] = len(self.kinds)
        if index == len(self.kept.needs):
            doubled = {
                name: np.concatenate([getattr(self.kept, name), np.zeros_like(getattr(self.kept, name))])
                for name in ("needs", "permitted", "read", "rank", "device")
            }
            self.kept = self.kept._replace(**doubled)
        need, pools = request
        self.kept.needs[index] = (need.gpus, need.gpu_milli if need.gpus else 0, need.cpu_milli, need.memory_mib)
        self.kept.permitted[index] = 0
        self.kept.permitted[index, [self.local_pool[p] for p in pools]] = 1
        self.kept.read[index] = -1
        return index

    def expect(self, nodes: Nodes, popularity: Popularity, *, rule: ScoringRule, futures: int, seed: int) -> None:
        """Value everything anew under this popularity."""
        rows = self.kept.rows
        local = {
            (need, frozenset(self.local_pool[p] for p in pools if p in self.local_pool)): weight
            for (need, pools), weight in popularity.items()
        }
        if rule is ScoringRule.FGD:
            self.outlook = typical_shapes(local, pools=len(self.local_pool))
        else:
            self.outlook = sample_futures(
                local,
                pools=len(self.local_pool),
                gpus=nodes.gpus[rows],
                cpu_milli=nodes.cpu_milli[rows],
                memory_mib=nodes.memory_mib[rows],
                pool=self.kept.pools,
                futures=futures,
                seed=seed,
            )
        self.forget()
        self.kept.value_version[:] = -1
        self.kept.read[:] = -1

    def forget(self) -> None:
        """Start with an empty memory of states; what nodes are worth as they are is not forgotten."""
        self.memo = kernels.Memo(
            keys=np.zeros(_MEMO, np.int64),
            values=np.zeros(_MEMO, np.int64),
            offer_keys=np.zeros(_OFFERS, np.int64),
            offers=np.zeros((_OFFERS, len(self.outlook.futures), 3), np.int64),
            used=np.zeros(2, np.int64),
            scratch=np.zeros((3, MAX_DEVICES), np.int64),
        )


class Packer:
    """Places workers on `nodes` and keeps what it computes for them between calls.

    The nodes may change in between through their own methods; the packer notices by their versions.
    """

    def __init__(
        self, nodes: Nodes, *, rule: ScoringRule = ScoringRule.FILL, futures: int = FUTURES, seed: int = 0
    ) -> None:
        """Start without expectations: each region learns the popularity of shapes from what it is asked to place.

        Args:
            nodes: the state to place on, shared with the caller.
            rule: how a node's state is valued.
            futures: how many sampled futures value a node; fewer is faster and coarser.
            seed: of the futures' order.
        """
        if futures < 1:
            raise ValueError(f"at least one future is needed to value a node, got {futures}")
        self.nodes = nodes
        self._rule = rule
        self._futures = futures
        self._seed = seed
        self._boards: dict[RegionId, Board] = {}
        self._expected: dict[str, Popularity] = {}
        self._counted: dict[str, dict[Request, float]] = {}
        self._arrivals: dict[str, int] = {}
        self._seen: SeenShapes | None = None
        self._asked_when_valued: dict[str, int] = {}

    def learn_from(self, seen: SeenShapes) -> None:
        """Take what was asked for as what will come, from now on, instead of what the calls of `place` bring.

        Values one region anew if much more was asked for than when it was valued last. One, since a thousand nodes take
        some ten milliseconds; the others have their turns in later calls.
        """
        self._seen = seen
        for region, board in self._boards.items():
            before = self._asked_when_valued.get(region, 0)
            if seen.asked >= _FIRST_REFRESH and seen.asked - before >= min(before, _LAST_REFRESH):
                self._value_anew(region, board)
                return

    def expect(self, region: RegionId, popularity: Popularity) -> None:
        """Set what will arrive in a region (weights by need and allowed pools); it is no longer learnt there."""
        self._expected[region] = dict(popularity)
        if region in self._boards:
            self._value_anew(region, self._boards[region])

    def place(
        self,
        need: Need,
        pools: Sequence[int],
        *,
        workers: int = 1,
        spread: bool = False,
        avoid: Sequence[int] = (),
        learn: bool = True,
    ) -> tuple[Slot, ...] | None:
        """Choose slots for all workers and allocate them, or change nothing and return None.

        Args:
            need: what each worker needs.
            pools: allowed pools of one region, by index in `nodes.pools`. A single worker takes the best node of all
                of them; several workers (a gang) stay in one pool, the first in this order that holds them all.
            workers: how many identical workers; all or none.
            spread: put every worker on a node of its own.
            avoid: rows that must not be used (node-level anti-affinity with other tasks).
            learn: count this as an arrival; False when it was counted before (a move, another try).

        Returns:
            One slot per worker in the order chosen, or None when it does not fit. Equal inputs give equal slots.

        Raises:
            ValueError: no worker, or pools of different regions.
        """
        if workers < 1:
            raise ValueError(f"a task has at least one worker, got {workers}")
        if not pools:
            return None
        board = self._board(self._region(pools), [(need, frozenset(pools))] if learn else ())
        for choice in [frozenset(pools)] if workers == 1 else [frozenset((p,)) for p in pools]:
            slots = self._run(board, [(need, choice)] * workers, spread=spread, avoid=avoid)
            if None not in slots:
                return tuple(slot for slot in slots if slot is not None)
            for slot in slots:
                if slot is not None:
                    self.nodes.release(slot, need)
        return None

    def place_each(self, requests: Sequence[Request], *, learn: bool = True) -> list[Slot | None]:
        """Place single workers of one region in this order, each where it fits best at its turn, None where nowhere."""
        if not requests:
            return []
        board = self._board(self._region(sorted(requests[0][1])), requests if learn else ())
        return self._run(board, requests)

    def place_jointly(self, requests: Sequence[Request]) -> list[Slot | None]:
        """Place single workers of one region as one decision: the order that ends best, not the order of arrival.

        The batch is tried in order of arrival, the hardest to place first, workers of several GPUs first, and those
        with the least choice of pools first; the outcome that places more, then the one that leaves more expected
        fill, stays. Arrival order wins ties, so a batch is never worse at its end than its workers one by one.
        """
        if len(requests) < 2:
            return self.place_each(requests)
        arrival = list(range(len(requests)))
        hard = [(-need.total_gpu_milli, -need.cpu_milli) for need, _ in requests]
        orders = [
            arrival,
            sorted(arrival, key=lambda i: hard[i]),
            sorted(arrival, key=lambda i: -requests[i][0].gpus),
            sorted(arrival, key=lambda i: (len(requests[i][1]), hard[i])),
        ]
        outcomes: list[tuple[tuple[int, float], list[Slot | None]]] = []
        for order in orders:
            placed = dict(zip(order, self.place_each([requests[i] for i in order], learn=not outcomes), strict=True))
            slots = [placed[i] for i in arrival]
            outcomes.append((self._outcome(requests, slots), slots))
            self.release_each(requests, slots)
        _, slots = max(outcomes, key=lambda outcome: outcome[0])
        for (need, _), slot in zip(requests, slots, strict=True):
            if slot is not None:
                self.nodes.allocate(slot, need)
        return slots

    def release_each(self, requests: Sequence[Request], slots: Sequence[Slot | None]) -> None:
        """Give back what these requests hold."""
        for (need, _), slot in zip(requests, slots, strict=True):
            if slot is not None:
                self.nodes.release(slot, need)

    def worth(self, region: RegionId) -> float:
        """Expected further fill of the region's nodes in GPU-milli, under the rule's own weights."""
        board = self._boards[region]
        total = kernels.total_value(self._columns(), board.kept, board.outlook, board.memo)
        return total / (WORTH_UNIT * self._futures)

    def _outcome(self, requests: Sequence[Request], slots: Sequence[Slot | None]) -> tuple[int, float]:
        brought = sum(need.total_gpu_milli for (need, _), slot in zip(requests, slots, strict=True) if slot is not None)
        placed = sum(slot is not None for slot in slots)
        return placed, brought + self.worth(self._region(sorted(requests[0][1])))

    def _run(
        self,
        board: Board,
        requests: Sequence[Request],
        *,
        spread: bool = False,
        avoid: Sequence[int] = (),
    ) -> list[Slot | None]:
        nodes = self.nodes
        if 4 * board.memo.used[0] >= 3 * len(board.memo.keys):
            board.forget()
        distinct = set(requests)
        if len(distinct) > _KINDS and not spread:
            half = len(requests) // 2
            return self._run(board, requests[:half], avoid=avoid) + self._run(board, requests[half:], avoid=avoid)
        if len(distinct | board.kinds.keys()) > _KINDS:
            board.kinds.clear()
        kinds = np.array([board.kind(request) for request in requests], np.int64)
        out_rows = np.empty(len(requests), np.int64)
        devices = [need.gpus for need, _ in requests]
        out_devices = np.empty(sum(devices), np.int64)
        if spread or avoid:
            board.kept.barred[:] = np.isin(board.kept.rows, np.asarray(avoid, np.int64))
        nodes.clock += kernels.place_in_order(
            kinds,
            int(spread),
            self._columns(),
            board.kept,
            board.outlook,
            board.memo,
            GRAIN_MILLI * WORTH_UNIT * self._futures if self._rule is ScoringRule.FILL else kernels.SIGMOID,
            out_rows,
            out_devices,
        )
        if spread or avoid:
            board.kept.barred[:] = 0
        taken = iter(out_devices.tolist())
        chosen = [tuple(islice(taken, count)) for count in devices]
        return [
            None if index < 0 else Slot(int(board.kept.rows[index]), of_slot)
            for index, of_slot in zip(out_rows.tolist(), chosen, strict=True)
        ]

    def _columns(self) -> kernels.Columns:
        nodes = self.nodes
        return kernels.Columns(
            gpus=nodes.gpus,
            cpu_free=nodes.cpu_milli_free,
            memory_free=nodes.memory_mib_free,
            gpu_free=nodes.gpu_milli_free,
            ready=nodes.ready,
            version=nodes.version,
        )

    def _region(self, pools: Sequence[int]) -> RegionId:
        regions = {self.nodes.pools[p].region for p in pools}
        if len(regions) != 1:
            raise ValueError(f"a worker is packed inside one region, but its pools lie in {sorted(regions)}")
        return regions.pop()

    def _board(self, region: RegionId, requests: Sequence[Request]) -> Board:
        board = self._boards.get(region)
        if board is None or board.layout != self.nodes.layout:
            board = self._boards[region] = Board(self.nodes, region)
            self._value_anew(region, board)
        if self._seen is None and region not in self._expected:
            counted = self._counted.setdefault(region, {})
            before = self._arrivals.get(region, 0)
            for request in requests:
                counted[request] = counted.get(request, 0.0) + 1.0
            after = self._arrivals[region] = before + len(requests)
            # At 64, 128, 256, ... arrivals: each look costs valuing every node anew, and later ones change ever less.
            if after >= _FIRST_REFRESH and before.bit_length() != after.bit_length():
                self._value_anew(region, board)
        return board

    def _value_anew(self, region: RegionId, board: Board) -> None:
        popularity: Popularity = self._expected.get(region) or self._counted.get(region, {})
        if self._seen is not None and region not in self._expected:
            popularity = self._seen.within(board.local_pool)
            self._asked_when_valued[region] = self._seen.asked
        board.expect(self.nodes, popularity, rule=self._rule, futures=self._futures, seed=self._seed)
