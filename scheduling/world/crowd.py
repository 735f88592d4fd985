"""Many tasks at once, as columns: those of which there is nothing to say but where they sit, or that they wait.

A question about one task needs of the others what they hold and what they wait for, which are sums and classes. Whoever
asks for one of them by name gets it as a `Task`, made then. A world with a crowd answers questions; it is not for rows
of the ledger about those in the crowd.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Final, Self, TypeVar, overload

import numpy as np

from thalweg.scheduling.arrays import BoolArray, IntArray
from thalweg.scheduling.ids import NodeId, PoolId, RegionId, TaskId
from thalweg.scheduling.pack.pool_ids import pool_of
from thalweg.scheduling.world.facts import node_key
from thalweg.scheduling.world.occupancy import Holding, OccupancyRow, micro_usd_of_delay
from thalweg.scheduling.world.tasks import MILLI, NO_TERMS, Copy, CopyState, Share, Task, TaskSpec, TaskState
from thalweg.scheduling.world.value import NO_DEADLINE_MS
from thalweg.scheduling.world.waiting import ClassKey
from thalweg.scheduling.world.world import World

Other = TypeVar("Other")


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskColumns:
    """Live tasks in the order of their story, one row each."""

    ids: Sequence[TaskId]
    requests: Sequence[str]
    reasons: Sequence[str | None]
    epoch: IntArray
    attempt: IntArray
    submitted_ms: IntArray
    specs: Sequence[TaskSpec]
    """Those that differ."""
    spec: IntArray
    """Which of them each task has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeatColumns:
    """Placed copies, one row each, and the shares that they hold."""

    region: Sequence[RegionId]
    pool_id: Sequence[PoolId]
    state: Sequence[str]
    epoch: IntArray
    assigned_ms: IntArray
    changed_ms: IntArray
    micro_usd_per_hour: IntArray
    first_share: IntArray
    """[copies + 1] where the shares of each begin."""
    node_id: Sequence[NodeId]
    """By share, as are these three."""
    workers: IntArray
    gpus: IntArray
    gpu_milli: IntArray
    first_device: IntArray
    """[shares + 1] where the devices of each begin."""
    device: IntArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where copies sit in a world."""

    node: IntArray
    """By share, the node's row; -1 where the world does not know it."""
    pool: IntArray
    """By copy, the pool's index; -1 where the world does not know it."""
    known: BoolArray
    """By copy, whether pool and nodes are known."""


NOWHERE: Final = -1
SEVERAL: Final = -2


@dataclass(slots=True, kw_only=True)
class Crowd:
    """The columns, and which of their rows sit or wait in a world."""

    tasks: TaskColumns
    seats: SeatColumns
    seat: IntArray
    """By task, the row of its only placed copy; NOWHERE or SEVERAL where it has another number of them."""
    members: dict[TaskId, int]
    """Rows of the tasks that were taken in, by id."""
    first_occupancy: IntArray
    """By task, its first row in the world's occupancy; NOWHERE until it sits."""
    occupancies: IntArray
    """By task, how many rows it has there."""

    @classmethod
    def of(cls, tasks: TaskColumns, seats: SeatColumns, seat: IntArray) -> Self:
        """Begin with nobody taken in."""
        return cls(
            tasks=tasks,
            seats=seats,
            seat=seat,
            members={},
            first_occupancy=np.full(len(seat), NOWHERE, np.int64),
            occupancies=np.zeros(len(seat), np.int64),
        )


class LiveTasks(dict[TaskId, Task]):
    """Tasks that live, those of a crowd among them: these become objects when they are asked for."""

    def __init__(self, crowd: Crowd) -> None:
        super().__init__()
        self._crowd = crowd

    def __missing__(self, task_id: TaskId) -> Task:
        row = self._crowd.members.pop(task_id)  # a KeyError says who is missing
        task = self[task_id] = _task_of(self._crowd, row)
        return task

    def __contains__(self, task_id: object) -> bool:
        return super().__contains__(task_id) or task_id in self._crowd.members

    @overload
    def get(self, key: TaskId, default: None = None, /) -> Task | None: ...
    @overload
    def get(self, key: TaskId, default: Task, /) -> Task: ...
    @overload
    def get(self, key: TaskId, default: Other, /) -> Task | Other: ...
    def get(self, key: TaskId, default: object = None, /) -> object:
        """Look one up."""
        return self[key] if key in self else default  # noqa: SIM401  (it would call itself)


def may_sit(spec: TaskSpec) -> bool:
    """Whether a placed task of this spec, of which nothing is missing, is nothing but what it holds."""
    return len(spec.parts) == 1 and spec.replicas == 1 and spec.min_workers is None and may_wait(spec)


def may_wait(spec: TaskSpec) -> bool:
    """Whether a task of this spec waits for room alone; an element does where its array is not held."""
    terms = spec.terms
    if terms is NO_TERMS:
        return True
    in_turn = terms.array is not None and terms.array.at_most is not None
    return not (terms.after or terms.not_before_ms or in_turn)


def find_places(world: World, seats: SeatColumns) -> Places:
    """Look up where copies sit; the world learns nothing by it."""
    row_of, pool_index = world.nodes.row_of, world.nodes.pool_index
    counts = np.diff(seats.first_share)
    region = np.repeat(np.array(seats.region, object), counts).tolist()
    node = [row_of.get(node_key(*place), NOWHERE) for place in zip(region, seats.node_id, strict=True)]
    where = list(zip(seats.region, seats.pool_id, strict=True))
    index = {place: pool_index.get(pool_of(*place), NOWHERE) for place in set(where)}
    pool, nodes = np.array([index[place] for place in where], np.int64), np.array(node, np.int64)
    unknown = np.repeat(np.arange(len(where)), counts)[nodes < 0]
    known = pool >= 0
    known[unknown] = False
    return Places(node=nodes, pool=pool, known=known)


def take_seats(world: World, crowd: Crowd, places: Places, rows: IntArray, now_ms: int) -> None:
    """Let tasks sit that have one copy placed each, on nodes that the world knows."""
    tasks, seats, nodes = crowd.tasks, crowd.seats, world.nodes
    seat = crowd.seat[rows]
    counts = seats.first_share[seat + 1] - seats.first_share[seat]
    share = _spread(seats.first_share[seat], counts)
    of_share = np.repeat(np.arange(len(rows)), counts)
    devices = seats.first_device[share + 1] - seats.first_device[share]
    device = seats.device[_spread(seats.first_device[share], devices)]
    node = places.node[share]
    specs = _SpecColumns(tasks.specs)
    spec = tasks.spec[rows]
    here = spec[of_share]
    each = specs.device_milli[here]
    cells = dict.fromkeys(OccupancyRow._fields, np.zeros(len(share), np.int64))
    gpu_milli = devices * each
    of_copy = np.bincount(of_share, gpu_milli, len(rows)).astype(np.int64)
    cells |= {
        "node": node,
        "pool": places.pool[seat][of_share],
        "priority": specs.priority[here],
        "preemptible": specs.preemptible[here],
        "gpu_milli": gpu_milli,
        "cpu_milli": specs.cpu_milli[here] * seats.workers[share],
        "memory_mib": specs.memory_mib[here] * seats.workers[share],
        "copy_gpu_milli": of_copy[of_share],
        "assigned_ms": seats.assigned_ms[seat][of_share],
        "expected_ms": specs.expected_ms[here],
        "submitted_ms": tasks.submitted_ms[rows][of_share],
        "start_by_ms": specs.start_by_ms[here],
        "micro_usd_of_delay": specs.micro_usd_of_delay[here],
        "micro_usd_per_hour": seats.micro_usd_per_hour[seat][of_share],
        "order": (rows + 1)[of_share],
        "first": (np.diff(of_share, prepend=-1) > 0).astype(np.int64),
    }
    nodes.force_each(node, np.repeat(node, devices), device, np.repeat(each, devices), cells)
    table = np.stack([cells[name] for name in OccupancyRow._fields], axis=1)
    names = [tasks.ids[row] for row in rows.tolist()]
    owners = zip(names if (counts == 1).all() else [names[row] for row in of_share.tolist()], repeat(0), strict=False)
    first = world.occupancy.append_all(list(owners), table)
    crowd.members.update(zip(names, rows.tolist(), strict=True))
    _let_in(world, tasks, rows)
    crowd.first_occupancy[rows] = first + np.cumsum(counts) - counts
    crowd.occupancies[rows] = counts
    _hold(world, specs, here, cells)
    for region in dict.fromkeys(seats.region[row] for row in seat.tolist()):
        world.expect(region, now_ms)


def take_waiting(world: World, crowd: Crowd, rows: IntArray) -> None:
    """Let tasks wait of which no copy is placed and that wait for room alone."""
    tasks = crowd.tasks
    ids, submitted, nowhere = tasks.ids, tasks.submitted_ms.tolist(), frozenset[RegionId]()
    spec, began = tasks.spec.tolist(), (tasks.epoch > 0).tolist()
    keys: dict[tuple[int, bool], ClassKey] = {}
    entries: dict[tuple[int, bool], list[tuple[TaskId, int, int]]] = {}
    for row in rows.tolist():
        kind = spec[row], began[row]
        if kind not in keys:
            # All of its copies go together at its beginning, later each as soon as there is room.
            needs = tasks.specs[kind[0]]
            missing = min(needs.replicas, 1) if kind[1] else needs.replicas
            keys[kind] = ClassKey(spec=needs, missing=missing, taken=nowhere, avoid=nowhere)
            entries[kind] = []
        crowd.members[ids[row]] = row
        entries[kind].append((ids[row], row + 1, submitted[row]))
    _let_in(world, tasks, rows)
    same: dict[ClassKey, list[tuple[TaskId, int, int]]] = {}
    for kind, key in keys.items():
        same.setdefault(key, []).extend(entries[kind])
    for key, waiting in same.items():
        world.waiting.enqueue_all(key, sorted(waiting, key=lambda entry: entry[1]))


def _let_in(world: World, tasks: TaskColumns, rows: IntArray) -> None:
    """Note of elements that their array has let them in."""
    lines = [
        None if (array := spec.terms.array) is None else world.gates.arrays.get(array.array_id) for spec in tasks.specs
    ]
    of_lines = np.array([line is not None for line in lines], bool)[tasks.spec[rows]]
    for row in rows[of_lines].tolist():
        line = lines[tasks.spec[row]]
        assert line is not None
        line.admitted.add(tasks.ids[row])


class _SpecColumns:
    """Facts of each spec that its seats repeat."""

    def __init__(self, specs: Sequence[TaskSpec]) -> None:
        def column(values: list[int]) -> IntArray:
            return np.array(values, np.int64)

        self.specs = specs
        needs = [spec.parts[0].need for spec in specs]
        self.device_milli = column([need.gpu_milli for need in needs])
        self.cpu_milli = column([need.cpu_milli for need in needs])
        self.memory_mib = column([need.memory_mib for need in needs])
        self.priority = column([spec.priority for spec in specs])
        self.preemptible = column([int(spec.preemptible) for spec in specs])
        self.expected_ms = column([round(spec.expected_s * MILLI) for spec in specs])
        self.start_by_ms = column([NO_DEADLINE_MS if s.start_by_ms is None else s.start_by_ms for s in specs])
        self.micro_usd_of_delay = column([micro_usd_of_delay(s) for s in specs])


def _spread(starts: IntArray, counts: IntArray) -> IntArray:
    """So many numbers from each start on, one range after another."""
    ends = np.cumsum(counts)
    return np.arange(int(ends[-1]) if len(ends) else 0) + np.repeat(starts - ends + counts, counts)


def _hold(world: World, specs: _SpecColumns, spec: IntArray, cells: Mapping[str, IntArray]) -> None:
    """Count what the tenants hold by these seats."""
    names = list(dict.fromkeys(one.tenant for one in specs.specs))
    number = {name: index for index, name in enumerate(names)}
    of_seat = np.array([number[one.tenant] for one in specs.specs], np.int64)[spec]
    usd = cells["micro_usd_per_hour"] * cells["first"]
    totals = np.zeros((len(names), 4), np.int64)
    np.add.at(totals, of_seat, np.stack([cells["gpu_milli"], cells["cpu_milli"], cells["memory_mib"], usd], axis=1))
    for index in np.flatnonzero(np.bincount(of_seat)).tolist():
        more, held = totals[index].tolist(), world.holdings.setdefault(names[index], Holding())
        world.holdings[names[index]] = Holding.of(
            held.gpu_milli + more[0],
            held.cpu_milli + more[1],
            held.memory_mib + more[2],
            held.micro_usd_per_hour + more[3],
        )


def _task_of(crowd: Crowd, row: int) -> Task:
    tasks = crowd.tasks
    reason = tasks.reasons[row] or ""
    task = Task(
        task_id=tasks.ids[row],
        spec=tasks.specs[int(tasks.spec[row])],
        request=tasks.requests[row],
        content_hash="",
        submitted_ms=int(tasks.submitted_ms[row]),
        order=row + 1,
        epoch=int(tasks.epoch[row]),
        attempt=int(tasks.attempt[row]),
        reason=reason,
        reason_ms=int(tasks.submitted_ms[row]),
    )
    if crowd.occupancies[row]:
        seat, first = int(crowd.seat[row]), int(crowd.first_occupancy[row])
        occupancy = tuple(range(first, first + int(crowd.occupancies[row])))
        copy = task.copies[0] = _copy_of(crowd.seats, seat, occupancy)
        task.state = TaskState.RUNNING if copy.state is CopyState.RUNNING else TaskState.ASSIGNED
        last_ms = crowd.seats.assigned_ms if copy.state is CopyState.ASSIGNED else crowd.seats.changed_ms
        task.reason_ms = int(last_ms[seat])
    return task


def _copy_of(seats: SeatColumns, seat: int, occupancy: tuple[int, ...]) -> Copy:
    region, pool_id = seats.region[seat], seats.pool_id[seat]
    return Copy(
        index=0,
        epoch=int(seats.epoch[seat]),
        region=region,
        pool_id=pool_id,
        pool=pool_of(region, pool_id),
        shares=tuple(
            Share(
                node_id=seats.node_id[number],
                workers=int(seats.workers[number]),
                gpus=int(seats.gpus[number]),
                gpu_milli=int(seats.gpu_milli[number]),
                devices=tuple(seats.device[seats.first_device[number] : seats.first_device[number + 1]].tolist()),
            )
            for number in range(int(seats.first_share[seat]), int(seats.first_share[seat + 1]))
        ),
        state=CopyState(seats.state[seat]),
        assigned_ms=int(seats.assigned_ms[seat]),
        occupancy=occupancy,
    )
