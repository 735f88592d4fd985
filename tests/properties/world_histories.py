"""Random legal lives of a fleet and its tasks, for the question whether placement survives whatever is accepted.

Regions and models have odd names, nodes have 0 to 72 GPUs, shrink, drain, come back and vanish; requests are updated,
repeated and cancelled; regions refuse, report old epochs and fall silent; the driver is killed and rebuilds the world
from its ledger's rows. After every batch everything that must hold is asked for. Equal seeds give equal lives:

    python -m tests.properties.world_histories FIRST_SEED SECONDS
"""

import json
import math
import random
import sys
import time
import traceback
from collections import Counter
from dataclasses import replace

import pyarrow as pa

from thalweg.scheduling.decisions import decide, ordering
from thalweg.scheduling.live.drains import relief
from thalweg.scheduling.live.live_plan import PlanSettings
from thalweg.scheduling.live.micro_batch import plan
from thalweg.scheduling.live.relocation import Relocation, in_region
from thalweg.scheduling.pack.packer import Packer
from thalweg.scheduling.world.facts import NODE_SEPARATOR, NodeFacts, node_key
from thalweg.scheduling.world.orders import Drain, HeldTenant, Order, OwnPrice, TenantTerms, subject_of
from thalweg.scheduling.world.tasks import TERMINAL, Change, Copy, CopyState, RunReport, Task, Transition
from thalweg.scheduling.world.world import DatasetFacts, TenantLimits, World
from thalweg.streams.placement.event_ids import event_id_of
from thalweg.streams.placement.requests import RequestError, content_hash, read_request
from thalweg.streams.placement.task_specs import read_spec
from thalweg.sync.ledger.folds import fold_ledger
from thalweg.sync.ledger.ledger import from_rows, to_rows

REGIONS = ("a", "a/b", "b/c", "aws:us-east-1", "é", "(unknown)", "x y", "spot", "R" * 180)
MODELS = ("A100", "RTX 6000/8000", "b/A100", "a/spot", "cpu", "%63pu", "100 % é✓", "on-demand", "", "GB200 NVL72")
SIZES = (0, 1, 4, 8, 8, 16, 17, 72)
NAMES = tuple(f"t{index}" for index in range(14))
ELEMENTS = 3
EVERY_NAME = NAMES + tuple(f"{name}[{index}]" for name in NAMES for index in range(ELEMENTS))
SETTINGS = PlanSettings(resize_every_ms=5_000, most_preempted=4)
LIMITED = {"limited": TenantLimits(quota_gpus=12.0), "poor": TenantLimits(budget_usd_per_hour=10.0)}
ORIGIN = decide.RequestOrigin(topic="requests", partition=0, offset=0, timestamp_ms=0)


class History:
    """One life; `step` lets something happen, `check` asks whether everything holds."""

    def __init__(self, seed: int) -> None:
        self.rnd = random.Random(seed)
        self.regions = self.rnd.sample(REGIONS, 3)
        self.nodes = {key: self.node(*key) for region in self.regions for key in self.names(region)}
        models = {node.gpu_model for node in self.nodes.values()} | set(MODELS[:3])
        self.prices = {
            (region, model, spot): self.rnd.choice([0.0, 2.0, 1e9, math.nan, -1.0]) if self.rnd.random() < 0.1 else 2.0
            for region in self.regions
            for model in sorted(models)
            for spot in (False, True)
        }
        self.links = self.some_links()
        self.datasets = {"d": DatasetFacts(regions=tuple(self.regions), size_gb=self.rnd.choice([1.0, math.nan]))}
        self.now_ms = self.latest_ms = 1_000
        self.rows: list[Transition] = []
        self.batches: list[pa.Table] = []
        self.heard: set[str] = set()
        self.asked: dict[str, str] = {}
        """What was taken last of each task."""
        self.world = World()
        self.packer = Packer(self.world.nodes)
        self.tell_world()
        self.world.set_tenants(LIMITED)
        for region in self.regions:
            self.hear(region)

    # What there is

    def names(self, region: str) -> list[tuple[str, str]]:
        return [(region, name) for name in ("n1", "n/2", "né")[: self.rnd.randint(1, 3)]]

    def node(self, region: str, name: str) -> NodeFacts:
        model = self.rnd.choice(MODELS)
        ready = self.rnd.random() > 0.1
        return NodeFacts(
            region=region,
            node_id=name,
            gpu_model=model,
            spot=self.rnd.random() < 0.2,
            gpus=self.rnd.choice(SIZES) if model else 0,
            cpus=self.rnd.choice([0.5, 8.0, 96.0, 96.0, 100_000.0]),
            memory_gb=self.rnd.choice([0.0, 64.0, 512.0, 1e6]),
            ready=ready,
            draining=not ready and self.rnd.random() < 0.5,
        )

    def changed(self, node: NodeFacts) -> NodeFacts:
        """A node that shrank, grew, drains, fell silent, is back, is of another model or makes no sense."""
        match self.rnd.randrange(8):
            case 0:
                return replace(node, gpus=node.gpus // 2)
            case 1:
                return replace(node, gpus=self.rnd.choice(SIZES), cpus=96.0)
            case 2:
                return replace(node, ready=False, draining=True)
            case 3:
                return replace(node, ready=False, draining=False)
            case 4:
                return replace(node, gpu_model=self.rnd.choice(MODELS), spot=not node.spot)
            case 5:
                return replace(node, cpus=node.cpus / 2, memory_gb=node.memory_gb / 2)
            case 6:
                return replace(node, gpus=self.rnd.choice([-1, 1_025, 10**9]), cpus=self.rnd.choice([math.nan, 1.0]))
            case _:
                return replace(node, gpus=max(node.gpus, 4), cpus=96.0, memory_gb=512.0, ready=True, draining=False)

    def some_links(self) -> dict[tuple[str, str], tuple[float, float, float]]:
        return {
            (a, b): (
                self.rnd.choice([10.0, 0.0, math.nan]),
                self.rnd.choice([1.0, 0.0, math.nan]),
                self.rnd.choice([0.1, 0.0, math.nan, -1.0]),
            )
            for a in self.regions
            for b in self.regions
            if a != b
        }

    def request(self, name: str, op: str) -> str:
        rnd = self.rnd
        fields: dict[str, object] = {"task_id": name, "op": op, "workers": rnd.choice([1, 1, 1, 1, 1, 2, 3, 12])}
        fields["per_worker"] = rnd.choice(
            [
                {"gpus": rnd.choice([1, 1, 1, 2, 2, 4, 8, 17])},
                {"gpus": rnd.choice([1, 2, 3, 64, 72, 1_024])},
                {"gpu_milli": 300},
                {"gpu_milli": 500, "cpus": 1},
                {"cpus": 4},
            ]
        )
        if rnd.random() < 0.2:
            fields["min_workers"], fields["max_workers"] = 1, rnd.choice([12, 16])
        elif rnd.random() < 0.2:
            fields.pop("workers")
            fields["subtasks"] = [
                {
                    "subtask_id": f"s{at}",
                    "workers": rnd.randint(1, 2),
                    "per_worker": {"gpus": rnd.randint(0, 3), "cpus": 1},
                }
                for at in range(rnd.randint(1, 3))
            ]
        for chance, field, values in (
            (0.3, "replicas", [1, 2, 2, 3]),
            (0.4, "priority", [0, 100, 900, 1_000]),
            (0.3, "tenant", ["limited", "poor", "other", "other"]),
            (0.2, "spot_ok", [True]),
            (0.2, "preemptible", [False]),
            (0.2, "spread_workers", [True]),
            (0.2, "allowed_regions", [self.regions[:2], self.regions]),
            (0.1, "max_usd_per_hour", [0, 5]),
            (0.1, "data", [[{"region": rnd.choice(self.regions), "size_gb": 10}], [{"dataset": "d", "size_gb": 0}]]),
        ):
            if rnd.random() < chance:
                fields[field] = rnd.choice(values)
        others = rnd.sample([other for other in NAMES if other != name], 2)
        for chance, field, value in (
            (0.15, "after", [others[0], {"task_id": others[1], "on": "end"}]),
            (0.1, "not_before", self.latest_ms + rnd.choice([1_000, 600_000])),
            (0.2, "retries", {"at_most": rnd.choice([0, 1, 5]), "back_off_s": rnd.choice([0, 10])}),
            (0.15, "array", {"count": ELEMENTS, "at_most": rnd.choice([1, 2])}),
            (0.1, "name", "a name"),
            (0.2, "kind", "infer"),
        ):
            if rnd.random() < chance:
                fields[field] = value
        return json.dumps(fields)

    # What happens

    def hear(self, region: str) -> None:
        self.heard.add(region)
        self.world.hear(region, self.now_ms)

    def tell_world(self) -> None:
        world = self.world
        world.set_links(self.links)
        world.set_prices(self.prices)
        world.set_datasets(self.datasets)
        self.take_nodes()

    def take_nodes(self) -> None:
        hit = self.world.set_nodes(list(self.nodes.values()))
        self.apply(decide.lose_copies(self.world, hit, "its node is gone", self.now_ms))
        self.apply(decide.leave_overcommitted(self.world, self.now_ms))

    def apply(self, rows: list[Transition] | decide.Refused) -> None:
        if isinstance(rows, decide.Refused):
            return
        while rows:
            for row in rows:
                self.check_drained(row)
                self.world.follow(row)
            self.rows += rows
            rows = decide.follow_ups(self.world, self.now_ms)

    def ask_of_one(self) -> None:
        """Cancel, hold, release or run again a task or an element, whatever it is and does."""
        name = self.rnd.choice(EVERY_NAME)
        op = self.rnd.choice([decide.cancel, decide.hold, decide.release, decide.release])
        raw = self.asked.get(name.partition("[")[0])
        if raw is not None and self.rnd.random() < 0.3:
            again = decide.rerun(self.world, name, read_spec(raw), raw, content_hash(raw), ORIGIN, self.now_ms)
            self.apply(again)
        else:
            self.apply(op(self.world, name, ORIGIN, self.now_ms))

    def ask(self) -> None:
        if self.rnd.random() < 0.25:
            self.ask_of_one()
            return
        name, op = self.rnd.choice(NAMES), self.rnd.choice(["submit", "submit", "update", "update", "cancel"])
        raw = self.request(name, op)
        try:
            read_request(raw)
        except RequestError:
            return
        if op == "cancel":
            self.apply(decide.cancel(self.world, name, ORIGIN, self.now_ms))
            return
        take = decide.submit if op == "submit" else decide.update
        rows = take(self.world, name, read_spec(raw), raw, content_hash(raw), ORIGIN, self.now_ms)
        if not isinstance(rows, decide.Refused) and rows:
            self.asked[name] = raw
        self.apply(rows)

    def placed(self) -> list[tuple[Task, Copy]]:
        return [(task, copy) for task in self.world.tasks.values() for copy in task.copies.values()]

    def report(self) -> None:
        held = self.placed()
        kind = self.rnd.choice(["accepted", "running", "succeeded", "succeeded", "failed", "evicted", "revoked"])
        if held and self.rnd.random() < 0.9:
            task, copy = self.rnd.choice(held)
            name, region = task.task_id, copy.region
            epoch = copy.epoch + self.rnd.choice([0, 0, 0, 0, 0, -1, 1])
        else:
            name, region, epoch = self.rnd.choice(NAMES), self.rnd.choice(self.regions), self.rnd.randint(0, 4)
        self.hear(region)
        run = RunReport(cause=self.rnd.choice(["exit", "memory", "agent", None])) if kind == "failed" else RunReport()
        self.apply(decide.report(self.world, region, kind, name, epoch, "", 3, self.now_ms, run))

    def inventory(self) -> None:
        region = self.rnd.choice(self.regions)
        self.hear(region)
        held = {task.task_id: copy.epoch for task, copy in self.placed() if copy.region == region}
        if self.rnd.random() < 0.3:
            held = {name: self.rnd.randint(1, 4) for name in self.rnd.sample(NAMES, 3)}
        self.apply(decide.reconcile(self.world, region, held, self.knew, 15_000, self.now_ms).transitions)

    def knew(self, task_id: str, *, for_ms: int) -> bool:
        """A region knows what it was told a while ago."""
        copies = self.world.tasks[task_id].copies.values() if task_id in self.world.tasks else ()
        return all(self.now_ms - copy.assigned_ms >= for_ms for copy in copies)

    def change_nodes(self) -> None:
        for key in list(self.nodes):
            chance = self.rnd.random()
            if chance < 0.1:
                del self.nodes[key]
            elif chance < 0.5:
                self.nodes[key] = self.changed(self.nodes[key])
        for region in self.regions:
            if self.rnd.random() < 0.3:
                key = self.rnd.choice(self.names(region))
                self.nodes.setdefault(key, self.node(*key))
        self.take_nodes()

    def lose_region(self) -> None:
        region = self.rnd.choice(self.regions)
        self.world.lose_region(region)
        self.heard.discard(region)
        self.apply(decide.lose_region(self.world, region, 10_000, self.now_ms))

    def order(self) -> None:
        """Drain, hold, limit, price or move something, or take it back."""
        rnd, world = self.rnd, self.world
        region = rnd.choice([*self.regions, "nowhere"])
        wanted: Order = rnd.choice(
            [
                Drain(region=region, by_ms=rnd.choice([None, None, self.now_ms + 2_000, self.now_ms + 700_000])),
                Drain(region=region, node_id=rnd.choice(["n1", "n/2"]), by_ms=rnd.choice([None, self.now_ms + 5])),
                HeldTenant(tenant=rnd.choice(["other", "default"])),
                TenantTerms(tenant=rnd.choice(["limited", "other"]), quota_gpus=rnd.choice([0.0, 6.0])),
                OwnPrice(region=region, gpu_model=rnd.choice(MODELS), usd_per_gpu_hour=rnd.choice([0.0, 7.0])),
            ]
        )
        if rnd.random() < 0.4:
            self.apply(ordering.withdraw(world, subject_of(wanted), "x", None, self.now_ms))
        else:
            self.apply(ordering.stand(world, wanted, "x", None, self.now_ms))
        held = self.placed()
        if held and rnd.random() < 0.5:
            task, copy = rnd.choice(held)
            search = Relocation(world, [(task.task_id, copy.index)], SETTINGS, self.now_ms, self.packer)
            moved = ordering.move(
                world, task.task_id, region, copy.index, "x", ORIGIN, self.now_ms,
                find=lambda task, copy, to: search.find(task, copy, in_region(to)), why_not=lambda *_: "no room",
            )  # fmt: skip
            search.undo()
            self.apply(moved)

    def relieve(self) -> None:
        look = relief(self.world, SETTINGS, self.now_ms, self.packer, most=self.rnd.choice([0, 1, 100]))
        self.apply(ordering.relieved(look, self.now_ms))

    def check_drained(self, row: Transition) -> None:
        """Nothing is assigned to what is drained, unless it sits there already."""
        if row.change is not Change.ASSIGNED:
            return
        task = self.world.tasks[row.task_id]
        sits = task.copies.get(row.copy)
        nodes = set() if sits is None else {share.node_id for share in sits.shares}
        drained = self.world.orders
        assert row.region not in drained.drained_regions or (sits is not None and sits.region == row.region)
        for share in row.shares:
            is_shut = node_key(row.region, share.node_id) in drained.drained_nodes  # type: ignore[arg-type]
            assert not is_shut or share.node_id in nodes, f"{row} goes to a drained node"

    def place(self) -> None:
        made = plan(self.world, SETTINGS, self.now_ms, 0, self.packer)
        if made is not None:
            assert made.bound <= made.objective * (1 + 1e-9) + 1e-6, (made.bound, made.objective)
            self.apply(decide.place(self.world, made, f"p{len(self.batches)}", self.now_ms))

    def batch(self) -> None:
        """One micro-batch: what arrived, then a plan, then the rows go to the ledger."""
        self.now_ms += self.rnd.choice([5, 300, 2_000, 16_000, 700_000, -1_000])
        self.latest_ms = max(self.latest_ms, self.now_ms)
        for _ in range(self.rnd.randint(0, 7)):
            self.rnd.choices(
                [self.ask, self.report, self.inventory, self.change_nodes, self.lose_region, self.order],
                [6, 10, 1, 1.5, 0.3, 0.7],
            )[0]()
        for region in self.regions:
            if self.rnd.random() < 0.9:
                self.hear(region)
        if self.world.orders.drains:
            self.relieve()
        self.place()
        self.commit()
        self.check()

    def commit(self) -> None:
        ids = [event_id_of(row) for row in self.rows]
        table = to_rows(self.rows, ids, query_id="q", batch_id=len(self.batches), driver_epoch=1)
        self.batches.append(table)
        self.rows = []

    def rebuilt(self) -> World:
        world = World()
        for table in self.batches:
            for row in from_rows(table, read_spec):
                world.follow(row)
        for name in self.world.regions:
            world.expect(name, self.now_ms)
        for name in sorted(self.heard):
            world.hear(name, self.now_ms)
        live, self.world = self.world, world
        self.tell_world()
        self.world = live
        assert not self.rows, f"after a restart nothing is lost that was not lost before: {self.rows}"
        world.set_tenants(LIMITED)
        for each in (world, self.world):
            each.wake(self.latest_ms)
        return world

    def kill(self) -> None:
        """The driver dies and its successor goes on with what the ledger says."""
        again = self.rebuilt()
        before, after = picture(self.world), picture(again)
        for name, value in before.items():
            assert after[name] == value, f"{name} after a restart: {_difference(after[name], value)}"
        self.world, self.packer = again, Packer(again.nodes)

    # What must hold

    def check(self) -> None:
        world = self.world
        taken: Counter[tuple[str, str, int]] = Counter()
        for task in world.tasks.values():
            assert task.missing >= 0
            beside = len(task.copies) + len(task.done_copies) - task.spec.replicas
            assert beside <= 1, "an update may take the right to overlap away, but never give a second copy more"
            assert task.state not in TERMINAL
            assert (task.task_id in world.waiting) == (task.missing > 0 and self.may_start(task))
            regions = [copy.region for copy in task.copies.values()]
            assert len(set(regions)) == len(regions)
            for copy in task.copies.values():
                assert copy.pool.region == copy.region
                for slot, need in world.slots_of(task, copy):
                    for device in slot.devices:
                        taken[(*_name(world, slot.node), device)] += need.gpu_milli
        assert max(taken.values(), default=0) <= 1_000, f"a GPU is held twice: {taken.most_common(1)}"
        for (region, name, device), _ in taken.items():
            node = self.nodes.get((region, name))
            known = node is not None and (node.ready or node.draining) and 0 <= node.gpus <= 1_024
            key = node_key(region, name)
            if known and key not in world.left_out["nodes"]:
                assert device < node.gpus, f"GPU {device} of {node}"
        for row in world.nodes.overcommitted().tolist():
            node = self.nodes.get(_name(world, row))
            here = node is not None and (node.ready or node.draining)
            assert not here or world.nodes.ids[row] in world.left_out["nodes"], f"over-committed: {node}"
        for holding in world.holdings.values():
            assert min(holding.gpu_milli, holding.cpu_milli, holding.memory_mib, holding.micro_usd_per_hour) >= 0
        ended = [name for name in EVERY_NAME if world.ended.get(name) is not None]
        assert not set(ended) & world.tasks.keys()
        assert sum(world.count_by_state.values()) == len(world.tasks) + len(ended)
        assert +world.book.live_of == Counter(task.spec.tenant for task in world.tasks.values())

    def may_start(self, task: Task) -> bool:
        """Whether nothing is in front of a task: itself, its parents, time, its array and its turn there."""
        if task.is_array or task.held or task.unmet or task.shut_until_ms:
            return False
        array = task.spec.terms.array
        whole = None if array is None else self.world.tasks.get(array.array_id)
        if whole is None:
            return True
        line = self.world.gates.arrays[whole.task_id]
        open_elements = [
            element
            for index in range(ELEMENTS)
            if (element := self.world.tasks.get(f"{whole.task_id}[{index}]")) is not None and element.missing
        ]
        assert (
            not line.has_room
            or whole.held
            or whole.unmet
            or whole.shut_until_ms
            or all(one.task_id in line.admitted or one.held or one.unmet or one.shut_until_ms for one in open_elements)
        ), "there is room and somebody is kept out"
        return task.task_id in line.admitted and not (whole.held or whole.unmet or whole.shut_until_ms)

    def check_folds(self) -> None:
        """`tasks` and `placements` say what the world says."""
        tasks, placements = fold_ledger(pa.concat_tables(self.batches))
        states = {row["task_id"]: row["state"] for row in tasks.select(["task_id", "state"]).to_pylist()}
        assert states == {name: str(task.state) for name in EVERY_NAME if (task := self.world.find(name)) is not None}
        folded = {
            (row["task_id"], row["copy"]): (row["epoch"], row["region"], row["pool_id"], row["state"] == "running")
            for row in placements.to_pylist()
            if row["state"] != "succeeded"
        }
        assert folded == {
            (task.task_id, copy.index): (copy.epoch, copy.region, copy.pool_id, copy.state is CopyState.RUNNING)
            for task, copy in self.placed()
        }


def picture(world: World) -> dict[str, object]:
    """Everything of a world that the ledger and the facts determine, whatever order rows and pools appeared in."""
    nodes, occupancy, facts = world.nodes, world.occupancy, world.fleet.facts
    described = [row for row, key in enumerate(nodes.ids) if key in facts and key not in world.left_out["nodes"]]
    pools = world.pools()
    return {
        "tasks": {
            name: (
                task.state, task.spec, task.epoch, task.attempt, task.preempted, task.avoid, task.barred, task.reason,
                task.held, task.unmet, task.shut_until_ms, task.shut_since_ms, task.causes, task.spec.terms,
                task.done_copies, task.done_regions, task.ended, task.order, task.submitted_ms, task.content_hash,
                {region: (r.count, r.last_ms, r.until_ms) for region, r in task.refused.items()},
                sorted(
                    (c.index, c.epoch, c.region, c.pool, c.pool_id, c.shares, c.state, c.assigned_ms, c.by_hand)
                    for c in task.copies.values()
                ),
            )
            for name, task in world.tasks.items()
        },
        "ended": {name: world.ended.get(name) for name in EVERY_NAME},
        "waiting": {
            waiting.key: set(world.waiting.first(waiting, len(waiting))) for waiting in world.waiting.classes()
        },
        "free": {
            nodes.ids[row]: (
                bool(nodes.ready[row]), nodes.pools[nodes.pool[row]], int(nodes.gpus[row]),
                [int(free) for free in nodes.gpu_milli_free[row, : nodes.gpus[row]]],
                int(nodes.cpu_milli_free[row]), int(nodes.memory_mib_free[row]),
            )
            for row in described
            if nodes.ready[row] or facts[nodes.ids[row]].draining
        },
        "pools": {
            name: (list(pools.capacity[at]), pools.usd_per_gpu_hour[at])
            for at, name in enumerate(pools.pool_ids)
            if pools.capacity[at].any()
        },
        "holdings": {
            tenant: (h.gpu_milli, h.cpu_milli, h.memory_mib, h.micro_usd_per_hour)
            for tenant, h in world.holdings.items()
            if h.gpu_milli or h.cpu_milli or h.memory_mib or h.micro_usd_per_hour
        },
        "occupancy": sorted(
            (occupancy.owner(row), nodes.ids[occupancy.column("node")[row]], nodes.pools[occupancy.column("pool")[row]],
             *(int(occupancy.column(name)[row]) for name in ("gpu_milli", "priority", "assigned_ms", "order", "first")))
            for row, used in enumerate(occupancy.used().tolist())
            if used
        ),
        "elastic": world.elastic,
        "refusing": {region: (r.count, r.last_ms, r.until_ms) for region, r in world.refusing.items()},
        "flapping": {r: (f.count, f.last_ms, f.until_ms) for r, f in world.back_offs.flapping.items()},
        "backing off": world.backing_off(),
        "counts": world.count_by_state,
        "arrays": {name: (line.ended, line.admitted) for name, line in world.gates.arrays.items()},
        "orders": list(world.orders),
        "tenants": world.tenants,
        "due": (world.gates.doomed, world.gates.over),
        "copies in": {region: world.copies_in(region) for region in world.region_names if world.copies_in(region)},
        "left out": world.left_out,
    }  # fmt: skip


def _difference(after: object, before: object) -> str:
    if isinstance(after, dict) and isinstance(before, dict):
        keys = [key for key in before.keys() | after.keys() if before.get(key) != after.get(key)]
        return "; ".join(f"{key}: {_difference(after.get(key), before.get(key))}" for key in keys)
    if isinstance(after, tuple) and isinstance(before, tuple):
        return ", ".join(f"{a} instead of {b}" for a, b in zip(after, before, strict=False) if a != b)
    return f"{after} instead of {before}"


def _name(world: World, row: int) -> tuple[str, str]:
    region, _, node_id = world.nodes.ids[row].partition(NODE_SEPARATOR)
    return region, node_id


def live(seed: int, batches: int) -> None:
    """Let one life happen.

    Raises:
        AssertionError: something that must hold does not.
    """
    history = History(seed)
    for _ in range(batches):
        history.batch()
        if history.rnd.random() < 0.2:
            history.kill()
    history.kill()
    history.check_folds()


def main(first_seed: int, seconds: float) -> None:
    """Let lives happen until the time is over, and write the kinds of failures with a seed of each."""
    seen: Counter[str] = Counter()
    seed, until = first_seed, time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            live(seed, 2 + seed % 24)
        except Exception as error:
            at = traceback.extract_tb(error.__traceback__)[-1]
            kind = f"{type(error).__name__} {at.filename.rpartition('/')[2]}:{at.lineno}"
            if not seen[kind]:
                sys.stdout.write(f"seed {seed}: {kind}: {str(error)[:400]}\n")
                sys.stdout.flush()
            seen[kind] += 1
        seed += 1
    sys.stdout.write(f"{seed - first_seed} lives, {sum(seen.values())} failures {dict(seen)}\n")


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]))
