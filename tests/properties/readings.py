"""What each reader of the ledger takes the same rows to mean, in one form, so that they can be compared."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from thalweg.replay.recorded_tasks import RecordedTask, recorded_tasks
from thalweg.scheduling.world.facts import WorldFacts
from thalweg.scheduling.world.lifecycle import LIVE
from thalweg.scheduling.world.making import world_from
from thalweg.scheduling.world.tasks import Share, Transition
from thalweg.scheduling.world.world import World
from thalweg.sync.ledger.ledger import SpecOf
from thalweg.sync.ledger.short_story import short_story


class CopyReading(NamedTuple):
    """A placed copy."""

    state: str
    epoch: int
    region: str | None
    pool_id: str | None
    nodes: tuple[tuple[str, int, tuple[int, ...]], ...]


class TaskReading(NamedTuple):
    """A task. Of one that has ended, only how: the tables forget it, the world and the replay do not."""

    state: str
    placed: Mapping[int, CopyReading]
    done: frozenset[int]
    epoch: int | None = None
    attempt: int | None = None
    reason: str | None = None


Reading = dict[str, TaskReading]


def without_scalars(reading: Reading) -> Reading:
    """Leave out what the replay has no use for."""
    return {name: task._replace(epoch=None, attempt=None, reason=None) for name, task in reading.items()}


def of_live(reading: Reading) -> Reading:
    return {name: task for name, task in reading.items() if task.state in LIVE}


def read_by_world(world: World, names: Iterable[str]) -> Reading:
    """Read what became of these tasks; one that never began is left out."""

    def copies(task: Any) -> dict[int, CopyReading]:
        return {
            index: CopyReading(str(copy.state), copy.epoch, copy.region, copy.pool_id, _shares(copy.shares))
            for index, copy in task.copies.items()
        }

    live = {
        name: TaskReading(
            str(task.state), copies(task), frozenset(task.done_copies), task.epoch, task.attempt, task.reason
        )
        for name, task in world.tasks.items()
    }
    ended = {name: world.ended.get(name) for name in names}
    return live | {name: TaskReading(str(task.state), {}, frozenset()) for name, task in ended.items() if task}


def read_by_tables(tasks: Sequence[Mapping[str, Any]], placements: Sequence[Mapping[str, Any]]) -> Reading:
    def of(task_id: str, *, done: bool) -> dict[int, Mapping[str, Any]]:
        found = [row for row in placements if row["task_id"] == task_id and (row["state"] == "succeeded") is done]
        return {row["copy"]: row for row in found}

    return {
        task["task_id"]: TaskReading(
            task["state"],
            {
                copy: CopyReading(
                    row["state"],
                    row["epoch"],
                    row["region"],
                    row["pool_id"],
                    tuple((n["node_id"], n["workers"], tuple(n["devices"] or ())) for n in row["nodes"] or ()),
                )
                for copy, row in of(task["task_id"], done=False).items()
            },
            frozenset(of(task["task_id"], done=True)),
            *((task["epoch"], task["attempt"] or 0, task["reason"] or "") if task["state"] in LIVE else ()),
        )
        for task in tasks
    }


def read_by_replay(before: Sequence[Transition], after: Sequence[Transition]) -> Reading:
    latest: dict[str, RecordedTask] = {life.job_id.partition("#")[0]: life for life in recorded_tasks(before, after)}
    return {
        name: TaskReading(
            str(life.state),
            {
                index: CopyReading(
                    str(stay.state), stay.row.epoch, stay.region, stay.row.pool_id, _shares(stay.row.shares)
                )
                for index, stay in life.open.items()
            },
            frozenset(life.done) if life.state in LIVE else frozenset(),
        )
        for name, life in latest.items()
    }


def world_of_tables(tasks: pa.Table, placements: pa.Table, spec_of: SpecOf) -> World:
    told = tasks.to_pylist()
    parents = {parent.task_id for task in told for parent in spec_of(task["request"]).terms.after}
    missing = parents - {task["task_id"] for task in told}
    return world_from(WorldFacts(), short_story(told, placements.to_pylist(), spec_of, missing), 0)


def held_of_nodes(world: World) -> dict[str, tuple[list[int], int, int]]:
    """What copies hold of each node, whatever it has."""
    nodes = world.nodes
    held = {
        key: (
            [-int(free) for free in nodes.gpu_milli_free[row]],
            -int(nodes.cpu_milli_free[row]),
            -int(nodes.memory_mib_free[row]),
        )
        for row, key in enumerate(nodes.ids)
    }
    return {key: takes for key, takes in held.items() if any(takes[0]) or takes[1] or takes[2]}


def _shares(shares: Sequence[Share]) -> tuple[tuple[str, int, tuple[int, ...]], ...]:
    return tuple((share.node_id, share.workers, share.devices) for share in shares)
