"""Columnar state of nodes: what each node has, and what of it is still free.

One array per fact and one row per node, so that packing reads memory in a line and 500,000 nodes are a few dozen
megabytes. Everything is an integer (thousandths of a CPU, thousandths of a GPU, MiB): allocating and releasing are
exact inverses, and a sum of shares can never drift past a whole device.

A row, once given, belongs to its node id for good. A lost node keeps its row and takes nothing until it is put back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NewType

import msgspec
import numpy as np

from thalweg.scheduling.arrays import IntArray as IntArray
from thalweg.scheduling.counted import counted
from thalweg.scheduling.pack.need import GPU_MILLI as GPU_MILLI
from thalweg.scheduling.pack.need import MAX_DEVICES as MAX_DEVICES
from thalweg.scheduling.pack.need import Need as Need
from thalweg.scheduling.pack.need import Pool as Pool
from thalweg.scheduling.pack.pool_sums import PoolSums

if TYPE_CHECKING:
    from numpy.typing import NDArray

NodeKey = NewType("NodeKey", str)
"""Of a node among those of all regions."""

_FIRST_ROWS = 64


class Slot(msgspec.Struct, frozen=True):
    """Where one worker sits: the node's row and the devices, ascending (empty without GPUs)."""

    node: int
    devices: tuple[int, ...]


class Nodes:
    """The nodes of one or many regions, by row.

    Public columns (views of exactly `len(self)` rows; read them, change them only through the methods):
        pool: index into `pools`.
        gpus, cpu_milli, memory_mib: capacity.
        gpu_milli_free: [rows, devices]; devices a node does not have are 0.
        cpu_milli_free, memory_mib_free: what is free.
        ready: False while a node is lost or drained: it takes nothing new.
        version: counts the changes of a row, so that scores derived from it can be kept until it changes.
    """

    pool: IntArray
    gpus: IntArray
    cpu_milli: IntArray
    memory_mib: IntArray
    gpu_milli_free: IntArray
    cpu_milli_free: IntArray
    memory_mib_free: IntArray
    ready: NDArray[np.bool_]
    version: IntArray

    _COLUMNS = ("pool", "gpus", "cpu_milli", "memory_mib", "cpu_milli_free", "memory_mib_free", "version")

    def __init__(self, devices: int = 8) -> None:
        """Start empty.

        Args:
            devices: width of the device columns; grows by itself when a wider node appears.
        """
        self.ids: list[NodeKey] = []
        self.row_of: dict[NodeKey, int] = {}
        self.pools: list[Pool] = []
        self.pool_index: dict[Pool, int] = {}
        self.clock = 0  # total changes so far; equal clocks mean nothing changed
        self.layout = 0  # changes of which nodes there are, in which pool, with how many devices
        self.sums = PoolSums(self)
        self._members: dict[int, IntArray | list[int]] = {}
        self._store: dict[str, NDArray[np.int64] | NDArray[np.bool_]] = {
            name: np.zeros(_FIRST_ROWS, np.int64) for name in self._COLUMNS
        }
        self._store["ready"] = np.zeros(_FIRST_ROWS, np.bool_)
        self._store["gpu_milli_free"] = np.zeros((_FIRST_ROWS, devices), np.int64)
        self._show()

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def from_columns(
        cls,
        *,
        ids: Sequence[str],
        pools: Sequence[Pool],
        pool: IntArray,
        gpus: IntArray,
        cpu_milli: IntArray,
        memory_mib: IntArray,
    ) -> Nodes:
        """Build many empty nodes at once; row i is ids[i] in pools[pool[i]]."""
        nodes = cls(devices=max(8, int(gpus.max(initial=0))))
        if nodes.gpu_milli_free.shape[1] > MAX_DEVICES:
            raise ValueError(f"a node has at most {MAX_DEVICES} GPUs, got {int(gpus.max())}")
        for name, column in (("gpus", gpus), ("cpu_milli", cpu_milli), ("memory_mib", memory_mib)):
            if len(column) != len(ids) or int(column.min(initial=0)) < 0:
                raise ValueError(f"{name} needs one value >= 0 for each of {counted(len(ids), 'node')}")
        for entry in pools:
            nodes.pool_at(entry)
        nodes.ids = [NodeKey(i) for i in ids]
        nodes.row_of = {node_id: row for row, node_id in enumerate(nodes.ids)}
        if len(nodes.row_of) != len(ids):
            raise ValueError("node ids are not distinct")
        nodes._reserve(len(ids))
        nodes._show()
        to_local = np.array([nodes.pool_index[entry] for entry in pools], np.int64)
        nodes.pool[:] = to_local[pool] if len(ids) else 0
        nodes.gpus[:], nodes.cpu_milli[:], nodes.memory_mib[:] = gpus, cpu_milli, memory_mib
        nodes.cpu_milli_free[:], nodes.memory_mib_free[:] = cpu_milli, memory_mib
        width = nodes.gpu_milli_free.shape[1]
        nodes.gpu_milli_free[:] = np.where(np.arange(width)[None, :] < nodes.gpus[:, None], GPU_MILLI, 0)
        nodes.ready[:] = True
        for index in range(len(nodes.pools)):
            nodes._members[index] = np.flatnonzero(nodes.pool == index)
        nodes.clock += 1
        nodes.layout += 1
        return nodes

    def copied(self) -> Nodes:
        """Copy all of it, for who looks at the nodes while others change them."""
        copy = Nodes(devices=self.gpu_milli_free.shape[1])
        copy.ids, copy.row_of = list(self.ids), dict(self.row_of)
        copy.pools, copy.pool_index = list(self.pools), dict(self.pool_index)
        copy.clock, copy.layout = self.clock, self.layout
        copy._members = {pool: self.members(pool) for pool in self._members}
        copy._store = {name: column[: len(self)].copy() for name, column in self._store.items()}
        copy._show()
        return copy

    def continue_from(
        self,
        *,
        gpu_milli_free: IntArray,
        cpu_milli_free: IntArray,
        memory_mib_free: IntArray,
        ready: NDArray[np.bool_],
    ) -> None:
        """Set what is free on every row and which are ready: a copy of other nodes goes on where they stand."""
        self.gpu_milli_free[:] = 0
        width = min(gpu_milli_free.shape[1], self.gpu_milli_free.shape[1])
        self.gpu_milli_free[:, :width] = gpu_milli_free[:, :width]  # columns beyond belong to no device
        self.cpu_milli_free[:], self.memory_mib_free[:] = cpu_milli_free, memory_mib_free
        self.ready[:] = ready
        self.version[:] += 1
        self.clock += 1

    def pool_at(self, pool: Pool) -> int:
        """Return the index of a pool, adding it (without nodes) when it is new."""
        index = self.pool_index.get(pool)
        if index is None:
            index = self.pool_index[pool] = len(self.pools)
            self.pools.append(pool)
            self._members[index] = []
            self.layout += 1
        return index

    def members(self, pool: int) -> IntArray:
        """Rows of the pool's nodes, ascending, lost ones included."""
        rows = self._members[pool]
        if isinstance(rows, list):
            rows = self._members[pool] = np.array(sorted(rows), np.int64)
        return rows

    def set_node(self, node_key: str, pool: Pool, *, gpus: int, cpu_milli: int, memory_mib: int) -> int:
        """Add a node, or give a known one new capacity; it becomes ready. Return its row.

        What is allocated stays allocated. When the new capacity is less than that, free goes below zero and the row
        is in `overcommitted()` until enough is released.
        """
        if not 0 <= gpus <= MAX_DEVICES or cpu_milli < 0 or memory_mib < 0:
            raise ValueError(
                f"{node_key}: capacity must be >= 0 with at most {MAX_DEVICES} GPUs, got {counted(gpus, 'GPU')}"
            )
        index = self.pool_at(pool)
        row = self.row_of.get(NodeKey(node_key))
        if row is None:
            row = len(self.ids)
            self.ids.append(NodeKey(node_key))
            self.row_of[NodeKey(node_key)] = row
            self._reserve(row + 1)
            self._show()
            self._join(index, row)
        elif self.pool[row] != index:
            self._members[int(self.pool[row])] = [r for r in self.members(int(self.pool[row])).tolist() if r != row]
            self._join(index, row)
        self._widen(gpus)
        if self.pool[row] != index or self.gpus[row] != gpus or self.version[row] == 0:
            self.layout += 1
        self.pool[row] = index
        self.gpu_milli_free[row, self.gpus[row] : gpus] += GPU_MILLI
        self.gpu_milli_free[row, gpus : self.gpus[row]] -= GPU_MILLI
        self.cpu_milli_free[row] += cpu_milli - self.cpu_milli[row]
        self.memory_mib_free[row] += memory_mib - self.memory_mib[row]
        self.gpus[row], self.cpu_milli[row], self.memory_mib[row] = gpus, cpu_milli, memory_mib
        self.ready[row] = True
        self._touch(row)
        return row

    def set_first(
        self,
        keys: Sequence[NodeKey],
        pools: Sequence[Pool],
        *,
        gpus: IntArray,
        cpu_milli: IntArray,
        memory_mib: IntArray,
        ready: NDArray[np.bool_],
    ) -> None:
        """Add the first nodes, as `set_node` would one by one, and `lose` those that are not ready."""
        if self.ids:
            raise ValueError(f"{counted(len(self.ids), 'node is', 'nodes are')} there already; set_node adds to them")
        pool = np.array([self.pool_at(one) for one in pools], np.int64)
        self.ids = list(keys)
        self.row_of = {key: row for row, key in enumerate(self.ids)}
        self._reserve(len(keys))
        self._widen(int(gpus.max(initial=0)))
        self._show()
        self.pool[:], self.gpus[:], self.cpu_milli[:], self.memory_mib[:] = pool, gpus, cpu_milli, memory_mib
        self.cpu_milli_free[:], self.memory_mib_free[:] = cpu_milli, memory_mib
        width = self.gpu_milli_free.shape[1]
        self.gpu_milli_free[:] = np.where(np.arange(width)[None, :] < gpus[:, None], GPU_MILLI, 0)
        self.ready[:] = ready
        self.version[:] = 1 + ~ready
        self.clock += int(self.version.sum())
        self.layout += len(keys)
        for index in range(len(self.pools)):
            self._members[index] = np.flatnonzero(pool == index)

    def lose(self, row: int) -> None:
        """Take nothing new on this node; what sits there stays counted until it is released."""
        self.ready[row] = False
        self._touch(row)

    def fits(self, slot: Slot, need: Need) -> bool:
        """Say whether exactly this slot can take the need now (readiness aside)."""
        row = slot.node
        free = self.gpu_milli_free[row]
        return bool(
            len(slot.devices) == need.gpus == len(set(slot.devices))
            and all(0 <= d < self.gpus[row] and free[d] >= need.gpu_milli for d in slot.devices)
            and self.cpu_milli_free[row] >= need.cpu_milli
            and self.memory_mib_free[row] >= need.memory_mib
        )

    def allocate(self, slot: Slot, need: Need) -> None:
        """Take the need from the slot.

        Raises:
            ValueError: it does not fit there.
        """
        if not self.fits(slot, need):
            raise ValueError(f"{need} does not fit on devices {slot.devices} of node {self.ids[slot.node]}")
        self.force(slot, need)

    def force(self, slot: Slot, need: Need) -> None:
        """Take the need although it may not fit: what a region reports as running is a fact, not a question.

        A device that no sample has described yet is one, too: its free goes below zero until one does.
        """
        row = slot.node
        self._widen(max(slot.devices, default=-1) + 1)
        for device in slot.devices:
            self.gpu_milli_free[row, device] -= need.gpu_milli
        self.cpu_milli_free[row] -= need.cpu_milli
        self.memory_mib_free[row] -= need.memory_mib
        self._touch(row)

    def force_all(
        self,
        rows: IntArray,
        devices: Sequence[Sequence[int]],
        gpu_milli: IntArray,
        cpu_milli: IntArray,
        memory_mib: IntArray,
    ) -> None:
        """Take of many nodes at once as `force` does; GPU-milli are those of all the devices together."""
        counts = np.array([len(taken) for taken in devices], np.int64)
        flat = np.array([device for taken in devices for device in taken], np.int64)
        self._widen(int(flat.max(initial=-1)) + 1)
        each = np.where(counts > 0, gpu_milli // np.maximum(counts, 1), 0)
        np.subtract.at(self.gpu_milli_free, (np.repeat(rows, counts), flat), np.repeat(each, counts))
        np.subtract.at(self.cpu_milli_free, rows, cpu_milli)
        np.subtract.at(self.memory_mib_free, rows, memory_mib)
        np.add.at(self.version, rows, 1)
        self.clock += 1

    def force_each(
        self,
        rows: IntArray,
        device_rows: IntArray,
        devices: IntArray,
        device_milli: IntArray,
        cells: Mapping[str, IntArray],
    ) -> None:
        """Take of many nodes at once as `force` does, devices as one flat column.

        Args:
            rows: of the nodes, one for each entry of `cells`.
            device_rows: node of each device that is taken.
            devices: its number there.
            device_milli: what is taken of it.
            cells: `cpu_milli` and `memory_mib` by entry.
        """
        self._widen(int(devices.max(initial=-1)) + 1)
        np.subtract.at(self.gpu_milli_free, (device_rows, devices), device_milli)
        np.subtract.at(self.cpu_milli_free, rows, cells["cpu_milli"])
        np.subtract.at(self.memory_mib_free, rows, cells["memory_mib"])
        np.add.at(self.version, rows, 1)
        self.clock += len(rows)

    def release(self, slot: Slot, need: Need) -> None:
        """Give back what `allocate` or `force` took for the same slot and need."""
        row = slot.node
        for device in slot.devices:
            self.gpu_milli_free[row, device] += need.gpu_milli
        self.cpu_milli_free[row] += need.cpu_milli
        self.memory_mib_free[row] += need.memory_mib
        self._touch(row)

    def overcommitted(self) -> IntArray:
        """Rows on which more is allocated than there is, ascending."""
        below = (self.cpu_milli_free < 0) | (self.memory_mib_free < 0) | (self.gpu_milli_free < 0).any(axis=1)
        return np.flatnonzero(below)

    def _touch(self, row: int) -> None:
        self.version[row] += 1
        self.clock += 1

    def _join(self, index: int, row: int) -> None:
        rows = self._members[index]
        members = rows if isinstance(rows, list) else rows.tolist()
        members.append(row)
        self._members[index] = members

    def _reserve(self, rows: int) -> None:
        have = len(self._store["ready"])
        if rows <= have:
            return
        for name, column in self._store.items():
            grown = np.zeros((max(rows, 2 * have), *column.shape[1:]), column.dtype)
            grown[:have] = column
            self._store[name] = grown

    def _widen(self, devices: int) -> None:
        old = self._store["gpu_milli_free"]
        if devices <= old.shape[1]:
            return
        # No wider than needed: every node pays for the widest.
        wide = np.zeros((len(old), devices), np.int64)
        wide[:, : old.shape[1]] = old
        self._store["gpu_milli_free"] = wide
        self._show()

    def _show(self) -> None:
        for name, column in self._store.items():
            setattr(self, name, column[: len(self.ids)])
