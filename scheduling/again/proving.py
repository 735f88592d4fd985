"""Proving, on the world as it is now, what a look has proposed: the copy is there, it pays still, its place is free."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from thalweg.scheduling.again.proposals import LookLimits, Proposal, first_words
from thalweg.scheduling.again.running import copy_at, may_move, run_left
from thalweg.scheduling.decisions import ordering
from thalweg.scheduling.ids import TaskId
from thalweg.scheduling.live.drains import is_drained
from thalweg.scheduling.live.live_plan import PlanSettings
from thalweg.scheduling.live.relocation import MovedCopy, Relocation
from thalweg.scheduling.pack.packer import Packer
from thalweg.scheduling.passed import has_passed
from thalweg.scheduling.world.tasks import MILLI, Copy, CopyState, Task, Transition
from thalweg.scheduling.world.value import HOUR_MS
from thalweg.scheduling.world.world import World

_SLACK = 1e-9
"""US dollars per GPU-hour."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvedMove:
    """A move whose place is free, with the words that its rows begin with."""

    move: MovedCopy
    why: str


def proved(
    world: World,
    proposals: Sequence[Proposal],
    settings: PlanSettings,
    limits: LookLimits,
    now_ms: int,
    packer: Packer,
) -> list[ProvedMove]:
    """Find the places of those proposals that still stand; the others are dropped, and looked at anew next time.

    Args:
        world: read, and left as it was.
        proposals: of a look at this world some time ago.
        settings: weights and prices.
        limits: of the look.
        now_ms: the moment.
        packer: over `world.nodes`.
    """
    standing = [one for one in proposals if _stands(world, one, limits, now_ms)]
    if not standing:
        return []
    proof = _Proof(world, standing, settings, limits, now_ms, packer)
    found: list[ProvedMove] = []
    try:
        for task_id in dict.fromkeys(one.for_task for one in standing):
            together = [one for one in standing if one.for_task == task_id]
            found += (
                [made for one in together if (made := proof.single(one))]
                if task_id is None
                else proof.room(task_id, together)
            )
    finally:
        proof.relocation.undo()
    return found


def rows_of(moves: Sequence[ProvedMove], now_ms: int) -> list[Transition]:
    """Turn moves into rows, each a stop and a start."""
    spent: dict[TaskId, int] = {}
    return [row for one in moves for row in ordering.moved([one.move], one.why, now_ms, spent)]


def _stands(world: World, one: Proposal, limits: LookLimits, now_ms: int) -> bool:
    """Whether a copy still runs where it did, whole and alone in moving, and its place is nobody else's matter."""
    at = copy_at(world, one.held, one.assigned_ms)
    if at is None or not has_passed(one.assigned_ms, now_ms, limits.rest_ms):
        return False
    task, copy = at
    return (
        may_move(task, copy)
        and not task.held
        and world.orders.objection_to_tenant(task.spec.tenant) is None
        and _is_in_time(world, task, copy, limits, now_ms)
        and task.missing == 0
        and all(other.state is CopyState.RUNNING for other in task.copies.values())
        and world.open_region(copy.region)
        and not is_drained(world, task, copy)
    )


def _is_in_time(world: World, task: Task, copy: Copy, limits: LookLimits, now_ms: int) -> bool:
    """Whether a task with a deadline would keep it although it does some of its work again."""
    start_by_ms, expected_ms = task.spec.start_by_ms, task.spec.expected_s * 1_000
    if start_by_ms is None:
        return True
    return now_ms + run_left(world, copy, limits, now_ms).elsewhere_h * HOUR_MS <= start_by_ms + expected_ms


class _Proof:
    """Tries proposals on the real nodes; `relocation.undo` gives back all that it took to try."""

    def __init__(
        self,
        world: World,
        standing: Sequence[Proposal],
        settings: PlanSettings,
        limits: LookLimits,
        now_ms: int,
        packer: Packer,
    ) -> None:
        self._world, self._settings, self._limits, self._now_ms = world, settings, limits, now_ms
        self.relocation = Relocation(world, [one.held for one in standing], settings, now_ms, packer)

    def single(self, one: Proposal) -> ProvedMove | None:
        """Find the place that was proposed, at a price no worse than it was then."""
        task, copy = self._copy(one)
        if one.to is None:
            return self._elsewhere(one)
        here, there = one.usd_per_gpu_hour
        price_of = self._world.geography.price_of
        if price_of(copy.pool) < here - _SLACK or price_of(one.to) > there + _SLACK:
            return None
        found = self.relocation.take(task, copy, one.to.__eq__)
        if found is None:
            return None
        move = replace(found, lost_usd=one.lost_usd, usd_per_hour_before=self._usd_per_hour(task, copy))
        return ProvedMove(move=move, why=first_words(one.why, one.saving_usd or 0.0, one.run))

    def room(self, task_id: TaskId, leaving: Sequence[Proposal]) -> list[ProvedMove]:
        """Prove a new home for everyone who sits where the task will; nobody moves where one of them has none."""
        task = self._world.tasks.get(task_id)
        if task is None or task_id not in self._world.waiting:
            return []
        nodes = self._nodes_for(task, [self._copy(one) for one in leaving])
        if nodes is None:
            return []
        begun, moves = self.relocation.found, list[ProvedMove]()
        for one in leaving:
            if any(slot.node in nodes for slot, _ in self._world.slots_of(*self._copy(one))):
                made = self._elsewhere(one, sorted(nodes))
                if made is None:
                    self.relocation.undo(begun)
                    return []
                moves.append(made)
        return moves

    def _nodes_for(self, task: Task, leaving: Sequence[tuple[Task, Copy]]) -> frozenset[int] | None:
        """Say on which nodes a task would sit if these copies were gone; None where it would not fit even then."""
        nodes, pools = self._world.nodes, {copy.pool for _, copy in leaving}
        if len(pools) != 1:
            return None
        slots = [held for one in leaving for held in self._world.slots_of(*one)]
        for slot, need in slots:
            nodes.release(slot, need)
        try:
            return self.relocation.nodes_of(task.spec, nodes.pool_index[pools.pop()])
        finally:
            for slot, need in slots:
                nodes.force(slot, need)

    def _elsewhere(self, one: Proposal, avoid: Sequence[int] = ()) -> ProvedMove | None:
        """Find the cheapest other place, which may be dearer: it moves for somebody else."""
        task, copy = self._copy(one)
        found = self.relocation.take(task, copy, avoid=avoid)
        if found is None:
            return None
        run = run_left(self._world, copy, self._limits, self._now_ms)
        here, there = self._usd_per_hour(task, copy), found.to.usd_per_hour
        money = found.to.money
        lost = run.lost_h * here + money.egress_usd + money.stall_usd + self._settings.weights.move
        saving = run.elsewhere_h * (here - there) - lost
        move = replace(found, lost_usd=lost, usd_per_hour_before=here)
        return ProvedMove(move=move, why=first_words(one.why, saving, run))

    def _copy(self, one: Proposal) -> tuple[Task, Copy]:
        task = self._world.tasks[one.held[0]]
        return task, task.copies[one.held[1]]

    def _usd_per_hour(self, task: Task, copy: Copy) -> float:
        """Price an hour at a copy's place as it is now."""
        slots = self._world.slots_of(task, copy)
        return (
            sum(len(slot.devices) * need.gpu_milli for slot, need in slots)
            / MILLI
            * self._world.geography.price_of(copy.pool)
        )
