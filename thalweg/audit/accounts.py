"""Do the books balance? What was asked, what the ledger says, what the topics carried and what the agents did.

Four independent records of one run are compared: the messages sent, the ledger, the assignment topics as a bystander
read them, and the agents' own files. Everything here reads; nothing repairs.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from thalweg.agent.assigned import REFUSED
from thalweg.agent.capacity import WHOLE_MILLI
from thalweg.agent.fleet import NodeSpec
from thalweg.agent.store import FILE_NAME
from thalweg.query.sql.query import query
from thalweg.streams.contract.messages import TaskRequest
from thalweg.streams.placement.fence import open_to_read

_REQUEST: Final = msgspec.json.Decoder(TaskRequest)
_LEDGER: Final = (
    'SELECT task_id, "copy", epoch, transition, region, nodes, event_id, request, reason FROM decisions '
    "ORDER BY driver_epoch, batch_id, row"
)

_ENDED: Final = ("succeeded", "failed", "cancelled")
_RELEASING: Final = frozenset({"revoked", "preempted", "lost", "evicted", "failed"})
"""Said here once more: an audit that read the job's own table of lives would believe what it is to check."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentBooks:
    """What the agents' files say, all together."""

    read: Mapping[str, int]
    """Assignment records read, by region."""
    ignored: int
    runs: Sequence[tuple[str, str, int, str | None]]
    """(region, task, epoch, outcome) of every run begun; outcome None while it runs."""
    unsent: int
    """Reports that wait for the broker."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Books:
    """What one run comes to."""

    by_state: Mapping[str, int]
    """Submitted tasks by their state in the ledger."""
    placed: int
    """Tasks that were assigned at least once."""
    replaced: int
    """Assignments made because an earlier one of the same copy was lost, failed, evicted or revoked."""
    refused_by_agents: int
    """Assignments that a region sent back because its nodes did not have the room: after a region was cut off, its
    stale tasks may still sit where the ledger already puts new ones."""
    waited: frozenset[str]
    """Tasks that found no capacity at once."""
    violations: Sequence[str]
    """What does not balance; empty when all does."""


def read_agents(folders: Iterable[Path]) -> AgentBooks:
    """Read the agents' files; they may be running.

    Raises:
        FenceError: one cannot be read, or is damaged.
    """
    read: Counter[str] = Counter()
    ignored = unsent = 0
    runs: list[tuple[str, str, int, str | None]] = []
    for folder in folders:
        if not (folder / FILE_NAME).exists():
            continue
        with closing(open_to_read(folder / FILE_NAME)) as connection:
            for region, accepted, repeated, older in connection.execute(
                "SELECT region, accepted, repeated, older FROM fence_regions"
            ):
                read[region] += accepted + repeated + older
                ignored += repeated + older
            runs += connection.execute("SELECT region, task_id, epoch, outcome FROM agent_runs").fetchall()
            unsent += connection.execute("SELECT count(*) FROM agent_outbox").fetchone()[0]
    return AgentBooks(read=read, ignored=ignored, runs=runs, unsent=unsent)


@dataclass(slots=True)
class LedgerReplay:
    """A replay of the ledger that trusts nothing."""

    nodes: Mapping[tuple[str, str], NodeSpec]
    requests: dict[str, TaskRequest] = field(default_factory=dict)
    states: dict[str, str] = field(default_factory=dict)
    copies: dict[str, dict[int, Mapping[str, Any]]] = field(default_factory=lambda: defaultdict(dict))
    done: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    epochs: dict[tuple[str, int], str] = field(default_factory=dict)
    used: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    devices: Counter[tuple[str, str, int]] = field(default_factory=Counter)
    released: set[tuple[str, int]] = field(default_factory=set)
    event_ids: Counter[str] = field(default_factory=Counter)
    succeeded: set[tuple[str, str, int]] = field(default_factory=set)
    waited: set[str] = field(default_factory=set)
    placed: set[str] = field(default_factory=set)
    replaced: int = 0
    wrong: list[str] = field(default_factory=list)

    def follow(self, row: Mapping[str, Any]) -> None:
        """Follow one row of the ledger, and note what must not be."""
        task_id, transition = row["task_id"], row["transition"]
        if row["event_id"] is not None:
            self.event_ids[row["event_id"]] += 1
        match transition:
            case "submitted":
                if self.states.get(task_id) not in (None, *_ENDED):
                    self.wrong.append(f"task {task_id} was submitted twice")
                self.done[task_id] = set()
                self.requests[task_id] = _REQUEST.decode(row["request"])
                self.states[task_id] = "waiting"
            case "updated":
                self.requests[task_id] = _REQUEST.decode(row["request"])
                if len(self.done[task_id]) >= self.requests[task_id].replicas:
                    self.states[task_id] = "succeeded"  # it asks for no more than what has succeeded
            case "waiting":
                self.waited.add(task_id)
            case "assigned":
                self._assign(row)
            case "running":
                self.states[task_id] = "running"
            case "cancelled":
                self.states[task_id] = "cancelled"
            case "succeeded":
                self._release(row)
                self.done[task_id].add(row["copy"])
                if row["region"] is not None:  # else it is an array, whose elements have
                    self.succeeded.add((row["region"], task_id, row["epoch"]))
                if len(self.done[task_id]) == self.requests[task_id].replicas:
                    self.states[task_id] = "succeeded"
            case _ if transition in _RELEASING:
                self._release(row)
                if self.states[task_id] != "cancelled":
                    gave_up = transition == "failed" and (row["reason"] or "").startswith("gave up")
                    self.states[task_id] = "failed" if gave_up else "waiting"

    def _assign(self, row: Mapping[str, Any]) -> None:
        task_id, copy, region = row["task_id"], row["copy"], row["region"]
        request = self.requests[task_id]
        if task_id in self.placed and (task_id, copy) in self.released:
            self.replaced += 1
        self.placed.add(task_id)
        if self.states[task_id] in _ENDED:
            self.wrong.append(f"task {task_id} was assigned after it had ended ({self.states[task_id]})")
        before = self.copies[task_id].get(copy)
        if before is not None and before["region"] == region and _is_malleable(request):
            self._release(row)  # resized in its place: the new epoch replaces the old one
        elif before is not None:
            self.wrong.append(f"copy {copy} of task {task_id} was assigned while it was assigned")
        if (task_id, row["epoch"]) in self.epochs:
            self.wrong.append(f"epoch {row['epoch']} of task {task_id} was used twice")
        self.epochs[task_id, row["epoch"]] = region
        elsewhere = [other["region"] for other in self.copies[task_id].values()]
        if region in elsewhere:
            self.wrong.append(f"two copies of task {task_id} are in region {region}")
        self.copies[task_id][copy] = row
        beside = request.kind == "infer"  # it moves by starting anew before the old one is stopped
        if len(self.copies[task_id]) + len(self.done[task_id]) > request.replicas + beside:
            self.wrong.append(f"task {task_id} has more copies than the {request.replicas} it asked for")
        if request.allowed_regions is not None and region not in request.allowed_regions:
            self.wrong.append(f"task {task_id} is in {region}, outside its allowed regions")
        self._use(row, request, 1)
        self.states[task_id] = "assigned"

    def _release(self, row: Mapping[str, Any]) -> None:
        placed = self.copies[row["task_id"]].pop(row["copy"], None)
        if placed is not None:
            self.released.add((row["task_id"], row["copy"]))
            self._use(placed, self.requests[row["task_id"]], -1)

    def _use(self, row: Mapping[str, Any], request: TaskRequest, sign: int) -> None:
        for share in row["nodes"]:
            key = (row["region"], share["node_id"])
            node, named = self.nodes.get(key), "/".join(key)
            if node is None:
                self.wrong.append(f"task {row['task_id']} was assigned to a node that is not there: {named}")
                continue
            used = self.used.setdefault(key, [0.0, 0.0])
            used[0] += sign * share["workers"] * request.per_worker.cpus
            used[1] += sign * share["workers"] * request.per_worker.memory_gb
            # CPUs and memory are counted in thousandths and MiB by the planner; a worker may be rounded by half of one.
            if sign > 0 and (used[0] > node.cpus + 0.05 or used[1] > node.memory_gb + 0.05):
                has = f"{node.cpus:g} CPUs, {node.memory_gb:g} GB"
                self.wrong.append(f"node {named} holds {used[0]:.2f} CPUs, {used[1]:.2f} GB; it has {has}")
            milli = share["gpu_milli"] // len(share["devices"]) if share["gpu_milli"] else WHOLE_MILLI
            for device in share["devices"]:
                self.devices[*key, device] += sign * milli
                if self.devices[*key, device] > WHOLE_MILLI or device >= node.gpus:
                    self.wrong.append(f"GPU {device} of node {named} holds {self.devices[*key, device]} thousandths")


def _is_malleable(request: TaskRequest) -> bool:
    return request.splittable or request.min_workers is not None or request.max_workers is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class SentRequests:
    """What was sent to the requests topic."""

    tasks: set[str]
    """Ids of all valid tasks that the demo sent."""
    malformed: set[str]
    """Keys of the messages that are no requests."""
    refused: set[str]
    """Keys of the requests that came back as dead letters."""
    of_others: set[str] = field(default_factory=set)
    """Ids of the tasks that somebody else sent meanwhile."""


def replay(warehouse: str, nodes: Mapping[tuple[str, str], NodeSpec]) -> LedgerReplay:
    """Read the ledger from its first row.

    Args:
        warehouse: where it is.
        nodes: every node of every region, by (region, node id).
    """
    ledger = LedgerReplay(nodes)
    for row in query(_LEDGER, warehouse).dicts():
        ledger.follow(row)
    return ledger


def balance(
    *,
    earlier: LedgerReplay,
    topic_event_ids: Mapping[str, int],
    topic_records: Mapping[str, int],
    agents: AgentBooks,
    later: LedgerReplay,
    asked: SentRequests | None = None,
) -> Books:
    """Compare the records of a run, which were read in the order of the arguments.

    In a running stack what is read later may hold more: what the earlier ledger says must be on the topics and with
    the agents, and what those say must be in the later ledger. In one that stands still the two ledgers are the same
    and everything must agree exactly.

    Args:
        earlier: the ledger, read before the rest.
        topic_event_ids: events seen on the assignment topics, and how often.
        topic_records: records on each region's assignments topic.
        agents: their files.
        later: the ledger, read after the rest.
        asked: what was sent; None where somebody else sent it.
    """
    wrong = list(later.wrong)
    if asked is not None:
        wrong += _difference("submitted, but not in the ledger", asked.tasks - later.states.keys())
        wrong += _difference("in the ledger, but never submitted", later.states.keys() - asked.tasks - asked.of_others)
        wrong += _difference("malformed, but not refused", asked.malformed - asked.refused)
        wrong += _difference("refused, but well formed", asked.refused & asked.tasks)
    on_topics = topic_event_ids.keys()
    wrong += _difference("events in the ledger, but not on the topics", earlier.event_ids.keys() - on_topics)
    wrong += _difference("events on the topics, but not in the ledger", on_topics - later.event_ids.keys())
    wrong += _difference("events twice in the ledger", {id_ for id_, count in later.event_ids.items() if count > 1})
    for region, records in sorted(topic_records.items()):
        read = agents.read.get(region, 0)
        if read < records or (read > records and earlier is later):
            wrong.append(f"region {region}: {records} assignment records, its agent has read {read}")
    wrong += _check_runs(earlier, agents, later)
    return Books(
        by_state=Counter(later.states.values()),
        placed=len(later.placed),
        replaced=later.replaced,
        refused_by_agents=sum(outcome == REFUSED for *_, outcome in agents.runs),
        waited=frozenset(later.waited),
        violations=wrong,
    )


def _check_runs(earlier: LedgerReplay, agents: AgentBooks, later: LedgerReplay) -> list[str]:
    """Each run was assigned to that region in that epoch; what the ledger calls succeeded did run to its end."""
    wrong = []
    outcomes: dict[tuple[str, str, int], str | None] = {}
    for region, task_id, epoch, outcome in agents.runs:
        outcomes[region, task_id, epoch] = outcome
        given = later.epochs.get((task_id, epoch))
        if given != region:
            wrong.append(f"task {task_id} ran in {region} in epoch {epoch}, which the ledger gave to {given}")
    wrong += [
        f"the ledger says that task {task_id} succeeded in {region}, epoch {epoch}; its agent says {seen or 'nothing'}"
        for region, task_id, epoch in sorted(earlier.succeeded)
        # Of a region whose agent keeps its file elsewhere nothing is known here.
        if region in agents.read and (seen := outcomes.get((region, task_id, epoch))) != "succeeded"
    ]
    return wrong


def _difference(what: str, ids: set[str]) -> list[str]:
    return [f"{len(ids)} {what}: {', '.join(sorted(ids)[:3])}"] if ids else []
