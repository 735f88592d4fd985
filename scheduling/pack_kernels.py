"""The inner loops of packing: expected further fill of a node, and the best node for one request after another.

Everything is an integer and every loop has one order, so the compiled and the plain version give equal answers.
`scheduling.pack` explains the idea; here are only the loops.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from scheduling.compiled import compiled
from scheduling.nodes import GPU_MILLI, IntArray

NEVER = -(1 << 40)
SIGMOID = 0  # instead of a grain: the score of FGD

# Columns of the table of expected shapes.
GPUS, MILLI, CPU, MEMORY, WORTH, SHARE = range(6)
_MASK = (1 << 62) - 1


class Outlook(NamedTuple):
    """What is expected to arrive.

    shapes: [shapes, 6], columns as named above; worth and share as `scheduling.popularity` defines them.
    allowed: [shapes, pools] 1 where the shape may use the pool.
    futures: [futures, arrivals] indexes into `shapes`; a node with g devices is offered the first `per_gpu` * g.
    size_of: [1001] for the widest free device the row of `next_step` to read, -1 when it is too narrow for any shape.
    next_step: [futures, sizes, arrivals + 1] the next arrival from here on that may be narrow enough: a nearly full
        node looks at a few arrivals instead of all.
    gangs_from: shapes of at least so many GPUs count in `room`.
    cpu_step: states are valued with CPU rounded down to a multiple of it; coarser means fewer distinct states.
    memory_step: the same for memory, in MiB.
    """

    shapes: IntArray
    allowed: NDArray[np.uint8]
    futures: NDArray[np.int32]
    size_of: NDArray[np.int16]
    next_step: NDArray[np.int16]
    per_gpu: int
    gangs_from: int
    cpu_step: int
    memory_step: int


class Memo(NamedTuple):
    """Values of states seen before: an open-addressing table of a power-of-two length; used[0] counts its entries."""

    keys: IntArray
    values: IntArray
    used: IntArray


class Columns(NamedTuple):
    """The columns of `scheduling.nodes.Nodes` that placing reads and changes, by row."""

    gpus: IntArray
    cpu_free: IntArray
    memory_free: IntArray
    gpu_free: IntArray
    ready: NDArray[np.bool_]
    version: IntArray


class Kept(NamedTuple):
    """The nodes of one region by index, and what was computed for each, with the row's version it was computed for.

    rows, pools, barred: the node's row, its pool within the region, and whether it must not be used now.
    value_version, value: of the node as it is.
    needs, permitted: [kinds, 4] GPUs, milli, CPU, memory of a kind of request, and [kinds, pools] what it may use.
    score_version, score, device: [kinds, nodes] of putting one such request there.
    """

    rows: IntArray
    pools: IntArray
    barred: NDArray[np.uint8]
    value_version: IntArray
    value: IntArray
    needs: IntArray
    permitted: NDArray[np.uint8]
    score_version: IntArray
    score: IntArray
    device: NDArray[np.int8]


@compiled
def fill(pool: int, cpu: int, memory: int, free: IntArray, gpus: int, outlook: Outlook) -> int:
    """Sum over all futures the worth of what a node takes when its share of each future is offered to it.

    The state is (pool, CPU, memory, free GPU-milli per device, devices).
    """
    shapes, allowed, futures = outlook.shapes, outlook.allowed, outlook.futures
    total = 0
    work = np.empty(gpus, np.int64)
    offered = min(futures.shape[1], outlook.per_gpu * gpus)
    for k in range(futures.shape[0]):
        cpu_left = cpu
        memory_left = memory
        widest = 0
        for d in range(gpus):
            work[d] = free[d]
            widest = max(widest, work[d])
        size = outlook.size_of[widest]
        step = -1
        while size >= 0:
            step = outlook.next_step[k, size, step + 1]
            if step >= offered:
                break
            shape = futures[k, step]
            milli = shapes[shape, 1]
            if (
                milli > widest
                or shapes[shape, 2] > cpu_left
                or shapes[shape, 3] > memory_left
                or allowed[shape, pool] == 0
            ):
                continue
            count = shapes[shape, 0]
            narrowed = False
            if count == 1:
                best = -1
                room_left = GPU_MILLI + 1
                for d in range(gpus):
                    if milli <= work[d] < room_left:
                        best = d
                        room_left = work[d]
                narrowed = room_left == widest
                work[best] -= milli
            else:
                fitting = 0
                for d in range(gpus):
                    if work[d] >= milli:
                        fitting += 1
                if fitting < count:
                    continue
                taken = 0
                for d in range(gpus):
                    if work[d] >= milli and taken < count:
                        work[d] -= milli
                        taken += 1
                narrowed = True
            cpu_left -= shapes[shape, 2]
            memory_left -= shapes[shape, 3]
            total += count * milli * shapes[shape, 4]
            if narrowed:
                widest = 0
                for d in range(gpus):
                    widest = max(widest, work[d])
                size = outlook.size_of[widest]
    return total


@compiled
def room(pool: int, cpu: int, memory: int, free: IntArray, gpus: int, outlook: Outlook) -> int:
    """Worth of the idle GPU that each shape could use on this node, weighed by popularity.

    This is the fragmentation measure of FGD (Weng et al., USENIX ATC 2023) seen from its other side: fragments are the
    idle GPU that is not usable. Sampled futures seldom offer one node the rare pod of eight GPUs, so they hardly see
    the loss when a wholly free node is broken: there it stands in for gangs (`gangs_from` 2). Alone it is FGD (1).
    """
    shapes, allowed = outlook.shapes, outlook.allowed
    total = 0
    for shape in range(shapes.shape[0]):
        count = shapes[shape, 0]
        if (
            count < outlook.gangs_from
            or shapes[shape, 2] > cpu
            or shapes[shape, 3] > memory
            or allowed[shape, pool] == 0
        ):
            continue
        fitting = 0
        usable = 0
        for d in range(gpus):
            if free[d] >= shapes[shape, 1]:
                fitting += 1
                usable += free[d]
        if fitting >= count:
            total += shapes[shape, 5] * usable
    return total // 1_000_000


@compiled
def node_value(pool: int, cpu: int, memory: int, free: IntArray, gpus: int, outlook: Outlook, memo: Memo) -> int:
    """Look the state's value up, computing and keeping it when it is new."""
    keys, values, used = memo
    ordered = np.empty(gpus, np.int64)
    for d in range(gpus):
        e = d
        while e > 0 and ordered[e - 1] < free[d]:
            ordered[e] = ordered[e - 1]
            e -= 1
        ordered[e] = free[d]
    cpu_steps = int(cpu) // outlook.cpu_step
    memory_steps = int(memory) // outlook.memory_step
    # FNV-1a on 62 bits: the same in wrapping 64-bit and in unbounded arithmetic.
    key = ((1469598103934665603 ^ int(pool)) * 1099511628211) & _MASK
    key = ((key ^ cpu_steps) * 1099511628211) & _MASK
    key = ((key ^ memory_steps) * 1099511628211) & _MASK
    key = ((key ^ int(gpus)) * 1099511628211) & _MASK
    for d in range(gpus):
        key = ((key ^ int(ordered[d])) * 1099511628211) & _MASK
    key = (key ^ (key >> 29)) | 1
    at = (key >> 7) & (len(keys) - 1)
    while keys[at] != 0:
        if keys[at] == key:
            return values[at]  # type: ignore[no-any-return]
        at = (at + 1) & (len(keys) - 1)
    cpu, memory = cpu_steps * outlook.cpu_step, memory_steps * outlook.memory_step
    value = fill(pool, cpu, memory, ordered, gpus, outlook) + room(pool, cpu, memory, ordered, gpus, outlook)
    if 4 * used[0] < 3 * len(keys):
        keys[at] = key
        values[at] = value
        used[0] += 1
    return value


@compiled
def step_score(change: int, milli: int, grain: int) -> int:
    """Turn a change of value into a score, equal for changes that are not worth telling apart.

    FGD rounds floor(100 * sigmoid(drop of fragments / 1000)); its fragments fall by what is placed and rise by what
    the rest can use less. Values come in millionths there.
    """
    if grain == SIGMOID:
        return math.floor(100.0 / (1.0 + math.exp(-(milli + change / 1_000_000.0) / 1000.0)))
    return change // grain


@compiled
def value_of(index: int, columns: Columns, kept: Kept, outlook: Outlook, memo: Memo) -> int:
    """Return the value of the node as it is now."""
    row = kept.rows[index]
    if kept.value_version[index] != columns.version[row]:
        kept.value[index] = node_value(
            kept.pools[index],
            columns.cpu_free[row],
            columns.memory_free[row],
            columns.gpu_free[row],
            columns.gpus[row],
            outlook,
            memo,
        )
        kept.value_version[index] = columns.version[row]
    return kept.value[index]  # type: ignore[no-any-return]


@compiled
def score_row(index: int, kind: int, columns: Columns, kept: Kept, outlook: Outlook, memo: Memo, grain: int) -> None:
    """Compute the score of putting one request of this kind on the node, and the device it would take, into `kept`.

    The score is the change of the node's value, in steps of `grain` so that noise below a step leaves a tie.
    Device -1 means: the fitting devices from the lowest on.
    """
    row = kept.rows[index]
    pool = kept.pools[index]
    free = columns.gpu_free[row]
    width = columns.gpus[row]
    count = kept.needs[kind, 0]
    milli = kept.needs[kind, 1]
    cpu = columns.cpu_free[row] - kept.needs[kind, 2]
    memory = columns.memory_free[row] - kept.needs[kind, 3]
    before = value_of(index, columns, kept, outlook, memo)
    kept.score[kind, index] = NEVER
    kept.device[kind, index] = -1
    if cpu < 0 or memory < 0 or count > width:
        return
    after = free[:width].copy()
    if count == 1 and milli < 1000:
        best = NEVER
        tightest = -1
        for d in range(width):
            if free[d] < milli:
                continue
            repeated = False
            for e in range(d):
                if free[e] == free[d]:
                    repeated = True
            if repeated:
                continue
            after[d] -= milli
            change = node_value(pool, cpu, memory, after, width, outlook, memo) - before
            score = step_score(change, milli, grain)
            after[d] += milli
            if score > best or (score == best and free[d] < free[tightest]):
                best = score
                tightest = d
        kept.score[kind, index] = best
        kept.device[kind, index] = tightest
        return
    taken = 0
    for d in range(width):
        if after[d] >= milli and taken < count:
            after[d] -= milli
            taken += 1
    if taken == count:
        change = node_value(pool, cpu, memory, after, width, outlook, memo) - before
        kept.score[kind, index] = step_score(change, count * milli, grain)


@compiled
def place_in_order(
    requests: IntArray,
    apart: int,
    columns: Columns,
    kept: Kept,
    outlook: Outlook,
    memo: Memo,
    grain: int,
    out_node: IntArray,
    out_devices: IntArray,
) -> int:
    """Place one request after the other on its best node and allocate it; return how many were placed.

    `requests` holds kinds; `apart` 1 bars a node once it has taken one of them. Into `out_node` goes the node's index
    or -1, into `out_devices` its devices as bits.
    """
    rows, pools, barred = kept.rows, kept.pools, kept.barred
    free = columns.gpu_free
    placed = 0
    for r in range(len(requests)):
        kind = requests[r]
        count = kept.needs[kind, 0]
        milli = kept.needs[kind, 1]
        best = -1
        best_score = NEVER
        best_device_free = 0
        best_idle = 0
        for i in range(len(rows)):
            row = rows[i]
            if kept.score_version[kind, i] != columns.version[row]:
                if kept.permitted[kind, pools[i]] == 0:
                    kept.score[kind, i] = NEVER
                else:
                    score_row(i, kind, columns, kept, outlook, memo, grain)
                kept.score_version[kind, i] = columns.version[row]
            score = kept.score[kind, i]
            if score == NEVER or score < best_score or barred[i] != 0 or not columns.ready[row]:
                continue
            device = kept.device[kind, i]
            device_free = free[row, device] if device >= 0 else 0
            if score == best_score and device_free > best_device_free:
                continue
            idle = 0
            for d in range(columns.gpus[row]):
                idle += free[row, d]
            if score > best_score or device_free < best_device_free or idle < best_idle:
                best = i
                best_score = score
                best_device_free = device_free
                best_idle = idle
        out_node[r] = best
        out_devices[r] = 0
        if best < 0:
            continue
        row = rows[best]
        if kept.device[kind, best] >= 0:
            free[row, kept.device[kind, best]] -= milli
            out_devices[r] = 1 << kept.device[kind, best]
        else:
            taken = 0
            for d in range(columns.gpus[row]):
                if free[row, d] >= milli and taken < count:
                    free[row, d] -= milli
                    out_devices[r] |= 1 << d
                    taken += 1
        columns.cpu_free[row] -= kept.needs[kind, 2]
        columns.memory_free[row] -= kept.needs[kind, 3]
        columns.version[row] += 1
        placed += 1
        if apart != 0:
            barred[best] = 1
    return placed


@compiled
def total_value(columns: Columns, kept: Kept, outlook: Outlook, memo: Memo) -> int:
    """Return the sum of the nodes' values."""
    total = 0
    for index in range(len(kept.rows)):
        total += value_of(index, columns, kept, outlook, memo)
    return total
