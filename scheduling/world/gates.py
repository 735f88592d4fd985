"""What keeps a task out of the planner's queue: it is held, waits for parents, for a moment, or for its turn.

A task behind a closed gate costs a plan nothing. All of it follows from the ledger's rows and the moment: a parent's
end opens its children or dooms them, an element's end lets the next of its array in. A parent that nobody has
submitted is waited for, too; for how long, says whoever knows what has been read. One that has ended when a child
begins has met the child's condition: whoever took the child has seen to that.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from typing import NamedTuple

from thalweg.scheduling.ids import TaskId
from thalweg.scheduling.passed import has_passed
from thalweg.scheduling.world.ended import EndedTasks
from thalweg.scheduling.world.tasks import ArrayTerms, Task, TaskState, element_id


class _Opening(NamedTuple):
    """The end of a wait for a moment."""

    at_ms: int
    order: int
    task_id: TaskId
    since_ms: int
    """When a while began that is waited for; 0 where the moment itself is meant."""

    def is_astray(self, now_ms: int) -> bool:
        """Tell whether it is the end of a while that began before the clock was set back: nothing to wait for."""
        return self.since_ms > now_ms and has_passed(self.since_ms, now_ms, self.at_ms - self.since_ms)


@dataclass(slots=True, kw_only=True)
class ArrayLine:
    """The elements of an array that lives: who may run, and who is next."""

    terms: ArrayTerms
    ended: dict[TaskId, TaskState] = field(default_factory=dict)
    admitted: set[TaskId] = field(default_factory=set)
    """Elements that wait in the planner's queue or are placed."""
    line: list[tuple[int, TaskId]] = field(default_factory=list)
    """A heap of those that would, by their order; some may have left."""

    @property
    def has_room(self) -> bool:
        """Whether another may be admitted."""
        return self.terms.at_most is None or len(self.admitted) < self.terms.at_most

    @property
    def is_over(self) -> bool:
        """Whether all of its elements have ended."""
        return len(self.ended) == self.terms.count


class Gates:
    """See the module's words. The queue is somebody else's: `admit` and `withdraw` are told whom to let in and out."""

    def __init__(
        self,
        tasks: dict[TaskId, Task],
        ended: EndedTasks,
        admit: Callable[[Task, bool], None],
        withdraw: Callable[[Task], None],
    ) -> None:
        """Start open.

        Args:
            tasks: those that live.
            ended: those that have ended.
            admit: lets a task into the queue, first or last of its class.
            withdraw: takes one out of it.
        """
        self._tasks = tasks
        self._ended = ended
        self._admit = admit
        self._withdraw = withdraw
        self._children: dict[TaskId, dict[TaskId, None]] = {}
        self._missing: dict[TaskId, None] = {}
        """Parents that were not there when a child began; some may have come since."""
        self._openings: list[_Opening] = []
        self._latest_ms = 0
        """When the last of them that waits for a while began to."""
        self.arrays: dict[TaskId, ArrayLine] = {}
        self.doomed: dict[TaskId, str] = {}
        """Tasks whose condition cannot be met any more, and why: they are to be cancelled."""
        self.over: dict[TaskId, None] = {}
        """Arrays whose elements have all ended: they are to be ended, too."""

    # A task's own

    def enter(self, task: Task, now_ms: int) -> None:
        """Take in a task that begins, or asks for something else: it waits for its parents that have not ended."""
        for parent in task.unmet:
            self._children[parent].pop(task.task_id, None)
        task.unmet, task.shut_until_ms, task.shut_since_ms = frozenset(), 0, 0
        self.doomed.pop(task.task_id, None)
        if self._line_of(task) is not None and not task.is_array:
            return  # its array waits for all of its elements
        if task.spec.terms.not_before_ms > now_ms:
            self.shut_until(task, task.spec.terms.not_before_ms)
        parents = {parent.task_id for parent in task.spec.terms.after} - {task.task_id}
        self._wait_for(task, frozenset(parent for parent in parents if self._ended.get(parent) is None))

    def _wait_for(self, task: Task, parents: frozenset[TaskId]) -> None:
        task.unmet = parents
        for parent in sorted(parents):
            self._children.setdefault(parent, {})[task.task_id] = None
            if parent not in self._tasks:
                self._missing[parent] = None

    def enter_array(self, task: Task) -> None:
        """Take in the array that a task stands for, or the element that it is."""
        terms = task.spec.terms.array
        if terms is None:
            return
        if task.is_array:
            self.arrays[task.task_id] = ArrayLine(terms=terms)
        elif (line := self.arrays.get(terms.array_id)) is not None:
            line.ended.pop(task.task_id, None)

    def shut_until(self, task: Task, at_ms: int, *, since_ms: int = 0) -> None:
        """Let a task wait for a moment; `since_ms` where it is to wait for a while, and that begins then."""
        task.shut_until_ms, task.shut_since_ms = at_ms, since_ms
        heappush(self._openings, _Opening(at_ms, task.order, task.task_id, since_ms))
        self._latest_ms = max(self._latest_ms, since_ms)

    def wake(self, now_ms: int) -> None:
        """Open what has waited for a moment that is there, or for a while that the clock was set back behind."""
        while self._openings and self._openings[0].at_ms <= now_ms:
            self._open(heappop(self._openings))
        if self._latest_ms > now_ms:
            astray = {opening for opening in self._openings if opening.is_astray(now_ms)}
            self._openings = [opening for opening in self._openings if opening not in astray]
            heapify(self._openings)
            self._latest_ms = max((opening.since_ms for opening in self._openings), default=0)
            for opening in sorted(astray):
                self._open(opening)

    def _open(self, opening: _Opening) -> None:
        task = self._tasks.get(opening.task_id)
        if task is not None and task.shut_until_ms == opening.at_ms:
            task.shut_until_ms = task.shut_since_ms = 0
            self.pass_on(task)

    def leave(self, task: Task) -> None:
        """Let go of a task that has ended; its children's gates open or never will, and its array goes on."""
        for parent in task.unmet:
            self._children[parent].pop(task.task_id, None)
        self.doomed.pop(task.task_id, None)
        self.over.pop(task.task_id, None)
        self._leave_line(task)
        self._close_array(task)
        for child_id in self._children.pop(task.task_id, {}):
            self._parent_ended(self._tasks[child_id], task)

    def _close_array(self, task: Task) -> None:
        """Let go of an array; elements that outlive it are tasks like any other."""
        line = self.arrays.pop(task.task_id, None)
        for _, task_id in sorted(line.line) if line is not None else ():
            element = self._tasks.get(task_id)
            if element is not None:
                self.pass_on(element)

    def _parent_ended(self, child: Task, parent: Task) -> None:
        child.unmet -= {parent.task_id}
        wanted = any(one.task_id == parent.task_id and one.on_success for one in child.spec.terms.after)
        if wanted and parent.state is not TaskState.SUCCEEDED:
            words = "failed" if parent.state is TaskState.FAILED else "was cancelled"
            self.doomed.setdefault(child.task_id, f"cancelled: its parent {parent.task_id} {words}")
        elif not child.unmet:
            self.pass_on(child)

    # Into the queue and out of it

    def is_open(self, task: Task) -> bool:
        """Whether nothing of its own keeps a task from starting; its turn in its array is another matter."""
        return not (task.held or task.unmet or task.shut_until_ms or task.task_id in self.doomed)

    def pass_on(self, task: Task, *, first: bool = False) -> None:
        """Let a task that misses copies into the queue, or keep it out, as its gates are now."""
        if task.is_array:
            self._move_line(self.arrays[task.task_id], is_open=self.is_open(task))
            return
        if not task.missing:
            return
        line = self._line_of(task)
        if not self.is_open(task):
            self._withdraw(task)
            if line is not None and not task.copies:
                self._give_way(line, task)
        elif line is None or self._has_turn(line, task):
            if line is not None:
                line.admitted.add(task.task_id)
            self._admit(task, first)
        else:
            line.admitted.discard(task.task_id)
            self._withdraw(task)
            heappush(line.line, (task.order, task.task_id))

    def _has_turn(self, line: ArrayLine, task: Task) -> bool:
        return self._is_line_open(line) and (task.task_id in line.admitted or line.has_room)

    def _line_of(self, task: Task) -> ArrayLine | None:
        terms = task.spec.terms.array
        return None if terms is None else self.arrays.get(terms.array_id)

    def _is_line_open(self, line: ArrayLine) -> bool:
        return self.is_open(self._tasks[line.terms.array_id])

    def note_placed(self, task: Task) -> None:
        """Note that a task is placed: time is no matter any more, and it has had its turn."""
        task.shut_until_ms = task.shut_since_ms = 0
        line = self._line_of(task)
        if line is not None and not task.is_array:
            line.admitted.add(task.task_id)

    def _leave_line(self, task: Task) -> None:
        line = self._line_of(task)
        if line is None or task.is_array:
            return
        line.ended[task.task_id] = task.state
        if line.is_over:
            self.over[line.terms.array_id] = None
        self._give_way(line, task)

    def _give_way(self, line: ArrayLine, task: Task) -> None:
        if task.task_id in line.admitted:
            line.admitted.discard(task.task_id)
            self._advance(line)

    def _advance(self, line: ArrayLine) -> None:
        while line.line and line.has_room and self._is_line_open(line):
            _, task_id = heappop(line.line)
            task = self._tasks.get(task_id)
            if task is not None and task_id not in line.admitted and task.missing and self.is_open(task):
                line.admitted.add(task_id)
                self._admit(task, False)

    def _move_line(self, line: ArrayLine, *, is_open: bool) -> None:
        if is_open:
            self._advance(line)
            return
        for task_id in sorted(line.admitted, key=lambda task_id: self._tasks[task_id].order):
            task = self._tasks[task_id]
            if not task.copies:
                line.admitted.discard(task_id)
                self._withdraw(task)
                heappush(line.line, (task.order, task_id))

    # Asked by others

    def is_waited_for(self, task_id: TaskId) -> bool:
        """Whether some task waits for it, be it there or not."""
        return bool(self._children.get(task_id))

    def parentless(self) -> dict[TaskId, TaskId]:
        """Tasks that wait for a parent which nobody has submitted, each with one such parent."""
        for parent in [name for name in self._missing if name in self._tasks or not self.is_waited_for(name)]:
            del self._missing[parent]
            if parent not in self._tasks:
                self._children.pop(parent, None)
        return {child: parent for parent in self._missing for child in self._children[parent]}

    def elements(self, task: Task) -> list[Task]:
        """Elements of an array that have not ended, in their order; none of any other task."""
        line = self.arrays.get(task.task_id)
        if line is None:
            return []
        ids = (element_id(task.task_id, index) for index in range(line.terms.count))
        return [self._tasks[name] for name in ids if name in self._tasks]

    def ends_before_turn(self, task: Task) -> int:
        """How many elements of its array have to end before a task's turn comes; 0 of one that has had it."""
        line = self._line_of(task)
        if line is None or line.terms.at_most is None or task.task_id in line.admitted:
            return 0
        mine = (task.order, task.task_id)
        before = {name for order, name in line.line if (order, name) < mine and name not in line.admitted}
        waiting = sum(1 for name in before if (one := self._tasks.get(name)) is not None and self.is_open(one))
        return len(line.admitted) + waiting + 1 - line.terms.at_most

    def arrays_over(self) -> list[tuple[TaskId, ArrayLine]]:
        """Arrays that live though all of their elements have ended."""
        return [(task_id, self.arrays[task_id]) for task_id in self.over if task_id in self.arrays]

    # From an image

    def restore(self, task: Task, ended: EndedTasks) -> None:
        """Take in a task as it was; arrays before their elements."""
        self._wait_for(task, task.unmet)
        if task.shut_until_ms:
            self.shut_until(task, task.shut_until_ms, since_ms=task.shut_since_ms)
        terms = task.spec.terms.array
        if terms is not None and task.is_array:
            ids = (element_id(terms.array_id, index) for index in range(terms.count))
            known = {task_id: one.state for task_id in ids if (one := ended.get(task_id)) is not None}
            self.arrays[task.task_id] = ArrayLine(terms=terms, ended=known)

    def restore_turn(self, task: Task, *, is_admitted: bool) -> None:
        """Put an element back where it stood in its array."""
        line = self._line_of(task)
        if line is None or task.is_array:
            return
        if is_admitted:
            line.admitted.add(task.task_id)
        elif task.missing and self.is_open(task):
            heappush(line.line, (task.order, task.task_id))
