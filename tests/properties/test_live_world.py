"""Whatever happens, in any order: the live world keeps its promises, and its ledger rebuilds it.

The machine plays applications, regions (each with a fence, as the agent has) and the place job's core together.
"""

from dataclasses import dataclass, field

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.unit.scheduling.worlds import ORIGIN, node, spec, world_of
from thalweg.scheduling.decisions import decide
from thalweg.scheduling.live.live_plan import Plan, PlanSettings
from thalweg.scheduling.live.micro_batch import plan
from thalweg.scheduling.world.tasks import TERMINAL, Change, TaskSpec, Transition
from thalweg.scheduling.world.world import TenantLimits, World
from thalweg.streams.placement.event_ids import event_type_of

REGIONS = ("a", "b", "c")
NODES = [node(region, f"n{index}", 4) for region in REGIONS for index in range(2)]
TIMEOUT_MS = 10_000
QUOTA_GPUS = 6
MOST_PREEMPTED = 3
SETTINGS = PlanSettings(most_preempted=MOST_PREEMPTED, resize_every_ms=5_000)
KINDS = ("accepted", "running", "succeeded", "failed", "evicted")


@dataclass
class Agent:
    """A region: obeys only what is newer than everything it has seen of a task."""

    seen: dict[str, int] = field(default_factory=dict)
    held: dict[str, int] = field(default_factory=dict)

    def obey(self, row: Transition) -> None:
        if row.epoch <= self.seen.get(row.task_id, 0):
            return
        self.seen[row.task_id] = row.epoch
        self.held.pop(row.task_id, None)
        if event_type_of(row) == "assign":
            self.held[row.task_id] = row.epoch


class LiveWorld(RuleBasedStateMachine):
    """Random lives of a few tasks in three regions."""

    def __init__(self) -> None:
        super().__init__()
        self.world = fresh()
        self.ledger: list[Transition] = []
        self.agents = {region: Agent() for region in REGIONS}
        self.undelivered: list[Transition] = []
        self.now_ms = 0
        self.count = 0
        self.up = dict.fromkeys(REGIONS, True)
        self.heard_ms = dict.fromkeys(REGIONS, 0)

    def commit(self, rows: list[Transition] | decide.Refused) -> None:
        if isinstance(rows, decide.Refused):
            return
        for row in rows:
            self.world.follow(row)
        self.ledger += rows
        self.undelivered += [row for row in rows if event_type_of(row) is not None]

    @rule(
        gpus=st.integers(0, 4),
        workers=st.integers(1, 3),
        replicas=st.integers(1, 3),
        priority=st.sampled_from([100, 300, 500, 700, 900]),
        tenant=st.sampled_from(["default", "limited", "other"]),
        preemptible=st.booleans(),
    )
    def submit(self, gpus: int, workers: int, replicas: int, priority: int, tenant: str, preemptible: bool) -> None:
        shape = {"gpus": gpus, "workers": workers, "replicas": replicas}
        self.ask(spec(**shape, priority=priority, tenant=tenant, preemptible=preemptible))

    @rule(
        workers=st.integers(1, 4),
        fewer=st.integers(0, 3),
        more=st.integers(0, 4),
        priority=st.sampled_from([100, 500, 900]),
        tenant=st.sampled_from(["default", "limited"]),
    )
    def submit_elastic(self, workers: int, fewer: int, more: int, priority: int, tenant: str) -> None:
        least, most = max(workers - fewer, 1), workers + more
        self.ask(spec(workers=workers, min_workers=least, max_workers=most, priority=priority, tenant=tenant))

    def ask(self, wanted: TaskSpec) -> None:
        self.count += 1
        name = f"t{self.count}"
        self.commit(decide.submit(self.world, name, wanted, "{}", name, ORIGIN, self.now_ms))

    @rule()
    def place(self) -> None:
        self.plan_once()

    def plan_once(self) -> bool:
        """Plan and commit; whether anything was decided."""
        made = plan(self.world, SETTINGS, self.now_ms, seed=0)
        if made is None:
            return False
        assert made.bound <= made.objective + 1e-6
        self.judge_preemption(made)
        self.commit(decide.place(self.world, made, "p", self.now_ms))
        return bool(made.assignments or made.preempted or made.resized)

    def judge_preemption(self, made: Plan) -> None:
        placed = {one.task_id for one in made.assignments}
        assert len(made.preempted) <= MOST_PREEMPTED
        for one in made.preempted:
            victim, better = self.world.tasks[one.task_id], self.world.tasks[one.for_task]
            assert one.copy in victim.copies
            assert victim.spec.preemptible
            assert victim.spec.priority < better.spec.priority
            assert better.preempted == 0, "a task that gave way makes nobody give way"
            assert one.for_task in placed, "nobody gives way in vain"
            assert one.task_id not in {other.for_task for other in made.preempted}

    @rule()
    def settle(self) -> None:
        """Planning again and again without news comes to an end, and then changes nothing any more."""
        for _ in range(2 * len(self.world.tasks) + 3):
            if not self.plan_once():
                break
        else:
            raise AssertionError("plans without news never end")
        before = picture(self.world)
        assert not self.plan_once()
        assert picture(self.world) == before

    @rule(pick=st.randoms(use_true_random=False))
    def deliver_some(self, pick: object) -> None:
        """Events arrive late, twice, but in order within a region (one partition each)."""
        for row in list(self.undelivered):
            assert row.region is not None
            if not self.up[row.region]:
                continue
            self.undelivered.remove(row)
            self.agents[row.region].obey(row)
            if pick.random() < 0.3:  # type: ignore[attr-defined]
                self.agents[row.region].obey(row)

    @precondition(lambda self: any(agent.held for agent in self.agents.values()))
    @rule(data=st.data(), kind=st.sampled_from(KINDS), lost=st.booleans())
    def report(self, data: st.DataObject, kind: str, lost: bool) -> None:
        """A region reports; some reports are lost for good, as those of an agent that died."""
        region = data.draw(st.sampled_from([region for region in REGIONS if self.agents[region].held]))
        task = data.draw(st.sampled_from(sorted(self.agents[region].held)))
        epoch = self.agents[region].held[task]
        if kind in ("succeeded", "failed", "evicted"):
            del self.agents[region].held[task]
        if self.up[region] and not lost:
            self.hear(region)
            self.commit(decide.report(self.world, region, kind, task, epoch, "", 3, self.now_ms))

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        if self.world.tasks:
            task = data.draw(st.sampled_from(sorted(self.world.tasks)))
            self.commit(decide.cancel(self.world, task, ORIGIN, self.now_ms))

    @rule(region=st.sampled_from(REGIONS))
    def cut_off_or_return(self, region: str) -> None:
        self.up[region] = not self.up[region]

    @rule(ms=st.sampled_from([100, 6_000, 20_000]))
    def time_passes(self, ms: int) -> None:
        self.now_ms += ms
        for region in REGIONS:
            if self.up[region]:
                self.hear(region)
                repairs = decide.reconcile(self.world, region, self.agents[region].held, self.knew, 15_000, self.now_ms)
                self.commit(repairs.transitions)
        for region in self.silent():
            self.world.lose_region(region)
            self.commit(decide.lose_region(self.world, region, TIMEOUT_MS, self.now_ms))

    def hear(self, region: str) -> None:
        self.world.hear(region, self.now_ms)
        self.heard_ms[region] = self.now_ms

    def silent(self) -> list[str]:
        """Regions that are not lost yet and were not heard for longer than the time-out."""
        return [
            name
            for name, state in sorted(self.world.regions.items())
            if not state.lost and self.now_ms - self.heard_ms[name] > TIMEOUT_MS
        ]

    def knew(self, task_id: str, *, for_ms: int) -> bool:
        """A region knows what it was told a while ago."""
        copies = self.world.tasks[task_id].copies.values() if task_id in self.world.tasks else ()
        return all(self.now_ms - copy.assigned_ms >= for_ms for copy in copies)

    @rule(heard_at_once=st.booleans())
    def crash(self, heard_at_once: bool) -> None:
        """The driver dies: a new one rebuilds the world from the ledger, and may plan before it hears any region."""
        heard = self.world.regions
        self.world = rebuilt(self.ledger, heard=heard_at_once)
        for name, state in heard.items():
            self.world.expect(name, self.now_ms)
            self.heard_ms[name] = self.now_ms
            if heard_at_once and not state.lost:
                self.world.hear(name, self.now_ms)

    @invariant()
    def no_node_gives_more_than_it_has(self) -> None:
        assert len(self.world.nodes.overcommitted()) == 0

    @invariant()
    def what_is_taken_of_nodes_is_what_placed_copies_need(self) -> None:
        needed = sum(
            task.spec.parts[0].need.gpus * copy.workers
            for task in self.world.tasks.values()
            for copy in task.copies.values()
        )
        free = self.world.nodes.gpu_milli_free.sum() / 1_000
        assert free + needed == sum(fact.gpus for fact in NODES)

    @invariant()
    def no_tenant_holds_more_than_its_quota(self) -> None:
        held = {
            tenant: sum(
                task.spec.parts[0].need.gpus * copy.workers
                for task in self.world.tasks.values()
                for copy in task.copies.values()
                if task.spec.tenant == tenant
            )
            for tenant in ("default", "limited", "other")
        }
        assert held["limited"] <= QUOTA_GPUS
        known = {name: holding.gpu_milli / 1_000 for name, holding in self.world.holdings.items()}
        assert {name: gpus for name, gpus in known.items() if gpus} == {n: g for n, g in held.items() if g}

    @invariant()
    def every_copy_has_its_workers_and_a_elastic_one_no_fewer_or_more_than_allowed(self) -> None:
        for task in self.world.tasks.values():
            for copy in task.copies.values():
                if task.spec.min_workers is None:
                    assert copy.workers == task.spec.workers
                else:
                    assert task.spec.min_workers <= copy.workers <= (task.spec.max_workers or 0)

    @invariant()
    def a_copy_that_succeeded_never_runs_again(self) -> None:
        done: set[tuple[str, int]] = set()
        for row in self.ledger:
            assert not (row.change is Change.ASSIGNED and (row.task_id, row.copy) in done)
            if row.change is Change.SUCCEEDED:
                done.add((row.task_id, row.copy))

    @invariant()
    def copies_lie_in_distinct_regions(self) -> None:
        for task in self.world.tasks.values():
            regions = [copy.region for copy in task.copies.values()]
            assert len(set(regions)) == len(regions)
            assert len(regions) + len(task.done_copies) <= task.spec.replicas

    @invariant()
    def every_task_is_in_one_state_and_waits_exactly_when_copies_are_missing(self) -> None:
        begun = {row.task_id for row in self.ledger if row.change is Change.SUBMITTED}
        ended = {task_id for task_id in begun if self.world.ended.get(task_id) is not None}
        assert ended | self.world.tasks.keys() == begun
        assert sum(self.world.count_by_state.values()) == len(self.world.tasks) + len(ended)
        for task in self.world.tasks.values():
            assert task.state not in TERMINAL
            assert (task.task_id in self.world.waiting) == (task.missing > 0)

    @invariant()
    def events_of_a_task_carry_rising_epochs(self) -> None:
        last: dict[str, int] = {}
        for row in self.ledger:
            if event_type_of(row) is not None:
                assert row.epoch > last.get(row.task_id, 0)
                last[row.task_id] = row.epoch

    @invariant()
    def the_ledger_rebuilds_the_world(self) -> None:
        again = rebuilt(self.ledger)
        assert picture(again) == picture(self.world)
        np.testing.assert_array_equal(free_by_node(again), free_by_node(self.world))

    def teardown(self) -> None:
        """Once every region is back and everything is delivered, regions hold what the ledger says."""
        self.up = dict.fromkeys(REGIONS, True)
        self.heard_ms = dict.fromkeys(REGIONS, 0)
        for _ in range(6):
            self.time_passes(20_000)
            for row in self.undelivered:
                assert row.region is not None
                self.agents[row.region].obey(row)
            self.undelivered.clear()
        for region in REGIONS:
            ledger = {task: self.world.tasks[task].copies[index].epoch for task, index in self.world.copies_in(region)}
            assert self.agents[region].held == ledger


def fresh(*, heard: bool = True) -> World:
    world = world_of(*NODES, heard=heard)
    world.set_tenants({"limited": TenantLimits(quota_gpus=QUOTA_GPUS)})
    return world


def rebuilt(ledger: list[Transition], *, heard: bool = True) -> World:
    world = fresh(heard=heard)
    for row in ledger:
        world.follow(row)
    return world


def picture(world: World) -> dict[str, object]:
    return {
        name: (
            task.state,
            task.epoch,
            task.attempt,
            task.preempted,
            task.avoid,
            sorted((copy.index, copy.epoch, copy.region, copy.workers, copy.state) for copy in task.copies.values()),
        )
        for name, task in world.tasks.items()
    }


def free_by_node(world: World) -> np.ndarray:
    rows = [world.nodes.row_of[key] for key in sorted(world.nodes.row_of)]
    return np.column_stack([np.sort(world.nodes.gpu_milli_free[rows], axis=1), world.nodes.cpu_milli_free[rows]])


TestLiveWorld = LiveWorld.TestCase
TestLiveWorld.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
