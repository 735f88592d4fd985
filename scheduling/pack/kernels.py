"""The inner loops of packing: expected further fill of a node, and the best node for one request after another.

Everything is an integer and every loop has one order, so the compiled and the plain version give equal answers.
`scheduling.pack.packer` explains the idea; here are only the loops.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from thalweg.scheduling.compiled import compiled, inlined
from thalweg.scheduling.pack.nodes import GPU_MILLI, IntArray

if TYPE_CHECKING:
    from numpy.typing import NDArray

NEVER = -(1 << 60)  # below every rank
MOST_IDLE = 1 << 20  # above the idle GPU-milli of any node: MAX_DEVICES whole ones
SIGMOID = 0  # instead of a grain: the score of FGD

# Columns of the table of expected shapes.
GPUS, MILLI, CPU, MEMORY, WORTH, SHARE = range(6)
ENDLESS = 1 << 60
_MASK = (1 << 62) - 1


class Outlook(NamedTuple):
    """What is expected to arrive.

    shapes: [shapes, 6], columns as named above; worth and share as `scheduling.pack.popularity` defines them.
    allowed: [shapes, pools] 1 where the shape may use the pool.
    futures: [futures, arrivals] indexes into `shapes`; a node with g devices is offered the first `per_gpu` * g.
    size_of: [1001] for the widest free device the row of `next_step` to read, -1 when it is too narrow for any shape.
    next_step: [futures, sizes, arrivals + 1] the next arrival from here on that may be narrow enough: a nearly full
        node looks at a few arrivals instead of all.
    room_from: from this row on shapes count in `room`.
    cpu_step: states are valued with CPU rounded down to a multiple of it; coarser means fewer distinct states.
    memory_step: the same for memory, in MiB.
    """

    shapes: IntArray
    allowed: NDArray[np.uint8]
    futures: NDArray[np.int32]
    size_of: NDArray[np.int16]
    next_step: NDArray[np.int16]
    per_gpu: int
    room_from: int
    cpu_step: int
    memory_step: int


class Memo(NamedTuple):
    """What was computed before, in two open-addressing tables of a power-of-two length; 0 is a free place.

    keys, values: of states.
    offer_keys, offers: [places, futures, 3] worth, CPU and memory of what each future leaves on the devices of a state
        whose CPU and memory do not end.
    used: entries of the two.
    scratch: [3, MAX_DEVICES] devices being worked on; a fresh array for each look would cost more than the look.
    """

    keys: IntArray
    values: IntArray
    offer_keys: IntArray
    offers: IntArray
    used: IntArray
    scratch: IntArray


class Columns(NamedTuple):
    """The columns of `scheduling.pack.nodes.Nodes` that placing reads and changes, by row."""

    gpus: IntArray
    cpu_free: IntArray
    memory_free: IntArray
    gpu_free: IntArray
    ready: NDArray[np.bool_]
    version: IntArray


class Kept(NamedTuple):
    """The nodes of one region by index, and what was computed for each.

    rows, pools, barred: the node's row, its pool within the region, and whether it must not be used now.
    seen: the row's version when its last change was logged.
    value_version, value: of the node as it is, and the row's version it was computed for.
    log, ends: the nodes that changed last, in a ring of a power-of-two length of at least the nodes; ends[0] counts all
        that were ever logged, ends[1] the refreshes.
    marked: per node the last refresh that scored it, so that none scores it twice.
    needs, permitted: [kinds, 4] GPUs, milli, CPU, memory of a kind of request, and [kinds, pools] what it may use.
    read: per kind how much of the log its scores know; -1 when they know nothing.
    rank, device: [kinds, nodes] how good it is to put one such request there (NEVER: it does not fit), and the device
        that a share would take; -1 means the fitting devices from the lowest on.
    """

    rows: IntArray
    pools: IntArray
    barred: NDArray[np.uint8]
    seen: IntArray
    value_version: IntArray
    value: IntArray
    log: IntArray
    ends: IntArray
    marked: IntArray
    needs: IntArray
    permitted: NDArray[np.uint8]
    read: IntArray
    rank: IntArray
    device: NDArray[np.int16]


@inlined
def offer(
    k: int, pool: int, cpu: int, memory: int, work: IntArray, gpus: int, outlook: Outlook
) -> tuple[int, int, int]:
    """Offer future `k` to a node; return the worth of what it takes, and the CPU and memory that leaves.

    The state is (pool, CPU, memory, free GPU-milli per device, devices); `work`, the devices, is changed.
    """
    shapes, allowed, futures = outlook.shapes, outlook.allowed, outlook.futures
    offered = min(futures.shape[1], outlook.per_gpu * gpus)
    total = 0
    widest = 0
    for d in range(gpus):
        widest = max(widest, work[d])
    size = outlook.size_of[widest]
    step = -1
    while size >= 0:
        step = outlook.next_step[k, size, step + 1]
        if step >= offered:
            break
        shape = futures[k, step]
        milli = shapes[shape, 1]
        if milli > widest or shapes[shape, 2] > cpu or shapes[shape, 3] > memory or allowed[shape, pool] == 0:
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
        cpu -= shapes[shape, 2]
        memory -= shapes[shape, 3]
        total += count * milli * shapes[shape, 4]
        if narrowed:
            widest = 0
            for d in range(gpus):
                widest = max(widest, work[d])
            size = outlook.size_of[widest]
    return total, cpu, memory


@compiled
def offers_of(key: int, pool: int, free: IntArray, gpus: int, outlook: Outlook, memo: Memo) -> int:
    """Return where `memo.offers` keeps what devices in this state take were CPU and memory endless, or -1: it is full.

    States differ mostly in CPU and memory, and most futures do not meet either limit. For these the answer is the same.
    """
    keys = memo.offer_keys
    at = (key >> 7) & (len(keys) - 1)
    while keys[at] != 0:
        if keys[at] == key:
            return int(at)
        at = (at + 1) & (len(keys) - 1)
    if 4 * memo.used[1] >= 3 * len(keys):
        return -1
    work = memo.scratch[0]
    for k in range(outlook.futures.shape[0]):
        for d in range(gpus):
            work[d] = free[d]
        worth, cpu_left, memory_left = offer(k, pool, ENDLESS, ENDLESS, work, gpus, outlook)
        memo.offers[at, k, 0] = worth
        memo.offers[at, k, 1] = ENDLESS - cpu_left
        memo.offers[at, k, 2] = ENDLESS - memory_left
    keys[at] = key
    memo.used[1] += 1
    return int(at)


@compiled
def fill(key: int, pool: int, cpu: int, memory: int, free: IntArray, gpus: int, outlook: Outlook, memo: Memo) -> int:
    """Sum over all futures the worth of what a node takes when its share of each future is offered to it.

    `key` stands for the pool and the devices.
    """
    at = offers_of(key, pool, free, gpus, outlook, memo)
    work = memo.scratch[0]
    total = 0
    for k in range(outlook.futures.shape[0]):
        if at >= 0 and memo.offers[at, k, 1] <= cpu and memo.offers[at, k, 2] <= memory:
            total += memo.offers[at, k, 0]
            continue
        for d in range(gpus):
            work[d] = free[d]
        worth, _, _ = offer(k, pool, cpu, memory, work, gpus, outlook)
        total += worth
    return total


@compiled
def room(pool: int, cpu: int, memory: int, free: IntArray, gpus: int, outlook: Outlook) -> int:
    """Worth of the idle GPU that each shape could use on this node, weighed by popularity.

    This is the fragmentation measure of FGD (Weng et al., USENIX ATC 2023) seen from its other side: fragments are the
    idle GPU that is not usable. Sampled futures seldom offer one node the rare pod of eight GPUs, so they hardly see
    the loss when a wholly free node is broken: there it stands in for gangs only. Alone it is FGD.
    """
    shapes, allowed = outlook.shapes, outlook.allowed
    total = 0
    for shape in range(outlook.room_from, shapes.shape[0]):
        count = shapes[shape, 0]
        if shapes[shape, 2] > cpu or shapes[shape, 3] > memory or allowed[shape, pool] == 0:
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
    keys, values, used = memo.keys, memo.values, memo.used
    ordered = memo.scratch[1]
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
    key = ((key ^ int(gpus)) * 1099511628211) & _MASK
    for d in range(gpus):
        key = ((key ^ int(ordered[d])) * 1099511628211) & _MASK
    devices = (key ^ (key >> 29)) | 1
    key = ((key ^ cpu_steps) * 1099511628211) & _MASK
    key = ((key ^ memory_steps) * 1099511628211) & _MASK
    key = (key ^ (key >> 29)) | 1
    at = (key >> 7) & (len(keys) - 1)
    while keys[at] != 0:
        if keys[at] == key:
            return values[at]  # type: ignore[no-any-return]
        at = (at + 1) & (len(keys) - 1)
    cpu, memory = cpu_steps * outlook.cpu_step, memory_steps * outlook.memory_step
    value = fill(devices, pool, cpu, memory, ordered, gpus, outlook, memo)
    value += room(pool, cpu, memory, ordered, gpus, outlook)
    if 4 * used[0] < 3 * len(keys):
        keys[at] = key
        values[at] = value
        used[0] += 1
    return value


@inlined
def step_score(change: int, milli: int, grain: int) -> int:
    """Turn a change of value into a score, equal for changes that are not worth telling apart.

    FGD rounds floor(100 * sigmoid(drop of fragments / 1000)); its fragments fall by what is placed and rise by what
    the rest can use less. Values come in millionths there.
    """
    if grain == SIGMOID:
        return math.floor(100.0 / (1.0 + math.exp(-(milli + change / 1_000_000.0) / 1000.0)))
    return change // grain


@inlined
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


@inlined
def rank_of(score: int, device_free: int, idle: int) -> int:
    """Order candidates in one integer: the score, then the tightest device, then the fullest node."""
    tightness = 1023 - max(0, min(1023, int(device_free)))
    return (int(score) * 1024 + tightness) * MOST_IDLE + MOST_IDLE - 1 - max(0, int(idle))


@inlined
def score_node(index: int, kind: int, columns: Columns, kept: Kept, outlook: Outlook, memo: Memo, grain: int) -> None:
    """Compute rank and device of putting one request of this kind on the node, into `kept`.

    The score is the change of the node's value, in steps of `grain` so that noise below a step leaves a tie.
    """
    row = kept.rows[index]
    pool = kept.pools[index]
    kept.rank[kind, index] = NEVER
    kept.device[kind, index] = -1
    cpu = columns.cpu_free[row] - kept.needs[kind, 2]
    memory = columns.memory_free[row] - kept.needs[kind, 3]
    if cpu < 0 or memory < 0 or kept.permitted[kind, pool] == 0 or not columns.ready[row]:
        return
    free = columns.gpu_free[row]
    width = columns.gpus[row]
    count = kept.needs[kind, 0]
    milli = kept.needs[kind, 1]
    idle = 0
    fitting = 0
    for d in range(width):
        idle += free[d]
        if free[d] >= milli:
            fitting += 1
    if fitting < count:
        return
    before = value_of(index, columns, kept, outlook, memo)
    after = memo.scratch[2]
    for d in range(width):
        after[d] = free[d]
    if count == 1 and milli < GPU_MILLI:
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
        kept.rank[kind, index] = rank_of(best, free[tightest], idle)
        kept.device[kind, index] = tightest
        return
    taken = 0
    for d in range(width):
        if after[d] >= milli and taken < count:
            after[d] -= milli
            taken += 1
    change = node_value(pool, cpu, memory, after, width, outlook, memo) - before
    kept.rank[kind, index] = rank_of(step_score(change, count * milli, grain), 0, idle)


@inlined
def note_change(index: int, columns: Columns, kept: Kept) -> None:
    """Log that the node is not what the scores know."""
    kept.log[kept.ends[0] & (len(kept.log) - 1)] = index
    kept.ends[0] += 1
    kept.seen[index] = columns.version[kept.rows[index]]


@compiled
def refresh(kind: int, columns: Columns, kept: Kept, outlook: Outlook, memo: Memo, grain: int) -> None:
    """Bring one kind's scores up to date: of the nodes logged since it was last asked for, or of all."""
    start = kept.read[kind]
    end = kept.ends[0]
    if start < 0 or end - start > len(kept.log):
        for index in range(len(kept.rows)):
            score_node(index, kind, columns, kept, outlook, memo, grain)
    else:
        kept.ends[1] += 1
        for position in range(start, end):
            index = kept.log[position & (len(kept.log) - 1)]
            if kept.marked[index] != kept.ends[1]:
                kept.marked[index] = kept.ends[1]
                score_node(index, kind, columns, kept, outlook, memo, grain)
    kept.read[kind] = end


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
    or -1, into `out_devices` its devices, one place for every device asked for, request after request. Of equally good
    nodes the first is taken.
    """
    rows, barred, rank = kept.rows, kept.barred, kept.rank
    free = columns.gpu_free
    for index in range(len(rows)):
        if kept.seen[index] != columns.version[rows[index]]:
            note_change(index, columns, kept)
    placed = 0
    end = 0
    for r in range(len(requests)):
        kind = requests[r]
        refresh(kind, columns, kept, outlook, memo, grain)
        best = -1
        best_rank = NEVER
        for index in range(len(rows)):
            if rank[kind, index] > best_rank and barred[index] == 0:
                best = index
                best_rank = rank[kind, index]
        out_node[r] = best
        count = kept.needs[kind, 0]
        at = end
        end += count
        if best < 0:
            continue
        row = rows[best]
        milli = kept.needs[kind, 1]
        if kept.device[kind, best] >= 0:
            free[row, kept.device[kind, best]] -= milli
            out_devices[at] = kept.device[kind, best]
        else:
            taken = 0
            for d in range(columns.gpus[row]):
                if free[row, d] >= milli and taken < count:
                    free[row, d] -= milli
                    out_devices[at + taken] = d
                    taken += 1
        columns.cpu_free[row] -= kept.needs[kind, 2]
        columns.memory_free[row] -= kept.needs[kind, 3]
        columns.version[row] += 1
        note_change(best, columns, kept)
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
