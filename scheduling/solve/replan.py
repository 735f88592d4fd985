"""Planning again: what runs becomes part of the next problem, and a budget of moves keeps plans from churning.

A running task is a class of its own only in where it runs, so a world of 150,000 tasks in 1,500 classes over 120
pools is about 1,600 rows: the vertices of the relaxed optimum use few more arcs than there are classes and pools.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from thalweg.scheduling.arrays import IntArray
from thalweg.scheduling.problem.model import Classes, Problem
from thalweg.scheduling.problem.order import gather
from thalweg.scheduling.problem.solution import DEFAULT_LIMITS, Solution, SolveLimits, WarmStart
from thalweg.scheduling.solve.solve import solve

MOVE_WEIGHT_STEP = 4.0
"""Factor on the price of a move when a plan would move more than its budget."""
MOVE_WEIGHT_TRIES = 8


def take_classes(classes: Classes, rows: IntArray, class_ids: tuple[str, ...], count: IntArray) -> Classes:
    """Rows of a class table, in the given order and possibly repeated, with new ids and counts and nothing running."""
    items, item_start = gather(classes.item_start, rows)
    copies, copy_start = gather(classes.copy_start, items)
    columns = (
        "need", "expected_h", "priority", "gpu_models", "allowed_regions", "spot_ok", "checkpoint_h", "origin",
        "max_rtt_ms", "max_usd_per_hour", "replicas", "tenant", "wait_usd",
    )  # fmt: skip
    return replace(
        classes,
        class_ids=class_ids,
        count=count,
        item_start=item_start,
        item_size_gb=classes.item_size_gb[items],
        copy_start=copy_start,
        copy_region=classes.copy_region[copies],
        current_start=np.zeros(len(rows) + 1, np.int64),
        current_pool=np.zeros(0, np.int64),
        closed_pools=None if classes.closed_pools is None else classes.closed_pools[rows],
        **{name: getattr(classes, name)[rows] for name in columns},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningProblem:
    """A problem in which every class is divided by where its tasks run.

    Attributes:
        class_of: row of each of its classes in the problem it was made of.
    """

    problem: Problem
    class_of: IntArray


def as_running(problem: Problem, running: IntArray, arriving: IntArray) -> RunningProblem:
    """Make the next problem: `running[c, p]` tasks of class c run in pool p, `arriving[c]` wait for a place.

    Only for classes of one copy.

    Args:
        problem: its classes give the needs; counts and current pools are replaced.
        running: [C, P].
        arriving: [C].
    """
    row, pool = np.nonzero(running)
    new = np.flatnonzero(arriving)
    class_ids, pool_ids = problem.classes.class_ids, problem.pools.pool_ids
    ids = [f"{class_ids[c]}@{pool_ids[p]}" for c, p in zip(row.tolist(), pool.tolist(), strict=True)]
    ids += [class_ids[c] for c in new.tolist()]  # distinct, to break ties; nothing reads them
    class_of = np.concatenate([row, new])
    classes = take_classes(problem.classes, class_of, tuple(ids), np.concatenate([running[row, pool], arriving[new]]))
    start = np.minimum(np.arange(len(ids) + 1), len(row))
    classes = replace(classes, current_start=start, current_pool=pool)
    return RunningProblem(problem=replace(problem, classes=classes), class_of=class_of)


def moved_tasks(problem: Problem, solution: Solution) -> int:
    """Running copies that do not stay where they run; those that lose their place count as well."""
    classes = problem.classes
    running = np.diff(classes.current_start) > 0
    home = np.full(len(classes), -1)
    home[running] = classes.current_pool[classes.current_start[:-1][running]]
    stays = solution.pool_index == home[solution.class_index]
    stayed = np.bincount(solution.class_index[stays], solution.count[stays], len(classes))
    return int((classes.count[running] - stayed[running]).sum())


def replan(
    problem: Problem,
    warm_start: WarmStart | None,
    max_moved: int,
    limits: SolveLimits = DEFAULT_LIMITS,
    strategy: str = "flow",
) -> Solution:
    """Solve, with at most `max_moved` running tasks moved.

    A plan that moves more is solved again at a higher price of moving, until it keeps to the budget or moving costs a
    hundred thousand times its weight. The objective and bound returned are those of the priced problem last solved.
    """
    solution = solve(problem, strategy, limits, warm_start=warm_start)
    weight = max(problem.weights.move, 1e-3)
    for _ in range(MOVE_WEIGHT_TRIES):
        if moved_tasks(problem, solution) <= max_moved:
            break
        weight *= MOVE_WEIGHT_STEP
        dearer = replace(problem, weights=replace(problem.weights, move=weight))
        solution = solve(dearer, strategy, limits, warm_start=solution.warm_start)
    return solution
