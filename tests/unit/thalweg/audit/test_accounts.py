"""The auditor must see what is wrong: every kind of mistake is made once on purpose."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.ledger_rows import ledger
from thalweg.agent.fleet import NodeSpec
from thalweg.agent.store import FILE_NAME, AgentStore, HeldAssignment
from thalweg.audit.accounts import AgentBooks, Books, SentRequests, balance, read_agents, replay
from thalweg.streams.broker.errors import FenceError
from thalweg.streams.contract.messages import AssignmentEvent
from thalweg.sync.delta.contracts import DECISIONS
from thalweg.sync.delta.store import append, open_or_create

REGION, OTHER = "aws:us-east-1", "gcp:us-central1-a"
NODES = {(region, "n"): NodeSpec(node_id="n", gpus=2, cpus=8, memory_gb=32) for region in (REGION, OTHER)}


def submit(task_id: str, **request: Any) -> dict[str, Any]:
    needs = {"task_id": task_id, "per_worker": {"gpus": 1, "cpus": 1, "memory_gb": 1}} | request
    return {"task_id": task_id, "transition": "submitted", "request": json.dumps(needs)}


def assign(task_id: str, epoch: int, region: str = REGION, device: int = 0, **more: Any) -> dict[str, Any]:
    share = {"node_id": "n", "workers": 1, "gpus": 1, "gpu_milli": 0, "devices": [device]}
    fact = {"task_id": task_id, "transition": "assigned", "epoch": epoch, "region": region, "nodes": [share]}
    return fact | {"event_id": f"{task_id}-{epoch}"} | more


def end(task_id: str, epoch: int, transition: str = "succeeded", region: str = REGION, **more: Any) -> dict[str, Any]:
    return {"task_id": task_id, "transition": transition, "epoch": epoch, "region": region} | more


def books(
    tmp_path: Path,
    *facts: dict[str, Any],
    tasks: set[str] | None = None,
    events: dict[str, int] | None = None,
    runs: list[tuple[str, str, int, str | None]] | None = None,
    read: dict[str, int] | None = None,
    of_others: frozenset[str] = frozenset(),
    refused: frozenset[str] = frozenset(),
) -> Books:
    """Balance a ledger of these facts; what is not given is as it should be."""
    append(open_or_create(DECISIONS, str(tmp_path)), ledger(*facts))
    replayed = replay(str(tmp_path), NODES)
    ids = {fact["event_id"]: 1 for fact in facts if "event_id" in fact}
    per_region: dict[str, int] = {}
    for fact in facts:
        if "event_id" in fact:
            per_region[fact["region"]] = per_region.get(fact["region"], 0) + 1
    if runs is None:
        runs = [(f["region"], f["task_id"], f["epoch"], "succeeded") for f in facts if f["transition"] == "assigned"]
    return balance(
        earlier=replayed,
        topic_event_ids=ids if events is None else events,
        topic_records=per_region,
        agents=AgentBooks(read=per_region if read is None else read, ignored=0, runs=runs, unsent=0),
        later=replayed,
        asked=SentRequests(
            tasks={f["task_id"] for f in facts if f["transition"] == "submitted"} if tasks is None else tasks,
            malformed=set(),
            refused=set(refused),
            of_others=set(of_others),
        ),
    )


def test_a_clean_run_balances(tmp_path: Path) -> None:
    found = books(
        tmp_path,
        submit("a"),
        submit("b"),
        submit("c"),
        assign("a", 1),
        assign("b", 1, device=1),
        end("a", 1, "running"),
        end("a", 1),
        end("b", 1, "failed", reason="exit code 1"),
        assign("b", 2, OTHER),
        {"task_id": "c", "transition": "waiting", "reason": "capacity"},
    )
    assert found.violations == []
    assert dict(found.by_state) == {"succeeded": 1, "assigned": 1, "waiting": 1}
    assert (found.placed, found.replaced, found.waited) == (2, 1, {"c"})


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ([submit("a"), submit("a")], "submitted twice"),
        ([submit("a"), assign("a", 1), assign("a", 2)], "assigned while it was assigned"),
        ([submit("a"), assign("a", 1), end("a", 1, "lost"), assign("a", 1, OTHER, event_id="x")], "was used twice"),
        ([submit("a", replicas=2), assign("a", 1), assign("a", 2, copy=1, device=1)], "two copies of task a"),
        ([submit("a"), assign("a", 1), assign("a", 2, OTHER, copy=1)], "more copies than the 1"),
        ([submit("a"), assign("a", 1), end("a", 1), assign("a", 2)], "assigned after it had ended"),
        ([submit("a", allowed_regions=[OTHER]), assign("a", 1)], "outside its allowed regions"),
        ([submit("a"), submit("b"), assign("a", 1), assign("b", 1)], "GPU 0 of node .* holds 2000 thousandths"),
        ([submit("a", per_worker={"gpus": 1, "cpus": 9}), assign("a", 1)], "holds 9.00 CPUs"),
        ([submit("a", per_worker={"gpus": 1, "memory_gb": 33}), assign("a", 1)], "33.00 GB"),
        ([submit("a"), assign("a", 1, device=2)], "GPU 2 of node"),
        (
            [submit("a"), assign("a", 1, event_id="e"), end("a", 1, "lost"), assign("a", 2, event_id="e")],
            "events twice",
        ),
    ],
)
def test_what_the_ledger_must_not_say_is_found(tmp_path: Path, facts: list[dict[str, Any]], words: str) -> None:
    found = books(tmp_path, *facts)
    assert any(re.search(words, wrong) for wrong in found.violations), found.violations


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"tasks": {"a", "lost"}}, "1 submitted, but not in the ledger: lost"),
        ({"tasks": set()}, "1 in the ledger, but never submitted: a"),
        ({"events": {}}, "1 events in the ledger, but not on the topics: a-1"),
        ({"events": {"a-1": 1, "ghost": 1}}, "1 events on the topics, but not in the ledger: ghost"),
        ({"read": {REGION: 0}}, f"region {REGION}: 1 assignment records, its agent has read 0"),
        ({"read": {REGION: 2}}, f"region {REGION}: 1 assignment records, its agent has read 2"),
        (
            {"runs": [(OTHER, "a", 1, "succeeded")]},
            f"task a ran in {OTHER} in epoch 1, which the ledger gave to {REGION}",
        ),
        ({"runs": []}, "task a succeeded in aws:us-east-1, epoch 1; its agent says nothing"),
        ({"runs": [(REGION, "a", 1, "failed")]}, "its agent says failed"),
        ({"runs": [(REGION, "a", 1, "succeeded"), (REGION, "b", 7, None)]}, "task b ran in"),
    ],
)
def test_what_does_not_agree_with_the_ledger_is_found(tmp_path: Path, changed: dict[str, Any], words: str) -> None:
    found = books(tmp_path, submit("a"), assign("a", 1), end("a", 1), **changed)
    assert any(words in wrong for wrong in found.violations), found.violations


def test_what_others_sent_meanwhile_is_no_ghost_and_what_they_sent_in_vain_no_loss(tmp_path: Path) -> None:
    facts = (submit("a"), submit("guest"), assign("a", 1), assign("guest", 1, device=1))
    found = books(tmp_path, *facts, tasks={"a"}, of_others=frozenset({"guest"}), refused=frozenset({"nonsense"}))
    assert found.violations == []


def test_a_valid_request_that_came_back_is_found(tmp_path: Path) -> None:
    found = books(tmp_path, submit("a"), refused=frozenset({"a"}))
    assert found.violations == ["1 refused, but well formed: a"]


def test_an_agent_that_keeps_its_file_elsewhere_is_not_judged(tmp_path: Path) -> None:
    facts = (submit("a"), assign("a", 1), end("a", 1))
    append(open_or_create(DECISIONS, str(tmp_path)), ledger(*facts))
    replayed = replay(str(tmp_path), NODES)
    elsewhere = AgentBooks(read={}, ignored=0, runs=[], unsent=0)
    found = balance(
        earlier=replayed, topic_event_ids={"a-1": 1}, topic_records={}, agents=elsewhere, later=replayed, asked=None
    )
    assert found.violations == []


def test_an_updated_request_is_what_counts_from_then_on(tmp_path: Path) -> None:
    needs = {"task_id": "a", "replicas": 2, "per_worker": {"gpus": 1}}
    updated = {"task_id": "a", "transition": "updated", "request": json.dumps(needs)}
    facts = (submit("a"), assign("a", 1), end("a", 1, "revoked"), updated)
    found = books(tmp_path, *facts, assign("a", 2), assign("a", 3, OTHER, copy=1))
    assert found.violations == []


def test_in_a_running_stack_the_topics_and_agents_may_be_ahead_of_the_earlier_ledger(tmp_path: Path) -> None:
    table = open_or_create(DECISIONS, str(tmp_path))
    append(table, ledger(submit("a")))
    earlier = replay(str(tmp_path), NODES)
    append(table, ledger(assign("a", 1), batch_id=1))
    agents = AgentBooks(read={REGION: 2}, ignored=0, runs=[(REGION, "a", 1, None)], unsent=0)
    found = balance(
        earlier=earlier,
        topic_event_ids={"a-1": 1},
        topic_records={REGION: 1},
        agents=agents,
        later=replay(str(tmp_path), NODES),
    )
    assert found.violations == []


def test_agents_files_are_read_as_they_are(tmp_path: Path) -> None:
    store = AgentStore(tmp_path / "1")
    events = [
        AssignmentEvent(event_id=f"e{n}", type="assign", task_id="t", epoch=n, region=REGION, decided_at=n)
        for n in (1, 1, 2, 1)
    ]
    with store.fence.transaction():
        for event in events:
            store.fence.admit(event)
        store.begin_run(HeldAssignment(event=events[0]), 5)
        store.end_run(HeldAssignment(event=events[0]), 9, "revoked")
    read = read_agents([tmp_path / "1", tmp_path / "none"])
    assert read == AgentBooks(read={REGION: 4}, ignored=2, runs=[(REGION, "t", 1, "revoked")], unsent=0)
    store.close()


def test_an_agents_file_that_is_damaged_is_told_in_words(tmp_path: Path) -> None:
    AgentStore(tmp_path).close()
    file = tmp_path / FILE_NAME
    file.write_bytes(file.read_bytes()[:4096] + b"\xff" * (file.stat().st_size - 4096))
    with pytest.raises(FenceError, match="malformed"):
        read_agents([tmp_path])
