"""The world as the place job knows it: nodes, pools, links, prices, datasets, regions, and every live task.

It changes only by `apply(transition)` for tasks and by `set_nodes`, `set_links`, `set_prices`, `set_datasets` and
`hear` for what regions report. The live job applies transitions as it decides them; a restart applies the same rows
read back from the ledger, and arrives at the same world. Time is an argument everywhere.
"""

import math
from collections.abc import Hashable, Iterable, Mapping, Set
from dataclasses import dataclass, replace
from heapq import heappop, heappush

import numpy as np

from thalweg.scheduling.arrays import BoolArray, FloatArray, IntArray
from thalweg.scheduling.pack.nodes import Need, NodeId, Nodes, Pool, Slot
from thalweg.scheduling.pack.pool_ids import pool_name, pool_of
from thalweg.scheduling.problem.model import Network, Pools, local_network, make_pools
from thalweg.scheduling.world.facts import (
    NODE_SEPARATOR,
    Link,
    objection_to_dataset,
    objection_to_link,
    objection_to_node,
    objection_to_price,
    sorted_out,
)
from thalweg.scheduling.world.facts import DatasetFacts as DatasetFacts
from thalweg.scheduling.world.facts import NodeFacts as NodeFacts
from thalweg.scheduling.world.refusals import MOST_MS, Refusals
from thalweg.scheduling.world.seats import MICRO, Seat, Seats
from thalweg.scheduling.world.tasks import (
    GAVE_UP,
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
from thalweg.scheduling.world.urgency import NO_DEADLINE_MS
from thalweg.scheduling.world.waiting import ClassKey, Waiting

UNKNOWN_REGION = "(unknown)"


_NEVER = Refusals()


@dataclass(slots=True, kw_only=True)
class RegionState:
    """What is known of a region's agent."""

    heard_ms: int
    """When it was heard last on the driver's wall clock, for people: silence is judged by what could be heard."""
    lost: bool = False
    confirmed: bool = False
    """True once a heartbeat arrived in this run of the job; before that nothing new is placed there."""


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


class World:
    """See the module's words. Columns over pools follow `nodes.pools`, in order of appearance."""

    def __init__(self) -> None:
        self.nodes = Nodes()
        self.tasks: dict[str, Task] = {}
        self.regions: dict[str, RegionState] = {}
        self.datasets: dict[str, DatasetFacts] = {}
        self.prices: dict[tuple[str, str, bool], float] = {}
        self.links: dict[tuple[str, str], Link] = {}
        self.left_out: dict[str, dict[Hashable, str]] = {}
        """Facts that cannot be digested, by kind (nodes, links, prices, datasets) and key, each with the reason."""
        self.refusing: dict[str, Refusals] = {}
        """Regions that gave back what they were assigned without ever accepting it, since they last accepted."""
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
        self._facts: dict[NodeId, NodeFacts] = {}
        self._copies_on: dict[int, set[tuple[str, int]]] = {}  # node row -> copies that sit there
        self._copies_in: dict[str, set[tuple[str, int]]] = {}  # region -> copies that sit there
        self._order = 0
        self._backing_off: set[str] = set()  # regions that take nothing until their back-off ends
        self._back_offs: list[tuple[int, str, str]] = []  # heap: (end, region, task or "" for the region itself)
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
        return state is not None and state.confirmed and not state.lost and region not in self._backing_off

    def set_nodes(self, facts: Iterable[NodeFacts]) -> list[tuple[str, int]]:
        """Bring nodes up to date with their latest samples; nodes that are not listed are gone.

        A node whose sample cannot be digested is as if it drained: it takes nothing new, and what it holds goes on.

        Returns:
            Copies (task id, copy index) on nodes that are gone, ordered.
        """
        listed = {self.node_key(fact.region, fact.node_id): fact for fact in facts}
        current, left_out = sorted_out(listed, objection_to_node)
        self.left_out["nodes"] = left_out
        for key in self._facts.keys() & left_out.keys():
            current[key] = replace(self._facts[key], ready=False, draining=True)
        if current == self._facts:
            return []
        hit: set[tuple[str, int]] = set()
        for key, fact in current.items():
            if self._facts.get(key) == fact:
                continue
            if fact.ready or fact.draining:
                self._put_node(key, fact)
            else:
                hit |= self._lose_node(key)
        # Also nodes that only the ledger knows: in a region that tells of its nodes, one that it does not name is gone.
        telling = {fact.region for fact in current.values()}
        for row in [row for row, copies in self._copies_on.items() if copies]:
            key = self.nodes.ids[row]
            if key not in listed and (key in self._facts or key.partition(NODE_SEPARATOR)[0] in telling):
                hit |= self._lose_node(key)
        for key in self._facts.keys() - current.keys():
            self._lose_node(key)
        self._facts = current
        self._pools = None
        return sorted(hit)

    def overcommitted_copies(self) -> list[tuple[str, int]]:
        """Copies to take off nodes that have less than they hold (a node shrank), ordered.

        The least important leave first, and of these the last to come; nobody leaves whose going does not help.
        """
        leaving: set[tuple[str, int]] = set()
        for row in self.nodes.overcommitted().tolist():
            fact = self._facts.get(self.nodes.ids[row])
            if fact is not None and (fact.ready or fact.draining):
                leaving |= self._too_much_on(row)
        return sorted(leaving)

    def set_links(self, links: Mapping[tuple[str, str], Link]) -> None:
        """Set (rtt_ms, gbps, usd_per_gb) by (from, to); NaN where unknown."""
        links, left_out = sorted_out(links, objection_to_link)
        self.left_out["links"] = left_out
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
        prices, left_out = sorted_out(prices, objection_to_price)
        self.left_out["prices"] = left_out
        if prices != self.prices:
            self.prices = dict(prices)
            self._pools = None
            self._all_loosened()

    def set_datasets(self, datasets: Mapping[str, DatasetFacts]) -> None:
        """Set where datasets lie."""
        datasets, left_out = sorted_out(datasets, objection_to_dataset)
        self.left_out["datasets"] = left_out
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
                    copy.accepted, copy.misses = True, 0
                    self._accepts(copy.region)
            case Change.SUCCEEDED:
                self._vacate(task, row.copy)
                task.done_copies.add(row.copy)
                task.done_regions |= {row.region} if row.region is not None else set()
            case Change.EVICTED:
                if (copy := task.copies.get(row.copy)) is not None:
                    self._refused(task, copy, row.decided_ms)
                self._vacate(task, row.copy)
            case Change.FAILED | Change.LOST | Change.REVOKED | Change.PREEMPTED:
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

    def wake(self, now_ms: int) -> None:
        """Let regions, and tasks in them, be tried again whose back-off has ended."""
        ends = self._back_offs
        while ends and ends[0][0] <= now_ms:
            until_ms, region, task_id = heappop(ends)
            if not task_id:
                if self.refusing.get(region, _NEVER).until_ms <= until_ms:
                    self._open_again({region})
            elif (task := self.tasks[task_id]).refused[region].until_ms <= until_ms:
                self._unbar(task, {region})
        if ends and ends[0][0] - now_ms > 2 * MOST_MS:
            # No back-off is as long as that: the clock was set back.
            for _, region, task_id in ends:
                if task_id:
                    self._unbar(self.tasks[task_id], {region})
            ends.clear()
            self._open_again(set(self._backing_off))

    def backing_off(self) -> list[str]:
        """Regions that take nothing new until their back-off ends, ordered."""
        return sorted(self._backing_off)

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

    def suitable_pools(self, key: ClassKey) -> BoolArray:
        """Mask of the pools that a class could use once every region is open and every back-off over, [P]."""
        suitable = self._pools_of(replace(key, barred=frozenset()))
        spec = key.spec
        if spec.gpus:
            suitable &= np.array([pool.gpu_model != "" for pool in self.nodes.pools], bool)
        return suitable

    def usable_pools(self, key: ClassKey) -> BoolArray:
        """Mask of the pools that a class may use and that are open now, [P]."""
        usable = self._pools_of(key)
        usable &= np.array([self.open_region(pool.region) for pool in self.nodes.pools], bool)
        return usable

    def node_key(self, region: str, node_id: str) -> NodeId:
        """Key of a node in `nodes`."""
        return NodeId(f"{region}{NODE_SEPARATOR}{node_id}")

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
        pool = pool_of(row.region, row.pool_id)
        self._pool_at(pool)
        copy = Copy(
            index=row.copy,
            epoch=row.epoch,
            region=row.region,
            pool_id=row.pool_id,
            pool=pool,
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
            "pool": self.nodes.pool_at(copy.pool),
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
            task.barred = frozenset()
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
        self._loosen(copy.pool)

    def slots_of(self, task: Task, copy: Copy) -> list[tuple[Slot, Need]]:
        """What a placed copy takes of which nodes."""
        slots: list[tuple[Slot, Need]] = []
        for share, need in whole_shares(task.spec.parts, copy.shares):
            key = self.node_key(copy.region, share.node_id)
            row = self.nodes.row_of.get(key)
            if row is None:
                row = self._put_unseen(key, copy)
            slots.append((Slot(row, share.devices), need))
        return slots

    def _put_unseen(self, key: NodeId, copy: Copy) -> int:
        """Add a node that the ledger knows and no sample described yet: it has nothing until one does."""
        row = self.nodes.put(key, copy.pool, gpus=0, cpu_milli=0, memory_mib=0)
        self.nodes.lose(row)
        return row

    def _pool_at(self, pool: Pool) -> int:
        """Index of a pool; a new one is of a known region and may be used by what waits."""
        self._index_region(pool.region)
        known = len(self.nodes.pools)
        index = self.nodes.pool_at(pool)
        if index == known:
            self._all_loosened()
        return index

    def _too_much_on(self, row: int) -> set[tuple[str, int]]:
        """Copies whose going brings a node back to what it has."""
        nodes = self.nodes
        short = np.concatenate([nodes.gpu_milli_free[row], [nodes.cpu_milli_free[row], nodes.memory_mib_free[row]]])
        held = {owner: np.zeros_like(short) for owner in self._copies_on[row]}
        for (task_id, index), takes in held.items():
            task = self.tasks[task_id]
            for slot, need in self.slots_of(task, task.copies[index]):
                if slot.node == row:
                    np.add.at(takes, np.array(slot.devices, np.int64), need.gpu_milli)
                    takes[-2:] += need.cpu_milli, need.memory_mib

        def importance(owner: tuple[str, int]) -> tuple[int, int, int, int]:
            task = self.tasks[owner[0]]
            return task.spec.priority, -task.copies[owner[1]].assigned_ms, -task.order, owner[1]

        leaving: list[tuple[str, int]] = []
        for owner in sorted(held, key=importance):
            if (held[owner][short < 0] > 0).any():
                leaving.append(owner)
                short += held[owner]
        for owner in reversed(list(leaving)):
            if (short - held[owner] >= 0).all():
                leaving.remove(owner)
                short -= held[owner]
        return set(leaving)

    def _refused(self, task: Task, copy: Copy, now_ms: int) -> None:
        """Count what a region gave back, for the task there and, where it never accepted it, for the region."""
        refusals = task.refused.setdefault(copy.region, Refusals())
        refusals.note(copy.assigned_ms, now_ms)
        task.barred |= {copy.region}
        heappush(self._back_offs, (refusals.until_ms, copy.region, task.task_id))
        if copy.accepted:
            return
        of_region = self.refusing.setdefault(copy.region, Refusals())
        # The first may be the task's fault: other tasks go on there until another refusal follows.
        if not of_region.note(copy.assigned_ms, now_ms, free=1):
            return
        if of_region.count == 1:
            self._open_again({copy.region})
            return
        self._backing_off.add(copy.region)
        heappush(self._back_offs, (of_region.until_ms, copy.region, ""))
        self._region_changed(copy.region)

    def _accepts(self, region: str) -> None:
        if self.refusing.pop(region, None) is not None:
            self._open_again({region})

    def _open_again(self, regions: set[str]) -> None:
        for region in sorted(regions & self._backing_off):
            self._backing_off.discard(region)
            self._region_changed(region)

    def _unbar(self, task: Task, regions: Set[str]) -> None:
        if task.barred & regions:
            task.barred -= regions
            if task.task_id in self.waiting:
                self._wait(task, first=True)

    def _wait(self, task: Task, *, first: bool) -> None:
        key = ClassKey(
            spec=task.spec,
            missing=task.missing,
            taken=task.taken,
            avoid=task.avoid,
            barred=task.barred,
        )
        self.waiting.put(task.task_id, key, task.order, task.submitted_ms, first=first)

    def _put_node(self, key: NodeId, fact: NodeFacts) -> None:
        pool = Pool(region=fact.region, gpu_model=fact.gpu_model if fact.gpus else "", spot=fact.spot)
        self._pool_at(pool)
        row = self.nodes.put(
            key,
            pool,
            gpus=fact.gpus,
            cpu_milli=round(fact.cpus * MILLI),
            memory_mib=round(fact.memory_gb * MIB_PER_GB),
        )
        if fact.ready:
            self._loosen(pool)
            self.waiting.unpark()
        else:
            self.nodes.lose(row)

    def _lose_node(self, key: NodeId) -> set[tuple[str, int]]:
        row = self.nodes.row_of.get(key)
        if row is None:
            return set()
        if self.nodes.ready[row]:
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

    def _loosen(self, pool: Pool) -> None:
        self.clock += 1
        self._loosened_at(self.nodes.pool_index[pool])

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
                and pool.region not in key.barred
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
