"""Random graphs of tasks, and lives in which they run: nothing starts too early, and nothing is forgotten.

Tasks wait for earlier ones (their success or their end), for a moment, for their turn in an array, or are held; runs
fail, are given back and lost; tasks are cancelled and run again; the driver is killed and begins anew from its ledger's
rows, or from an image of the world. What must hold is judged from the rows alone, by books kept here.
"""

import json
import random
from collections import defaultdict
from collections.abc import Sequence

import msgspec

from tests.unit.scheduling.worlds import ORIGIN, node, world_of
from thalweg.scheduling.decisions import decide
from thalweg.scheduling.live.live_plan import PlanSettings
from thalweg.scheduling.live.micro_batch import plan
from thalweg.scheduling.liveness.awaited import AwaitedParents
from thalweg.scheduling.world.image import image_of
from thalweg.scheduling.world.image import world_of as world_of_image
from thalweg.scheduling.world.tasks import TERMINAL, Change, CopyState, RunReport, TaskState, Transition
from thalweg.scheduling.world.world import World
from thalweg.streams.contract.messages import TaskRequest
from thalweg.streams.placement.event_ids import event_id_of
from thalweg.streams.placement.requests import content_hash, read_request
from thalweg.streams.placement.task_specs import parents_of, read_spec
from thalweg.sync.ledger.ledger import from_rows, to_rows
from thalweg.sync.ledger.snapshot import Mark, Position, Snapshot, decode_snapshot, encode_snapshot

NODES = [node(region, f"n{index}", 16) for region in ("a", "b", "c") for index in range(2)]
ENDS = {Change.CANCELLED: TaskState.CANCELLED, Change.FAILED: TaskState.FAILED}
CAUSES = ("exit", "exit", "signal", "memory", "time_limit", "start", "agent")
PATIENCE_MS = 60_000
NOT_THERE = "was not submitted within"
MARK = Mark(ledger_id="", version=0, rows=0, position=Position(0, 0, 0), last_batch="", reach={})


class Books:
    """What the rows say, and no more: who has ended and how, who is held, how many elements run."""

    def __init__(self) -> None:
        self.requests: dict[str, TaskRequest] = {}
        self.ended: dict[str, TaskState] = {}
        self.held: set[str] = set()
        self.placed: set[str] = set()
        self.failed_ms: dict[str, tuple[int, int]] = {}
        """When a task failed last, and how often it has."""
        self.parents: dict[str, dict[str, TaskState]] = {}
        """By task, its parents that have ended since it was submitted or had then; one that runs again has ended."""
        self.starts = 0
        self.begun_ms: dict[str, int] = {}
        self.given_up: set[str] = set()
        """Tasks that were cancelled because a parent of theirs did not come."""

    def read(self, row: Transition, now_ms: int) -> None:
        name = row.task_id
        if row.change is Change.SUBMITTED:
            assert row.request is not None
            self.requests[name] = read_request(row.request)
            self.begun_ms[name] = now_ms
            self.given_up.discard(name)
            self.ended.pop(name, None)
            self.failed_ms.pop(name, None)
            self.held.discard(name)
            parents = parents_of(self.requests[name])
            self.parents[name] = {parent: self.ended[parent] for parent in parents if parent in self.ended}
        elif row.change is Change.HELD:
            self.held.add(name)
        elif row.change is Change.RELEASED:
            self.held.discard(name)
        elif row.change is Change.ASSIGNED:
            self.judge_start(name, now_ms)
            self.placed.add(name)
        elif row.change is Change.SUCCEEDED or row.ends:
            assert row.ends, "every task has one copy, so a success is an end"
            self.ended[name] = ENDS.get(row.change, TaskState.SUCCEEDED)
            for other, request in self.requests.items():
                if name in parents_of(request):
                    self.parents[other].setdefault(name, self.ended[name])
        if row.change is Change.CANCELLED and NOT_THERE in (row.reason or ""):
            self.judge_given_up(name, now_ms)
        if row.change is Change.FAILED:
            self.failed_ms[name] = (row.decided_ms, self.failed_ms.get(name, (0, 0))[1] + 1)
        if row.change not in (Change.ASSIGNED, Change.ACCEPTED, Change.RUNNING, Change.HELD, Change.RELEASED):
            self.placed.discard(name)

    def judge_given_up(self, name: str, now_ms: int) -> None:
        self.given_up.add(name)
        assert set(parents_of(self.requests[name])) - self.requests.keys(), f"all parents of {name} are there"
        assert now_ms >= self.begun_ms[name] + PATIENCE_MS, f"{name} is given up too early"

    def judge_start(self, name: str, now_ms: int) -> None:
        self.starts += 1
        request = self.requests[name]
        assert name not in self.ended
        assert not {name, request.task_id} & self.held, f"{name} is held"
        assert now_ms >= (request.not_before or 0), f"{name} starts before its moment"
        for parent, on_success in conditions(request):
            ended = self.parents[name].get(parent)
            assert ended is not None, f"{name} starts before {parent} has ended"
            assert not on_success or ended is TaskState.SUCCEEDED, f"{name} starts though {parent} {ended}"
        failed_ms, failures = self.failed_ms.get(name, (0, 0))
        if failures and request.retries is not None:
            wait_ms = min(request.retries.back_off_s * 2 ** (failures - 1), request.retries.most_back_off_s) * 1_000
            assert now_ms >= failed_ms + wait_ms, f"{name} is tried again too early"
        if request.array is not None:
            assert name != request.task_id, "an array itself never runs"
            others = sum(self.requests[other].task_id == request.task_id for other in self.placed - {name})
            assert request.array.at_most is None or others < request.array.at_most, f"too many of {request.task_id}"


def conditions(request: TaskRequest) -> list[tuple[str, bool]]:
    return [
        (parent, isinstance(named, str) or named.on == "success")
        for parent, named in zip(parents_of(request), request.after, strict=True)
    ]


class GraphLife:
    """One life of one graph; `run` lets it happen and judges it."""

    def __init__(self, seed: int, size: int, *, calm: bool = False) -> None:
        self.rnd = random.Random(seed)
        self.calm = calm
        requests = [(index + self.rnd.choice([0, 0, 0, 60]) * self.rnd.random(), index) for index in range(size)]
        self.requests = [self.request(index) for _, index in sorted(requests)]
        """In the order in which they come: some before their parents."""
        self.awaited = AwaitedParents(patience_ms=PATIENCE_MS)
        self.world = world_of(*NODES)
        self.now_ms = 1_000_000
        self.books = Books()
        self.batches: list[list[Transition]] = []
        self.rows: list[Transition] = []
        self.kills = 0
        self.kill_chance = 0.15 if size < 200 else 0.02  # each reads all rows that there are

    def request(self, index: int) -> str:
        rnd = self.rnd
        fields: dict[str, object] = {"task_id": f"t{index}", "per_worker": {"gpus": rnd.choice([1, 1, 2])}}
        parents = sorted(
            {f"t{rnd.randrange(max(0, index - 30), index)}" for _ in range(rnd.choice([0, 1, 1, 2, 3]))}
            if index
            else []
        )
        if rnd.random() < 0.02:
            parents.append(f"t{index}-misspelt")
        if parents:
            fields["after"] = [{"task_id": name, "on": "end"} if rnd.random() < 0.4 else name for name in parents]
        if rnd.random() < 0.1:
            fields["not_before"] = 1_000_000 + rnd.randrange(200_000)
        if rnd.random() < 0.3:
            fields["retries"] = {
                "at_most": rnd.choice([0, 1, 4]),
                "back_off_s": rnd.choice([0, 5]),
                "not_on": [3],
                "by_cause": {"memory": 1},
            }
        if rnd.random() < 0.1:
            fields["array"] = {"count": rnd.randint(1, 6)} | (
                {"at_most": rnd.randint(1, 3)} if rnd.random() < 0.7 else {}
            )
        return json.dumps(fields)

    # What happens

    def apply(self, rows: Sequence[Transition] | decide.Refused) -> None:
        if isinstance(rows, decide.Refused):
            return
        todo = list(rows)
        while todo:
            for row in todo:
                told = msgspec.structs.replace(row, ends=self.world.follow(row))
                self.books.read(told, self.now_ms)
                self.rows.append(told)
            todo = decide.follow_ups(self.world, self.now_ms)

    def submit_some(self) -> None:
        for raw in self.requests[: self.rnd.randint(1, 60)]:
            request = read_request(raw)
            begun = decide.submit(
                self.world, request.task_id, read_spec(raw), raw, content_hash(raw), ORIGIN, self.now_ms
            )
            assert not isinstance(begun, decide.Refused), begun
            self.apply(begun)
            del self.requests[0]

    def report_some(self) -> None:
        placed = sorted(
            (task.task_id, copy.region, copy.epoch, copy.state)
            for task in self.world.tasks.values()
            for copy in task.copies.values()
        )
        for task_id, region, epoch, state in placed:
            if self.rnd.random() < 0.6:
                kind = self.rnd.choices(
                    ["succeeded", "failed", "running", "evicted"], [6, 0 if self.calm else 1, 2, 0.2]
                )[0]
                run = (
                    RunReport(cause=self.rnd.choice(CAUSES), exit_code=self.rnd.choice([1, 1, 3]))
                    if kind == "failed"
                    else RunReport()
                )
                if kind == "running" and state is CopyState.RUNNING:
                    continue
                self.apply(decide.report(self.world, region, kind, task_id, epoch, "", 3, self.now_ms, run))

    def meddle(self) -> None:
        known = sorted(self.books.requests)
        if self.calm or not known:
            return
        for _ in range(self.rnd.randint(0, 4)):
            name = self.rnd.choice(known)
            act = self.rnd.choice(
                [decide.hold, decide.hold, decide.release, decide.release, decide.release, decide.cancel, self.rerun]
            )
            if act is decide.cancel and self.rnd.random() < 0.8:
                continue
            self.apply(act(self.world, name, ORIGIN, self.now_ms))

    def rerun(self, world: World, name: str, _: object, now_ms: int) -> list[Transition] | decide.Refused:
        request = json.dumps(json.loads(self.raw_of(name)))
        return decide.rerun(world, name, read_spec(request), request, content_hash(request), ORIGIN, now_ms)

    def raw_of(self, name: str) -> str:
        return next(
            row.request
            for batch in reversed([*self.batches, self.rows])
            for row in reversed(batch)
            if row.task_id == name and row.request
        )

    def lose_region(self) -> None:
        if self.rnd.random() < 0.02 and not self.calm:
            region = self.rnd.choice("abc")
            self.apply(decide.lose_region(self.world, region, 10_000, self.now_ms))

    def give_up(self) -> None:
        """Everything there is has been read at each batch, so the time that passes is that on the hearing clock."""
        overdue = self.awaited.overdue(self.world.gates.parentless(), self.now_ms, self.now_ms)
        self.apply(decide.give_up_parents(self.world, overdue, PATIENCE_MS, self.now_ms))

    def place(self) -> None:
        made = plan(self.world, PlanSettings(), self.now_ms, 0)
        if made is not None:
            self.apply(decide.place(self.world, made, "p", self.now_ms))

    def batch(self) -> None:
        self.now_ms += self.rnd.choice([500, 2_000, 10_000])
        self.submit_some()
        self.report_some()
        self.meddle()
        self.lose_region()
        self.give_up()
        self.place()
        self.batches.append(self.rows)
        self.rows = []
        if self.rnd.random() < self.kill_chance:
            self.kill()

    def kill(self) -> None:
        """The driver dies: its successor begins with the ledger's rows, or with an image of a world made of them."""
        self.kills += 1
        again = world_of(*NODES, now_ms=self.now_ms)
        for number, batch in enumerate(self.batches):
            ids = [event_id_of(row) for row in batch]
            for row in from_rows(to_rows(batch, ids, query_id="q", batch_id=number, driver_epoch=1), read_spec):
                again.follow(row)
        restored = restored_from_image(again)
        for world in (self.world, again, restored):
            world.wake(self.now_ms)
        before = picture(self.world)
        assert picture(again) == before
        assert picture(restored) == before
        self.world = self.rnd.choice([again, restored])
        self.awaited = AwaitedParents(patience_ms=PATIENCE_MS)

    def drain(self) -> None:
        """In the end nothing is held, nobody meddles, and time goes on: everything ends."""
        for name in sorted(self.books.held):
            self.apply(decide.release(self.world, name, ORIGIN, self.now_ms))
        self.calm = True
        for _ in range(400):
            if not (self.world.tasks or self.requests):
                return
            self.batch()
        raise AssertionError(f"forgotten: {sorted(self.world.tasks)[:5]} of {len(self.world.tasks)}")

    def run(self, batches: int) -> None:
        for _ in range(batches):
            self.batch()
        self.drain()
        self.judge_ends()

    def judge_ends(self) -> None:
        books = self.books
        assert books.ended.keys() == books.requests.keys()
        assert all(state in TERMINAL for state in books.ended.values())
        assert not books.placed
        for name, request in books.requests.items():
            if set(parents_of(request)) - books.requests.keys():
                assert books.ended[name] is TaskState.CANCELLED, f"{name} has a parent that is not there"
            if request.array is not None and name == request.task_id:
                states = {
                    books.ended[f"{name}[{index}]"]
                    for index in range(request.array.count)
                    if f"{name}[{index}]" in books.ended
                }
                if states == {TaskState.SUCCEEDED} and len(states) == 1:
                    assert books.ended[name] is not TaskState.FAILED


def restored_from_image(world: World) -> World:
    """The world of the snapshot of a world, through its file."""
    image = decode_snapshot(encode_snapshot(Snapshot(mark=MARK, image=image_of(world)))).image
    made = world_of_image(image, read_spec, 0)
    facts = world_of(*NODES)
    made.set_nodes(NODES)
    made.set_links({(a, b): (50.0, 5.0, 0.05) for a in "abc" for b in "abc" if a != b})
    made.set_prices({(fact.region, fact.gpu_model, fact.spot): 2.0 for fact in NODES})
    for region in facts.region_names:
        if region in ("a", "b", "c"):
            made.hear(region, 0)
    return made


def picture(world: World) -> dict[str, object]:
    """Everything of a world's tasks that decides when they start."""
    lines: dict[str, object] = defaultdict(object)
    for name, line in world.gates.arrays.items():
        waiting = {task_id for _, task_id in line.line if task_id in world.tasks and task_id not in line.admitted}
        lines[name] = (line.ended, line.admitted, {t for t in waiting if world.gates.is_open(world.tasks[t])})
    return {
        "tasks": {
            name: (
                task.state, task.epoch, task.attempt, task.held, task.unmet, task.shut_until_ms, task.causes,
                task.spec.terms, name in world.waiting, {i: (c.epoch, c.region) for i, c in task.copies.items()},
            )
            for name, task in world.tasks.items()
        },
        "lines": lines,
        "doomed": world.gates.doomed,
        "parentless": set(world.gates.parentless()),
        "over": world.gates.over,
        "counts": world.count_by_state,
    }  # fmt: skip
