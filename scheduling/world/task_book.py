"""The tasks: how far each is, how many are in each state, and which of them wait.

Those that live are objects; of one that has ended only what `ended` keeps is left.
"""

from collections import Counter
from collections.abc import Callable, Set
from typing import Final

from thalweg.scheduling.arrays import BoolArray, FloatArray
from thalweg.scheduling.ids import RegionId, TaskId
from thalweg.scheduling.world import lifecycle
from thalweg.scheduling.world.ended import EndedTask, EndedTasks
from thalweg.scheduling.world.gates import Gates
from thalweg.scheduling.world.lifecycle import LifecycleStep
from thalweg.scheduling.world.tasks import TERMINAL, Change, CopyState, Task, TaskState, Transition
from thalweg.scheduling.world.waiting import ClassKey, WaitingQueue

EXIT: Final = "exit"
"""Kind of a failure of which nobody said the kind."""
_NEVER_PLACED: Final = frozenset({Change.UPDATED, Change.HELD, Change.RELEASED})
"""Changes after which a task goes behind the others of its class; after all others it was placed once."""


class TaskBook:
    """See the module's words. What copies hold is the fleet's to know."""

    def __init__(
        self,
        pools_of: Callable[[ClassKey], BoolArray],
        tasks: dict[TaskId, Task] | None = None,
        fetch_usd_of: Callable[[ClassKey], FloatArray] | None = None,
    ) -> None:
        """Start empty.

        Args:
            pools_of: see `WaitingQueue`.
            tasks: where those that live are kept; None takes a dictionary.
            fetch_usd_of: see `WaitingQueue`.
        """
        self.tasks: dict[TaskId, Task] = {} if tasks is None else tasks
        """Those that live."""
        self.ended = EndedTasks()
        self.waiting = WaitingQueue(pools_of, fetch_usd_of)
        self.gates = Gates(self.tasks, self.ended, lambda task, first: self.wait(task, first=first), self._withdraw)
        self.count_by_state = dict.fromkeys(TaskState, 0)
        self.live_of: Counter[str] = Counter()
        """How many of a tenant's tasks have not ended."""
        self.order = 0
        """Tasks that have begun so far: the position of the last in the order of arrival."""

    def find(self, task_id: TaskId) -> Task | EndedTask | None:
        """Look up a task that lives or has ended."""
        return self.tasks.get(task_id) or self.ended.get(task_id)

    def begin(self, row: Transition) -> None:
        """Begin the task that a row submits."""
        if row.spec is None or row.request is None:
            return
        known = self.find(row.task_id)
        if not lifecycle.begins(row.change, None if known is None else known.state):
            return
        if known is not None:
            self.count_by_state[known.state] -= 1
            self.ended.forget(row.task_id)
        self.order += 1
        task = self.tasks[row.task_id] = Task(
            task_id=row.task_id,
            spec=row.spec,
            request=row.request,
            content_hash=row.content_hash or "",
            submitted_ms=row.decided_ms,
            order=self.order,
            reason=row.reason or "",
            reason_ms=row.decided_ms,
        )
        self.count_by_state[TaskState.WAITING] += 1
        self.live_of[task.spec.tenant] += 1
        self.gates.enter_array(task)
        self.gates.enter(task, row.decided_ms)
        self.gates.pass_on(task)

    def step_of(self, task: Task, row: Transition) -> LifecycleStep:
        """Say what a row does to its task."""
        copy = task.copies.get(row.copy)
        return lifecycle.step_of(
            row.change,
            row.epoch,
            row.reason,
            task=task.state,
            copy=task.state_of_copy(row.copy),
            placed_epoch=0 if copy is None else copy.epoch,
        )

    def note(self, task: Task, row: Transition, step: LifecycleStep) -> None:
        """Note what a row that is obeyed says of its task, its placed copies aside."""
        task.attempt = max(task.attempt, row.attempt)
        task.reason, task.reason_ms = row.reason or "", row.decided_ms
        task.preempted += step.gave_way
        task.ended = step.ends or task.ended
        if row.change is Change.SUCCEEDED:
            task.done_copies.add(row.copy)
            task.done_regions |= {row.region} if row.region is not None else set()
        if step.avoids_region and row.region is not None:
            task.avoid |= {row.region}
        if step.asks:
            assert row.spec is not None and row.request is not None
            self.live_of[task.spec.tenant] -= 1
            self.live_of[row.spec.tenant] += 1
            task.spec, task.request = row.spec, row.request
            task.content_hash = row.content_hash or task.content_hash
            self.gates.enter(task, row.decided_ms)
        if step.holds is not None:
            task.held = step.holds
        if row.change is Change.FAILED and task.ended is None:
            task.causes += (row.cause or EXIT,)
            if wait_ms := task.spec.terms.retries.wait_ms(task.causes):
                self.gates.shut_until(task, row.decided_ms + wait_ms, since_ms=row.decided_ms)

    def spend_epoch(self, task: Task, epoch: int) -> None:
        """Note that an epoch is used. With its first one a task that waits becomes one whose copies come one by one."""
        if epoch <= task.epoch:
            return
        is_first, task.epoch = task.epoch == 0, epoch
        if is_first and task.missing > 1 and task.task_id in self.waiting:
            self.wait(task, first=False)

    def settle(self, task: Task, change: Change) -> None:
        """Bring state, counts and queue up to date with what a task's copies are now."""
        before = task.state
        held = [copy.state for copy in task.copies.values()]
        task.state = lifecycle.state_of(task.ended, task.spec.replicas, len(task.done_copies), held)
        self.count_by_state[before] -= 1
        self.count_by_state[task.state] += 1
        if change is Change.ASSIGNED:
            self.gates.note_placed(task)
        if task.state in TERMINAL or task.missing == 0:
            self.waiting.leave(task.task_id)
        elif change is not Change.WAITING:
            self.gates.pass_on(task, first=change not in _NEVER_PLACED)

    def close(self, task: Task) -> None:
        """Let a task go that has ended and holds nothing any more."""
        del self.tasks[task.task_id]
        self.live_of[task.spec.tenant] -= 1
        self.ended.add(task.task_id, task.state, task.epoch, task.content_hash)
        self.gates.leave(task)

    def note_after_end(self, row: Transition) -> None:
        """Note the epoch of a row about a task that has ended: it is used."""
        known = self.ended.get(row.task_id)
        if known is None or row.epoch <= known.epoch:
            return
        step = lifecycle.step_of(row.change, row.epoch, row.reason, task=known.state, copy=CopyState.WAITING)
        if step.spends_epoch:
            self.ended.spend(row.task_id, known, row.epoch)

    def wait(self, task: Task, *, first: bool) -> None:
        """Let a task wait for its missing copies; `first` puts it before the others of its class."""
        key = ClassKey(
            spec=task.spec,
            missing=task.placed_together,
            taken=task.taken,
            avoid=task.avoid,
            barred=task.barred,
        )
        self.waiting.enqueue(task.task_id, key, task.order, task.submitted_ms, first=first)

    def _withdraw(self, task: Task) -> None:
        self.waiting.leave(task.task_id)

    def unbar(self, task: Task, regions: Set[RegionId]) -> None:
        """Let a task be tried again in regions that gave it back."""
        if task.barred & regions:
            task.barred -= regions
            if task.task_id in self.waiting:
                self.wait(task, first=True)
