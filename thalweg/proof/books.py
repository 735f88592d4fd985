"""The books of a played history: what was asked, ledger, tables, topics, agents' files and what the machines saw.

Nothing here asks the code under test what is right: the ledger is replayed by `audit.accounts`, room is counted anew.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final

from thalweg.agent.fleet import NodeSpec
from thalweg.audit.accounts import LedgerReplay, balance, read_agents, replay
from thalweg.jobs.placement.recovery import recover
from thalweg.proof.histories import CHECKPOINT_CHANGES, FILES_CHANGE, OF_THE_DRIVER
from thalweg.proof.stage import PREFIX, Stage
from thalweg.query.query import query
from thalweg.scheduling.ids import TaskId
from thalweg.scheduling.world.world import World
from thalweg.streams.contract.envelope import read_headers
from thalweg.streams.contract.messages import TaskRequest
from thalweg.streams.contract.topics import ASSIGNMENTS, DEADLETTER, REQUESTS, topic_name
from thalweg.sync.ledger.ledger import Ledger

OVER: Final = frozenset({"succeeded", "failed", "cancelled"})


def violations(stage: Stage) -> list[str]:
    """Compare all books of a history that has come to rest.

    Returns:
        What does not balance, each beginning with the kind: stuck, lost, double, over, differs, waits, needless.
    """
    wrong = [f"stuck: {failure}" for failure in stage.failures] + list(stage.witness.wrong)
    if stage.driver is None:
        return [*wrong, "stuck: no driver lives at the end"]
    warehouse = stage.settings.warehouse.path
    nodes: dict[tuple[str, str], NodeSpec] = {
        (region.fleet.region, node.node_id): node for region in stage.regions for node in region.fleet.nodes.values()
    }
    ledger = replay(warehouse, nodes)
    wrong += _of_the_line(stage, ledger)
    wrong += _of_requests(stage, ledger)
    wrong += _of_machines(stage, ledger)
    wrong += _of_agents(stage, ledger)
    wrong += _of_tables(warehouse, ledger)
    wrong += _of_waiting(stage, ledger, nodes)
    wrong += _of_a_restart(stage)
    wrong += _of_peace(stage, warehouse)
    return wrong


def _of_the_line(stage: Stage, ledger: LedgerReplay) -> Iterator[str]:
    """Ledger, topics and agents' files, as the audit of a live stack compares them."""
    files_change = any(act.what in FILES_CHANGE for act in stage.history.acts)  # then the machines are asked alone
    ids: Counter[str] = Counter()
    for fleet in stage.fleets:
        for record in stage.broker.topics[topic_name(ASSIGNMENTS, PREFIX, fleet.region)]:
            envelope = read_headers(record.headers)
            ids[envelope.event_id if envelope is not None else f"offset {record.offset}"] += 1
    books = balance(
        earlier=ledger,
        topic_event_ids=ids,
        topic_records={},
        agents=read_agents([] if files_change else [region.folder for region in stage.regions]),
        later=ledger,
    )
    untold = any(act.what in CHECKPOINT_CHANGES for act in stage.history.acts)
    for violation in books.violations:
        if not (untold and "events in the ledger, but not on the topics" in violation):
            yield f"differs: {violation}"


def _of_requests(stage: Stage, ledger: LedgerReplay) -> Iterator[str]:
    """Every record of the requests topic became rows, was refused with words, or repeats what was known."""
    asked_on = topic_name(REQUESTS, PREFIX)
    refused: dict[int, str] = {}
    for record in stage.broker.topics[topic_name(DEADLETTER, PREFIX)]:
        headers = dict(record.headers)
        if headers["topic"].decode() == asked_on:
            refused[int(headers["offset"])] = headers["reason"].decode()
    for offset in stage.nonsense:
        if not refused.pop(offset, ""):
            yield f"lost: nonsense at offset {offset} has no dead letter"
    changed = {request["task_id"] for _, request in stage.asked if request.get("op") == "update"}
    for offset, request in stage.asked:
        task_id, op = request["task_id"], request.get("op", "submit")
        if op == "submit" and task_id not in ledger.states and offset not in refused:
            yield f"lost: {task_id}, asked at offset {offset}"
        if op == "submit" and offset in refused and task_id not in changed:
            yield f"lost: {task_id} at offset {offset} was refused: {refused[offset]}"
        if op == "cancel" and offset not in refused and ledger.states.get(task_id) not in OVER:
            yield f"lost: the cancel of {task_id} at offset {offset}; it is {ledger.states.get(task_id)}"
    known = {offset for offset, _ in stage.asked}
    yield from (f"differs: offset {offset} was refused and is no request" for offset in refused.keys() - known)


def _of_machines(stage: Stage, ledger: LedgerReplay) -> Iterator[str]:
    """What ran to its end is what the ledger says, or the ledger had given that epoch up."""
    seen = set(stage.witness.succeeded)
    yield from (
        f"double: {key} ended well {count} times"
        for key, count in Counter(stage.witness.succeeded).items()
        if count > 1
    )
    yield from (f"differs: the ledger says that {key} succeeded, no machine saw it" for key in ledger.succeeded - seen)
    held = {(row["region"], task, row["epoch"]) for task, copies in ledger.copies.items() for row in copies.values()}
    yield from (f"lost: {key} ended well, and the ledger still waits for it" for key in sorted(seen & held))
    yield from (f"differs: {key} still runs" for key in sorted(stage.witness.live.keys() - held))


def _of_agents(stage: Stage, ledger: LedgerReplay) -> Iterator[str]:
    """At rest every agent holds what the ledger gave it, on the same nodes."""
    for region in stage.regions:
        name = region.fleet.region
        if name in stage.gone or region.superseded:
            continue
        if region.agent is None:
            yield f"stuck: the agent of {name} does not live at the end"
            continue
        mine = {
            held.key: sorted((s.node_id, s.devices) for s in held.event.nodes) for held in region.agent.tasks.held(name)
        }
        given = {
            (name, task, row["epoch"]): sorted((share["node_id"], list(share["devices"])) for share in row["nodes"])
            for task, copies in ledger.copies.items()
            for row in copies.values()
            if row["region"] == name
        }
        if mine != given:
            yield f"differs: {name} holds {sorted(mine)}, the ledger says {sorted(given)}"


def _of_tables(warehouse: str, ledger: LedgerReplay) -> Iterator[str]:
    states = {row["task_id"]: row["state"] for row in query("SELECT task_id, state FROM tasks", warehouse).dicts()}
    for task_id, state in ledger.states.items():
        told = states.get(task_id)
        if (told in OVER or state in OVER) and told != state:
            yield f"differs: {task_id} is {state} in the ledger and {told} in `tasks`"
    placed = {
        (row["task_id"], row["copy"], row["epoch"])
        for row in query('SELECT task_id, "copy", epoch, state FROM placements', warehouse).dicts()
        if row["state"] in ("assigned", "accepted", "running")
    }
    given = {(task, copy, row["epoch"]) for task, copies in ledger.copies.items() for copy, row in copies.items()}
    if placed != given:
        yield f"differs: `placements` has {sorted(placed)}, the ledger {sorted(given)}"


def _of_waiting(stage: Stage, ledger: LedgerReplay, nodes: Mapping[tuple[str, str], NodeSpec]) -> Iterator[str]:
    """At rest the machines are empty: whatever fits into them has had its turn."""
    for task_id, asked in ledger.requests.items():
        if ledger.states[task_id] in OVER:
            continue
        regions = {
            region
            for region in {region for region, _ in nodes} - stage.gone
            if (asked.allowed_regions is None or region in asked.allowed_regions)
            and _fits(asked, [node for (of, _), node in nodes.items() if of == region])
        }
        if len(regions) >= asked.replicas:
            yield f"waits: {task_id} is {ledger.states[task_id]} and fits in {sorted(regions)}"


def _fits(asked: TaskRequest, nodes: list[NodeSpec]) -> bool:
    """Whether the workers fit on empty nodes: first fit, the largest first, which is enough for so few."""
    parts = [(part.workers, part.per_worker) for part in asked.subtasks] or [
        (asked.min_workers or (1 if asked.splittable else asked.workers), asked.per_worker)
    ]
    free = [[node.gpus * 1_000.0, node.cpus, node.memory_gb] for node in sorted(nodes, key=lambda node: node.gpus)]
    for workers, need in sorted(parts, key=lambda part: -part[1].gpus):
        wanted = [need.gpus * 1_000.0 or need.gpu_milli, need.cpus, need.memory_gb]
        for _ in range(workers):
            node = next((n for n in free if all(have >= want for have, want in zip(n, wanted, strict=True))), None)
            if node is None:
                return False
            for kind, want in enumerate(wanted):
                node[kind] -= want
    return True


def _of_peace(stage: Stage, warehouse: str) -> Iterator[str]:
    """Where no region was in trouble, none loses a task, whatever the driver went through."""
    if {act.what for act in stage.history.acts} <= OF_THE_DRIVER | {"submit", "update", "cancel"}:
        asked = "SELECT task_id, transition, reason FROM decisions WHERE transition IN ('lost', 'evicted')"
        for row in query(asked, warehouse).dicts():
            yield f"needless: {row['task_id']} {row['transition']}: {row['reason']}"


def _of_a_restart(stage: Stage) -> Iterator[str]:
    """A driver that starts now knows what the one that lives knows."""
    assert stage.driver is not None
    warehouse = stage.settings.warehouse.path
    lives = stage.driver.placer.world
    again = recover(Ledger.claim(warehouse), warehouse, {}, stage.now_ms)
    for task_id in lives.tasks.keys() | again.tasks.keys() | {TaskId(request["task_id"]) for _, request in stage.asked}:
        told, found = (_of_task(world, task_id) for world in (lives, again))
        if told != found:
            yield f"differs: after a restart {task_id} is {found}, before it {told}"
    for tenant in lives.holdings.keys() | again.holdings.keys():
        before, after = (_of_tenant(world, tenant) for world in (lives, again))
        if before != after:
            yield f"differs: after a restart tenant {tenant} holds {after}, before it {before}"


def _of_task(world: World, task_id: TaskId) -> tuple[object, ...] | None:
    task = world.tasks.get(task_id)
    if task is None:
        ended = world.ended.get(task_id)
        return None if ended is None else (ended.state, ended.epoch, ended.content)
    copies = sorted(
        (copy.index, copy.epoch, copy.region, str(copy.state), copy.shares) for copy in task.copies.values()
    )
    return str(task.state), task.epoch, task.attempt, copies, sorted(task.done_copies), task.ended, task.preempted


def _of_tenant(world: World, tenant: str) -> tuple[int, ...]:
    held = world.holdings.get(tenant)
    return (held.gpu_milli, held.cpu_milli, held.memory_mib) if held is not None else (0, 0, 0)
