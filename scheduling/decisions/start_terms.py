"""Whether what a request says of its start can be: no circle, an array that is new; and what keeps it from that."""

from collections.abc import Sequence, Set
from typing import Final

from thalweg.scheduling.counted import counted
from thalweg.scheduling.decisions.gate_words import HELD, moment_words, parents_in_words
from thalweg.scheduling.ids import TaskId
from thalweg.scheduling.world.tasks import ParentTask, Task, TaskSpec, TaskState
from thalweg.scheduling.world.world import World

LONGEST_ID: Final = 256


def objection_to_parents(
    world: World, task_id: TaskId, after: Sequence[ParentTask], elements: Sequence[TaskId] = ()
) -> str | None:
    """Say which circle would close; None where none would.

    Args:
        world: as it is.
        task_id: of the task.
        after: whom it is to wait for.
        elements: of the array that it is to be: they begin with it, and wait for whom it waits for.
    """
    parents = [parent.task_id for parent in after]
    # What nobody waits for is on no way but that from itself.
    goals = {name for name in (task_id, *elements) if name in parents or world.gates.is_waited_for(name)}
    circle = _path(world, parents, goals) if goals else []
    return f"after {circle[0]!r} closes a circle: {' waits for '.join((task_id, *circle))}" if circle else None


def _path(world: World, starts: Sequence[TaskId], goals: Set[TaskId]) -> list[TaskId]:
    """Find a way from one of some tasks to one of others, from who waits to whom it waits for; empty where none is."""
    came_from: dict[TaskId, TaskId | None] = dict.fromkeys(starts)
    found = list(came_from)
    for task_id in found:
        if task_id in goals:
            path = [task_id]
            while (before := came_from[path[0]]) is not None:
                path.insert(0, before)
            return path
        task = world.tasks.get(task_id)
        for ahead in _waits_for(task) if task is not None else ():
            if ahead not in came_from:
                came_from[ahead] = task_id
                found.append(ahead)
    return []


def _waits_for(task: Task) -> list[TaskId]:
    array = task.spec.terms.array
    return sorted(task.unmet) + ([] if array is None or task.is_array else [array.array_id])


def objection_to_elements(world: World, task_id: TaskId, elements: Sequence[TaskId]) -> str | None:
    """Say which element of an array that begins there is already, or that their names are too long."""
    if elements and len(elements[-1]) > LONGEST_ID:
        most = LONGEST_ID - (len(elements[-1]) - len(task_id))
        return f"task_id of {len(task_id)} characters: allowed for an array of {len(elements):,} are {most}"
    taken = next((name for name in elements if name in world.tasks), None)
    if taken is None:
        return None
    begins_again = world.ended.get(task_id) is not None
    ways = "this when that has ended" if begins_again else "a new task_id, or this one when that has ended"
    return f"its element {taken!r} is a task that has not ended; allowed is {ways}"


def objection_to_update(task: Task, spec: TaskSpec) -> str | None:
    """Say why a task cannot be changed: an array and its elements are what they were submitted as."""
    if task.spec.terms.array is None and spec.terms.array is None:
        return None
    return f"update of task_id {task.task_id!r}: an array cannot be changed; allowed are cancel, hold and release"


def doom_of(world: World, after: Sequence[ParentTask]) -> str | None:
    """Say which parent has ended in a way that keeps the child from starting; None where it may wait or start."""
    for parent in after:
        ended = world.ended.get(parent.task_id)
        if parent.on_success and ended is not None and ended.state is not TaskState.SUCCEEDED:
            words = "failed" if ended.state is TaskState.FAILED else "was cancelled"
            return f"cancelled: its parent {parent.task_id} {words}"
    return None


def words_at_begin(world: World, task_id: TaskId, spec: TaskSpec, now_ms: int) -> str | None:
    """Say what keeps a task that begins from starting; None where nothing does."""
    parents = dict.fromkeys(parent.task_id for parent in spec.terms.after)
    unmet = [parent for parent in parents if world.ended.get(parent) is None]
    if unmet:
        return parents_words(world, unmet)
    if spec.terms.not_before_ms > now_ms:
        return moment_words(spec.terms.not_before_ms)
    return None


def words_of_gates(world: World, task: Task, now_ms: int) -> str | None:
    """Say what keeps a waiting task from the planner's queue; None where nothing does."""
    if task.held:
        return HELD
    if task.unmet:
        return parents_words(world, sorted(task.unmet))
    if task.shut_until_ms > now_ms:
        return moment_words(task.shut_until_ms)
    array = task.spec.terms.array
    line = None if array is None else world.gates.arrays.get(array.array_id)
    if line is None:
        return None
    if task.is_array:
        return f"array: waits for its {counted(line.terms.count, 'element')}"
    whole = world.tasks[line.terms.array_id]
    if not world.gates.is_open(whole):
        return words_of_gates(world, whole, now_ms)
    if task.task_id in line.admitted:
        return None
    ends = world.gates.ends_before_turn(task)
    more = f"{ends:,} more {'element' if ends == 1 else 'elements'} of {line.terms.array_id}"
    have = "has" if ends == 1 else "have"
    return f"array: its turn comes when {more} {have} ended; at most {line.terms.at_most:,} run at once"


def parents_words(world: World, parents: Sequence[TaskId]) -> str:
    """Name parents and how far each is."""

    def state_of(name: TaskId) -> str | None:
        task = world.tasks.get(name)
        return None if task is None else task.state

    return parents_in_words(parents, state_of)
