"""The world as the place job knows it: nodes, pools, links, prices, datasets, regions, and every live task.

It changes only by `apply(transition)` for tasks and by `set_nodes`, `set_links`, `set_prices`, `set_datasets` and
`hear` for what regions report. The live job applies transitions as it decides them; a restart applies the same rows
read back from the ledger, and arrives at the same world. Time is an argument everywhere.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from scheduling.arrays import BoolArray, FloatArray, IntArray
from scheduling.model import Network, Pools, local_network, make_pools
from scheduling.nodes import Need, Nodes, Pool, Slot
from scheduling.seats import MICRO, Seat, Seats
from scheduling.tasks import (
    MIB_PER_GB,
    MILLI,
    TERMINAL,
    Change,
    Copy,
    Task,
    TaskState,
    Transition,
    whole_shares,
)
from scheduling.urgency import NO_DEADLINE_MS
from scheduling.waiting import ClassKey, Waiting

SPOT = "spot"
ON_DEMAND = "on-demand"
GAVE_UP = "gave up"
"""First words of the reason of a failure that is final."""
UNKNOWN_REGION = "(unknown)"
NODE_SEPARATOR = "\x1f"  # node ids are unique within a region only; no id holds a control character


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFacts:
    """A node as its latest sample describes it."""

    region: str
    node_id: str
    gpu_model: str
    spot: bool
    gpus: int
    cpus: float
    memory_gb: float
    ready: bool


@dataclass(slots=True, kw_only=True)
class RegionState:
    """What is known of a region's agent."""

    heard_ms: int
    """When it was heard last on the driver's wall clock, for people: silence is scheduling.hearing's to judge."""
    lost: bool = False
    confirmed: bool = False
    """True once a heartbeat arrived in this run of the job; before that nothing new is placed there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetFacts:
    """Where a dataset's copies lie."""

    regions: tuple[str, ...]
    size_gb: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """What a tenant may hold."""

    weight: float = 1.0
    """Its fair share, against the weights of the others that want something."""
    quota_gpus: float = math.inf
    """Never more than this, even of what is idle."""
    budget_usd_per_hour: float = math.inf
    """Never more than this for GPUs, all its copies together."""


@dataclass(slots=True, kw_only=True)
class Holding:
    """What a tenant holds now; integers, so that giving back is exact."""

    gpu_milli: int = 0
    cpu_milli: int = 0
    memory_mib: int = 0
    micro_usd_per_hour: int = 0


def pool_name(pool: Pool) -> str:
    """Id of a pool: region/model/how it is bought."""
    return f"{pool.region}/{pool.gpu_model or 'cpu'}/{SPOT if pool.spot else ON_DEMAND}"


class World:
    """See the module's words. Columns over pools follow `nodes.pools`, in order of appearance."""

    def __init__(self) -> None:
        self.nodes = Nodes()
        self.tasks: dict[str, Task] = {}
        self.regions: dict[str, RegionState] = {}
        self.datasets: dict[str, DatasetFacts] = {}
        self.prices: dict[tuple[str, str, bool], float] = {}
        self.links: dict[tuple[str, str], tuple[float, float, float]] = {}
        self.waiting = Waiting(self._pools_of)
        self.seats = Seats()
        self.tenants: dict[str, Tenant] = {}
        self.holdings: dict[str, Holding] = {}
        self.malleable: set[tuple[str, int]] = set()
        """Placed copies whose size may change."""
        self.grow_at_ms = 0
        """When idle GPUs are looked for next."""
        self.clock = 0
        """Counts what may let a waiting task in; compared with the clock of its last fruitless try."""
        self.loosened = np.zeros(0, np.int64)
        self.count_by_state = dict.fromkeys(TaskState, 0)
        self._facts: dict[str, NodeFacts] = {}
        self._copies_on: dict[int, set[tuple[str, int]]] = {}  # node row -> copies that sit there
        self._copies_in: dict[str, set[tuple[str, int]]] = {}  # region -> copies that sit there
        self._order = 0
        self._region_names: list[str] = [UNKNOWN_REGION]
        self._region_index: dict[str, int] = {UNKNOWN_REGION: 0}
        self._network: Network | None = None
        self._pools: Pools | None = None

    # What regions report

    def hear(self, region: str, now_ms: int) -> None:
        """Note a sign of life."""
        state = self.regions.get(region)
        if state is None:
            self.regions[region] = RegionState(heard_ms=now_ms, confirmed=True)
            self._region_changed(region)
        else:
            opened = state.lost or not state.confirmed
            state.heard_ms, state.lost, state.confirmed = now_ms, False, True
            if opened:
                self._region_changed(region)

    def expect(self, region: str, now_ms: int) -> None:
        """At start: a region that the ledger knows counts as lost if it stays silent."""
        self.regions.setdefault(region, RegionState(heard_ms=now_ms))

    def lose_region(self, region: str) -> None:
        """Take nothing new there until it is heard again."""
        self.regions[region].lost = True
        self._region_changed(region)

    def close_region(self, region: str) -> None:
        """Take nothing new there until it is heard again; what it holds stays."""
        state = self.regions.get(region)
        if state is not None and state.confirmed:
            state.confirmed = False
            self._region_changed(region)

    def open_region(self, region: str) -> bool:
        """Whether tasks may be placed in the region."""
        state = self.regions.get(region)
        return state is not None and state.confirmed and not state.lost

    def set_nodes(self, facts: Iterable[NodeFacts]) -> list[tuple[str, int]]:
        """Bring nodes up to date with their latest samples; nodes that are not listed are gone.

        Returns:
            Copies (task id, copy index) on nodes that are gone or not ready any more, ordered.
        """
        current = {f"{fact.region}{NODE_SEPARATOR}{fact.node_id}": fact for fact in facts}
        hit: set[tuple[str, int]] = set()
        for key in self._facts.keys() - current.keys():
            hit |= self._lose_node(key)
        for key, fact in current.items():
            if self._facts.get(key) == fact:
                continue
            if fact.ready:
                self._put_node(key, fact)
            else:
                hit |= self._lose_node(key)
        if current != self._facts:
            self._facts = current
            self._pools = None
        return sorted(hit)

    def set_links(self, links: Mapping[tuple[str, str], tuple[float, float, float]]) -> None:
        """Set (rtt_ms, gbps, usd_per_gb) by (from, to); NaN where unknown."""
        if links != self.links:
            # Regions first: indexing one makes waiting tasks be judged anew, by links whose ends must be known.
            for source, target in links:
                self._index_region(source)
                self._index_region(target)
            self.links = dict(links)
            self._network = None
            self._all_loosened()

    def set_prices(self, prices: Mapping[tuple[str, str, bool], float]) -> None:
        """Set US dollars per GPU-hour by (region, GPU model, spot)."""
        if prices != self.prices:
            self.prices = dict(prices)
            self._pools = None
            self._all_loosened()

    def set_datasets(self, datasets: Mapping[str, DatasetFacts]) -> None:
        """Set where datasets lie."""
        if datasets != self.datasets:
            self.datasets = dict(datasets)
            self._all_loosened()

    def set_tenants(self, tenants: Mapping[str, Tenant]) -> None:
        """Set weights and limits; who is not listed has weight 1 and no limit."""
        if tenants != self.tenants:
            self.tenants = dict(tenants)
            self._all_loosened()

    # What happens to tasks

    def apply(self, row: Transition) -> None:
        """Apply one row of the ledger. Rows of unknown tasks and rows that change nothing are ignored."""
        if row.change is Change.SUBMITTED:
            self._submit(row)
            return
        task = self.tasks.get(row.task_id)
        if task is None or row.change is Change.REFUSED:
            return
        # A repair spends an epoch, too: the region's fence has seen it, so the next assignment there must be above it.
        task.epoch = max(task.epoch, row.epoch)
        if row.change is Change.REPAIRED:
            return
        before = task.state
        task.attempt = max(task.attempt, row.attempt)
        task.reason = row.reason or ""
        match row.change:
            case Change.ASSIGNED:
                self._assign(task, row)
            case Change.ACCEPTED | Change.RUNNING:
                if (copy := task.copies.get(row.copy)) is not None:
                    copy.state = TaskState.RUNNING if row.change is Change.RUNNING else TaskState.ASSIGNED
                    copy.misses = 0
            case Change.SUCCEEDED:
                self._vacate(task, row.copy)
                task.done_copies.add(row.copy)
            case Change.FAILED | Change.EVICTED | Change.LOST | Change.REVOKED | Change.PREEMPTED:
                self._vacate(task, row.copy)
                task.preempted += row.change is Change.PREEMPTED
                if row.change in (Change.FAILED, Change.LOST) and row.region is not None:
                    task.avoid |= {row.region}
                if row.change is Change.FAILED and task.reason.startswith(GAVE_UP):
                    task.ended = TaskState.FAILED
            case Change.CANCELLED:
                task.ended = TaskState.CANCELLED
            case Change.UPDATED:
                assert row.spec is not None
                assert row.request is not None
                task.spec, task.request = row.spec, row.request
                task.content_hash = row.content_hash or task.content_hash
        task.state = task.state_now()
        self._queue(task, row.change)
        self.count_by_state[before] -= 1
        self.count_by_state[task.state] += 1

    def copies_in(self, region: str) -> list[tuple[str, int]]:
        """Copies (task id, copy index) that the ledger has in a region, ordered."""
        return sorted(self._copies_in.get(region, ()))

    # What a plan reads

    def pools(self) -> Pools:
        """Pools with their free capacity (GPUs, CPUs, GB) now; closed regions have none."""
        if self._pools is None:
            self._pools = self._build_pools()
        return self._with_free_capacity(self._pools)

    def network(self) -> Network:
        """Links between all known regions; a missing link is unreachable, a region reaches itself freely."""
        if self._network is None:
            self._network = self._build_network()
        return self._network

    @property
    def region_names(self) -> tuple[str, ...]:
        """Regions by index."""
        return tuple(self._region_names)

    def region_at(self, region: str) -> int:
        """Index of a region; 0 (a place that nothing reaches) for one that nobody reported yet.

        Requests may name any region. Only what regions themselves report makes one known, or anybody could grow the
        R × R network without end.
        """
        return self._region_index.get(region, 0)

    def usable_pools(self, key: ClassKey) -> BoolArray:
        """Mask of the pools that a class may use and that are open now, [P]."""
        usable = self._pools_of(key)
        usable &= np.array([self.open_region(pool.region) for pool in self.nodes.pools], bool)
        return usable

    def node_key(self, region: str, node_id: str) -> str:
        """Key of a node in `nodes`."""
        return f"{region}{NODE_SEPARATOR}{node_id}"

    # Within

    def _submit(self, row: Transition) -> None:
        if row.task_id in self.tasks or row.spec is None or row.request is None:
            return
        self._order += 1
        task = Task(
            task_id=row.task_id,
            spec=row.spec,
            request=row.request,
            content_hash=row.content_hash or "",
            submitted_ms=row.decided_ms,
            order=self._order,
        )
        self.tasks[row.task_id] = task
        self.count_by_state[TaskState.WAITING] += 1
        self._wait(task, first=False)

    def _assign(self, task: Task, row: Transition) -> None:
        assert row.region is not None and row.pool_id is not None
        self._vacate(task, row.copy)
        copy = Copy(
            index=row.copy,
            epoch=row.epoch,
            region=row.region,
            pool_id=row.pool_id,
            shares=row.shares,
            state=TaskState.ASSIGNED,
            assigned_ms=row.decided_ms,
        )
        task.copies[row.copy] = copy
        held = (task.task_id, row.copy)
        self._copies_in.setdefault(row.region, set()).add(held)
        slots = self.slots_of(task, copy)
        for slot, need in slots:
            self.nodes.force(slot, need)
            self._copies_on.setdefault(slot.node, set()).add(held)
        if task.spec.min_workers is not None:
            self.malleable.add(held)
        self._sit(task, copy, slots, row)

    def _sit(self, task: Task, copy: Copy, slots: list[tuple[Slot, Need]], row: Transition) -> None:
        spec, money = task.spec, row.money
        least = spec.min_workers
        workers = copy.workers if least is not None else 0
        again = 0.0 if money is None else money.egress_usd + money.stall_usd
        own = spec.workers
        copy_gpu_milli = sum(len(slot.devices) * need.gpu_milli for slot, need in slots)
        shared = {
            "pool": self.nodes.pool_at(self._pool_of_id(copy.pool_id)),
            "priority": spec.priority,
            "preemptible": int(spec.preemptible),
            "surplus": max(workers - least, 0) if least is not None else 0,
            "copy_gpu_milli": copy_gpu_milli,
            "assigned_ms": copy.assigned_ms,
            "expected_ms": round(spec.expected_s * MILLI * (own / workers if workers else 1.0)),
            "submitted_ms": task.submitted_ms,
            "start_by_ms": NO_DEADLINE_MS if spec.start_by_ms is None else spec.start_by_ms,
            "micro_usd_per_hour": round((row.usd_per_hour or 0.0) * MICRO),
            "micro_usd_again": round(again * MICRO),
            "order": task.order,
        }
        held = (task.task_id, copy.index)
        copy.seats = tuple(
            self.seats.put(
                held,
                Seat(
                    node=slot.node,
                    gpu_milli=len(slot.devices) * need.gpu_milli,
                    cpu_milli=need.cpu_milli,
                    memory_mib=need.memory_mib,
                    first=int(index == 0),
                    **shared,
                ),
            )
            for index, (slot, need) in enumerate(slots)
        )
        holding = self.holdings.setdefault(spec.tenant, Holding())
        holding.gpu_milli += copy_gpu_milli
        holding.cpu_milli += sum(need.cpu_milli for _, need in slots)
        holding.memory_mib += sum(need.memory_mib for _, need in slots)
        holding.micro_usd_per_hour += shared["micro_usd_per_hour"]

    def _rise(self, task: Task, copy: Copy) -> None:
        tenant = task.spec.tenant
        holding = self.holdings[tenant]
        for row in copy.seats:
            seat = self.seats.drop(row)
            holding.gpu_milli -= seat.gpu_milli
            holding.cpu_milli -= seat.cpu_milli
            holding.memory_mib -= seat.memory_mib
            holding.micro_usd_per_hour -= seat.micro_usd_per_hour * seat.first
        if tenant in self.tenants:
            self.waiting.tenant_loosened(tenant)

    def _queue(self, task: Task, change: Change) -> None:
        if task.state in TERMINAL:
            self.waiting.drop(task.task_id)
            task.request = ""  # the ledger keeps it; a million finished tasks need not
        elif task.missing == 0:
            self.waiting.drop(task.task_id)
        elif change is not Change.WAITING:
            self._wait(task, first=change is not Change.UPDATED)

    def _vacate(self, task: Task, index: int) -> None:
        copy = task.copies.pop(index, None)
        if copy is None:
            return
        held = (task.task_id, index)
        self._copies_in[copy.region].discard(held)
        for slot, need in self.slots_of(task, copy):
            self.nodes.release(slot, need)
            self._copies_on[slot.node].discard(held)
        self.malleable.discard(held)
        self._rise(task, copy)
        self._loosen(copy.pool_id)

    def slots_of(self, task: Task, copy: Copy) -> list[tuple[Slot, Need]]:
        """What a placed copy takes of which nodes."""
        slots: list[tuple[Slot, Need]] = []
        for share, need in whole_shares(task.spec.parts, copy.shares):
            key = self.node_key(copy.region, share.node_id)
            row = self.nodes.row_of.get(key)  # type: ignore[call-overload]
            if row is None:
                row = self._put_unseen(key, copy)
            slots.append((Slot(row, share.devices), need))
        return slots

    def _put_unseen(self, key: str, copy: Copy) -> int:
        """Add a node that the ledger knows and no sample described yet: it has nothing until one does."""
        self._index_region(copy.region)
        row = self.nodes.put(key, self._pool_of_id(copy.pool_id), gpus=0, cpu_milli=0, memory_mib=0)
        self.nodes.lose(row)
        self._all_loosened()
        return row

    def _pool_of_id(self, pool_id: str) -> Pool:
        region, model, bought = pool_id.rsplit("/", 2)
        return Pool(region=region, gpu_model="" if model == "cpu" else model, spot=bought == SPOT)

    def _wait(self, task: Task, *, first: bool) -> None:
        key = ClassKey(
            spec=task.spec,
            missing=task.missing,
            taken=frozenset(copy.region for copy in task.copies.values()),
            avoid=task.avoid,
        )
        self.waiting.put(task.task_id, key, task.order, task.submitted_ms, first=first)

    def _put_node(self, key: str, fact: NodeFacts) -> None:
        pool = Pool(region=fact.region, gpu_model=fact.gpu_model if fact.gpus else "", spot=fact.spot)
        self._index_region(fact.region)
        pools = len(self.nodes.pools)
        self.nodes.put(
            key,
            pool,
            gpus=fact.gpus,
            cpu_milli=round(fact.cpus * MILLI),
            memory_mib=round(fact.memory_gb * MIB_PER_GB),
        )
        if len(self.nodes.pools) != pools:
            self._all_loosened()
        else:
            self._loosen(pool_name(pool))

    def _lose_node(self, key: str) -> set[tuple[str, int]]:
        row = self.nodes.row_of.get(key)  # type: ignore[call-overload]
        if row is None or not self.nodes.ready[row]:
            return set()
        self.nodes.lose(row)
        return set(self._copies_on.get(row, ()))

    def _index_region(self, region: str) -> int:
        index = self._region_index.get(region)
        if index is None:
            index = self._region_index[region] = len(self._region_names)
            self._region_names.append(region)
            self._network = None
            self._all_loosened()
        return index

    def _region_changed(self, region: str) -> None:
        self._index_region(region)
        self.clock += 1
        for index, pool in enumerate(self.nodes.pools):
            if pool.region == region:
                self._loosened_at(index)

    def _loosen(self, pool_id: str) -> None:
        self.clock += 1
        index = self.nodes.pool_index.get(self._pool_of_id(pool_id))
        if index is not None:
            self._loosened_at(index)

    def _loosened_at(self, index: int) -> None:
        if len(self.loosened) < len(self.nodes.pools):
            self.loosened = np.append(self.loosened, np.zeros(len(self.nodes.pools) - len(self.loosened), np.int64))
        self.loosened[index] = self.clock

    def _all_loosened(self) -> None:
        self.clock += 1
        self._pools = None
        self.loosened = np.full(len(self.nodes.pools), self.clock, np.int64)
        self.waiting.forget_pools()

    def _pools_of(self, key: ClassKey) -> BoolArray:
        """Pools that the class may ever use, by model, region, spot and latency: capacity and price aside."""
        spec = key.spec
        network = self.network()
        origin = self.region_at(spec.origin_region or UNKNOWN_REGION)
        mask = np.zeros(len(self.nodes.pools), bool)
        for index, pool in enumerate(self.nodes.pools):
            region = self._region_index[pool.region]
            near = spec.max_rtt_ms is None or (origin is not None and network.rtt_ms[origin, region] <= spec.max_rtt_ms)
            mask[index] = (
                near
                and pool.region not in key.taken
                and (spec.spot_ok or not pool.spot)
                and (spec.gpu_models is None or pool.gpu_model in spec.gpu_models)
                and (spec.allowed_regions is None or pool.region in spec.allowed_regions)
            )
        return mask

    def _build_pools(self) -> Pools:
        pools = self.nodes.pools
        models = self.gpu_models
        model_index = {model: index for index, model in enumerate(models)}
        return make_pools(
            [pool_name(pool) for pool in pools],
            region=np.array([self._index_region(pool.region) for pool in pools], np.int64),
            gpu_model=np.array([model_index[pool.gpu_model] for pool in pools], np.int64),
            capacity=np.zeros((len(pools), 3)),
            usd_per_gpu_hour=np.array(
                [
                    self.prices.get((pool.region, pool.gpu_model, pool.spot), np.nan) if pool.gpu_model else 0.0
                    for pool in pools
                ],
                np.float64,
            ),
            spot=np.array([pool.spot for pool in pools], bool),
        )

    def open_pools(self) -> BoolArray:
        """Pools that take tasks, [P]: their region is open and their price is known.

        Placing without a price would be a guess. A pool without GPUs costs nothing per GPU-hour.
        """
        return np.array(
            [
                self.open_region(pool.region)
                and (
                    not pool.gpu_model
                    or math.isfinite(self.prices.get((pool.region, pool.gpu_model, pool.spot), math.nan))
                )
                for pool in self.nodes.pools
            ],
            bool,
        )

    @property
    def gpu_models(self) -> tuple[str, ...]:
        """GPU models in order of the alphabet; "" is a node without."""
        return tuple(sorted({pool.gpu_model for pool in self.nodes.pools}))

    def _with_free_capacity(self, pools: Pools) -> Pools:
        nodes, count = self.nodes, len(self.nodes.pools)
        priced = np.isfinite(pools.usd_per_gpu_hour)
        usable = nodes.ready & self.open_pools()[nodes.pool]
        gpus = nodes.gpu_milli_free.clip(min=0).sum(axis=1)

        def by_pool(column: IntArray, unit: float) -> FloatArray:
            return np.bincount(nodes.pool, np.where(usable, column.clip(min=0), 0), count) / unit

        held = np.bincount(nodes.pool, np.where(nodes.ready, nodes.gpus * MILLI - gpus, 0), count) / MILLI
        return replace(
            pools,
            capacity=np.stack(
                [
                    by_pool(gpus, MILLI),
                    by_pool(nodes.cpu_milli_free, MILLI),
                    by_pool(nodes.memory_mib_free, MIB_PER_GB),
                ],
                axis=1,
            ),
            usd_per_gpu_hour=np.where(priced, pools.usd_per_gpu_hour, 0.0),
            busy_gpus=held,
        )

    def _build_network(self) -> Network:
        size = len(self._region_names)
        network = local_network(size)
        for (source, target), (rtt_ms, gbps, usd_per_gb) in self.links.items():
            at = self._region_index[source], self._region_index[target]
            network.rtt_ms[at] = np.inf if np.isnan(rtt_ms) else rtt_ms
            network.gbps[at] = 0.0 if np.isnan(gbps) else gbps
            network.usd_per_gb[at] = np.inf if np.isnan(usd_per_gb) else usd_per_gb
        return network
