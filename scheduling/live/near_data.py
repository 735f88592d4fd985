"""Who waits for room near its data, because that costs less than carrying them.

A task that needs little and comes early in the order soon has a place where its data lie; one that is far behind there,
or needs a place for days, does better elsewhere. So for each task that waits it is estimated when it would start near
its data, were everybody who ranks above it and belongs there to go first. What its delay costs until then, by the same
figure that makes its rank, is compared with the egress; where it is less, pools further away are closed to the task.

The estimate lets nobody pass a larger one that does not fit, and knows nothing of tasks yet to come. So it is no
promise, and what was held back for long goes wherever there is room.
"""

from dataclasses import dataclass
from math import ceil
from typing import Final

import numpy as np

from thalweg.scheduling.arrays import BoolArray, FloatArray, IntArray
from thalweg.scheduling.compiled import compiled
from thalweg.scheduling.live.pool_ends import PoolEnds
from thalweg.scheduling.pack.nodes import GPU_MILLI
from thalweg.scheduling.world.value import HOUR_MS, LEAST_HOLD_H, NO_DEADLINE_MS, RankRule
from thalweg.scheduling.world.waiting import Line
from thalweg.scheduling.world.world import World

EGRESS_TIMES: Final = 3.0
"""A dollar of egress counts as so many of delay: whoever takes a place far from its data leaves one near them to
somebody who then has to carry his own."""
MOST_TIMES_WAITED: Final = 4.0
"""Who has waited so many times longer than carrying its data is worth is held back no more, whatever is expected: the
estimate may be wrong each time anew."""
MOST_LISTED: Final = 4_096
"""Tasks that are put in line before the estimate ends: what comes later waits long anyhow, and is not held back."""
_SLACK: Final = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class FarPools:
    """Who is held back, and from which pools.

    Attributes:
        closed: [classes, P] by index in the queue.
        waits_h: [classes] until room near its data is expected for its oldest task.
        later_h: [classes] the same for the oldest of those for whom there is none now.
        saves_usd: [classes] at least, of egress.
        now_ms: the moment.
    """

    closed: BoolArray
    waits_h: FloatArray
    later_h: FloatArray
    saves_usd: FloatArray
    now_ms: int

    def of(self, index: int) -> frozenset[int]:
        """Pools that are closed to a class."""
        return frozenset(np.flatnonzero(self.closed[index]).tolist())

    def again_ms(self, indices: IntArray) -> IntArray:
        """When classes that are held back are looked at again: once they should have started; never the others."""
        again = np.full(len(indices), NO_DEADLINE_MS, np.int64)
        held_back = self.closed[indices].any(axis=1)
        hours = np.maximum(self.waits_h[indices[held_back]], LEAST_HOLD_H)
        again[held_back] = self.now_ms + np.ceil(hours * HOUR_MS).astype(np.int64)
        return again

    def words(self, index: int) -> str:
        """Say why a class waits although there is room."""
        hours = float(self.later_h[index])
        when = (
            f"is expected in {_in_words(hours)}"
            if np.isfinite(hours)
            else "comes later than can be told from who waits"
        )
        return (
            f"capacity: it waits for room near its data, which {when}; the room that there is "
            f"lies where bringing them costs {self.saves_usd[index]:.2f} USD more"
        )


def _in_words(hours: float) -> str:
    minutes = ceil(max(hours, LEAST_HOLD_H) * 60.0)
    return f"{minutes} min" if minutes < 120 else f"{hours:.1f} h"


def far_pools(world: World, free_gpus: FloatArray, now_ms: int, rule: RankRule, ends: PoolEnds) -> FarPools | None:
    """Find who does better to wait for room near its data; None where nobody does.

    Args:
        world: what waits and what runs.
        free_gpus: [P] free now.
        now_ms: the moment.
        rule: of the ranks.
        ends: of those who run.
    """
    if not world.waiting.carries:
        return None
    line = world.waiting.line(now_ms, rule)
    usable = line.pools & world.open_pools()
    nearest = np.where(usable, line.fetch_usd, np.inf).min(axis=1, initial=np.inf)
    more_usd = np.where(usable, line.fetch_usd - np.where(np.isfinite(nearest), nearest, 0.0)[:, None], 0.0)
    is_far = more_usd > _SLACK
    tempted = is_far & (free_gpus >= line.gpus[:, None] - _SLACK) & line.is_one_copy[:, None]
    if not tempted.any():
        return None
    waits_h, later_h = _waits_h(line, usable & ~is_far, free_gpus, ends)
    worth_usd = EGRESS_TIMES * more_usd
    closed = tempted & ((line.usd_per_hour * waits_h)[:, None] < worth_usd)
    closed &= (line.usd_per_hour * line.waited_h)[:, None] < MOST_TIMES_WAITED * worth_usd
    if not closed.any():
        return None
    rows, pools = world.waiting.rows, len(free_gpus)
    far = FarPools(
        closed=np.zeros((rows, pools), bool),
        waits_h=np.zeros(rows),
        later_h=np.zeros(rows),
        saves_usd=np.zeros(rows),
        now_ms=now_ms,
    )
    far.closed[line.rows] = closed
    far.waits_h[line.rows], far.later_h[line.rows] = waits_h, later_h
    far.saves_usd[line.rows] = np.where(closed, more_usd, np.inf).min(axis=1)
    return far


def _waits_h(line: Line, near: BoolArray, free_gpus: FloatArray, ends: PoolEnds) -> tuple[FloatArray, FloatArray]:
    """Hours until tasks of each class start in a pool near its data, as `in_line` has them."""
    pools = len(free_gpus)
    of_pool = [ends.ends(pool) for pool in range(pools)]
    most = max((len(one.hours) for one in of_pool), default=0)
    listed = int(min(line.tasks.sum(), MOST_LISTED))
    hours = np.full((pools, most + listed), np.inf)
    gpus = np.zeros((pools, most + listed))
    for pool, one in enumerate(of_pool):
        hours[pool, : len(one.hours)] = one.hours
        gpus[pool, : len(one.hours)] = one.gpu_milli / GPU_MILLI
    count = np.array([len(one.hours) for one in of_pool], np.int64)
    free = free_gpus.astype(np.float64).copy()
    return in_line(near, line.gpus, line.hours, line.tasks, free, hours, gpus, count, listed)


@compiled
def in_line(
    near: BoolArray,
    gpus: FloatArray,
    holds_h: FloatArray,
    tasks: IntArray,
    free: FloatArray,
    ends_h: FloatArray,
    ends_gpus: FloatArray,
    count: IntArray,
    listed: int,
) -> tuple[FloatArray, FloatArray]:
    """Start one task after the other where it can start first, each no sooner than those before it in that pool.

    Args:
        near: [N, P] where each may start.
        gpus: [N] of a task.
        holds_h: [N] hours for which it keeps them.
        tasks: [N] of each class.
        free: [P] now; used up.
        ends_h: [P, E] in order, with room for `listed` more; used up.
        ends_gpus: [P, E] that become free then.
        count: [P] ends that there are; used up.
        listed: so many tasks are put in line.

    Returns:
        [N] hours until the first task of each class starts, and until the first of those that do not start at once;
        inf where it does not, or comes after so many.
    """
    pools = len(free)
    starts_h, later_h = np.full(len(gpus), np.inf), np.full(len(gpus), np.inf)
    clock = np.zeros(pools)
    head = np.zeros(pools, np.int64)
    for row in range(len(gpus)):
        for task in range(tasks[row]):
            if listed == 0:
                return starts_h, later_h
            best, best_h = -1, np.inf
            for pool in range(pools):
                if near[row, pool]:
                    back, at_h, at = free[pool], clock[pool], head[pool]
                    while back < gpus[row] - 1e-9 and at < count[pool]:
                        at_h = max(at_h, ends_h[pool, at])
                        back += ends_gpus[pool, at]
                        at += 1
                    if back >= gpus[row] - 1e-9 and at_h < best_h:
                        best, best_h = pool, at_h
            if task == 0:
                starts_h[row] = best_h
            if 0.0 < best_h < later_h[row]:
                later_h[row] = best_h
            if best < 0:
                break
            while free[best] < gpus[row] - 1e-9:
                free[best] += ends_gpus[best, head[best]]
                head[best] += 1
            clock[best] = best_h
            free[best] -= gpus[row]
            end_h = best_h + holds_h[row]
            at = count[best]
            while at > head[best] and ends_h[best, at - 1] > end_h:
                ends_h[best, at] = ends_h[best, at - 1]
                ends_gpus[best, at] = ends_gpus[best, at - 1]
                at -= 1
            ends_h[best, at], ends_gpus[best, at] = end_h, gpus[row]
            count[best] += 1
            listed -= 1
    return starts_h, later_h
