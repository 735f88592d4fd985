"""Reasons: what a placed task costs and what else it could have had; why a task waits and what would let it in.

Every answer is asked of the planner itself: the task is priced, packed onto the nodes of the world as it is, and taken
back. A change is offered only after planning with exactly that change has placed the task. Nothing else is planned
anew, so an answer takes milliseconds in a world of 150,000 running tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Final

import msgspec
import numpy as np

from thalweg.scheduling.arrays import BoolArray, FloatArray
from thalweg.scheduling.counted import counted
from thalweg.scheduling.explain import together
from thalweg.scheduling.explain.start_estimate import StartEstimate, estimate_start
from thalweg.scheduling.ids import RegionId, TaskId
from thalweg.scheduling.live.demand import Demand
from thalweg.scheduling.live.drains import words_of
from thalweg.scheduling.live.empty_fleet import EmptyFleet
from thalweg.scheduling.live.live_plan import CopyAssignment, PlanSettings
from thalweg.scheduling.live.live_problem import live_problem
from thalweg.scheduling.live.making_room import MakingRoom
from thalweg.scheduling.live.near_data import far_pools
from thalweg.scheduling.live.node_limits import with_node_limits, workers_by_pool
from thalweg.scheduling.live.node_placement import NodePlacement, copy_assignment
from thalweg.scheduling.live.pool_ends import PoolEnds
from thalweg.scheduling.live.tenant_allowance import TenantAllowance, left_of
from thalweg.scheduling.live.unpriced import Unpriced
from thalweg.scheduling.live.whole_pools import whole_pools
from thalweg.scheduling.pack.need import Pool
from thalweg.scheduling.pack.nodes import Need, Slot
from thalweg.scheduling.pack.packer import Packer
from thalweg.scheduling.pack.pool_ids import pool_name
from thalweg.scheduling.problem.cost import arc_costs, components, hourly_usd
from thalweg.scheduling.problem.model import GPUS, Pools, Problem
from thalweg.scheduling.solve.solve import left_by_greedy
from thalweg.scheduling.world.hold import EIGHTY_PERCENT, SIGMA
from thalweg.scheduling.world.tasks import MILLI, Task, TaskSpec, sized
from thalweg.scheduling.world.value import HOUR_MS
from thalweg.scheduling.world.waiting import ClassKey
from thalweg.scheduling.world.world import TenantLimits, World

_PROBE = TaskId("\x1fprobe")  # no task id of a request holds a control character

_NEVER = StartEstimate(p10_h=np.inf, p50_h=np.inf, p90_h=np.inf)
_UNTIL_SOMETHING_CHANGES = frozenset(
    {"command", "cost", "data", "gpu_model", "impossible", "latency", "max_usd_per_hour", "price", "residency", "spot"}
    | {"drained", "held", "silent"}
)
"""Kinds of reasons that no end of a running task takes away."""
SILENT: Final = "silent: nothing is heard from the region now"
_NO_ROOM = "capacity: no node has room for it now"
_LEFT_NOISE = 1e-9
_PRIORITY_STEP = 100
_MOST_NODES = 512
"""Nodes looked at for an estimated start; each stands for as many as there are more of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One region for one copy of a task."""

    region: RegionId
    best: CopyAssignment | None
    """The cheapest place for it there now; None where there is none."""
    reason: str
    """Why there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Remedy:
    """What would let a waiting task in.

    One change, the smallest of its kind; where no single one does, several together, none of which can be left out.
    """

    change: str
    regions: tuple[RegionId, ...]
    usd: float
    """What its copies would cost then, in all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Together:
    """Changes of which every one is needed, and which suffice."""

    names: frozenset[str]
    """Demands by the fields of the request, `room` and `limits`."""
    spec: TaskSpec
    """The task's needs, changed no further than is needed."""
    words: tuple[str, ...]
    copies: tuple[CopyAssignment, ...]
    """Where it was placed with them."""

    @property
    def remedy(self) -> Remedy:
        """As it is told."""
        usd = sum(copy.usd for copy in self.copies)
        return Remedy(change="; ".join(self.words), regions=tuple(copy.region for copy in self.copies), usd=usd)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """Why a task waits."""

    reason: str | None
    """The binding constraint, as a plan would put it now; None when it would be placed."""
    remedies: tuple[Remedy, ...]
    """Cheapest outcome first."""
    start: StartEstimate | None
    """When enough is expected to be free, in hours from now, with an 80 % interval; inf where nothing that ends would
    help, None where it cannot be told: what it waits for are not GPUs that running tasks give back."""


class Explainer:
    """Answers about one world; kept between questions it answers faster. It leaves the world as it was."""

    def __init__(self, world: World, settings: PlanSettings, packer: Packer | None = None) -> None:
        """Look at a world.

        Args:
            world: as the live job has it, or as it was read from the tables.
            settings: of the live job.
            packer: one of its own, so that questions teach the live one nothing.
        """
        self.world = world
        self.settings = settings
        self._packer = packer or Packer(world.nodes)
        self._free: Pools | None = None
        """Pools with what is free in them, within one question; None where that has to be looked at."""

    def options(
        self,
        spec: TaskSpec,
        now_ms: int,
        *,
        taken: Iterable[RegionId] = (),
        instead_of: tuple[TaskId, int] | None = None,
    ) -> list[Option]:
        """Price one copy in each region, cheapest first, those without a place last.

        Args:
            spec: its needs.
            now_ms: the moment.
            taken: regions with other copies of the task, which are left out.
            instead_of: a placed copy (task id, copy index) whose own room counts as free.
        """
        one = replace(spec, replicas=1)
        with self._without(instead_of), self._one_look():
            placement = self._node_placement(self._demand(one, 1, frozenset(), now_ms), now_ms)
            found: dict[RegionId, CopyAssignment] = {}
            for pool in placement.cheapest_pools(0).tolist():
                region = self.world.nodes.pools[pool].region
                if region not in found and (made := self._fitted(placement, one, pool)) is not None:
                    found[region] = made
            known = {pool.region for pool in self.world.nodes.pools} - set(taken)
            listed = [
                Option(region=region, best=found[region], reason="")
                if region in found
                else Option(region=region, best=None, reason=self.why_not(one, region, now_ms))
                for region in sorted(known)
            ]
        return sorted(listed, key=lambda o: (o.best is None, o.best.usd if o.best else 0.0, o.region))

    def in_pool(
        self, spec: TaskSpec, where: Pool, now_ms: int, *, instead_of: tuple[TaskId, int] | None = None
    ) -> CopyAssignment | None:
        """Price one copy in one pool; None where it has no place there now. The arguments are those of `options`."""
        one = replace(spec, replicas=1)
        with self._without(instead_of):
            placement = self._node_placement(self._demand(one, 1, frozenset(), now_ms), now_ms)
            for pool in placement.cheapest_pools(0).tolist():
                if self.world.nodes.pools[pool] == where:
                    return self._fitted(placement, one, pool)
        return None

    def wait(self, task: Task, now_ms: int) -> Wait:
        """Say why a task waits, what would let it in, and when it will probably start."""
        with self._one_look():
            return self._wait(task, now_ms)

    def _wait(self, task: Task, now_ms: int) -> Wait:
        placed = self.place(task.spec, task.placed_together, _taken(task), now_ms)
        if not task.spec.has_command and task.reason and task.reason.startswith("command:"):
            placed = task.reason  # of how regions run tasks a copy of the world knows what the ledger says alone
        if not isinstance(placed, str):
            if (near_data := self._held_back(task, now_ms)) is not None:
                return near_data
            now = StartEstimate(p10_h=0.0, p50_h=0.0, p90_h=0.0)
            return Wait(reason=None, remedies=(), start=now)
        return Wait(
            reason=placed,
            remedies=tuple(sorted(self._remedies(task, placed, now_ms), key=lambda one: (one.usd, one.change))),
            start=self._start_after(placed, task, now_ms),
        )

    def _held_back(self, task: Task, now_ms: int) -> Wait | None:
        """Say that a task does better to wait for room near its data; None where it has some, or goes further away."""
        index = self.world.waiting.index_of(task.task_id)
        if index is None:
            return None
        free_gpus = (self._free or self.world.pools()).capacity[:, GPUS]
        far = far_pools(self.world, free_gpus, now_ms, self.settings.rule, PoolEnds(self.world, now_ms))
        if far is None or not (closed := far.of(index)):
            return None
        if not isinstance(self.place(task.spec, task.placed_together, _taken(task), now_ms, closed), str):
            return None
        hours = float(far.later_h[index])
        spread = float(np.exp(EIGHTY_PERCENT * SIGMA))
        start = StartEstimate(p10_h=hours / spread, p50_h=hours, p90_h=hours * spread)
        return Wait(reason=far.words(index), remedies=(), start=start if np.isfinite(hours) else None)

    def _start_after(self, reason: str, task: Task, now_ms: int) -> StartEstimate | None:
        """Estimate the start of a task that waits for this reason."""
        kind = reason.partition(":")[0]
        if kind in _UNTIL_SOMETHING_CHANGES:
            return _NEVER
        start = self._start(task, now_ms)
        # Enough GPUs are free, yet it waits: for CPUs, memory, nodes apart, a quota.
        return None if kind not in ("capacity", "replicas") or start.p50_h == 0.0 else start

    def place(
        self,
        spec: TaskSpec,
        missing: int,
        taken: frozenset[RegionId],
        now_ms: int,
        far: frozenset[int] = frozenset(),
    ) -> tuple[CopyAssignment, ...] | str:
        """Place a task of these needs as if nothing else waited, in none of `far`: its copies, or why it would wait."""
        if (held := self.world.orders.objection_to_tenant(spec.tenant)) is not None:
            return held
        if not self.world.nodes.pools:
            return "capacity: no region has sent a node yet"
        demand = replace(self._demand(replace(spec, replicas=missing), missing, taken, now_ms), far=far)
        placement = self._node_placement(demand, now_ms)
        with self._probe(demand):
            if placement.place_anywhere(0, _PROBE):
                placement.undo()
                return placement.assignments()
        limited = with_node_limits(placement.problem, self.world.nodes, [demand.key.spec.parts])
        if (impossible := EmptyFleet(self.world).objection(demand.key)) is not None:
            return impossible
        if (silent := self._silence(demand.key)) is not None:
            return silent
        unplaced = left_by_greedy(limited)
        reason = f"{unplaced[0].reason}: {unplaced[0].detail}" if unplaced else _NO_ROOM
        if spec.spread_workers and spec.workers > 1 and reason.startswith("capacity:"):
            reason += f"; each of its {counted(spec.workers, 'worker')} needs a node of its own"
        return Unpriced(self.world).said(demand.key, reason)

    # Within

    def _demand(self, spec: TaskSpec, missing: int, taken: frozenset[RegionId], now_ms: int) -> Demand:
        key = ClassKey(spec=spec, missing=missing, taken=taken, avoid=frozenset())
        return Demand(key=key, tasks=(_PROBE,), order=0, since_ms=now_ms)

    def _node_placement(self, demand: Demand, now_ms: int) -> NodePlacement:
        problem = live_problem(self.world, [demand], self.settings, now_ms, self._free)
        return NodePlacement(self.world, [demand], problem, self._packer, TenantAllowance(self.world))

    def _fitted(self, placement: NodePlacement, spec: TaskSpec, pool: int) -> CopyAssignment | None:
        fit = placement.fit(spec, pool)
        if fit is None:
            return None
        placement.release([fit])
        row, column = np.zeros(1, np.int64), np.array([pool])
        money = components(placement.problem, row, column)[0].tolist()
        rate = float(hourly_usd(placement.problem, row, column)[0])
        return copy_assignment(self.world, _task(spec), 0, pool, fit[1], money, rate)

    def why_not(self, spec: TaskSpec, region: RegionId, now_ms: int) -> str:
        """What lasts longest comes first: what a task forbids, what a region never has, whether it is there now."""
        if spec.allowed_regions is not None and region not in spec.allowed_regions:
            return "residency: not one of its allowed regions"
        models = sorted({pool.gpu_model for pool in self.world.nodes.pools if pool.region == region and pool.gpu_model})
        if spec.gpus and not models:
            return "gpu_model: the region has no GPUs"
        if spec.gpus and spec.gpu_models is not None and not set(models) & set(spec.gpu_models):
            return f"gpu_model: the region has {', '.join(models)}, the task takes only {', '.join(spec.gpu_models)}"
        if not (spec.has_command or self.world.geography.runs_without_command(region)):
            return "command: its agent starts commands and nothing else, and the task has none"
        if not self.world.geography.is_heard(region):
            return SILENT
        if (drain := self.world.orders.drained_regions.get(region)) is not None:
            return words_of(drain)
        placed = self.place(replace(spec, allowed_regions=(region,)), 1, frozenset(), now_ms)
        return placed if isinstance(placed, str) else ""

    def _silence(self, key: ClassKey) -> str | None:
        """Say that every region which could hold it is silent; None where one is heard, or none could."""
        pools = self.world.nodes.pools
        regions = sorted({pools[pool].region for pool in np.flatnonzero(self.world.suitable_pools(key)).tolist()})
        if not regions or any(map(self.world.geography.is_heard, regions)):
            return None
        return f"capacity: every region with a pool for it is silent: {', '.join(regions)}"

    @contextmanager
    def _one_look(self) -> Iterator[None]:
        """Look once at what is free in the pools: within a question everything that is tried is taken back."""
        self._free = self.world.pools()
        try:
            yield
        finally:
            self._free = None

    @contextmanager
    def _probe(self, demand: Demand) -> Iterator[None]:
        self.world.tasks[_PROBE] = _task(demand.key.spec)
        try:
            yield
        finally:
            del self.world.tasks[_PROBE]

    @contextmanager
    def _without(self, held: tuple[TaskId, int] | None) -> Iterator[None]:
        """Count a placed copy's room as free."""
        if held is None:
            yield
            return
        task = self.world.tasks[held[0]]
        slots = self.world.slots_of(task, task.copies[held[1]])
        for slot, need in slots:
            self.world.nodes.release(slot, need)
        try:
            yield
        finally:
            for slot, need in slots:
                self.world.nodes.force(slot, need)

    def _remedies(self, task: Task, reason: str, now_ms: int) -> list[Remedy]:
        """Look for single changes, and only where there is none for several together."""
        if found := list(self._single_remedies(task, reason, now_ms)):
            return found
        found_together = self.fewest_together(task, now_ms)
        return [] if found_together is None else [found_together.remedy]

    def fewest_together(self, task: Task, now_ms: int) -> Together | None:
        """Find changes that let a waiting task in, none of which can be left out; None where no such changes do."""
        spec, limited = task.spec, task.spec.tenant in self.world.tenants
        names = [together.ROOM, *([together.LIMITS] if limited else []), *together.demands_of(spec)]

        def let_in(changed: TaskSpec, chosen: frozenset[str]) -> tuple[str, tuple[CopyAssignment, ...]] | None:
            """Plan with a changed task, and what else was chosen; what that takes in words, and the copies."""
            with ExitStack() as stack:
                said = ""
                if together.LIMITS in chosen:
                    said = stack.enter_context(self._without_limits(spec.tenant))(spec, task.placed_together)
                if together.ROOM in chosen:
                    found = next(self._room(replace(task, spec=changed), now_ms), None)
                    if found is None or not self._may_have(spec, found[1]):
                        return None
                    return "; ".join(filter(None, (said, found[0]))), (found[1],)
                placed = self.place(changed, task.placed_together, _taken(task), now_ms)
                return None if isinstance(placed, str) else (said, placed)

        chosen = together.none_to_spare(
            names, lambda some: bool(some) and let_in(together.without(spec, some), some) is not None
        )
        if chosen is None:
            return None
        loose = together.without(spec, chosen)
        made = let_in(loose, chosen)
        assert made is not None, "it was let in so a moment ago"
        tight = self._tightened(spec, chosen, made[1])
        if (closer := let_in(tight, chosen)) is not None:
            loose, made = tight, closer
        said, copies = made
        words = (*together.words_of(spec, loose, chosen), *filter(None, [said]))
        return Together(names=chosen, spec=loose, words=words, copies=copies)

    def _may_have(self, spec: TaskSpec, copy: CopyAssignment) -> bool:
        """Whether the tenant's limits leave it a copy, for which only room is missing."""
        gpus, usd_per_hour = left_of(self.world, spec.tenant)
        return spec.gpus <= gpus + _LEFT_NOISE and copy.usd_per_hour <= usd_per_hour + _LEFT_NOISE

    def _tightened(self, spec: TaskSpec, names: frozenset[str], copies: Sequence[CopyAssignment]) -> TaskSpec:
        pools = self.world.nodes.pools
        used = [index for index, pool in enumerate(pools) if pool_name(pool) in {copy.pool_id for copy in copies}]

        def rtt_ms(region: RegionId) -> float:
            origin = self.world.region_at(spec.origin_region or region)
            return float(self.world.network().rtt_ms[origin][self.world.region_at(region)])

        usd = float((self.world.pools().usd_per_gpu_hour[used] * spec.gpus).max(initial=0.0))
        return together.tightened(spec, names, [pools[index] for index in used], rtt_ms, usd)

    def _single_remedies(self, task: Task, reason: str, now_ms: int) -> Iterator[Remedy]:
        spec, missing, taken = task.spec, task.placed_together, _taken(task)

        def checked(change: str, changed: TaskSpec, copies: int = missing) -> Iterator[Remedy]:
            placed = self.place(changed, copies, taken, now_ms)
            if not isinstance(placed, str):
                usd = sum(copy.usd for copy in placed)
                yield Remedy(change=change, regions=tuple(copy.region for copy in placed), usd=usd)

        for change, changed in self._loosened(task, now_ms):
            yield from checked(change, changed)
        for fewer in range(missing - 1, 0, -1):
            found = list(
                checked(
                    f"{counted(spec.replicas - missing + fewer, 'copy', 'copies')} instead of {spec.replicas}",
                    spec,
                    fewer,
                )
            )
            yield from found
            if found:
                break
        for change, changed in self._smaller(spec):
            found = list(checked(change, changed))
            yield from found
            if found:
                break
        kind = reason.partition(":")[0]
        if kind in ("quota", "budget"):
            with self._without_limits(spec.tenant) as describe:
                yield from checked(describe(spec, missing), spec)
        if kind == "capacity":
            for change, made in self._room(task, now_ms):
                yield Remedy(change=change, regions=(made.region,), usd=made.usd)
            yield from self._priority(task, now_ms)

    def _loosened(self, task: Task, now_ms: int) -> Iterator[tuple[str, TaskSpec]]:
        """The smallest change of each demand that leaves it a place for one copy."""
        spec = task.spec
        nodes, network = self.world.nodes, self.world.network()
        region_of = np.array([self.world.region_at(pool.region) for pool in nodes.pools], np.int64)
        if spec.gpu_models is not None:
            pool = self._first_fit(task, replace(spec, gpu_models=None), now_ms)
            if pool is not None:
                model = nodes.pools[pool].gpu_model
                yield f"GPU model {model} accepted, too", replace(spec, gpu_models=(*spec.gpu_models, model))
        if spec.allowed_regions is not None:
            pool = self._first_fit(task, replace(spec, allowed_regions=None), now_ms)
            if pool is not None:
                region = nodes.pools[pool].region
                allowed = (*spec.allowed_regions, region)
                yield f"region {region} allowed, too", replace(spec, allowed_regions=allowed)
        if spec.max_rtt_ms is not None and spec.origin_region is not None:
            rtt_ms = network.rtt_ms[self.world.region_at(spec.origin_region)][region_of]
            pool = self._first_fit(task, replace(spec, max_rtt_ms=None), now_ms, by=rtt_ms)
            if pool is not None and np.isfinite(rtt_ms[pool]):
                change = f"a round trip of {rtt_ms[pool]:g} ms instead of {spec.max_rtt_ms:g}"
                yield change, replace(spec, max_rtt_ms=float(rtt_ms[pool]))
        if not spec.spot_ok:
            yield "spot capacity accepted", replace(spec, spot_ok=True)
        if spec.max_usd_per_hour is not None:
            usd = self.world.pools().usd_per_gpu_hour * spec.gpus
            pool = self._first_fit(task, replace(spec, max_usd_per_hour=None), now_ms, by=usd)
            if pool is not None:
                change = f"{usd[pool]:.2f} USD an hour and copy instead of {spec.max_usd_per_hour:.2f}"
                yield change, replace(spec, max_usd_per_hour=float(usd[pool]))
        if spec.data:
            yield "no data to bring", replace(spec, data=())

    def _first_fit(self, task: Task, spec: TaskSpec, now_ms: int, by: FloatArray | None = None) -> int | None:
        """The first pool that holds one copy: the cheapest, or the least by another measure."""
        placement = self._node_placement(self._demand(replace(spec, replicas=1), 1, _taken(task), now_ms), now_ms)
        pools = placement.cheapest_pools(0)
        if by is not None:
            pools = pools[np.argsort(by[pools], kind="stable")]
        for pool in pools.tolist():
            fit = placement.fit(spec, pool)
            if fit is not None:
                placement.release([fit])
                return int(pool)
        return None

    def _smaller(self, spec: TaskSpec) -> Iterator[tuple[str, TaskSpec]]:
        """Fewer workers, or fewer GPUs for the only one, as many as may fit; the largest first."""
        if len(spec.parts) > 1:
            return
        part = spec.parts[0]
        if part.workers > 1:
            most = int(workers_by_pool(self.world.nodes, part.need).max(initial=0))
            for workers in range(min(most, part.workers - 1), 0, -max(1, part.workers // 8)):
                yield f"{counted(workers, 'worker')} instead of {part.workers}", sized(spec, workers)
        else:
            devices = self.world.nodes.gpu_milli_free >= part.need.gpu_milli  # of one node: a worker lies on one
            most = int(devices.sum(axis=1).max(initial=0))
            for gpus in range(min(most, part.need.gpus - 1), 0, -1):
                smaller = replace(spec, parts=(replace(part, need=msgspec.structs.replace(part.need, gpus=gpus)),))
                yield f"{counted(gpus, 'GPU')} instead of {part.need.gpus}", smaller

    @contextmanager
    def _without_limits(self, tenant: str) -> Iterator[Callable[[TaskSpec, int], str]]:
        """Lift a tenant's limits; what it lacks is told by the wording given."""
        world = self.world
        left_gpus, _ = left_of(world, tenant)
        limits = world.tenants[tenant]

        def wording(spec: TaskSpec, missing: int) -> str:
            gpus = spec.gpus * missing - left_gpus
            if gpus > 1e-9:
                return f"{counted(gpus, 'GPU')} more quota for tenant {tenant}"
            return f"a budget above {limits.budget_usd_per_hour:g} USD an hour for tenant {tenant}"

        world.tenants[tenant] = TenantLimits(weight=limits.weight)
        try:
            yield wording
        finally:
            world.tenants[tenant] = limits

    def _room(self, task: Task, now_ms: int) -> Iterator[tuple[str, CopyAssignment]]:
        """The fewest GPUs that would have to become free in one pool, in words, and the copy that they let in."""
        spec = task.spec
        if task.placed_together > 1 or len(spec.parts) > 1 or spec.spread_workers or not spec.gpus:
            return
        demand = self._demand(replace(spec, replicas=1), 1, _taken(task), now_ms)
        whole = live_problem(self.world, [demand], self.settings, now_ms, whole_pools(self.world))
        usable = np.isfinite(arc_costs(whole).usd[0])
        for pool in self._least_short(spec, usable):
            freed = self._free_up(spec, pool)
            try:
                placement = NodePlacement(
                    self.world, [demand], _only(whole, pool), self._packer, TenantAllowance(self.world)
                )
                made = self._fitted(placement, spec, pool)
            finally:
                for slot, need in freed:
                    self.world.nodes.force(slot, need)
            if made is not None:
                gpus = sum(len(slot.devices) * need.gpu_milli for slot, need in freed) / MILLI
                nodes = len({slot.node for slot, _ in freed})
                change = f"{counted(gpus, 'GPU')} more free on {counted(nodes, 'node')} of {made.pool_id}"
                yield change, made
                return

    def _least_short(self, spec: TaskSpec, usable: BoolArray) -> list[int]:
        """Pools by the GPUs they are short of, the three least short."""
        short = []
        for pool in np.flatnonzero(usable).tolist():
            rows = self._nodes_for(spec, pool)
            if rows:
                short.append((sum(lack for _, lack in rows), pool))
        return [pool for _, pool in sorted(short)[:3]]

    def _nodes_for(self, spec: TaskSpec, pool: int) -> list[tuple[int, int]]:
        """Node and missing GPU-milli for every worker, the least missing first; none where the pool is too small."""
        nodes, need, workers = self.world.nodes, spec.parts[0].need, spec.parts[0].workers
        rows = nodes.members(pool)
        rows = rows[nodes.ready[rows] & (nodes.gpus[rows] >= need.gpus)]
        if not rows.size:
            return []
        free = np.sort(nodes.gpu_milli_free[rows].clip(min=0), axis=1)[:, ::-1]
        # The lack of the k-th worker of a node, if each takes the freest devices left.
        per_node = min(int((nodes.gpus[rows] // max(need.gpus, 1)).max()), workers)
        lacks, owners = [], []
        for worker in range(per_node):
            devices = free[:, worker * need.gpus : (worker + 1) * need.gpus]
            enough = nodes.gpus[rows] >= (worker + 1) * need.gpus
            lacks.append(np.maximum(need.gpu_milli - devices, 0).sum(axis=1)[enough])
            owners.append(rows[enough])
        lack, owner = np.concatenate(lacks), np.concatenate(owners)
        if len(lack) < workers:
            return []
        order = np.lexsort((owner, lack))[:workers]
        return list(zip(owner[order].tolist(), lack[order].tolist(), strict=True))

    def _free_up(self, spec: TaskSpec, pool: int) -> list[tuple[Slot, Need]]:
        """Give free what the pool's least short nodes lack; returns what has to be taken again."""
        nodes, need = self.world.nodes, spec.parts[0].need
        workers: dict[int, int] = {}
        for node, _ in self._nodes_for(spec, pool):
            workers[node] = workers.get(node, 0) + 1
        freed: list[tuple[Slot, Need]] = []
        for node, count in workers.items():
            free = nodes.gpu_milli_free[node, : nodes.gpus[node]]
            for device in np.argsort(-free, kind="stable")[: need.gpus * count].tolist():
                lack = need.gpu_milli - int(free[device])
                if lack > 0:
                    freed.append((Slot(node, (device,)), Need(gpus=1, gpu_milli=lack)))
            cpu = max(need.cpu_milli * count - int(nodes.cpu_milli_free[node]), 0)
            memory = max(need.memory_mib * count - int(nodes.memory_mib_free[node]), 0)
            if cpu or memory:
                freed.append((Slot(node, ()), Need(gpus=0, cpu_milli=cpu, memory_mib=memory)))
        for slot, taken in freed:
            nodes.release(slot, taken)
        return freed

    def _priority(self, task: Task, now_ms: int) -> Iterator[Remedy]:
        """The least priority with which others would give way to it."""
        if not self.settings.most_preempted or task.preempted:
            return
        first = task.spec.priority // _PRIORITY_STEP * _PRIORITY_STEP + _PRIORITY_STEP
        low, high = 0, len(levels := range(first, 1_001, _PRIORITY_STEP))
        best: tuple[int, tuple[CopyAssignment, ...], int] | None = None
        while low < high:
            # Where half the way does not help, the whole way mostly does not either: one question instead of three.
            middle = (low + high) // 2 if low == 0 or best else high - 1
            made = self._let_in(replace(task.spec, priority=levels[middle]), task, now_ms)
            if made is None:
                low = middle + 1
            else:
                best, high = (levels[middle], *made), middle
        if best is not None:
            priority, copies, victims = best
            yield Remedy(
                change=f"priority {priority} instead of {task.spec.priority}: {victims} of others would give way",
                regions=tuple(copy.region for copy in copies),
                usd=sum(copy.usd for copy in copies),
            )

    def _let_in(self, spec: TaskSpec, task: Task, now_ms: int) -> tuple[tuple[CopyAssignment, ...], int] | None:
        demand = replace(
            self._demand(replace(spec, replicas=task.placed_together), task.placed_together, _taken(task), now_ms),
            since_ms=task.submitted_ms,
        )
        with self._probe(demand):
            making_room = MakingRoom(
                self.world, [demand], self.settings, now_ms, self._packer, TenantAllowance(self.world)
            )
            placed = making_room.try_all()
            making_room.undo()
            return (making_room.assignments(), len(making_room.preempted)) if placed else None

    def _start(self, task: Task, now_ms: int) -> StartEstimate:
        """When enough is free in some pool after those before it, and on one node where one has to hold it."""
        world, spec = self.world, task.spec
        key = ClassKey(spec=spec, missing=task.placed_together, taken=_taken(task), avoid=frozenset())
        usable = world.usable_pools(key)
        occupancy, nodes = world.occupancy, world.nodes
        used = occupancy.used()
        used &= usable[np.where(used, occupancy.column("pool"), 0)]
        rows = np.flatnonzero(used)
        gpus = occupancy.column("gpu_milli")[rows] / MILLI
        elapsed_h = np.maximum(now_ms - occupancy.column("assigned_ms")[rows], 0) / HOUR_MS
        expected_h = occupancy.column("expected_ms")[rows] / HOUR_MS
        milli = np.where(nodes.ready, nodes.gpu_milli_free.clip(min=0).sum(axis=1), 0) / MILLI
        in_pools = estimate_start(
            need_gpus=spec.gpus,
            usable=usable,
            free_gpus=np.bincount(nodes.pool, milli, len(nodes.pools)).astype(np.float64),
            running_place=occupancy.column("pool")[rows],
            running_gpus=gpus,
            elapsed_h=elapsed_h,
            expected_h=expected_h,
            ahead_gpus=self._ahead_gpus(task, usable, now_ms),
        )
        if spec.workers > 1:
            return in_pools
        able = np.flatnonzero(nodes.ready & usable[nodes.pool])
        if not able.size:
            return in_pools
        chosen = able[(np.arange(min(len(able), _MOST_NODES)) * max(len(able) / _MOST_NODES, 1.0)).astype(np.int64)]
        place = np.full(len(nodes), -1, np.int64)
        place[chosen] = np.arange(len(chosen))
        of_row = place[occupancy.column("node")[rows]]
        mine = of_row >= 0
        on_nodes = estimate_start(
            need_gpus=spec.gpus,
            usable=np.ones(len(chosen), bool),
            free_gpus=milli[chosen],
            running_place=of_row[mine],
            running_gpus=gpus[mine],
            elapsed_h=elapsed_h[mine],
            expected_h=expected_h[mine],
            alike=len(able) / len(chosen),
        )
        return in_pools.at_least(on_nodes)

    def _ahead_gpus(self, task: Task, usable: BoolArray, now_ms: int) -> float:
        """GPUs that tasks before it wait for in the same pools."""
        return self.world.waiting.gpus_ahead(task.task_id, usable, now_ms, self.settings.rule)


def _task(spec: TaskSpec) -> Task:
    return Task(task_id=_PROBE, spec=spec, request="{}", content_hash="", submitted_ms=0, order=0)


def _taken(task: Task) -> frozenset[RegionId]:
    return frozenset(copy.region for copy in task.copies.values())


def _only(problem: Problem, pool: int) -> Problem:
    """The problem with one pool open."""
    capacity = np.zeros_like(problem.pools.capacity)
    capacity[pool] = problem.pools.capacity[pool]
    return replace(problem, pools=replace(problem.pools, capacity=capacity))
