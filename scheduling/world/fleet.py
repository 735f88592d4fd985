"""The nodes and who sits on them: where each placed copy is, what is free, and what every tenant holds."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from thalweg.scheduling.arrays import IntArray
from thalweg.scheduling.ids import RegionId, TaskId
from thalweg.scheduling.pack.nodes import Need, NodeKey, Nodes, Pool, Slot
from thalweg.scheduling.world.facts import NODE_SEPARATOR, NodeFacts, node_key, objection_to_node, sorted_out
from thalweg.scheduling.world.occupancy import Holding, Occupancy, OccupancyRow, occupancy_of
from thalweg.scheduling.world.tasks import MIB_PER_GB, MILLI, Copy, Task, Transition, whole_shares

CopyKey = tuple[TaskId, int]
"""Task id and index of a copy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeNews:
    """What new samples of nodes came to."""

    lost: frozenset[CopyKey]
    """Copies on nodes that are gone."""
    grown: tuple[Pool, ...]
    """Pools in which a node came or changed that takes tasks."""


class Fleet:
    """See the module's words. Columns over pools follow `nodes.pools`, in order of appearance."""

    def __init__(self) -> None:
        self.nodes = Nodes()
        self.occupancy = Occupancy()
        self.facts: dict[NodeKey, NodeFacts] = {}
        self._said: dict[NodeKey, NodeFacts] = {}  # as their samples say, whatever was ordered
        self._shut: frozenset[NodeKey] = frozenset()
        self.left_out: dict[Hashable, str] = {}
        """Nodes whose sample cannot be digested, with the reason."""
        self.holdings: dict[str, Holding] = {}
        self.elastic: set[CopyKey] = set()
        """Placed copies whose size may change."""
        self._copies_on: dict[int, set[CopyKey]] = {}  # by row of a node
        self._copies_in: dict[RegionId, set[CopyKey]] = {}  # by region

    # Nodes

    def set_nodes(self, facts: Iterable[NodeFacts]) -> NodeNews | None:
        """Bring nodes up to date with their latest samples; nodes that are not listed are gone. None: nothing is new.

        A node whose sample cannot be digested is as if it drained: it takes nothing new, and what it holds goes on.
        """
        listed = {node_key(fact.region, fact.node_id): fact for fact in facts}
        current, self.left_out = sorted_out(listed, objection_to_node)
        for key in self.facts.keys() & self.left_out.keys():
            current[key] = replace(self.facts[key], ready=False, draining=True)
        self._said = current
        if self._shut & current.keys():
            current = {key: self._as_ordered(key) for key in current}
        if current == self.facts:
            return None
        lost: set[CopyKey] = set()
        grown: dict[Pool, None] = {}
        known = self.facts
        if not len(self.nodes):
            grown.update(dict.fromkeys(self._describe_first(current)))
            known = current
        for key, fact in current.items():
            if (before := known.get(key)) is fact or before == fact:  # the first ones are thousands of the same
                continue
            if fact.ready or fact.draining:
                pool = self._describe(key, fact)
                grown.update({pool: None} if fact.ready else {})
            else:
                lost |= self._lose(key)
        # Also nodes that only the ledger knows: in a region that tells of its nodes, one that it does not name is gone.
        telling = {fact.region for fact in current.values()}
        for row in [row for row, copies in self._copies_on.items() if copies]:
            key = self.nodes.ids[row]
            if key not in listed and (key in self.facts or key.partition(NODE_SEPARATOR)[0] in telling):
                lost |= self._lose(key)
        for key in self.facts.keys() - current.keys():
            self._lose(key)
        self.facts = current
        return NodeNews(lost=frozenset(lost), grown=tuple(grown))

    def shut_nodes(self, shut: frozenset[NodeKey]) -> tuple[Pool, ...]:
        """Let these nodes take nothing new, and others again, whatever their samples say; what they hold goes on.

        Returns:
            Pools in which a node takes tasks again.
        """
        changed, self._shut = self._shut ^ shut, shut
        grown: dict[Pool, None] = {}
        for key in sorted(changed & self._said.keys()):
            fact = self._as_ordered(key)
            if fact == self.facts.get(key):
                continue
            if self.facts is self._said:
                self.facts = dict(self._said)
            self.facts[key] = fact
            pool = self._describe(key, fact)
            grown |= {pool: None} if fact.ready else {}
        return tuple(grown)

    def _as_ordered(self, key: NodeKey) -> NodeFacts:
        fact = self._said[key]
        return replace(fact, ready=False, draining=True) if key in self._shut and fact.ready else fact

    def _describe_first(self, facts: Mapping[NodeKey, NodeFacts]) -> list[Pool]:
        """Describe the first nodes there are, all at once; returns the pools of those that take tasks."""
        here = {key: fact for key, fact in facts.items() if fact.ready or fact.draining}
        pools = describe_all(self.nodes, here)
        return [pool for pool, fact in zip(pools, here.values(), strict=True) if fact.ready]

    def _describe(self, key: NodeKey, fact: NodeFacts) -> Pool:
        pool = _pool_of(fact)
        row = self.nodes.set_node(
            key,
            pool,
            gpus=fact.gpus,
            cpu_milli=round(fact.cpus * MILLI),
            memory_mib=round(fact.memory_gb * MIB_PER_GB),
        )
        if not fact.ready:
            self.nodes.lose(row)
        return pool

    def describe_unseen(self, key: NodeKey, pool: Pool) -> int:
        """Add a node that the ledger knows and no sample described yet: it has nothing until one does."""
        row = self.nodes.set_node(key, pool, gpus=0, cpu_milli=0, memory_mib=0)
        self.nodes.lose(row)
        return row

    def _lose(self, key: NodeKey) -> set[CopyKey]:
        row = self.nodes.row_of.get(key)
        if row is None:
            return set()
        if self.nodes.ready[row]:
            self.nodes.lose(row)
        return set(self._copies_on.get(row, ()))

    # Who sits where

    def occupy(self, task: Task, copy: Copy, row: Transition) -> None:
        """Let a copy take what the row that assigned it says."""
        slots = self.slots_of(task, copy)
        self.sit(task, copy, slots, occupancy_of(task, copy, slots, row, self.nodes.pool_at(copy.pool)))

    def sit(
        self, task: Task, copy: Copy, slots: Iterable[tuple[Slot, Need]], occupancy: Sequence[OccupancyRow]
    ) -> None:
        """Let a copy take its slots, with a seat for each."""
        held = (task.task_id, copy.index)
        self._copies_in.setdefault(copy.region, set()).add(held)
        for slot, need in slots:
            self.nodes.force(slot, need)
            self._copies_on.setdefault(slot.node, set()).add(held)
        if task.spec.min_workers is not None:
            self.elastic.add(held)
        copy.occupancy = tuple(self.occupancy.add(held, entry) for entry in occupancy)
        holding = self.holdings.setdefault(task.spec.tenant, Holding())
        for entry in occupancy:
            holding.gain(entry)

    def sit_all(
        self, owners: Sequence[tuple[Task, Copy]], devices: Sequence[Sequence[int]], occupancy: IntArray
    ) -> None:
        """Let many copies in at once: owner and devices of each, and the fields of its `OccupancyRow`."""
        cells = dict(zip(OccupancyRow._fields, occupancy.T, strict=True))
        self.nodes.force_all(
            cells["node"], devices, *(cells[name] for name in ("gpu_milli", "cpu_milli", "memory_mib"))
        )
        rows = self.occupancy.add_all([(task.task_id, copy.index) for task, copy in owners], occupancy)
        for (task, copy), row, node in zip(owners, rows, cells["node"].tolist(), strict=True):
            held = (task.task_id, copy.index)
            copy.occupancy += (row,)
            self._copies_in.setdefault(copy.region, set()).add(held)
            self._copies_on.setdefault(node, set()).add(held)
            if task.spec.min_workers is not None:
                self.elastic.add(held)
        tenants = [task.spec.tenant for task, _ in owners]
        numbers = {name: number for number, name in enumerate(dict.fromkeys(tenants))}
        of_tenant = np.array([numbers[name] for name in tenants], np.int64)
        amounts = [
            cells["gpu_milli"],
            cells["cpu_milli"],
            cells["memory_mib"],
            cells["micro_usd_per_hour"] * cells["first"],
        ]
        totals = np.zeros((len(numbers), len(amounts)), np.int64)
        np.add.at(totals, of_tenant, np.stack(amounts, axis=1))
        self.holdings |= {name: Holding.of(*totals[number].tolist()) for name, number in numbers.items()}

    def free(self, task: Task, copy: Copy) -> None:
        """Give back all that a copy holds."""
        held = (task.task_id, copy.index)
        self._copies_in[copy.region].discard(held)
        for slot, need in self.slots_of(task, copy):
            self.nodes.release(slot, need)
            self._copies_on[slot.node].discard(held)
        self.elastic.discard(held)
        holding = self.holdings[task.spec.tenant]
        for row in copy.occupancy:
            holding.lose(self.occupancy.remove(row))

    def slots_of(self, task: Task, copy: Copy) -> list[tuple[Slot, Need]]:
        """What a placed copy takes of which nodes."""
        slots: list[tuple[Slot, Need]] = []
        for share, need in whole_shares(task.spec.parts, copy.shares):
            key = node_key(copy.region, share.node_id)
            row = self.nodes.row_of.get(key)
            if row is None:
                row = self.describe_unseen(key, copy.pool)
            slots.append((Slot(row, share.devices), need))
        return slots

    def copies_in(self, region: RegionId) -> list[CopyKey]:
        """Copies that the ledger has in a region, ordered."""
        return sorted(self._copies_in.get(region, ()))

    def copies_on(self, key: NodeKey) -> list[CopyKey]:
        """Copies that the ledger has on a node, ordered."""
        row = self.nodes.row_of.get(key)
        return [] if row is None else sorted(self._copies_on.get(row, ()))

    # Nodes that have less than they hold

    def overcommitted_copies(self, tasks: Mapping[TaskId, Task]) -> list[CopyKey]:
        """Copies to take off nodes that have less than they hold (a node shrank), ordered.

        The least important leave first, and of these the last to come; nobody leaves whose going does not help.
        """
        leaving: set[CopyKey] = set()
        for row in self.nodes.overcommitted().tolist():
            fact = self.facts.get(self.nodes.ids[row])
            if fact is not None and (fact.ready or fact.draining):
                leaving |= self._too_much_on(row, tasks)
        return sorted(leaving)

    def _too_much_on(self, row: int, tasks: Mapping[TaskId, Task]) -> set[CopyKey]:
        """Copies whose going brings a node back to what it has."""
        nodes = self.nodes
        short = np.concatenate([nodes.gpu_milli_free[row], [nodes.cpu_milli_free[row], nodes.memory_mib_free[row]]])
        held = {owner: np.zeros_like(short) for owner in self._copies_on[row]}
        for (task_id, index), takes in held.items():
            task = tasks[task_id]
            for slot, need in self.slots_of(task, task.copies[index]):
                if slot.node == row:
                    np.add.at(takes, np.array(slot.devices, np.int64), need.gpu_milli)
                    takes[-2:] += need.cpu_milli, need.memory_mib

        def importance(owner: CopyKey) -> tuple[int, int, int, int]:
            task = tasks[owner[0]]
            return task.spec.priority, -task.copies[owner[1]].assigned_ms, -task.order, owner[1]

        leaving: list[CopyKey] = []
        for owner in sorted(held, key=importance):
            if (held[owner][short < 0] > 0).any():
                leaving.append(owner)
                short += held[owner]
        for owner in reversed(list(leaving)):
            if (short - held[owner] >= 0).all():
                leaving.remove(owner)
                short -= held[owner]
        return set(leaving)


def describe_all(nodes: Nodes, facts: Mapping[NodeKey, NodeFacts]) -> list[Pool]:
    """Describe the first nodes there are, all at once; returns the pool of each."""
    pools = [_pool_of(fact) for fact in facts.values()]
    nodes.set_first(
        list(facts),
        pools,
        gpus=np.array([fact.gpus for fact in facts.values()], np.int64),
        cpu_milli=np.array([round(fact.cpus * MILLI) for fact in facts.values()], np.int64),
        memory_mib=np.array([round(fact.memory_gb * MIB_PER_GB) for fact in facts.values()], np.int64),
        ready=np.array([fact.ready for fact in facts.values()], bool),
    )
    return pools


def _pool_of(fact: NodeFacts) -> Pool:
    return Pool(region=fact.region, gpu_model=fact.gpu_model if fact.gpus else "", spot=fact.spot)
