"""Hurt a running stack on purpose and look whether the books still balance.

Only processes that the stack's own record names are touched, and only while the process with that number is the one
that was recorded (its start is compared), so that a recycled number is never hit.
"""

import contextlib
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from thalweg.agent.fleet import NodeSpec
from thalweg.audit.accounts import Books, balance, read_agents, replay
from thalweg.audit.watch import records_until_now
from thalweg.conf.settings import KafkaSettings
from thalweg.query.sql.query import query
from thalweg.stack.stack import running_bootstrap
from thalweg.stack.state import StateFolder, identity_in
from thalweg.streams.contract.envelope import read_headers
from thalweg.streams.contract.topics import ASSIGNMENTS, region_of_topic, topic_pattern

BACK_LIMIT_S: Final = 240.0
SETTLE_LIMIT_S: Final = 60.0


class HurtError(Exception):
    """There is nothing to hurt, or what was hurt did not come back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hurt:
    """One process that was hurt."""

    name: str
    pid: int
    how: str
    back_after_s: float


def names_of(folder: StateFolder) -> list[str]:
    """Names of the processes that run in a stack.

    Raises:
        HurtError: no stack runs there.
    """
    names = [record["name"] for record in folder.stack().get("processes", []) if _alive(record)]
    if not folder.is_held() or not names:
        raise HurtError(f"no stack runs in {folder.path}: start one with `thalweg up` or `thalweg demo`")
    return names


def hurt(folder: StateFolder, name: str, freeze_s: float | None) -> Hurt:
    """Kill a process and its group at once, or freeze it for a while, and wait until it is back.

    Raises:
        HurtError: it does not run, or did not come back in time.
    """
    record = _record(folder, name)
    identity = identity_in(record)
    if identity is None or not identity.is_alive():
        raise HurtError(f"{name} does not run in {folder.path}; running are {', '.join(names_of(folder))}")
    started = time.monotonic()
    if freeze_s is not None:
        _signal(identity.pid, signal.SIGSTOP)
        try:
            time.sleep(freeze_s)
        finally:
            _signal(identity.pid, signal.SIGCONT)
        return Hurt(name=name, pid=identity.pid, how=f"frozen for {freeze_s:g} s", back_after_s=freeze_s)
    _signal(identity.pid, signal.SIGKILL)
    while time.monotonic() - started < BACK_LIMIT_S:
        now = _record(folder, name)
        if now.get("pid") not in (None, identity.pid) and now.get("state") == "ready":
            back = round(time.monotonic() - started, 1)
            return Hurt(name=name, pid=identity.pid, how="killed", back_after_s=back)
        time.sleep(0.1)
    raise HurtError(f"{name} was killed and not ready again within {BACK_LIMIT_S:.0f} s; see {record.get('log')}")


def settle_and_balance(folder: StateFolder, prefix: str, say: Callable[[str], None]) -> Books:
    """Compare ledger, topics and agents until they agree or the time is over.

    What is on its way between two of them is no violation, so a running stack is looked at more than once: what does
    not balance must go away by itself, and what is truly lost or doubled never does.
    """
    deadline = time.monotonic() + SETTLE_LIMIT_S
    while True:
        books = _balance_now(folder, prefix)
        if not books.violations or time.monotonic() > deadline:
            return books
        say(f"not balanced yet: {books.violations[0]}")
        time.sleep(2)


def _balance_now(folder: StateFolder, prefix: str) -> Books:
    bootstrap = running_bootstrap(folder.path)
    if bootstrap is None:
        raise HurtError(f"the broker of {folder.path} does not run any more")
    warehouse = str(folder.path / "warehouse")
    nodes = {
        (row["region"], row["node_id"]): NodeSpec(
            node_id=row["node_id"],
            gpu_model=row["gpu_model"],
            spot=bool(row["spot"]),
            gpus=row["gpus"] or 0,
            cpus=row["cpus"] or 0.0,
            memory_gb=row["memory_gb"] or 0.0,
        )
        for row in query("SELECT * FROM nodes", warehouse).dicts()
    }
    earlier = replay(warehouse, nodes)
    event_ids, records = _assignments(KafkaSettings(bootstrap_servers=bootstrap, topic_prefix=prefix))
    agents = read_agents(_agent_folders(folder.path))
    return balance(
        earlier=earlier,
        topic_event_ids=event_ids,
        # A region whose agent keeps its file elsewhere cannot be judged from here.
        topic_records={region: count for region, count in records.items() if region in agents.read},
        agents=agents,
        later=replay(warehouse, nodes),
    )


def _assignments(kafka: KafkaSettings) -> tuple[Counter[str], dict[str, int]]:
    """Ids of all assignment events on the topics, and records by region."""
    ids: Counter[str] = Counter()
    records: Counter[str] = Counter()
    for record in records_until_now(kafka, pattern=topic_pattern(ASSIGNMENTS, kafka.topic_prefix)):
        envelope = read_headers(record.headers)
        ids[envelope.event_id if envelope is not None else f"offset {record.offset}"] += 1
        records[region_of_topic(record.topic, ASSIGNMENTS, kafka.topic_prefix)] += 1
    return ids, dict(records)


def _agent_folders(folder: Path) -> list[Path]:
    agents = folder / "agents"
    return sorted(path for path in agents.iterdir() if path.is_dir()) if agents.is_dir() else []


def _record(folder: StateFolder, name: str) -> dict[str, Any]:
    return next((record for record in folder.stack().get("processes", []) if record["name"] == name), {})


def _alive(record: dict[str, Any]) -> bool:
    identity = identity_in(record)
    return identity is not None and identity.is_alive()


def _signal(group: int, number: signal.Signals) -> None:
    """Signal a process and all of its group; each process of the stack leads its own."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)
