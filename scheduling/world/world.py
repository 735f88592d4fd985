"""The world as the place job knows it, put together: places, nodes, tasks, and what may be tried again.

It changes only by `follow(row)` for tasks and by `set_nodes`, `set_links`, `set_prices`, `set_datasets` and `hear` for
what regions report. The live job follows rows as it decides them; a restart follows the same rows read back from the
ledger, and arrives at the same world (`scheduling.world.making`). Time is an argument everywhere.
"""

from collections.abc import Iterable, Mapping

import msgspec
import numpy as np

from thalweg.scheduling.arrays import BoolArray, FloatArray, IntArray
from thalweg.scheduling.ids import RegionId, TaskId
from thalweg.scheduling.pack.nodes import Need, Pool, Slot
from thalweg.scheduling.pack.pool_ids import pool_of
from thalweg.scheduling.problem.model import Network, Pools
from thalweg.scheduling.world import supply
from thalweg.scheduling.world.back_offs import NEVER, BackOffs
from thalweg.scheduling.world.facts import DatasetFacts as DatasetFacts
from thalweg.scheduling.world.facts import Link, WorldFacts
from thalweg.scheduling.world.facts import NodeFacts as NodeFacts
from thalweg.scheduling.world.facts import TenantLimits as TenantLimits
from thalweg.scheduling.world.fleet import CopyKey, Fleet
from thalweg.scheduling.world.geography import Geography
from thalweg.scheduling.world.loosening import Loosening
from thalweg.scheduling.world.occupancy import MICRO
from thalweg.scheduling.world.occupancy import Holding as Holding
from thalweg.scheduling.world.orders import Drain, HeldTenant, Moved, OrderRow, OwnPrice
from thalweg.scheduling.world.refusals import Refusals
from thalweg.scheduling.world.standing import StandingOrders
from thalweg.scheduling.world.task_book import TaskBook
from thalweg.scheduling.world.tasks import TERMINAL, Copy, CopyState, Task, Transition, lost_by_silence
from thalweg.scheduling.world.waiting import ClassKey


class World:
    """See the module's words. Columns over pools follow `nodes.pools`, in order of appearance."""

    def __init__(self, tasks: dict[TaskId, Task] | None = None) -> None:
        """Start empty; `tasks` is where those that live are kept, None takes a dictionary."""
        self.geography = Geography()
        self.fleet = Fleet()
        self._allowed = supply.AllowedPools()
        self.book = TaskBook(self._may_use, tasks, self._fetch_usd)
        self.back_offs = BackOffs()
        self.loosening = Loosening()
        self.tenants: dict[str, TenantLimits] = {}
        self.orders = StandingOrders()
        self._settled_tenants: dict[str, TenantLimits] = {}  # as the settings say
        self.grown_ms = 0
        """When idle GPUs were looked for last."""
        self.relieved_ms = 0
        """When drained places were looked at last."""
        self.relief_at = 0
        """How far that look came, where there is too much for one."""
        self._pools: Pools | None = None
        self._region_of_pool = np.zeros(0, np.int64)
        # What is asked for everywhere, by its own name.
        self.regions = self.geography.regions
        self.nodes = self.fleet.nodes
        self.occupancy = self.fleet.occupancy
        self.holdings = self.fleet.holdings
        self.elastic = self.fleet.elastic
        self.tasks = self.book.tasks
        self.ended = self.book.ended
        self.find = self.book.find
        self.waiting = self.book.waiting
        self.gates = self.book.gates
        self.count_by_state = self.book.count_by_state
        self.refusing = self.back_offs.refusing

    # What regions report

    def hear(self, region: RegionId, now_ms: int) -> None:
        """Note a sign of life."""
        if self.geography.hear(region, now_ms):
            self._region_changed(region)

    def note_runner(self, region: RegionId, *, needs_command: bool) -> None:
        """Note whether a region that was heard can run a task without a command."""
        if self.geography.note_runner(region, needs_command=needs_command):
            self._all_loosened()

    def expect(self, region: RegionId, now_ms: int) -> None:
        """At start: a region that the ledger knows counts as lost if it stays silent."""
        self.geography.expect(region, now_ms)

    def lose_region(self, region: RegionId) -> None:
        """Take nothing new there until it is heard again."""
        self.regions[region].lost = True
        self._region_changed(region)

    def close_region(self, region: RegionId) -> None:
        """Take nothing new there until it is heard again; what it holds stays."""
        if self.geography.close(region):
            self._region_changed(region)

    def open_region(self, region: RegionId) -> bool:
        """Whether tasks may be placed in the region."""
        return (
            self.geography.is_heard(region)
            and not self.back_offs.keeps_out(region)
            and region not in self.orders.drained_regions
        )

    def learn(self, facts: WorldFacts) -> list[CopyKey]:
        """Take in what the tables say anew.

        Returns:
            Copies (task id, copy index) on nodes that are gone, ordered.
        """
        if facts.links is not None:
            self.set_links(facts.links)
        if facts.prices is not None:
            self.set_prices(facts.prices)
        if facts.datasets is not None:
            self.set_datasets(facts.datasets)
        return [] if facts.nodes is None else self.set_nodes(facts.nodes)

    def set_nodes(self, facts: Iterable[NodeFacts]) -> list[CopyKey]:
        """Bring nodes up to date with their latest samples; nodes that are not listed are gone.

        Returns:
            Copies (task id, copy index) on nodes that are gone, ordered.
        """
        known = len(self.nodes.pools)
        news = self.fleet.set_nodes(facts)
        if news is None:
            return []
        self._pools_came(known)
        for pool in news.grown:
            self._loosen(pool)
        self.waiting.unpark()  # what only a node that is gone could hold is told so, too
        self._pools = None
        return sorted(news.lost)

    def set_links(self, links: Mapping[tuple[RegionId, RegionId], Link]) -> None:
        """Set (rtt_ms, gbps, usd_per_gb) by (from, to); NaN where unknown."""
        if self.geography.set_links(links):
            self._all_loosened()

    def set_prices(self, prices: Mapping[tuple[RegionId, str, bool], float]) -> None:
        """Set US dollars per GPU-hour by (region, GPU model, spot)."""
        if self.geography.set_prices(prices):
            self._all_loosened()

    def assume_price(self, usd_per_gpu_hour: float) -> None:
        """Set what pools cost that nobody names a price of; NaN assumes nothing, and nothing is placed there."""
        self.geography.assumed_usd_per_gpu_hour = usd_per_gpu_hour
        self._all_loosened()

    def set_datasets(self, datasets: Mapping[str, DatasetFacts]) -> None:
        """Set where datasets lie."""
        if self.geography.set_datasets(datasets):
            self._all_loosened()

    def set_tenants(self, tenants: Mapping[str, TenantLimits]) -> None:
        """Set weights and limits; who is not listed has weight 1 and no limit. What was ordered goes above."""
        self._settled_tenants = dict(tenants)
        self._tenants_change()

    def _tenants_change(self) -> None:
        tenants = self.orders.over(self._settled_tenants)
        if tenants != self.tenants:
            self.tenants = tenants
            self._all_loosened()

    def obey(self, row: OrderRow) -> None:
        """Let what an order's row says stand from now on."""
        order = self.orders.obey(row)
        if isinstance(order, Drain):
            if order.node_id is None:
                self._region_changed(order.region)
            else:
                for pool in self.fleet.shut_nodes(frozenset(self.orders.drained_nodes)):
                    self._loosen(pool)
                self._pools = None
            self.waiting.unpark()
        elif isinstance(order, HeldTenant):
            self.waiting.unpark()
            self.waiting.tenant_loosened(order.tenant)
        elif isinstance(order, OwnPrice):
            self.geography.own_prices = self.orders.prices
            self._all_loosened()
        elif order is not None:
            self._tenants_change()

    def tell(self, task_id: TaskId, region: RegionId, epoch: int, done: float, checkpointed_ms: int) -> None:
        """Note how far a copy says it is; what speaks of another placement is ignored.

        Args:
            task_id: of its task.
            region: where it runs.
            epoch: of its assignment.
            done: share of its work.
            checkpointed_ms: when it made its last checkpoint; 0 where it makes none.
        """
        task = self.tasks.get(task_id)
        for copy in () if task is None else task.copies.values():
            if copy.region == region and copy.epoch == epoch and copy.occupancy:
                self.occupancy.tell(copy.occupancy[0], round(done * MICRO), checkpointed_ms)

    @property
    def left_out(self) -> dict[str, dict[object, str]]:
        """Facts that cannot be digested, by kind (nodes, links, prices, datasets) and key, each with the reason."""
        return {"nodes": dict(self.fleet.left_out), **{k: dict(v) for k, v in self.geography.left_out.items()}}

    # What happens to tasks

    def follow(self, row: Transition) -> bool:
        """Do what one row of the ledger says (`scheduling.world.lifecycle`); whether its task is over by that."""
        if row.ordered is not None:
            self.obey(row.ordered)
            self._stays(row.ordered)
            return False
        # What the moment has opened goes first: whose turn it is in an array is then the same whenever rows are read.
        self.gates.wake(row.decided_ms)
        self.book.begin(row)
        task = self.tasks.get(row.task_id)
        if task is None:
            self.book.note_after_end(row)
            return False
        step = self.book.step_of(task, row)
        if step.spends_epoch:
            self.book.spend_epoch(task, row.epoch)
        if not step.obeyed:
            return False
        self.book.note(task, row, step)
        copy = task.copies.get(row.copy)
        if step.given_back and copy is not None:
            self._given_back(task, copy, row.decided_ms)
        if (
            step.avoids_region
            and lost_by_silence(row)
            and self.back_offs.note_loss(RegionId(str(row.region)), row.decided_ms)
        ):
            self._region_changed(RegionId(str(row.region)))
        if step.frees:
            self._free(task, row.copy)
        if step.places:
            self._place(task, row, by_hand=copy is not None and copy.by_hand and copy.region == row.region)
        elif step.accepted and copy is not None:
            copy.state, copy.misses = step.becomes, 0
            if self.back_offs.note_acceptance(copy.region):
                self._region_changed(copy.region)
        self.book.settle(task, row.change)
        if task.state not in TERMINAL:
            return False
        for index in list(task.copies):
            self._free(task, index)
        self.book.close(task)
        return True

    def wake(self, now_ms: int) -> None:
        """Let regions, and tasks in them, be tried again whose back-off has ended, and start what waited for now."""
        self.gates.wake(now_ms)
        for end in self.back_offs.ended(now_ms):
            if not end.task_id:
                if self.back_offs.reopen(end):
                    self._region_changed(end.region)
                continue
            task = self.tasks.get(end.task_id)
            if task is not None and task.refused.get(end.region, NEVER).until_ms <= end.until_ms:
                self.book.unbar(task, {end.region})

    def backing_off(self) -> list[RegionId]:
        """Regions that take nothing new until their back-off ends, ordered."""
        return sorted(self.back_offs.closed | self.back_offs.damped)

    def copies_in(self, region: RegionId) -> list[CopyKey]:
        """Copies (task id, copy index) that the ledger has in a region, ordered."""
        return self.fleet.copies_in(region)

    def overcommitted_copies(self) -> list[CopyKey]:
        """Copies (task id, copy index) to take off nodes that have less than they hold, ordered."""
        return self.fleet.overcommitted_copies(self.tasks)

    # What a plan reads

    def pools(self) -> Pools:
        """Pools with their free capacity (GPUs, CPUs, GB) now; closed regions have none."""
        if self._pools is None:
            self._pools = supply.empty_pools(self.nodes.pools, self.geography)
        return supply.with_free_capacity(self._pools, self.nodes, self.open_pools())

    def network(self) -> Network:
        """Links between all known regions; a missing link is unreachable, a region reaches itself freely."""
        return self.geography.network()

    @property
    def region_names(self) -> tuple[RegionId, ...]:
        """Regions by index."""
        return tuple(self.geography.names)

    @property
    def gpu_models(self) -> tuple[str, ...]:
        """GPU models in order of the alphabet; "" is a node without."""
        return supply.gpu_models(self.nodes.pools)

    @property
    def clock(self) -> int:
        """Counts what may let a waiting task in; compared with the clock of its last fruitless try."""
        return self.loosening.clock

    @property
    def loosened(self) -> IntArray:
        """Clock at which capacity of each pool last grew, [P]."""
        return self.loosening.by_pool

    def region_at(self, region: RegionId) -> int:
        """Index of a region; 0 (a place that nothing reaches) for one that nobody reported yet."""
        return self.geography.index_of(region)

    def open_pools(self) -> BoolArray:
        """Pools that take tasks, [P]: their region is open and their price is known.

        Placing without a price would be a guess.
        """
        return np.array(
            [
                self.open_region(pool.region) and bool(np.isfinite(self.geography.price_of(pool)))
                for pool in self.nodes.pools
            ],
            bool,
        )

    def suitable_pools(self, key: ClassKey) -> BoolArray:
        """Mask of the pools that a class could use once every region is open and every back-off over, [P]."""
        suitable = self._may_use(msgspec.structs.replace(key, barred=frozenset()))
        if key.spec.gpus:
            suitable &= np.array([pool.gpu_model != "" for pool in self.nodes.pools], bool)
        return suitable

    def usable_pools(self, key: ClassKey) -> BoolArray:
        """Mask of the pools that a class may use and that are open now, [P]."""
        usable = self._may_use(key)
        usable &= np.array([self.open_region(pool.region) for pool in self.nodes.pools], bool)
        return usable

    def slots_of(self, task: Task, copy: Copy) -> list[tuple[Slot, Need]]:
        """What a placed copy takes of which nodes."""
        return self.fleet.slots_of(task, copy)

    # Within

    def _stays(self, row: OrderRow) -> None:
        """Note of a copy that somebody has just moved that it is there by hand."""
        if isinstance(row.after, Moved) and row.after != row.before:
            task = self.tasks.get(TaskId(row.after.task_id))
            for copy in () if task is None else task.copies.values():
                copy.by_hand |= copy.region == row.after.region

    def _place(self, task: Task, row: Transition, *, by_hand: bool) -> None:
        assert row.region is not None and row.pool_id is not None
        pool = pool_of(row.region, row.pool_id)
        self.know(pool)
        copy = task.copies[row.copy] = Copy(
            index=row.copy,
            epoch=row.epoch,
            region=row.region,
            pool_id=row.pool_id,
            pool=pool,
            shares=row.shares,
            state=CopyState.ASSIGNED,
            assigned_ms=row.decided_ms,
            by_hand=by_hand,
        )
        self.fleet.occupy(task, copy, row)

    def _free(self, task: Task, index: int) -> None:
        copy = task.copies.pop(index)
        self.fleet.free(task, copy)
        if task.spec.tenant in self.tenants:
            self.waiting.tenant_loosened(task.spec.tenant)
        self._loosen(copy.pool)

    def _given_back(self, task: Task, copy: Copy, now_ms: int) -> None:
        """Count what a region gave back, for the task there and, where it never accepted it, for the region."""
        refusals = task.refused.setdefault(copy.region, Refusals())
        refusals.note(copy.assigned_ms, now_ms)
        task.barred |= {copy.region}
        self.back_offs.bar(task.task_id, copy.region, refusals.until_ms, now_ms)
        never_accepted = copy.state is CopyState.ASSIGNED
        if never_accepted and self.back_offs.note_refusal(copy.region, copy.assigned_ms, now_ms):
            self._region_changed(copy.region)

    def _may_use(self, key: ClassKey) -> BoolArray:
        return self._allowed.to(key, self.nodes.pools, self.geography).copy()

    def _fetch_usd(self, key: ClassKey) -> FloatArray:
        """What bringing a class's data into each pool costs, as far as it is known what that costs."""
        usd = np.zeros(len(self.nodes.pools))
        if key.spec.data and len(usd):
            per_gb = self.geography.network().usd_per_gb
            region = self._regions_of_pools()
            for item in key.spec.data:
                places, size_gb = self.geography.where(item)
                if places:
                    nearest = per_gb[places][:, region].min(axis=0)
                    usd += np.where(np.isfinite(nearest), nearest, 0.0) * size_gb
        return usd

    def _regions_of_pools(self) -> IntArray:
        """Index of each pool's region, [P]; a region keeps its index, and pools only become more."""
        if len(self._region_of_pool) != len(self.nodes.pools):
            self._region_of_pool = np.array([self.region_at(pool.region) for pool in self.nodes.pools], np.int64)
        return self._region_of_pool

    # What may let a waiting task in

    def know(self, pool: Pool) -> None:
        """Make a pool one of the world's; a new one may be used by what waits."""
        known = len(self.nodes.pools)
        self.nodes.pool_at(pool)
        self._pools_came(known)

    def _pools_came(self, known: int) -> None:
        """Take in pools beyond those that were known."""
        came = self.nodes.pools[known:]
        for pool in came:
            self.geography.name(pool.region)
        if came:
            self._all_loosened()

    def _region_changed(self, region: RegionId) -> None:
        if self.geography.name(region):
            self._all_loosened()
        self.loosening.tick()
        for index, pool in enumerate(self.nodes.pools):
            if pool.region == region:
                self.loosening.note(index, len(self.nodes.pools))

    def _loosen(self, pool: Pool) -> None:
        self.loosening.tick()
        self.loosening.note(self.nodes.pool_index[pool], len(self.nodes.pools))

    def _all_loosened(self) -> None:
        self._pools = None
        self.loosening.note_all(len(self.nodes.pools))
        self.waiting.forget_pools()
