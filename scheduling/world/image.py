"""An image of a world: what the ledger's rows have made of it, as plain rows, and the same world again from them.

`world + rows = world_of(image_of(world)) + rows`, in everything that decides. What tables and regions say (nodes,
links, prices, datasets, signs of life) is no part of it: that is learned anew. An image is made of a world that has
only followed rows; one that also plans differs by notes that a restart does not have either.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np

from thalweg.scheduling.arrays import IntArray
from thalweg.scheduling.ids import NodeId, PoolId, RegionId, TaskId
from thalweg.scheduling.pack.nodes import NodeKey, Pool
from thalweg.scheduling.pack.pool_ids import pool_of
from thalweg.scheduling.world.back_offs import BackOff
from thalweg.scheduling.world.ended import EndedColumns
from thalweg.scheduling.world.facts import NODE_SEPARATOR, TenantLimits
from thalweg.scheduling.world.occupancy import DERIVED, micro_usd_of_delay
from thalweg.scheduling.world.orders import read_order_row, write_order_row
from thalweg.scheduling.world.refusals import Refusals
from thalweg.scheduling.world.tasks import Copy, CopyState, Share, Task, TaskSpec, TaskState, TaskTerms
from thalweg.scheduling.world.world import World

EVERYBODY: Final = -1
LOSSES: Final = -2

SpecOf = Callable[[str], TaskSpec]
"""Reads a stored request."""


class NodeImage(NamedTuple):
    """A node that the ledger names."""

    key: str
    pool: int
    """Index into `pools`."""


class TaskImage(NamedTuple):
    """A task that lives."""

    task_id: TaskId
    spec: int
    """Index into `specs`."""
    request: str
    content_hash: str
    submitted_ms: int
    order: int
    state: str
    epoch: int
    attempt: int
    preempted: int
    done_copies: list[int]
    done_regions: list[RegionId]
    avoid: list[RegionId]
    barred: list[RegionId]
    reason: str
    held: bool = False
    unmet: list[TaskId] = []  # noqa: RUF012 - a tuple's default; nobody adds to it
    shut_until_ms: int = 0
    causes: list[str] = []  # noqa: RUF012
    shut_since_ms: int = 0


class CopyImage(NamedTuple):
    """A placed copy."""

    task: int
    """Index into `tasks`."""
    number: int
    """Of the copy."""
    epoch: int
    region: RegionId
    pool_id: PoolId
    state: str
    assigned_ms: int
    by_hand: bool = False


class ShareImage(NamedTuple):
    """What a copy takes of one node; beside it, in `occupancy`, its seat there."""

    copy: int
    """Index into `copies`."""
    node: int
    """Index into `nodes`."""
    workers: int
    gpus: int
    gpu_milli: int
    devices: list[int]


class RefusalImage(NamedTuple):
    """What a region is backed off from for: what it gave back of a task, or of all, or that it was lost."""

    task: int
    """Index into `tasks`; EVERYBODY or LOSSES for the other two."""
    region: RegionId
    times: int
    last_ms: int
    until_ms: int


class EndImage(NamedTuple):
    """The end of a back-off."""

    until_ms: int
    region: RegionId
    task_id: TaskId
    began_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class WorldImage:
    """See the module's words."""

    order: int
    """Tasks that have begun so far."""
    expected: list[RegionId]
    """Regions where something was placed: they are expected to speak up."""
    names: list[RegionId]
    """Regions by index, from 1."""
    closed: list[RegionId]
    """Regions that back off."""
    damped: list[RegionId]
    """Regions that take nothing for a while because they were lost again and again."""
    pools: list[Pool]
    nodes: list[NodeImage]
    specs: list[str]
    """One request for each of the specs."""
    tasks: list[TaskImage]
    copies: list[CopyImage]
    shares: list[ShareImage]
    """All those of a copy stand together, copy after copy."""
    occupancy: IntArray
    """One row for each share, [shares, fields of `Seat` in their order]; nodes and pools are those of this image."""
    refusals: list[RefusalImage]
    ends: list[EndImage]
    waiting: list[int]
    """Tasks (indices) that wait: class by class in the order in which classes came, each in its queue's order."""
    ended: EndedColumns
    orders: list[str] = field(default_factory=list)
    """Rows of the orders that stand, as JSON."""


def image_of(world: World) -> WorldImage:
    """Take the image of a world that has only followed the ledger's rows."""
    specs: dict[tuple[TaskSpec, TaskTerms], int] = {}
    requests: list[str] = []
    tasks, copies, shares, refusals = list[TaskImage](), list[CopyImage](), list[ShareImage](), list[RefusalImage]()
    occupancy: list[int] = []
    numbers: dict[str, int] = {}
    for number, task in enumerate(world.tasks.values()):
        numbers[task.task_id] = number
        spec = specs.setdefault((task.spec, task.spec.terms), len(requests))
        if spec == len(requests):
            requests.append(task.request)
        tasks.append(_task_image(task, spec))
        refusals += (RefusalImage(number, region, r.count, r.last_ms, r.until_ms) for region, r in task.refused.items())
        for copy in task.copies.values():
            shares += _share_images(world, task, copy, len(copies))
            occupancy += copy.occupancy
            copies.append(_copy_image(copy, number))
    for kind, counted in ((EVERYBODY, world.back_offs.refusing), (LOSSES, world.back_offs.flapping)):
        refusals += (RefusalImage(kind, region, r.count, r.last_ms, r.until_ms) for region, r in counted.items())
    return WorldImage(
        order=world.book.order,
        expected=list(world.regions),
        names=world.geography.names[1:],
        closed=sorted(world.back_offs.closed),
        damped=sorted(world.back_offs.damped),
        pools=list(world.nodes.pools),
        nodes=[NodeImage(key, pool) for key, pool in zip(world.nodes.ids, world.nodes.pool.tolist(), strict=True)],
        specs=requests,
        tasks=tasks,
        copies=copies,
        shares=shares,
        occupancy=np.delete(world.occupancy.rows(occupancy), DERIVED, axis=1),
        refusals=refusals,
        ends=[EndImage(*end) for end in sorted(world.back_offs.ends)],
        waiting=[
            numbers[task_id]
            for waiting in world.waiting.classes()
            for task_id in world.waiting.first(waiting, len(waiting))
        ],
        ended=world.ended.columns(),
        orders=[write_order_row(row) for row in world.orders.rows()],
    )


def world_of(
    image: WorldImage, spec_of: SpecOf, now_ms: int, *, tenants: Mapping[str, TenantLimits] | None = None
) -> World:
    """Make the world of an image.

    Args:
        image: what it is made of.
        spec_of: reads a stored request; equal ones give equal specs, today as when the image was made.
        now_ms: the moment at which regions are expected from.
        tenants: who may hold only so much.
    """
    world = World()
    world.set_tenants(tenants or {})
    for name in image.names:  # before the pools: an order may have named a region that has none
        world.geography.name(name)
    for pool in image.pools:
        world.know(pool)
    for region in image.expected:
        world.expect(region, now_ms)
    for node in image.nodes:
        world.fleet.describe_unseen(NodeKey(node.key), image.pools[node.pool])
    for order in image.orders:
        world.obey(read_order_row(order))
    _fill_back_offs(world, image)
    world.ended.take(image.ended)
    world.book.order = image.order
    tasks = _tasks_of(image, spec_of)
    for task in tasks:
        world.tasks[task.task_id] = task
        world.count_by_state[task.state] += 1
        world.book.live_of[task.spec.tenant] += 1
    for state, count in image.ended.count_by_state().items():
        world.count_by_state[state] += count
    _fill_copies(world, image, tasks)
    for task in tasks:
        world.gates.restore(task, world.ended)
    for number in image.waiting:
        world.book.wait(tasks[number], first=False)
    for task in tasks:
        world.gates.restore_turn(task, is_admitted=bool(task.copies) or task.task_id in world.waiting)
    return world


def _task_image(task: Task, spec: int) -> TaskImage:
    return TaskImage(
        task_id=task.task_id,
        spec=spec,
        request=task.request,
        content_hash=task.content_hash,
        submitted_ms=task.submitted_ms,
        order=task.order,
        state=task.state.value,
        epoch=task.epoch,
        attempt=task.attempt,
        preempted=task.preempted,
        done_copies=sorted(task.done_copies),
        done_regions=sorted(task.done_regions),
        avoid=sorted(task.avoid),
        barred=sorted(task.barred),
        reason=task.reason,
        held=task.held,
        unmet=sorted(task.unmet),
        shut_until_ms=task.shut_until_ms,
        causes=list(task.causes),
        shut_since_ms=task.shut_since_ms,
    )


def _copy_image(copy: Copy, task: int) -> CopyImage:
    placed = copy.epoch, copy.region, copy.pool_id, copy.state.value, copy.assigned_ms, copy.by_hand
    return CopyImage(task, copy.index, *placed)


def _share_images(world: World, task: Task, copy: Copy, number: int) -> Iterable[ShareImage]:
    for share, (slot, _) in zip(copy.shares, world.slots_of(task, copy), strict=True):
        yield ShareImage(number, slot.node, share.workers, share.gpus, share.gpu_milli, list(share.devices))


def _fill_back_offs(world: World, image: WorldImage) -> None:
    back_offs = world.back_offs
    back_offs.closed |= set(image.closed)
    back_offs.damped |= set(image.damped)
    back_offs.restore(BackOff(*end) for end in image.ends)
    for row in image.refusals:
        if row.task == EVERYBODY:
            back_offs.refusing[row.region] = _refusals_of(row)
        if row.task == LOSSES:
            back_offs.flapping[row.region] = _refusals_of(row)


def _refusals_of(row: RefusalImage) -> Refusals:
    return Refusals(count=row.times, last_ms=row.last_ms, until_ms=row.until_ms)


def _tasks_of(image: WorldImage, spec_of: SpecOf) -> list[Task]:
    specs = [spec_of(request) for request in image.specs]
    refused: dict[int, dict[RegionId, Refusals]] = defaultdict(dict)
    for row in image.refusals:
        refused[row.task][row.region] = _refusals_of(row)
    nowhere: frozenset[RegionId] = frozenset()
    return [
        Task(
            task_id=row.task_id,
            spec=specs[row.spec],
            request=row.request,
            content_hash=row.content_hash,
            submitted_ms=row.submitted_ms,
            order=row.order,
            state=TaskState(row.state),
            epoch=row.epoch,
            attempt=row.attempt,
            preempted=row.preempted,
            done_copies=set(row.done_copies),
            done_regions=frozenset(row.done_regions) if row.done_regions else nowhere,
            avoid=frozenset(row.avoid) if row.avoid else nowhere,
            refused=refused.get(number, {}),
            barred=frozenset(row.barred) if row.barred else nowhere,
            reason=row.reason,
            held=row.held,
            unmet=frozenset(row.unmet),
            shut_until_ms=row.shut_until_ms,
            causes=tuple(row.causes),
            shut_since_ms=row.shut_since_ms,
        )
        for number, row in enumerate(image.tasks)
    ]


def _fill_copies(world: World, image: WorldImage, tasks: list[Task]) -> None:
    """Let copies sit where they sat; column by column, because there are a hundred thousand of them."""
    names = [node.key.partition(NODE_SEPARATOR)[2] for node in image.nodes]
    pools = {place: pool_of(*place) for place in {(copy.region, copy.pool_id) for copy in image.copies}}
    states = {state.value: state for state in CopyState}
    copies = [
        Copy(
            index=row.number,
            epoch=row.epoch,
            region=row.region,
            pool_id=row.pool_id,
            pool=pools[row.region, row.pool_id],
            shares=(),
            state=states[row.state],
            assigned_ms=row.assigned_ms,
            by_hand=row.by_hand,
        )
        for row in image.copies
    ]
    for copy, row in zip(copies, image.copies, strict=True):
        tasks[row.task].copies[row.number] = copy
    owners = [(tasks[row.task], copy) for row, copy in zip(image.copies, copies, strict=True)]
    for share in image.shares:
        copy = copies[share.copy]
        copy.shares += (
            Share(
                node_id=NodeId(names[share.node]),
                workers=share.workers,
                gpus=share.gpus,
                gpu_milli=share.gpu_milli,
                devices=tuple(share.devices),
            ),
        )
    delays = [micro_usd_of_delay(owners[share.copy][0].spec) for share in image.shares]
    world.fleet.sit_all(
        [owners[share.copy] for share in image.shares],
        [share.devices for share in image.shares],
        np.insert(image.occupancy, DERIVED, delays, axis=1),
    )
