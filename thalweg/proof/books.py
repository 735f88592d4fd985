"""The books of a played history: what was asked, ledger, tables, topics, agents' files and what the machines saw.

Nothing here asks the code under test what is right: the ledger is replayed by `audit.accounts`, room is counted anew.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from thalweg.agent.fleet import NodeSpec
from thalweg.audit.accounts import LedgerReplay, balance, read_agents, replay
from thalweg.jobs.placement.recovery import recover
from thalweg.proof.histories import FILES_CHANGE, OF_THE_DRIVER, puts_files_back
from thalweg.proof.stage import PREFIX, Stage
from thalweg.proof.witness import AGENT_ENDED
from thalweg.query.sql.query import query
from thalweg.scheduling.decisions.taking_back import TAKEN_BACK
from thalweg.scheduling.ids import TaskId
from thalweg.scheduling.world.world import World
from thalweg.streams.contract.envelope import read_headers
from thalweg.streams.contract.messages import TaskRequest
from thalweg.streams.contract.topics import ASSIGNMENTS, CONTROL, DEADLETTER, REQUESTS, topic_name
from thalweg.streams.placement.assignments import read_event
from thalweg.sync.delta.contracts import DECISIONS
from thalweg.sync.ledger.ledger import OFFSETS, Ledger

OVER: Final = frozenset({"succeeded", "failed", "cancelled"})
MISSING: Final = "does not hold it"
"""In the reason of a copy that is lost because two of its region's lists lack it."""


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
    wrong += _of_offsets(stage, warehouse)
    wrong += _of_batches(warehouse)
    wrong += _of_orders(stage, warehouse)
    wrong += _of_machines(stage, ledger)
    wrong += _of_reports(stage, warehouse)
    wrong += _of_lists(stage, warehouse)
    wrong += _of_agents(stage, ledger)
    wrong += _of_tables(warehouse, ledger)
    wrong += _of_waiting(stage, ledger, nodes)
    wrong += _of_a_restart(stage)
    wrong += _of_peace(stage, warehouse)
    return wrong


def _of_the_line(stage: Stage, ledger: LedgerReplay) -> Iterator[str]:
    """Ledger, topics and agents' files, as the audit of a live stack compares them."""
    files_change = _files_change(stage)  # then the machines are asked alone
    ids: Counter[str] = Counter()
    answered = _answered(stage)
    for fleet in stage.fleets:
        for record in stage.broker.topics[topic_name(ASSIGNMENTS, PREFIX, fleet.region)]:
            envelope = read_headers(record.headers)
            if (record.topic, record.key, read_event(record.value).epoch + 1) in answered:
                continue
            ids[envelope.event_id if envelope is not None else f"offset {record.offset}"] += 1
    books = balance(
        earlier=ledger,
        topic_event_ids=ids,
        topic_records={},
        agents=read_agents([] if files_change else [region.folder for region in stage.regions]),
        later=ledger,
    )
    yield from (f"differs: {violation}" for violation in books.violations)


def _answered(stage: Stage) -> set[tuple[str, bytes | None, int]]:
    """What was told by a ledger that was put back since, and could not be taken back: its region was told to stop.

    Returns:
        Topic and task, and the epoch with which it was told to.
    """
    asked = (
        "SELECT region, task_id, epoch FROM decisions "
        f"WHERE transition = 'repaired' AND starts_with(reason, '{TAKEN_BACK}')"
    )
    rows = query(asked, stage.settings.warehouse.path).dicts()
    return {(topic_name(ASSIGNMENTS, PREFIX, row["region"]), row["task_id"].encode(), row["epoch"]) for row in rows}


def _of_requests(stage: Stage, ledger: LedgerReplay) -> Iterator[str]:
    """Every record of the requests topic became rows, was refused with words, or repeats what was known."""
    refused = _refused(stage)
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


def _refused(stage: Stage) -> dict[int, str]:
    """Reasons of the requests' dead letters, by offset."""
    asked_on = topic_name(REQUESTS, PREFIX)
    letters = [dict(record.headers) for record in stage.broker.topics[topic_name(DEADLETTER, PREFIX)]]
    return {
        int(letter["offset"]): letter["reason"].decode() for letter in letters if letter["topic"].decode() == asked_on
    }


def _of_offsets(stage: Stage, warehouse: str) -> Iterator[str]:
    """A request is taken once or refused, however often its topic is read."""
    asked = "SELECT task_id, topic, topic_offset FROM decisions WHERE topic_offset IS NOT NULL"
    rows = list(query(asked, warehouse).dicts())
    control = topic_name(CONTROL, PREFIX)
    orders = Counter(row["topic_offset"] for row in rows if row["topic"] == control)
    yield from (
        f"double: the order at offset {at} was obeyed {times} times" for at, times in orders.items() if times > 1
    )
    taken = Counter((row["topic_offset"], row["task_id"]) for row in rows if row["topic"] != control)
    refused = _refused(stage)
    for (offset, task_id), times in sorted(taken.items()):
        if times > 1:
            yield f"double: the request at offset {offset} for {task_id} was taken {times} times"
        if offset in refused:
            yield f"differs: the request at offset {offset} for {task_id} was taken and refused: {refused[offset]}"


def _of_batches(warehouse: str) -> Iterator[str]:
    """A batch is decided once: what is repeated of it after its commit commits nothing.

    Only the last batch of a query is ever repeated: a checkpoint that was put back may come to an older one once more,
    and what that decides is new.
    """
    last: dict[str, tuple[int, int]] = {}
    for commit in sorted(Path(warehouse, DECISIONS.name, "_delta_log").glob("*.json")):
        actions = [json.loads(line) for line in commit.read_text(encoding="utf-8").splitlines()]
        noted = {action["txn"]["appId"]: action["txn"]["version"] for action in actions if "txn" in action}
        for query_id in [name.removesuffix(OFFSETS) for name in noted if name.endswith(OFFSETS)]:
            batch = (noted[query_id], noted[query_id + OFFSETS])
            if last.get(query_id) == batch:
                yield f"double: batch {batch[0]} of query {query_id} was decided once more, in {commit.stem}"
            last[query_id] = batch


def _of_orders(stage: Stage, warehouse: str) -> Iterator[str]:
    """Whatever is drained takes no task that is not there; every order became a row or was refused with words."""
    asked = (
        'SELECT task_id, "copy", epoch, transition, region, nodes, ordered FROM decisions '
        "ORDER BY driver_epoch, batch_id, row"
    )
    drained: set[tuple[str, str]] = set()
    before: dict[tuple[str, int], set[tuple[str, str]]] = {}
    for row in query(asked, warehouse).dicts():
        if row["transition"] == "ordered":
            said = json.loads(row["ordered"])
            region, _, node = said["subject"].removeprefix("drain/").partition("/")
            if said["subject"].startswith("drain/"):
                (drained.add if "after" in said else drained.discard)((region, node))
        elif row["transition"] == "assigned":
            nodes = {(row["region"], share["node_id"]) for share in row["nodes"]}
            was = before.get((row["task_id"], row["copy"]), set())
            for place in sorted(({(row["region"], ""), *nodes} - was) & drained):
                yield f"drained: {row['task_id']}, epoch {row['epoch']}, was assigned to {'/'.join(place)}"
            before[row["task_id"], row["copy"]] = {(row["region"], ""), *nodes}  # it may shrink where it is
        elif row["transition"] in ("revoked", "preempted", "lost", "evicted", "failed", "succeeded"):
            before.pop((row["task_id"], row["copy"]), None)
    taken = {row["topic_offset"] for row in query(_ORDERS_TAKEN, warehouse).dicts()}
    control = topic_name(CONTROL, PREFIX)
    letters = [dict(record.headers) for record in stage.broker.topics[topic_name(DEADLETTER, PREFIX)]]
    refused = {int(one["offset"]) for one in letters if one["topic"].decode() == control}
    for offset in range(len(stage.broker.topics[control])):
        if offset not in taken | refused:
            yield f"lost: the order at offset {offset} is in no row and no dead letter"
    yield from (
        f"lost: nonsense order at offset {at} has no dead letter" for at in set(stage.nonsense_orders) - refused
    )


_ORDERS_TAKEN: Final = "SELECT topic_offset FROM decisions WHERE transition = 'ordered' AND topic_offset IS NOT NULL"


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


def _of_reports(stage: Stage, warehouse: str) -> Iterator[str]:
    """What the ledger says of a run is what its machine saw, of that epoch and no other."""
    seen = stage.witness
    clock_is_right = not any(act.what == "driver clock" for act in stage.history.acts)
    asked = (
        "SELECT region, task_id, epoch, transition, reason, CAST(decided_at AS BIGINT) / 1000 AS decided_ms "
        "FROM decisions WHERE transition IN ('running', 'failed', 'succeeded')"
    )
    for row in query(asked, warehouse).dicts():
        key, says = (row["region"], row["task_id"], row["epoch"]), row["transition"]
        at_ms = (seen.begun_ms if says == "running" else seen.ended_ms).get(key)
        died = AGENT_ENDED in (row["reason"] or "")  # as its agent knows it: it may have ended well, or not begun
        if at_ms is None and not died:
            yield f"differs: the ledger says that {key} is {says}, no machine saw it"
        elif at_ms is not None and clock_is_right and at_ms > row["decided_ms"]:
            yield f"differs: the ledger says that {key} is {says} before its machine saw it"
        elif says == "failed" and not died and seen.ends[key] != "failed":
            yield f"differs: the ledger says that {key} failed, its machine says {seen.ends[key]}"


def _of_lists(stage: Stage, warehouse: str) -> Iterator[str]:
    """A region's list lacks nothing that it was given, unless somebody has changed its files."""
    if not _files_change(stage):
        asked = f"SELECT region, task_id, epoch FROM decisions WHERE transition = 'lost' AND reason LIKE '%{MISSING}%'"
        for row in query(asked, warehouse).dicts():
            yield f"needless: {row['region']} was found not to hold {row['task_id']}, epoch {row['epoch']}"


def _files_change(stage: Stage) -> bool:
    return any(act.what in FILES_CHANGE or puts_files_back(act) for act in stage.history.acts)


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
        taken = {region for region, task, _ in ledger.succeeded if task == task_id}
        regions = {
            region
            for region in {region for region, _ in nodes} - stage.gone - taken
            if (asked.allowed_regions is None or region in asked.allowed_regions)
            and _fits(asked, [node for (of, _), node in nodes.items() if of == region])
        }
        # All copies begin together; those of a task that has begun come back one by one.
        if len(regions) >= (1 if task_id in ledger.placed else asked.replicas):
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
    """Where no region was in trouble, none loses a task or is told again, whatever the driver went through."""
    if {act.what for act in stage.history.acts} <= OF_THE_DRIVER | {"submit", "update", "cancel"}:
        asked = "SELECT task_id, transition, reason FROM decisions WHERE transition IN ('lost', 'repaired', 'evicted')"
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
